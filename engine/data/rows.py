"""Reading every row of every file, in order, with a sentence about each row that cannot be used."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alttrain.engine.data.checks import quote_name
from alttrain.engine.data.columns import Format, parse_columns
from alttrain.engine.data.formats import parse_row
from alttrain.engine.data.sources import read_source
from alttrain.engine.errors import DataError
from alttrain.engine.thinking import MARKS, Thinking
from alttrain.engine.trace.roles import Row


@dataclass(frozen=True)
class RowsRead:
    """The rows that can be used, and why the others were left out."""

    rows: list[Row]
    num_read: int
    """Rows in the files, good and bad."""
    placed: dict[str, int]
    """Number of rows in which each rule found a span; `listed` counts rows that list their spans themselves."""
    skipped: list[str]
    """One sentence for each row left out, which begins with `file:line`."""

    @property
    def num_unsegmented(self) -> int:
        """Rows that hold text which no rule could assign to a span."""
        return sum(any(span.role == "unsegmented" for span in row.spans) for row in self.rows)


def read_rows(
    files: Sequence[str],
    columns: str = "",
    think_open: str = MARKS.open,
    think_close: str = MARKS.close,
    on_bad_row: Literal["error", "skip"] = "error",
) -> RowsRead:
    """Read every row of `files` (or hub ids), in order.

    Raises:
        ConfigError: `columns` or a delimiter does not have the form that --help describes.
        DataError: a file is missing or broken, holds no row that can be used, or a row breaks a rule and `on_bad_row`
            is `error`.
    """
    row_format = Format(parse_columns(columns), Thinking(think_open, think_close))
    rows: list[Row] = []
    skipped: list[str] = []
    placed: Counter[str] = Counter()
    places: dict[str, str] = {}
    num_read = 0
    for name in files:
        num_before = num_read
        for item in read_source(name):
            num_read += 1
            try:
                row, rules = parse_row(item, Path(name).stem, row_format)
                _check_id(row, places)
            except DataError as error:
                if on_bad_row == "error":
                    raise
                skipped.append(str(error))
                continue
            rows.append(row)
            placed.update(rules)
        if num_read == num_before:
            raise DataError("holds no rows. Give a file with at least one.", where=name)
    if files and not rows:
        raise DataError(f"none of the {num_read} rows read can be used; the first: {skipped[0]}", where=files[0])
    return RowsRead(rows, num_read, dict(placed), skipped)


def _check_id(row: Row, places: dict[str, str]) -> None:
    if row.id in places:
        name = quote_name(row.id)
        raise DataError(f"the id {name} stands at {places[row.id]} too; ids are unique. Change one.", where=row.where)
    places[row.id] = row.where
