"""Reading the conversations of the field: every shape that `Cells` may hold becomes one list of turns.

    messages or conversations       role/content, from/value, typed content parts, tool calls, weights
    prompt, instruction + input     with a system column, a history, a response or completion as text or as turns

Error messages never quote the row's text, as it may be harmful.
"""

from typing import Any

from alttrain.engine.data.checks import describe_kind
from alttrain.engine.data.columns import Cells, read_json
from alttrain.engine.data.turns import Turn, read_turn, reasoning_text, with_reasoning
from alttrain.engine.errors import DataError


def read_turns(cells: Cells) -> list[Turn]:
    """Return the turns of a row in order; the last is the assistant's if the row has a response.

    Raises:
        DataError: the row has no conversation that can be read, or two that do not agree.
    """
    turns = _prompt_turns(cells)
    response = _response_turns(cells)
    if response and turns[-1].role == "assistant":
        raise DataError("has a response and an assistant turn at the end of messages; keep one of them.")
    turns = [*_system_turns(cells, turns), *turns, *response]
    reasoning = cells.get("reasoning")
    if reasoning is not None:
        if turns[-1].role != "assistant":
            raise DataError("has reasoning and no response that follows it. Name the response with {flag}.",
                            flag="--data.columns")  # fmt: skip
        turns[-1] = with_reasoning(turns[-1], reasoning_text(reasoning, cells.find("reasoning")[0]))
    return turns


def _prompt_turns(cells: Cells) -> list[Turn]:
    """Return the turns of `messages`, or those that the columns around `prompt` make up."""
    name, turns = cells.find("messages")
    # Where --data.columns names the messages, a column called prompt or question is not the prompt.
    prompt_name, prompt = ("prompt", None) if "messages" in cells.row_format.columns else cells.prompt()
    if turns is not None and "prompt" not in cells.row_format.columns:
        read = _turns(turns, name, cells)
        if prompt is not None and prompt != next((turn.content for turn in read if turn.role == "user"), None):
            raise DataError(
                f"has both {name} and {prompt_name}; a row has one of them. Name it with {{flag}}.",
                flag="--data.columns",
            )
        if cells.get("input") is not None or cells.get("history") is not None:
            raise DataError(f"has {name} beside input or history; all turns stand in {name}. Leave the others out.")
        return read
    prompt = _turns_in_text(prompt)
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, list):  # TRL's conversational form
        return _turns(prompt, prompt_name, cells)
    if prompt is None:
        raise DataError(
            f"{prompt_name} is missing or null; it must be text. Another name is given with {{flag}}; the columns are "
            f"{', '.join(list(cells.values)[:20])}.",
            flag="--data.columns",
        )
    text = _text(prompt, prompt_name)
    return [*_history(cells), Turn(prompt_name, "user", text + _input(cells, prompt_name))]


def _input(cells: Cells, prompt_name: str) -> str:
    """Return what Alpaca's `input` adds to the instruction."""
    name, value = cells.find("input")
    if value is None:
        return ""
    if prompt_name != "instruction" and "input" not in cells.row_format.columns:
        raise DataError(
            f"has the columns {prompt_name} and {name}, and both may be the prompt. Say which with {{flag}} prompt=, "
            f"or have {name} added to {prompt_name} with {{flag}} input={name}.",
            flag="--data.columns",
        )
    return "\n" + _text(value, name)


def _history(cells: Cells) -> list[Turn]:
    """Return the turns of `history`: pairs of a prompt and its answer, or turns."""
    name, value = cells.find("history")
    value = read_json(value, name)
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        return _turns(value, name, cells)
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise DataError(f"{name} is {describe_kind(value)}; it must be a list of [prompt, answer] pairs, or of turns.")
    turns = []
    for index, (prompt, answer) in enumerate(value):
        turns.append(Turn(f"{name}[{index}]", "user", _text(prompt, f"{name}[{index}][0]")))
        turns.append(Turn(f"{name}[{index}]", "assistant", _text(answer, f"{name}[{index}][1]")))
    return turns


def _system_turns(cells: Cells, turns: list[Turn]) -> list[Turn]:
    name, value = cells.find("system")
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    text = _text(value, name)
    if turns[0].role in ("system", "developer"):
        if turns[0].content.strip() == text.strip():
            return []
        raise DataError(f"{name} and the first turn are both the system's, and they differ; keep one of them.")
    return [Turn(name, "system", text)]


def _response_turns(cells: Cells) -> list[Turn]:
    """Return the turns after the prompt: one of text, or those of TRL's `completion`."""
    name, value = cells.find("response")
    if value is None:
        return []
    value = _turns_in_text(value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        turns = _turns(value, name, cells)
        if turns[-1].role != "assistant":
            raise DataError(f"{name} ends in a turn of role {turns[-1].role}; the last must be the assistant's.")
        return turns
    if isinstance(value, list) and len(value) == 1:  # s1K keeps its one trace in a list
        value = value[0]
    # Beside reasoning an answer may be empty, and a model may have written nothing at all.
    may_be_empty = cells.row_format.allows_empty_response or cells.get("reasoning") is not None
    if isinstance(value, str) and not value.strip() and may_be_empty:
        return [Turn(name, "assistant", "")]
    return [Turn(name, "assistant", _text(value, name))]


def _turns_in_text(value: Any) -> Any:
    """Return the turns that a table holds as JSON text in a column of texts; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return value
    try:
        turns = read_json(value, "turns")
    except DataError:
        return value
    is_chat = isinstance(turns, list) and all(isinstance(turn, dict) and {"role", "from"} & set(turn) for turn in turns)
    return turns if is_chat else value


def _turns(value: Any, name: str, cells: Cells) -> list[Turn]:
    value = read_json(value, name)
    if not isinstance(value, list) or not value:
        raise DataError(f"{name} is {describe_kind(value)}; it must be a list with at least one turn.")
    return [read_turn(turn, f"{name}[{index}]", cells) for index, turn in enumerate(value)]


def _text(value: Any, name: str) -> str:
    if value is None:
        raise DataError(
            f"{name} is missing or null; it must be text. Another name is given with {{flag}}.", flag="--data.columns"
        )
    if not isinstance(value, str):
        raise DataError(f"{name} is {describe_kind(value)}; it must be text.")
    if not value.strip():
        raise DataError(f"{name} is empty; it must be text.")
    return value
