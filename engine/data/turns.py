"""Reading one turn of a conversation: its role, text, reasoning, tool calls and weight, by whatever names these have.

Error messages never quote the row's text, as it may be harmful.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from alttrain.engine.data.checks import describe_kind, quote_name
from alttrain.engine.data.columns import REFUSED, Cells, read_json
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import Message

ROLES: Mapping[str, str] = {
    **{role: role for role in ("system", "developer", "user", "assistant", "tool")},
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "model", "bot", "chatbot", "function_call"), "assistant"),
    **dict.fromkeys(("observation", "tool_response", "function", "function_response", "ipython"), "tool"),
}
"""The names that sources give to the speakers -> the names that chat templates give them."""

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn that hold its reasoning apart from its content."""

WEIGHT_KEYS = ("weight", "loss_weight", "loss_mask", "trainable", "train", "training", "train_on_turn", "loss")
"""Keys of a turn that say whether it is trained, or how much it counts."""

REFUSED_KEYS: Mapping[str, str] = {
    **REFUSED,
    **dict.fromkeys(
        ("channel", "recipient"),
        "is Harmony's. Write the analysis as `thinking` of the turn with the final text, and calls as tool_calls.",
    ),
    **dict.fromkeys(
        ("mask", "masked", "train_detail"),
        "says what of the turn is trained, and is not read. Write it as a weight of the turn.",
    ),
}
"""Keys of a turn that change what it means and are not read -> what to do about it."""

# What a column of that name holds where it switches reasoning on or off, or says how long it should be.
_MODES = ("on", "off", "true", "false", "yes", "no", "none", "low", "medium", "high", "auto", "enabled", "disabled")

_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("reasoning", "thinking")
_CALL_PARTS = ("tool_call", "tool_use", "function_call")
_PART_KEYS = ("text", "value", "content", "thinking", "reasoning")


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation, as the source has it."""

    name: str
    """What error messages call it: `messages[2]`."""
    role: str
    content: str
    reasoning: str = ""
    """Reasoning that stands apart from the content."""
    tool_calls: tuple[Any, ...] = ()
    extras: Mapping[str, Any] | None = None
    weight: float | None = None
    """None where the source does not say."""

    def as_message(self) -> Message:
        """Return the turn as a part of a prompt."""
        extras = dict(self.extras or {})
        if self.reasoning:
            extras["reasoning_content"] = self.reasoning
        if self.tool_calls:
            extras["tool_calls"] = list(self.tool_calls)
        return Message(self.role, self.content, extras)


def read_turn(turn: Any, name: str, cells: Cells) -> Turn:
    """Read one turn; keys that are not read are noted in `cells`.

    Raises:
        DataError: it is not a turn whose every part is understood.
    """
    if not isinstance(turn, dict):
        raise DataError(f"{name} is {describe_kind(turn)}; a turn is an object with role and content.")
    ignored = cells.row_format.ignored
    fields = {key: value for key, value in turn.items() if value is not None and key not in ignored}
    role_key, content_key = ("from", "value") if "from" in fields and "role" not in fields else ("role", "content")
    source_role = fields.pop(role_key, None)
    role = ROLES.get(source_role.lower()) if isinstance(source_role, str) else None
    if role is None:
        roles = ", ".join(dict.fromkeys(ROLES.values()))
        raise DataError(f"{name}.{role_key} is {quote_name(source_role)}; it must be one of {roles}.")
    content = fields.pop(content_key, None)
    weight = _weight(fields, name)
    calls = _calls(fields, name)
    if source_role == "function_call":
        calls, content = (*calls, _call(content, f"{name}.{content_key}")), None
    if role == "tool" and isinstance(content, dict):
        content = json.dumps(content, ensure_ascii=False)
    text, reasoning, part_calls = _content(content, f"{name}.{content_key}", cells)
    calls = (*calls, *part_calls)
    extras = {key: fields.pop(key) for key in ("name", "tool_call_id") if key in fields}
    found = [key for key in REASONING_KEYS if fields.get(key) not in (None, "")]
    if len(found) > 1 and len({str(fields[key]) for key in found}) > 1:
        raise DataError(f"{name} has {' and '.join(found)}, which differ; keep one of them.")
    result = Turn(name, role, text, "", calls, extras, weight)
    for apart in (*([fields[found[0]]] if found else []), *([reasoning] if reasoning else [])):
        result = with_reasoning(result, reasoning_text(apart, f"{name}.{found[0] if found else content_key}"))
    _check_turn(result, content_key, may_be_empty=cells.row_format.allows_empty_response)
    for key in fields.keys() - set(REASONING_KEYS):
        if key in REFUSED_KEYS and fields[key]:
            raise DataError(f"{name}.{key} {REFUSED_KEYS[key]}")
        if fields[key] not in ("", [], {}):
            cells.unread_keys.add(f"messages[].{key}")
    return result


def _check_turn(turn: Turn, content_key: str, *, may_be_empty: bool) -> None:
    if turn.role != "assistant":
        if turn.tool_calls or turn.reasoning:
            what = "tool calls" if turn.tool_calls else "reasoning"
            raise DataError(f"{turn.name} has {what} and is a turn of role {turn.role}; only the assistant's may.")
        if turn.weight:
            raise DataError(
                f"{turn.name} has a weight of {turn.weight:g} and is a turn of role {turn.role}; only the assistant's "
                "are trained. Give it the weight 0, or leave the weight out."
            )
    # An empty system turn is the template's to write: some have a text of their own where there is none.
    may_be_empty = turn.role in ("tool", "system", "developer") or (may_be_empty and turn.role == "assistant")
    if not turn.content.strip() and not turn.tool_calls and not turn.reasoning and not may_be_empty:
        raise DataError(f"{turn.name}.{content_key} is missing, null or empty; it must be text.")


def _content(value: Any, name: str, cells: Cells) -> tuple[str, str, tuple[Any, ...]]:
    """Return the text of a turn's content, the reasoning in it, and its tool calls."""
    if value is None:
        return "", "", ()
    if isinstance(value, str):
        return value, "", ()
    if not isinstance(value, list):
        raise DataError(f"{name} is {describe_kind(value)}; it must be text, or a list of parts of text.")
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[Any] = []
    for index, part in enumerate(value):
        where = f"{name}[{index}]"
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if kind in _CALL_PARTS:
            calls.append(_call(part.get("value", part), where))
            continue
        found = [key for key in _PART_KEYS if isinstance(part, dict) and _part_text(part.get(key)) is not None]
        others = {key for key in part if part[key] not in (None, "")} if isinstance(part, dict) else set()
        others -= {"type", *found}
        if others & {*REFUSED_KEYS, *WEIGHT_KEYS}:
            raise DataError(
                f"{where} has {min(others)!r} beside its text, which is not read. Leave it out, or the row."
            )
        if kind in _REASONING_PARTS and texts:
            raise DataError(f"{where} is reasoning after text, and a turn reasons before it answers. Mend the row.")
        cells.unread_keys.update(f"messages[].content[].{key}" for key in others)
        if kind not in (*_TEXT_PARTS, *_REASONING_PARTS) or len(found) != 1:
            raise DataError(
                f"{where} is a part of type {quote_name(kind)}; a part must hold one text, reasoning or tool call. "
                "Leave such rows out with --data.on-bad-row skip."
            )
        (reasoning if kind in _REASONING_PARTS else texts).append(_part_text(part[found[0]]) or "")
    return "".join(texts), "\n\n".join(reasoning), tuple(calls)


def _part_text(value: Any) -> str | None:
    """Return the text of a part, which Magistral's reasoning has in parts once more; None where it has none."""
    if isinstance(value, list) and value and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value):
        return "".join(part["text"] for part in value)
    return value if isinstance(value, str) else None


def _calls(fields: dict[str, Any], name: str) -> tuple[Any, ...]:
    """Take the tool calls of a turn out of its fields."""
    calls = fields.pop("tool_calls", None)
    single = fields.pop("function_call", None)
    calls = read_json(calls, f"{name}.tool_calls") or []
    if not isinstance(calls, list):
        raise DataError(f"{name}.tool_calls is {describe_kind(calls)}; it must be a list of calls.")
    read = tuple(_call(call, f"{name}.tool_calls[{index}]") for index, call in enumerate(calls))
    return read if single is None else (*read, _call(single, f"{name}.function_call"))


def _call(value: Any, name: str) -> dict[str, Any]:
    """Return a call as templates read it: its arguments are an object, as servers pass them to templates."""
    value = read_json(value, name)
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{name} is {describe_kind(value)}; a tool call is an object with a name and arguments.")
    found = [key for key in ("arguments", "parameters", "input") if key in function]
    arguments = read_json(function[found[0]] or {}, f"{name}.{found[0]}") if found else {}
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return call | ({"id": value["id"]} if isinstance(value.get("id"), str) else {})


def _weight(fields: dict[str, Any], name: str) -> float | None:
    """Take the weight of a turn out of its fields."""
    found = {key: fields.pop(key) for key in WEIGHT_KEYS if key in fields}
    weights = {read_weight(value, f"{name}.{key}") for key, value in found.items()}
    if len(weights) > 1:
        raise DataError(f"{name} has {' and '.join(found)}, which differ; keep one of them.")
    return weights.pop() if weights else None


def read_weight(value: Any, name: str) -> float:
    """Return a weight: a number of at least 0, or true or false.

    Raises:
        DataError: it is neither.
    """
    if isinstance(value, str):  # of a table, whose cells are text
        words = {"true": "1", "false": "0"}
        with suppress(ValueError):
            value = float(words.get(value.strip().lower(), value))
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value) or value < 0:
        raise DataError(
            f"{name} is {describe_kind(value)}; a weight in the loss is true, false or a number of at least 0. "
            f"A column that means something else is left out with --data.ignore {name.rpartition('.')[2]}."
        )
    return float(value)


def with_reasoning(turn: Turn, reasoning: str) -> Turn:
    """Return the turn with reasoning that the source has apart from it, once.

    Raises:
        DataError: the turn has other reasoning.
    """
    if not reasoning.strip() or reasoning.strip() == turn.reasoning.strip():
        return turn
    if turn.reasoning:
        raise DataError(f"{turn.name} has its reasoning twice, and the two differ; keep one of them.")
    return replace(turn, reasoning=reasoning)


def reasoning_text(value: Any, name: str) -> str:
    """Return reasoning that stands in a column or key of its own; s1K keeps its one trace in a list.

    Raises:
        DataError: it is not one text.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    key = name.rpartition(".")[2]
    if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in _MODES):
        raise DataError(
            f"{name} is {str(value).strip().lower()!r}, which switches reasoning and is none. Leave it unread with "
            f"--data.ignore {key}."
        )
    if not isinstance(value, str):
        raise DataError(
            f"{name} is {describe_kind(value)}; reasoning must be text. A column that means something else is left out "
            f"with --data.ignore {key}."
        )
    return value
