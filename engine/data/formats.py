"""Parsing one item of a source: a JSON object in the project's own format, or in one of the field's, becomes `Row`s.

Error messages never quote the row's text, as it may be harmful.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alttrain.engine.data.chat_formats import read_turns
from alttrain.engine.data.checks import check_texts, describe_kind, quote_name
from alttrain.engine.data.columns import Cells, Format
from alttrain.engine.data.responses import check_foreign, find_spans, positioned_spans, unwrap_answer
from alttrain.engine.data.row_facts import (
    NothingTrainedError,
    read_id,
    read_note,
    read_row_weight,
    read_structure,
    read_switches,
    read_tools,
)
from alttrain.engine.data.sources import Item
from alttrain.engine.data.turns import Turn
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import SPAN_ROLES, Message, Row, Span
from alttrain.engine.trace.segment import segment, split_response

Spans = tuple[list[Span], list[str]]  # the spans, and the names of the rules that placed one


def parse_row(item: Item, stem: str, row_format: Format) -> tuple[Row, list[str]]:
    """Return the last row that `item` holds, and the names of the rules that placed its spans; see `parse_item`.

    Raises:
        DataError: as `parse_item`.
    """
    return parse_item(item, stem, row_format)[0][-1]


def parse_item(item: Item, stem: str, row_format: Format) -> tuple[list[tuple[Row, list[str]]], list[str]]:
    """Return the rows that `item` holds, each with the names of the rules that placed its spans, and what was not read.

    A row of plain text has no messages, and its text is one `unsegmented` span. A row without an id gets the id
    `stem`-number. Where several turns of the assistant are trained, each is a row, after all turns before it.

    Raises:
        DataError: the item is not a valid row; the message begins with `file:line`.
        NothingTrainedError: its weights say that nothing of it is trained.
    """
    if isinstance(item.value, DataError):
        raise item.value
    try:
        if not isinstance(item.value, dict):
            raise DataError(f"not an object but {describe_kind(item.value)}; a row is one JSON object.")
        cells = Cells(item.value, row_format)
        cells.check()
        base = Row(
            id=read_id(cells.get("id"), f"{stem}-{item.number}"),
            label=read_note(cells, "label"),
            messages=(),
            spans=(),
            source=read_note(cells, "source"),
            where=item.where,
            tools=read_tools(cells),
            switches=read_switches(cells),
            weight=read_row_weight(cells),
            structure=read_structure(cells),
        )
        rows = _plain_text(cells, base) if cells.are_plain_text() else _conversation(cells, base)
        for row, _ in rows:
            check_texts(row, row_format)
    except DataError as error:
        raise error.at(item.where) from None
    return rows, cells.unread()


def _plain_text(cells: Cells, base: Row) -> list[tuple[Row, list[str]]]:
    text = cells.get("text")
    if not isinstance(text, str):
        raise DataError(f"text is {describe_kind(text)}; it must be text.")
    if not text.strip():
        raise DataError("text is empty; it must hold text.")
    return [(replace(base, spans=(Span("unsegmented", text),)), ["plain_text"])]


def _conversation(cells: Cells, base: Row) -> list[tuple[Row, list[str]]]:
    """Return a row for each turn of the assistant that is trained."""
    turns = read_turns(cells)
    listed = cells.get("spans")
    if listed is not None:
        if turns[-1].role == "assistant":
            raise DataError("has both spans and a response; a row has one of them. Keep one.")
        _check_prompt(turns)
        spans = _listed(listed)
        for span in spans:
            if span.role in ("answer", "unsegmented"):
                check_foreign(span.text, cells.row_format)
        return [(replace(base, messages=_messages(turns, cells), spans=tuple(spans)), ["listed"])]
    rows = []
    trained = _trained(turns, cells)
    for index, weight in trained:
        turn = turns[index]
        _check_prompt(turns[:index])
        spans, rules = _spans(turn, cells)
        row = replace(
            base,
            id=base.id if len(trained) == 1 and index == len(turns) - 1 else f"{base.id}.turn{index}",
            messages=_messages(turns[:index], cells),
            spans=tuple(spans),
            tool_calls=turn.tool_calls,
            weight=base.weight * weight,
        )
        rows.append((row, rules))
    return rows


def _trained(turns: Sequence[Turn], cells: Cells) -> list[tuple[int, float]]:
    """Return the place and weight of each turn that is trained: where the row gives weights, those with one."""
    assistant = [(index, turn) for index, turn in enumerate(turns) if turn.role == "assistant"]
    if any(turn.weight is not None for _, turn in assistant):
        weighted = [(index, 1.0 if turn.weight is None else turn.weight) for index, turn in assistant]
        trained = [(index, weight) for index, weight in weighted if weight > 0]
        if not trained:
            raise NothingTrainedError("every turn of the assistant has the weight 0, so nothing of it is trained.")
        return trained
    if turns[-1].role != "assistant":
        raise DataError(
            "has no spans and no response. List the spans, or name the response with {flag}; the columns are "
            f"{', '.join(list(cells.values)[:20])}.",
            flag="--data.columns",
        )
    every = [(index, 1.0) for index, _ in assistant]
    return every if cells.row_format.turns == "all" else every[-1:]


def _check_prompt(turns: Sequence[Turn]) -> None:
    if not turns or turns[-1].role not in ("user", "tool"):
        raise DataError(
            "messages has no user turn before the response; the last turn before it must be the user's or a tool's."
        )


def _messages(turns: Sequence[Turn], cells: Cells) -> tuple[Message, ...]:
    """Return the turns of a prompt; earlier answers without marks of their own, and reasoning as the template knows it.

    Raises:
        DataError: an earlier answer holds marks of another format.
    """
    row_format = cells.row_format
    thinking, has_marks = row_format.thinking, bool(row_format.answer_marks[0])
    messages = []
    for turn in turns:
        if turn.role == "assistant":
            before, close, after = turn.content.rpartition(thinking.close)
            is_foreign = bool(close) and thinking.tags != row_format.target.tags
            if is_foreign:
                think, answer = split_response(turn.content, thinking)
                turn = replace(turn, content=unwrap_answer(answer or "", row_format), reasoning=think)
            elif has_marks and after.strip().startswith(row_format.answer_marks[0]):
                turn = replace(
                    turn, content=before + close + "\n\n" * bool(close) + unwrap_answer(after.strip(), row_format)
                )
            else:
                check_foreign(after, row_format)
        messages.append(turn.as_message())
    return tuple(messages)


def _spans(turn: Turn, cells: Cells) -> Spans:
    """Return the spans of a response: by the row's own positions, from its two parts, or by rule."""
    row_format = cells.row_format
    if turn.reasoning:
        if row_format.thinking.close in turn.content:
            think, answer = split_response(turn.content, row_format.thinking)
            if think and think != turn.reasoning.strip():
                raise DataError(f"{turn.name} has its reasoning twice, and the two differ; keep one of them.")
            content = answer or ""
        else:
            content = turn.content.strip()
        spans, rules = segment(turn.reasoning.strip())
        answer = unwrap_answer(content, row_format)
        # A turn that only thinks, as R1-Act's harmful ones do, ends at the closing mark; one that calls does not.
        return [*spans, *([Span("answer", answer)] if answer or turn.tool_calls else [])], rules
    names = [name for name in ("summary_end_idx", "next_sentence_end_idx") if name not in row_format.ignored]
    positions = [cells.values.get(name) for name in names]
    if any(value is not None for value in positions):
        cells.read.update(names)
        return positioned_spans(turn.content, positions, row_format)
    if not turn.content.strip() and turn.tool_calls:
        return [Span("answer", "")], []
    # recipes/ask.py says by `opened` that the prompt ended inside the reasoning, which the response then goes on with.
    is_asked = "outcome" in cells.values and "opened" not in row_format.ignored
    if is_asked:
        cells.read.add("opened")
    begins = turn.content.lstrip().startswith(row_format.thinking.open)
    is_opened = is_asked and cells.values.get("opened") is True and not begins
    spans, rules = find_spans(row_format.thinking.open * is_opened + turn.content, row_format)
    if spans[0] == Span("answer", ""):
        _check_unread_reasoning(cells)
    return spans, rules


def _check_unread_reasoning(cells: Cells) -> None:
    """Refuse a response without reasoning beside a column that looks like it: it would train a model to think nothing.

    Raises:
        DataError: there is such a column.
    """
    words = ("reason", "think", "thought", "trajectory", "cot", "trace", "analysis", "rationale")
    taken = cells.read | cells.row_format.ignored
    names = [
        name
        for name, value in cells.values.items()
        if name not in taken
        and any(word in name.lower() for word in words)
        and (text := value[0] if isinstance(value, list) and len(value) == 1 else value)
        and isinstance(text, str)
        and len(text.split()) > 2
    ]
    keys = [key for key in sorted(cells.unread_keys) if any(word in key.lower() for word in (*words, "[].info"))]
    if keys:
        raise DataError(
            f"the response has no reasoning, and {keys[0]} may hold it, unread. Call it reasoning_content, or leave it "
            f"out on purpose with --data.ignore {keys[0].rpartition('.')[2]}."
        )
    if names:
        raise DataError(
            f"the response has no reasoning, and {', '.join(names)} may hold it, unread. Read it with {{flag}} "
            f"reasoning={names[0]}, or leave it out on purpose with --data.ignore {','.join(names)}.",
            flag="--data.columns",
        )


def _listed(spans: Any) -> list[Span]:
    if not isinstance(spans, list) or not spans:
        raise DataError(f"spans is {describe_kind(spans)}; it must be a list with at least one span.")
    read = [_span(span, f"spans[{index}]") for index, span in enumerate(spans)]
    if not any(span.text.strip() for span in read):
        raise DataError("spans hold no text; a row trains the text of its spans. Write it, or take the row out.")
    return read


def _span(span: Any, name: str) -> Span:
    if not isinstance(span, dict):
        raise DataError(f"{name} is {describe_kind(span)}; a span is an object with role and text.")
    role, text = span.get("role"), span.get("text")
    others = [key for key in span if key not in ("role", "text") and span[key] is not None]
    if others:
        raise DataError(f"{name} has {quote_name(others[0])} beside role and text, which is not read. Take it out.")
    if role not in SPAN_ROLES:
        raise DataError(f"{name}.role is {quote_name(role)}; it must be one of {', '.join(SPAN_ROLES)}.")
    if not isinstance(text, str):
        raise DataError(f"{name}.text is {describe_kind(text)}; it must be text.")
    return Span(role, text)
