"""Reading what models wrote: a prompt and a response a row, whatever became of the response; and pairing two such sets.

A file of `recipes/ask.py` says of each row, in its field `opened`, whether the prompt ended inside the reasoning. For
other files --data.opened says so; on `auto` the template is taken to open the reasoning where some response of the file
closes it and none opens it. That decides whether a response without marks is unfinished or has no reasoning.
"""

import unicodedata
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from alttrain.engine.data.chat_formats import read_turns
from alttrain.engine.data.checks import quote_name
from alttrain.engine.data.columns import Cells, Format, parse_columns
from alttrain.engine.data.formats import parse_item
from alttrain.engine.data.labels import read_label
from alttrain.engine.data.responses import find_foreign
from alttrain.engine.data.row_facts import read_id
from alttrain.engine.data.sources import Item, read_source, source_stem
from alttrain.engine.errors import DataError
from alttrain.engine.evaluate.config import GeneratedConfig
from alttrain.engine.thinking import Thinking
from alttrain.engine.trace.outcomes import WITH_ANSWER, Generated, is_opened, split_generated

Turns = tuple[tuple[str, str], ...]  # (role, text) of each turn


@dataclass(frozen=True)
class GeneratedRow:
    """One response to one prompt."""

    id: str
    label: str
    """`harmful` or `benign`, in whatever spelling the row says so; empty where it says neither."""
    prompt: Turns | None = field(repr=False)
    """The turns before the response, each as `normalised`; None for a row of plain text."""
    where: str
    """`file:line`."""
    generated: Generated
    """The response, split, with its outcome."""

    @property
    def key(self) -> object:
        """What the rows of a pair have in common: the prompt, or the id where there is no prompt."""
        return self.prompt if self.prompt is not None else self.id

    @property
    def answer(self) -> str | None:
        """The answer, or None where the response has none."""
        return self.generated.answer or None


@dataclass(frozen=True)
class GeneratedRead:
    """The rows of a file."""

    rows: list[GeneratedRow]
    num_read: int
    skipped: list[str]
    """One sentence for each row left out."""
    unknown_labels: Counter[str] = field(default_factory=Counter)
    """Label that is not understood, as a short name or its kind -> number of rows; these rows count as without one."""
    unread: Counter[str] = field(default_factory=Counter)
    """Column, or key of a turn, that nobody reads -> number of rows in which it holds a value."""


@dataclass(frozen=True)
class Pairs:
    """Which rows of two files belong together."""

    indices: list[tuple[int, int]]
    """(index before, index after) of each pair."""
    keys: list[object]
    """The key of each pair, which is the same for several samples of one prompt."""


@dataclass(frozen=True)
class _Response:
    """A row whose response is still to be split."""

    id: str
    label: str
    prompt: Turns | None
    where: str
    text: str
    opened: bool | None
    is_forced: bool


def read_generated(name: str, data: GeneratedConfig) -> GeneratedRead:
    """Read every row of a file; a row may say the same id again for a further response to the same prompt.

    Raises:
        DataError: the file cannot be read or holds no rows; or, where `data.on_bad_row` is `error`, a row has no
            response, or an id has two prompts.
    """
    thinking = Thinking(data.think_open, data.think_close)
    row_format = Format(parse_columns(data.columns), thinking, allows_empty_response=True)
    found: list[_Response | GeneratedRow] = []
    skipped: list[str] = []
    places: dict[str, tuple[object, str]] = {}
    num_read = 0
    unknown_labels, unread = Counter[str](), Counter[str]()
    for item in read_source(name):
        num_read += 1
        try:
            row, unread_columns = _read_item(item, source_stem(name), row_format)
            _check_id(row, places)
        except DataError as error:
            if data.on_bad_row == "error":
                raise
            skipped.append(str(error))
            continue
        found.append(row)
        unread.update(unread_columns)
        unknown_labels.update(_unknown_label(item, row_format))
    if not found:
        first = f"none of the {num_read} rows can be used; the first: {skipped[0]}" if skipped else "holds no rows."
        raise DataError(first, where=name)
    opened = data.opened == "yes"
    if data.opened == "auto":
        texts = [row.text for row in found if isinstance(row, _Response) and row.opened is None]
        opened = is_opened(texts, row_format.thinking)
    rows = []
    for each in found:
        try:
            rows.append(_split(each, row_format, opened) if isinstance(each, _Response) else each)
        except DataError as error:
            if data.on_bad_row == "error":
                raise
            skipped.append(str(error))
    return GeneratedRead(rows, num_read, skipped, unknown_labels, unread)


def normalised(text: str) -> str:
    """Return a prompt's text as it is compared: composed Unicode, each run of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def pair(before: Sequence[GeneratedRow], after: Sequence[GeneratedRow]) -> Pairs:
    """Pair the rows of two files by prompt, rows of plain text by id.

    Of several rows with one prompt those of one id belong together, and the rest in the order of the files.

    Returns:
        The pairs in the order of `after`; rows that have no partner are left out.
    """
    partners: dict[int, int] = {}
    for with_id in (True, False):
        waiting: dict[object, deque[int]] = {}
        for index in sorted(set(range(len(before))) - set(partners.values())):
            waiting.setdefault(_partner_key(before[index], with_id), deque()).append(index)
        for index, row in enumerate(after):
            candidates = waiting.get(_partner_key(row, with_id))
            if candidates and index not in partners:
                partners[index] = candidates.popleft()
    indices = [(partners[index], index) for index in sorted(partners)]
    return Pairs(indices, [after[index].key for _, index in indices])


def _partner_key(row: GeneratedRow, with_id: bool) -> object:
    return (row.key, row.id) if with_id else row.key


def _read_item(item: Item, stem: str, row_format: Format) -> tuple[_Response | GeneratedRow, list[str]]:
    """Return the row, and the columns that nobody has read."""
    if isinstance(item.value, dict):
        cells = Cells(item.value, row_format)
        try:
            if not cells.are_plain_text() and cells.get("spans") is None:
                response = _read_response(item, cells, f"{stem}-{item.number}")
                if response is not None:
                    return response, _unread(item, cells.unread())
        except DataError as error:
            raise error.at(item.where) from None
    row, unread = _read_listed(item, stem, row_format)
    return row, _unread(item, unread)


def _read_response(item: Item, cells: Cells, default_id: str) -> _Response | None:
    """Return the row, or None where it has no response, which `parse_item` then says."""
    *turns, last = read_turns(cells)
    if last.role != "assistant" or not turns:
        return None
    marks = cells.row_format.thinking
    text = f"{marks.open}{last.reasoning}{marks.close}{last.content}" if last.reasoning else last.content
    values: Mapping[str, Any] = item.value
    opened = values.get("opened")
    cells.get("source")
    return _Response(
        id=read_id(cells.get("id"), default_id),
        label=_label(cells)[0],
        prompt=tuple((turn.role, normalised(turn.content)) for turn in turns),
        where=item.where,
        text=text,
        opened=opened if isinstance(opened, bool) else None,
        is_forced=values.get("outcome") == "forced",
    )


def _read_listed(item: Item, stem: str, row_format: Format) -> tuple[GeneratedRow, list[str]]:
    """Return a row that lists its spans, or one of plain text, which is reasoning without an end."""
    # Labels are read below, in any spelling; training takes one of true or false for a preference.
    named = row_format.columns.get("label", "label")
    columns = {ours: theirs for ours, theirs in row_format.columns.items() if ours != "label"}
    found, unread = parse_item(item, stem, replace(row_format, columns=columns, ignored=row_format.ignored | {named}))
    row, _ = found[-1]
    label, _ = _label(Cells(item.value, row_format))
    roles = [span.role for span in row.spans]
    end = roles.index("answer") if "answer" in roles else len(roles)
    think, answer = ("".join(span.text for span in spans) for spans in (row.spans[:end], row.spans[end:]))
    if not row.messages:
        return GeneratedRow(row.id, label, None, row.where, Generated("unfinished", think, "")), unread
    outcome = ("answered" if think.strip() else "no reasoning") if answer.strip() else "empty"
    prompt = tuple((message.role, normalised(message.content)) for message in row.messages)
    return GeneratedRow(row.id, label, prompt, row.where, Generated(outcome, think, answer)), unread


def _label(cells: Cells) -> tuple[str, Any]:
    """Return `harmful`, `benign` or empty text, and a label that is neither; None where there is none."""
    name, value = cells.find("label")
    if value is None or (isinstance(value, str) and not value.strip()):
        return "", None
    verdict = read_label(name, value)
    return (verdict, None) if verdict in ("harmful", "benign") else ("", value)


def _unknown_label(item: Item, row_format: Format) -> list[str]:
    value = _label(Cells(item.value, row_format))[1]
    if value is None:
        return []
    return [str(value) if isinstance(value, (bool, int, float)) else quote_name(value)]


def _unread(item: Item, unread: list[str]) -> list[str]:
    """Return the columns that nobody has read, without those that `recipes/ask.py` writes beside a response."""
    own = ["opened", "outcome"]
    if "asked_with" in item.value:
        own += ["asked_with", "think", "answer", "finish", "num_tokens"]
    return [name for name in unread if name not in own]


def _check_id(row: _Response | GeneratedRow, places: dict[str, tuple[object, str]]) -> None:
    if row.id in places:
        prompt, where = places[row.id]
        if row.prompt is None or prompt != row.prompt:
            what = "stands there too" if row.prompt is None else "has another prompt there"
            raise DataError(
                f"the id {quote_name(row.id)} {what}: {where}. Give each prompt an id of its own.", where=row.where
            )
    places.setdefault(row.id, (row.prompt, row.where))


def _split(row: _Response, row_format: Format, opened: bool) -> GeneratedRow:
    """Return the row with its response split.

    Raises:
        DataError: the response has no reasoning by the marks that were named, and marks of another format.
    """
    opened = opened if row.opened is None else row.opened
    generated = split_generated(row.text, row_format.thinking, opened=opened)
    if generated.outcome == "no reasoning" and (foreign := find_foreign(generated.answer, row_format)):
        raise DataError(
            f"the response has its reasoning between marks of another format. Read it with {{flag}} {foreign.open!r} "
            f"--data.think-close {foreign.close!r}.",
            where=row.where,
            flag="--data.think-open",
        )
    if row.is_forced and generated.outcome in WITH_ANSWER:
        generated = Generated("forced", generated.think, generated.answer)
    return GeneratedRow(row.id, row.label, row.prompt, row.where, generated)
