"""What a row says of itself beside its conversation: id, label, weight, and what its template is given.

Error messages never quote the row's text, as it may be harmful.
"""

from typing import Any

from alttrain.engine.data.checks import describe_kind
from alttrain.engine.data.columns import Cells, read_json
from alttrain.engine.data.turns import read_weight
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import STRUCTURES

# What the template is given of the row and the turn itself.
_RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template",
             "tokenize")  # fmt: skip


class NothingTrainedError(DataError):
    """The row itself says, by a weight of 0, that nothing of it is trained."""


def read_tools(cells: Cells) -> tuple[Any, ...]:
    """Return the tools that the template tells the model of.

    Raises:
        DataError: they are no list of objects.
    """
    name, value = cells.find("tools")
    value = read_json(value, name)
    if value in (None, []):
        return ()
    if isinstance(value, list):
        value = [read_json(tool, f"{name}[{index}]") for index, tool in enumerate(value)]
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise DataError(f"{name} is {describe_kind(value)}; it must be a list of objects that describe tools.")
    return tuple(value)


def read_switches(cells: Cells) -> dict[str, Any]:
    """Return the variables that the row sets for its template; those without a value say nothing.

    Raises:
        DataError: they are no object, or one of them is the trainer's to give.
    """
    name, value = cells.find("chat_template_kwargs")
    value = read_json(value, name)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise DataError(f"{name} is {describe_kind(value)}; it must be an object of the template's variables.")
    if isinstance(switch := cells.values.get("enable_thinking"), bool) and "enable_thinking" not in _unused(cells):
        cells.read.add("enable_thinking")
        value = {"enable_thinking": switch, **value}
    reserved = [key for key in value if key in _RESERVED]
    if reserved:
        raise DataError(f"{name} has {reserved[0]!r}, which is the trainer's to give. Take it out.")
    return {key: item for key, item in value.items() if item not in (None, "", [], {})}


def read_structure(cells: Cells) -> str:
    """Return the structure that the row was made with; a column `structure` of anything else is not read."""
    value = cells.values.get("structure")
    if value not in STRUCTURES or "structure" in _unused(cells):
        return ""
    cells.read.add("structure")
    return str(value)


def _unused(cells: Cells) -> frozenset[str]:
    return cells.row_format.ignored | frozenset(cells.row_format.columns.values())


def read_row_weight(cells: Cells) -> float:
    """Return what the loss weights of the row's tokens are multiplied by.

    Raises:
        NothingTrainedError: it is 0.
    """
    name, value = cells.find("weight")
    # A column of that name may also hold the name of a split.
    if value is None and "train" not in _unused(cells) and str(cells.values.get("train")).lower() in ("true", "false"):
        name, value = "train", cells.values["train"]
        cells.read.add("train")
    weight = 1.0 if value is None else read_weight(value, name)
    if weight == 0:
        raise NothingTrainedError(f"its {name} is 0, so nothing of it is trained.")
    return weight


def read_id(value: Any, default: str) -> str:
    """Return a row's id as text; `default` where it has none.

    Raises:
        DataError: it is neither text nor a whole number.
    """
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():  # which pandas makes of a column with a missing number
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"id is {describe_kind(value)}; it must be text or a whole number.")
    return value


def read_note(cells: Cells, name: str) -> str:
    """Return the text of the column `name`; empty where it holds no text, which is then listed as not read.

    Raises:
        DataError: it is a label of true or false, by which preference data tells good responses from bad ones.
    """
    source_name, value = cells.find(name)
    if isinstance(value, str) and value.strip().lower() not in ("true", "false"):
        return value
    if name == "label" and isinstance(value, (bool, str)):
        raise DataError(
            f"{source_name} is {str(value).lower()}, as in rows of preferences, whose response may be one that was "
            "rejected. Keep the good ones alone, and leave the column unread with --data.ignore label."
        )
    if value is not None:
        cells.read.discard(source_name)
    return ""
