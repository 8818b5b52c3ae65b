"""Reading the prompts that a model is asked, from any file of rows; responses that such a file holds are not read."""

from dataclasses import dataclass, field
from typing import Any

from alttrain.engine.data.chat_formats import read_turns
from alttrain.engine.data.checks import quote_name
from alttrain.engine.data.columns import NAMES, Cells, Format, parse_columns
from alttrain.engine.data.row_facts import read_id, read_switches, read_tools
from alttrain.engine.data.sources import Item, read_source, source_stem
from alttrain.engine.errors import DataError
from alttrain.engine.evaluate.config import ReadConfig


@dataclass(frozen=True)
class Question:
    """One prompt of a file."""

    id: str
    messages: list[dict[str, Any]] = field(repr=False)
    kept: dict[str, Any] = field(repr=False)
    """What the output repeats: id, label, source, and the prompt or the messages."""
    tools: tuple[Any, ...]
    """The tools that the template tells the model of."""
    switches: dict[str, Any]
    """Variables for the template that the row sets."""
    where: str
    not_read: tuple[str, ...]
    """Names of the row's other columns."""


def read_questions(name: str, data: ReadConfig) -> tuple[list[Question], list[str]]:
    """Return the prompts of the file, and a sentence for each row left out.

    Raises:
        DataError: the file cannot be read; or, where bad rows are errors, a row has no prompt, or an id stands twice.
    """
    row_format = Format(parse_columns(data.columns), allows_empty_response=True)
    questions: list[Question] = []
    skipped: list[str] = []
    places: dict[str, str] = {}
    for item in read_source(name):
        try:
            question = _read_question(item, row_format, source_stem(name))
            if question.id in places:
                raise DataError(
                    f"the id {quote_name(question.id)} stands at {places[question.id]} too. Change one.",
                    where=item.where,
                )
        except DataError as error:
            if data.on_bad_row == "error":
                raise
            skipped.append(str(error))
            continue
        places[question.id] = item.where
        questions.append(question)
    if not questions:
        raise DataError(f"holds no prompts{f'; the first row: {skipped[0]}' if skipped else '.'}", where=name)
    return questions, skipped


def _read_question(item: Item, row_format: Format, stem: str) -> Question:
    if isinstance(item.value, DataError):
        raise item.value
    try:
        if not isinstance(item.value, dict):
            raise DataError("not an object; a row is one JSON object with a prompt.")
        cells = Cells(item.value, row_format)
        cells.check()
        turns = read_turns(cells)
        if turns[-1].role == "assistant":
            turns.pop()  # an answer that the file gives itself
        messages = [turn.as_message().as_turn() for turn in turns]
        if not messages or messages[-1]["role"] not in ("user", "tool"):
            raise DataError(
                "has no prompt: it needs messages that end in a user's turn, or one of the columns "
                f"{', '.join(NAMES['prompt'])}. Another name is given with {{flag}}.",
                flag="--data.columns",
            )
        if not messages[-1]["content"].strip():
            raise DataError("its prompt is empty; it must be text.")
        id_ = read_id(cells.get("id"), f"{stem}-{item.number}")
        tools, switches = read_tools(cells), read_switches(cells)
        notes = {name: value for name in ("label", "source") if isinstance(value := cells.get(name), str)}
    except DataError as error:
        raise error.at(item.where) from None
    is_single = len(messages) == 1
    asked: dict[str, Any] = {"prompt": messages[0]["content"]} if is_single else {"messages": messages}
    asked |= {"tools": list(tools)} if tools else {}
    asked |= {"chat_template_kwargs": switches} if switches else {}
    unread = tuple(cells.unread())
    return Question(id_, messages, {"id": id_, **notes, **asked}, tools, switches, item.where, unread)
