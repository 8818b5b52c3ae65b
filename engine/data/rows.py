"""Reading every row of every file, in order, with a sentence about each row that cannot be used."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alttrain.engine.config import DataConfig
from alttrain.engine.data.checks import quote_name
from alttrain.engine.data.columns import Format, parse_columns
from alttrain.engine.data.formats import parse_item
from alttrain.engine.data.row_facts import NothingTrainedError
from alttrain.engine.data.sources import read_source, source_stem
from alttrain.engine.errors import DataError
from alttrain.engine.thinking import Thinking, find_marks
from alttrain.engine.trace.roles import Row, Span


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
    unread: dict[str, int]
    """Column, or key of a turn, that nobody reads -> number of rows in which it holds a value."""

    @property
    def structures(self) -> dict[str, int]:
        """Number of rows that say that they were made with a structure, by its name."""
        return dict(Counter(row.structure for row in self.rows if row.structure))

    @property
    def num_unsegmented(self) -> int:
        """Rows that hold text which no rule could assign to a span."""
        return sum(any(span.role == "unsegmented" for span in row.spans) for row in self.rows)

    @property
    def num_without_reasoning(self) -> int:
        """Rows of a conversation that hold no text before their answer."""
        with_text = ([span.role for span in row.spans if span.text] for row in self.rows if row.messages)
        return sum(roles[:1] == ["answer"] for roles in with_text) + sum(
            row.spans[0] == Span("answer", "") and row.spans[1:2] != () and row.spans[1].role == "unsegmented"
            for row in self.rows
        )


def row_format(config: DataConfig) -> Format:
    """Return how `config` says that the rows are written.

    Raises:
        ConfigError: a setting does not have the form that --help describes.
    """
    return Format(
        columns=parse_columns(config.columns),
        thinking=Thinking(config.think_open, config.think_close),
        answer_marks=(config.answer_open, config.answer_close),
        target=find_marks(config.target_open, config.target_close),
        turns=config.turns,
        ignored=frozenset(name.strip() for name in config.ignore.split(",") if name.strip()),
        keeps_foreign_marks=config.foreign_marks == "keep",
    )


def read_rows(
    files: Sequence[str], rows_format: Format | None = None, on_bad_row: Literal["error", "skip"] = "error"
) -> RowsRead:
    """Read every row of `files` (or hub ids), in order; without a format, as the project's own files are written.

    An id stands for one row of a file. Where two files have the same id, the later row's gets its file's name before
    it.

    Raises:
        DataError: a file is missing or broken, holds no row that can be used, or a row breaks a rule and `on_bad_row`
            is `error`.
    """
    rows: list[Row] = []
    skipped: list[str] = []
    placed: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    taken: set[str] = set()
    num_read = 0
    for number, name in enumerate(files):
        num_before, places = num_read, dict[str, str]()
        for item in read_source(name):
            num_read += 1
            try:
                found, unread_columns = parse_item(item, source_stem(name), rows_format or Format())
                for row, _ in found:
                    _check_id(row, places)
            except NothingTrainedError as error:
                skipped.append(str(error))
                continue
            except DataError as error:
                if on_bad_row == "error":
                    raise
                skipped.append(str(error))
                continue
            unread.update(unread_columns)
            for row, rules in found:
                rows.append(replace(row, id=_unique_id(row.id, name, number, taken)))
                placed.update(rules)
        if num_read == num_before:
            raise DataError("holds no rows. Give a file with at least one.", where=name)
    if files and not rows:
        raise DataError(f"none of the {num_read} rows read can be used; the first: {skipped[0]}", where=files[0])
    return RowsRead(rows, num_read, dict(placed), skipped, dict(unread))


def _check_id(row: Row, places: dict[str, str]) -> None:
    if row.id in places:
        name = quote_name(row.id)
        raise DataError(
            f"the id {name} stands at {places[row.id]} too; an id stands for one row of a file. Change one, or leave "
            "the ids unread with --data.ignore id.",
            where=row.where,
        )
    places[row.id] = row.where


def _unique_id(id_: str, name: str, number: int, taken: set[str]) -> str:
    """Return `id_`, with its file before it where a row of another file has it."""
    for candidate in (id_, f"{source_stem(name)}/{id_}", f"{name}/{id_}", f"{number}/{name}/{id_}"):
        if candidate not in taken:
            taken.add(candidate)
            return candidate
    raise AssertionError("the last candidate is the file's own")
