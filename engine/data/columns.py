"""How a source writes its rows: the names of its columns, which of them a row has, and its marks of the reasoning.

A value that nobody reads is never lost in silence: `Cells` keeps account of what was read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.thinking import MARKS, Thinking

NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id",),
    "label": ("label",),
    "source": ("source",),
    "prompt": ("prompt", "question", "instruction"),
    "input": ("input", "context"),
    "system": ("system", "system_prompt", "system_message", "system_instruction"),
    "history": ("history",),
    "messages": ("messages", "conversations", "conversation"),
    "response": ("response", "output", "completion"),
    "reasoning": ("reasoning", "reasoning_content", "thinking"),
    "spans": ("spans",),
    "text": ("text",),
    "tools": ("tools",),
    "chat_template_kwargs": ("chat_template_kwargs", "template_kwargs"),
    "weight": ("weight", "loss_weight", "sample_weight", "trainable"),
}
"""Our name of a column -> the names under which sources have it, read where --data.columns names none."""

COLUMNS = tuple(NAMES)
CHAT_COLUMNS = ("prompt", "messages", "response", "reasoning", "spans", "system", "input", "history")
"""The columns of a conversation; where a row has one of the first five, its `text` is ignored."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("images", "image", "image_path", "videos", "video", "audios", "audio", "files"),
        "is for a model that sees or hears, and the row means nothing without it. Leave such rows out with "
        "--data.on-bad-row skip.",
    ),
    "documents": "is text that the prompt refers to, and is not read. Write it into the prompt.",
    "functions": "lists tools. Read it with --data.columns tools=functions.",
    **dict.fromkeys(
        ("function_call", "tool_calls"),
        "is a call of a tool outside the messages. Write it as tool_calls of an assistant turn.",
    ),
    "kto_tag": "says whether the response is a good one. Leave out the rows whose response is not, and name the column "
    "in --data.ignore.",
}
"""Columns that change what a row means and are not read -> what to do about it."""


@dataclass(frozen=True)
class Format:
    """How a source writes its rows."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name of a column -> the source's name, for the columns that --data.columns names."""
    thinking: Thinking = MARKS
    """The marks around its reasoning."""
    answer_marks: tuple[str, str] = ("", "")
    """The marks around its answers; empty where there are none."""
    target: Thinking = MARKS
    """The marks that the rows are written with."""
    turns: Literal["last", "all"] = "last"
    """Which turns of the assistant become rows; a conversation whose turns have weights says so itself."""
    ignored: frozenset[str] = frozenset()
    """Columns, and keys of turns, that are left unread on purpose."""
    keeps_foreign_marks: bool = False
    """Whether known marks of other formats may stand in text that is trained."""
    allows_empty_response: bool = False
    """Whether a response may be empty text, as one that a model wrote may be."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The texts that no span may hold."""
        return tuple(dict.fromkeys((*self.thinking.tags, *self.target.tags)))


def parse_columns(text: str) -> dict[str, str]:
    """Read `prompt=question,response=answer` as {our name: source's name}.

    Raises:
        ConfigError: a part has no `=`, or its first name is not one of COLUMNS or comes twice, or `text` is named
            beside a column of a conversation.
    """
    columns: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, source_name = (piece.strip() for piece in part.partition("="))
        if not equals or not source_name or name not in COLUMNS or name in columns:
            raise ConfigError(
                f"has {part!r}: each part is OURS=THEIRS, once for each of {', '.join(COLUMNS)}. "
                "Write it as in prompt=question,response=answer.",
                flag="--data.columns",
            )
        columns[name] = source_name
    chat = [name for name in CHAT_COLUMNS if name in columns]
    if "text" in columns and chat:
        raise ConfigError(
            f"names both text and {chat[0]}: a row is plain text or a conversation. Leave one out.",
            flag="--data.columns",
        )
    return columns


@dataclass(frozen=True)
class Cells:
    """A row's values, looked up by our names of the columns; null and empty text or lists count as missing."""

    values: dict[str, Any]
    row_format: Format
    read: set[str] = field(default_factory=set)
    """The source's names of the columns that somebody has asked for."""
    unread_keys: set[str] = field(default_factory=set)
    """Keys inside the row's turns that were not read, as `messages[].id`."""

    def get(self, name: str) -> Any:
        """Return the value of the column that we call `name`, or None.

        Raises:
            DataError: --data.columns names a column for it that the row does not have, or several columns may be it.
        """
        return self.find(name)[1]

    def find(self, name: str) -> tuple[str, Any]:
        """Return the source's name of the column that we call `name`, and its value; our name and None without one.

        Raises:
            DataError: as `get`.
        """
        source_name = self.row_format.columns.get(name)
        if source_name is not None:
            self.read.add(source_name)
            if source_name not in self.values:
                raise DataError(
                    f"no column {source_name!r}, which {{flag}} names for {name}; name one that is there "
                    f"({', '.join(list(self.values)[:20])}).",
                    flag="--data.columns",
                )
            return source_name, self._value(name, source_name)
        found = [each for each in self._candidates(name) if self.values.get(each) is not None]
        are_one = all(self.values[each] == self.values[found[0]] for each in found)
        if len(found) > 1 and not are_one and name not in _FIRST_COUNTS:
            raise DataError(
                f"has the columns {' and '.join(found)}, and any may be the {name}. "
                f"Say which with {{flag}} {name}=COLUMN.",
                flag="--data.columns",
            )
        self.read.update(found)
        return (found[0], self._value(name, found[0])) if found else (name, None)

    def _value(self, name: str, source_name: str) -> Any:
        """Return a value; a table's word for a missing one is missing, and an error where the row needs a text.

        Raises:
            DataError: the prompt or the response is such a word.
        """
        value = self.values[source_name]
        if isinstance(value, str) and value in _NULL_WORDS:
            if name in ("prompt", "response"):
                raise DataError(
                    f"{source_name} is {value!r}, which tables write for a missing value. Leave such rows out with "
                    "--data.on-bad-row skip."
                )
            return None
        return None if _is_missing(value) and name not in _TEXTS else value

    def prompt(self) -> tuple[str, Any]:
        """Return the source's name of the prompt's column, and its value.

        Raises:
            DataError: as `get`.
        """
        return self.find("prompt")

    def are_plain_text(self) -> bool:
        """Return whether the row is plain text: --data.columns names `text`, or no column of a conversation is there.

        A conversation from another project may repeat itself in a column `text`, which is then ignored.
        """
        columns = self.row_format.columns
        if "text" in columns or not columns.keys().isdisjoint(CHAT_COLUMNS):
            return "text" in columns
        is_chat = any(self.values.get(each) is not None for name in CHAT_COLUMNS[:5] for each in NAMES[name])
        return self.values.get("text") is not None and not is_chat

    def check(self) -> None:
        """Refuse the row if a column that nobody reads changes what the row means.

        Raises:
            DataError: it does.
        """
        for name, reason in REFUSED.items():
            is_known = name in self.row_format.ignored | set(self.row_format.columns.values())
            if not is_known and not _is_missing(self.values.get(name)):
                raise DataError(f"{name} {reason}")

    def unread(self) -> list[str]:
        """Return the names of the columns, and of keys of turns, that hold a value and that nobody has read."""
        columns = [name for name, value in self.values.items() if not _is_missing(value) and name not in self.read]
        return [name for name in (*columns, *sorted(self.unread_keys)) if name not in self.row_format.ignored]

    def _candidates(self, name: str) -> list[str]:
        """Return the source's names that may be `name`: known ones that are neither ignored nor named for another."""
        taken = self.row_format.ignored | set(self.row_format.columns.values())
        found = [each for each in NAMES[name] if each not in taken]
        if name not in _TEXTS:
            found = [each for each in found if not _is_missing(self.values.get(each))]
        # dolphin-r1 has its answers beside its reasoning; elsewhere a column of that name may be a bare result.
        has_response = any(self.values.get(each) is not None for each in found)
        if name == "response" and not has_response and "answer" not in taken and self.get("reasoning") is not None:
            found.append("answer")
        return found


# Of these an empty text is an error, where it stands for nothing in a column that a row need not have.
_TEXTS = ("id", "prompt", "messages", "response", "spans", "text")
_NULL_WORDS = ("nan", "NaN", "NULL", "<NA>")
# Columns that say nothing about the row's texts: the first that is there counts, and the others are listed as unread.
_FIRST_COUNTS = ("id", "label", "source")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def read_json(value: Any, name: str) -> Any:
    """Return `value`, or what it holds if it is JSON text, in which tables keep lists and objects.

    Raises:
        DataError: it is text and not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise DataError(f"{name} is text, and not JSON; it must be JSON, or a list or object.") from None
