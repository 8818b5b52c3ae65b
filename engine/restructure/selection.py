"""Which rows of a source are taken by its own columns, and that the columns named on the command line are there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alttrain.engine.data.checks import quote_name
from alttrain.engine.errors import ConfigError, DataError

_MOST_NAMES = 20


@dataclass(frozen=True)
class Where:
    """The values of columns of which a row must have one each."""

    values: Mapping[str, tuple[str, ...]]

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Return whether the row has one of the values in every column."""
        return all(
            not texts_of(row.get(column)).isdisjoint(map(str.casefold, wanted))
            for column, wanted in self.values.items()
        )


def parse_where(text: str) -> Where:
    """Read `label=vanilla_harmful,adversarial_harmful;split=train`; empty text takes every row.

    Raises:
        ConfigError: a part is not COLUMN=VALUE,VALUE, or a column comes twice.
    """
    values: dict[str, tuple[str, ...]] = {}
    for part in filter(str.strip, text.split(";")):
        column, equals, listed = part.partition("=")
        column, wanted = column.strip(), tuple(filter(None, map(str.strip, listed.split(","))))
        if not equals or not column or not wanted or column in values:
            raise ConfigError(
                f"has {part.strip()!r}: each part is COLUMN=VALUE,VALUE, once for each column. "
                "Write it as in label=vanilla_harmful,adversarial_harmful;split=train.",
                flag="--data.where",
            )
        values[column] = wanted
    return Where(values)


def check_named(rows: Sequence[Any], named: Iterable[tuple[str, str]], where: str) -> None:
    """Check that some row has each of the columns that the command line names.

    Args:
        rows: the source's rows; what is no object has no columns.
        named: for each column, its flag and its name.
        where: the source's name, for the error.

    Raises:
        DataError: no row has a column; the error lists those that are there.
    """
    there = dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row)
    for flag, column in named:
        if column not in there:
            raise DataError(
                f"names the column {column!r}, which no row has; the columns are {list_names(there)}. "
                "Name one of them.",
                where=where,
                flag=flag,
            )


def check_values(rows: Sequence[Any], selection: Where, where: str) -> None:
    """Check that some row has each of the values that `selection` names, which would otherwise be a typing error.

    Raises:
        DataError: a value stands in no row; the error lists those that are there, if they are short names.
    """
    for column, wanted in selection.values.items():
        values = [row.get(column) for row in rows if isinstance(row, dict)]
        found = frozenset().union(*(texts_of(value) for value in values))
        for value in wanted:
            if value.casefold() not in found:
                raise DataError(
                    f"asks for {column}={value}, which no row has; its values are {list_names(sorted(found))}. "
                    "Name some of them.",
                    where=where,
                    flag="--data.where",
                )


def list_names(names: Iterable[str]) -> str:
    """Return the names that are short as a list for a message; the others are only counted."""
    names = list(names)
    quoted = [quote for name in names if (quote := quote_name(name)) == repr(name)][:_MOST_NAMES]
    more = len(names) - len(quoted)
    return ", ".join([*quoted, *([f"{more} more" if quoted else f"{more} that are no short names"] if more else [])])


def texts_of(value: Any) -> frozenset[str]:
    """Return a cell's value in lower case as --*.where writes it; of a list each item's, of {name: true} each name."""
    if isinstance(value, dict):
        return texts_of([name for name, is_true in value.items() if is_true is True])
    if isinstance(value, list):
        return frozenset().union(*map(texts_of, value))
    if isinstance(value, float) and value.is_integer():
        return frozenset((str(int(value)), str(value)))
    if isinstance(value, (str, bool, int, float)):
        return frozenset((str(value).strip().casefold(),))
    return frozenset()
