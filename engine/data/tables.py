"""Reading delimited tables: .csv, .tsv and .txt files whose delimiter is found from their rows.

A cell may stand in double quotes, and then hold the delimiter, line breaks, and quotes written twice. Nothing is
guessed at in silence: where quotes do not close, or a row has not as many cells as the first, that is an error with the
line. Text is UTF-8, or UTF-16 or UTF-32 that begins with its byte order mark; cells may have any size.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from alttrain.engine.data.content import content_suffix, read_content
from alttrain.engine.errors import DataError

TABLES = (".csv", ".tsv", ".txt")
"""The endings of names of delimited tables; a compressed one has another behind it."""

DELIMITERS = (",", ";", "\t", "|")
"""What may stand between two cells; of two that fit equally well, the one listed first is taken."""

# Rows on which a delimiter is tried.
_NUM_TRIED = 1000

# The longest first: the mark of UTF-16 is how that of UTF-32 begins.
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class TableRow(NamedTuple):
    """The cells of one row, and the line of the file on which it starts, from 1."""

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A whole table; the first row is its header, if it has one."""

    rows: Sequence[TableRow]
    delimiter: str
    """Empty for a table of one column."""

    def check_width(self, row: TableRow) -> None:
        """Check that a row has as many cells as the first; the error does not name the file.

        Raises:
            DataError: it has more or fewer.
        """
        width = len(self.rows[0].cells)
        if len(row.cells) != width:
            raise DataError(
                f"has {len(row.cells)} cells and the first row {width} (delimiter {self.delimiter!r}). Put cells that "
                "hold the delimiter into double quotes; where each line is one text, call the file .txt."
            )


def table_rows(path: Path, name: str) -> Iterator[tuple[int, dict[str, str | None] | DataError]]:
    """Yield each row below the header: the line on which it starts, and its cells by the header's names.

    An empty cell is None. Rows that hold nothing are passed over, and names lose white space around them; a column
    without a name is called `column N`. A row with more or fewer cells than the header is the error that says so.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        DataError: the file cannot be read, a quote never closes, or two columns have one name.
    """
    table = read_table(path, name)
    if not table.rows:
        return
    header = [cell.strip() or f"column {number}" for number, cell in enumerate(table.rows[0].cells, start=1)]
    if twice := next((column for column in header if header.count(column) > 1), None):
        named = repr(twice) if len(twice) <= 40 else "a long name"
        raise DataError(
            f"two columns are called {named}; give each a name of its own.", where=f"{name}:{table.rows[0].line}"
        )
    for row in table.rows[1:]:
        if not any(row.cells):
            continue
        try:
            table.check_width(row)
        except DataError as error:
            yield row.line, error.at(f"{name}:{row.line}")
            continue
        yield row.line, dict(zip(header, (cell or None for cell in row.cells), strict=True))


def read_table(path: Path, name: str) -> Table:
    """Return every row of a table, blank lines left out; rows may differ in width (`Table.check_width`).

    Quotes count as ordinary characters in a table with tabs, and in a .txt file of one text a line, where they do not
    pair up as quotes of cells: these formats need none.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        DataError: the file cannot be read, is in another encoding, or a quote that opens a cell never closes it.
    """
    suffix = content_suffix(path)
    text = _decode(read_content(path, name), name)
    if "\n" not in text:
        text = text.replace("\r", "\n")  # the line ends of old Macintosh files
    source = _Text(text, name)
    if named := re.match(r"sep=(.)\r?\n", text):  # a line by which spreadsheets name the delimiter
        source, delimiter = _Text(text, name, named.end(), 2), named[1]
    else:
        delimiter = _find_delimiter(source, suffix)
    rows: list[TableRow] = []
    broken: DataError | None = None
    try:
        rows = list(source.rows(delimiter))
    except DataError as error:
        broken = error
    is_doubtful = broken is not None or any("\n" in cell for row in rows for cell in row.cells)
    if is_doubtful and (delimiter == "\t" or (delimiter, suffix) == ("", ".txt")):
        literal = list(source.rows(delimiter, quotes=False))
        if len({len(row.cells) for row in literal}) == 1:
            return Table(literal, delimiter)
    if broken is not None:
        raise broken
    return Table(rows, delimiter)


@dataclass(frozen=True)
class _Text:
    """The text of a table, and where its rows begin."""

    text: str
    name: str
    start: int = 0
    first_line: int = 1

    def rows(self, delimiter: str, *, quotes: bool = True) -> Iterator[TableRow]:
        """Yield the rows that are not blank; raise DataError where a quote opens a cell and never closes it."""
        match_cell, text, at, line = _cell(delimiter, quotes).match, self.text, self.start, self.first_line
        cells: list[str] = []
        row_line = line
        while at < len(text) or cells:
            match = match_cell(text, at)
            if match is None:
                raise DataError(
                    "a cell begins with a quote that does not close before a delimiter or the end of the line. Write "
                    'a quote inside a cell twice ("") and the cell between quotes.',
                    where=f"{self.name}:{line}",
                )
            quoted = match[1] if match[1] is not None else match[2]
            cells.append(match[3] if quoted is None else quoted.replace('""', '"'))
            line += text.count("\n", at, match.end())
            at = match.end()
            if not delimiter or match[4] != delimiter:
                if cells != [""]:
                    yield TableRow(row_line, cells)
                cells, row_line = [], line


@cache
def _cell(delimiter: str, quotes: bool) -> re.Pattern[str]:
    """Return the pattern of one cell and what ends it: groups 1 and 2 in quotes, 3 without, 4 the end."""
    mark = re.escape(delimiter)
    plain = rf"([^{mark}\r\n]*+(?:\r(?!\n)[^{mark}\r\n]*+)*+)"
    end = rf"({mark}|\r?\n|\Z)" if delimiter else r"(\r?\n|\Z)"
    if not quotes:
        return re.compile(rf"((?!))?((?!))?{plain}{end}")
    in_quotes = r'"([^"]*+(?:""[^"]*+)*+)" *'
    # Spaces before a quote are passed over only where it closes on the same line.
    after_spaces = r' +"([^"\n]*+(?:""[^"\n]*+)*+)" *'
    return re.compile(rf'(?:{in_quotes}|{after_spaces}|(?!"){plain}){end}')


def _find_delimiter(source: _Text, suffix: str) -> str:
    """Return the delimiter that gives most of the first rows as many cells as the first; empty where none cuts it."""
    found: list[tuple[float, int, str]] = []
    for delimiter in DELIMITERS:
        fits, width = max(_try(source, delimiter, quotes=quotes) for quotes in {True, delimiter != "\t"})
        # A text with commas is no table: in a file of one text a line every row must fit.
        if width > 1 and (fits == 1.0 or suffix != ".txt"):
            if suffix == ".tsv" and delimiter == "\t":
                return delimiter
            found.append((fits, width, delimiter))
    return max(found, key=lambda one: one[:2])[2] if found else ""


def _try(source: _Text, delimiter: str, *, quotes: bool) -> tuple[float, int]:
    """Return the share of the rows after the first that have its width, and that width; a quote left open fits not."""
    widths: list[int] = []
    num_broken = 0
    try:
        widths.extend(len(row.cells) for row in islice(source.rows(delimiter, quotes=quotes), _NUM_TRIED))
    except DataError:
        num_broken = 1
    if not widths:
        return 0.0, 0
    num_later = len(widths) - 1 + num_broken
    return (widths.count(widths[0]) - 1) / num_later if num_later else 1.0, widths[0]


def _decode(content: bytes, name: str) -> str:
    """Return the text of a file, without its byte order mark."""
    mark, encoding = next((pair for pair in _ENCODINGS if content.startswith(pair[0])), (b"", "utf-8"))
    if not mark and content[:1000].count(0) * 3 > len(content[:1000]):
        raise DataError("looks like UTF-16 without its byte order mark. Save the file as UTF-8.", where=name)
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, len(mark) + error.start) + 1
        raise DataError(f"not {encoding.upper()}. Save the file as UTF-8.", where=f"{name}:{line}") from None
