"""What the columns of a source are called, which of them a row has, and what its reasoning stands between."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.thinking import MARKS, Thinking

COLUMNS = ("id", "label", "source", "prompt", "messages", "response", "spans", "text")
"""What --data.columns may give another name to."""

PROMPT_NAMES = ("prompt", "question", "instruction")
"""Columns read as the prompt where --data.columns names none."""

CHAT_COLUMNS = ("prompt", "messages", "response", "spans")
"""What a conversation is made of; where a row has one of them, its `text` is not looked at."""


@dataclass(frozen=True)
class Format:
    """How a source writes its rows."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name of a column -> the source's, where --data.columns gives one."""
    thinking: Thinking = MARKS
    """What its reasoning stands between."""

    @property
    def tags(self) -> tuple[str, ...]:
        """What no span may hold."""
        return tuple(dict.fromkeys((*self.thinking.tags, *MARKS.tags)))


def parse_columns(text: str) -> dict[str, str]:
    """Read `prompt=question,response=answer` as {ours: theirs}.

    Raises:
        ConfigError: a part has no `=`, or names no column of ours, or names one twice, or text and a conversation.
    """
    columns: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not equals or not theirs or ours not in COLUMNS or ours in columns:
            raise ConfigError(
                f"has {part!r}: each part is OURS=THEIRS, once for each of {', '.join(COLUMNS)}. "
                "Write it as in prompt=question,response=answer.",
                flag="--data.columns",
            )
        columns[ours] = theirs
    chat = [name for name in CHAT_COLUMNS if name in columns]
    if "text" in columns and chat:
        raise ConfigError(
            f"names both text and {chat[0]}: a row is plain text or a conversation. Leave one out.",
            flag="--data.columns",
        )
    return columns


@dataclass(frozen=True)
class Cells:
    """A row's values by our names for them; null is the same as missing."""

    values: dict[str, Any]
    row_format: Format

    def get(self, ours: str) -> Any:
        """Return the value of our column `ours`, or None.

        Raises:
            DataError: --data.columns names a column for it that the row does not have.
        """
        theirs = self.row_format.columns.get(ours)
        if theirs is None:
            return self.values.get(ours)
        if theirs not in self.values:
            raise DataError(
                f"no column {theirs!r}, which {{flag}} names for {ours}; name one that is there.", flag="--data.columns"
            )
        return self.values[theirs]

    def are_plain_text(self) -> bool:
        """Return whether the row is a text without a conversation: --data.columns names it, or nothing else is there.

        A foreign row of a conversation may hold it once more as text.
        """
        columns = self.row_format.columns
        if "text" in columns or not columns.keys().isdisjoint(CHAT_COLUMNS):
            return "text" in columns
        return self.values.get("text") is not None and all(
            self.values.get(name) is None for name in (*PROMPT_NAMES, *CHAT_COLUMNS)
        )

    def prompt(self) -> tuple[str, Any]:
        """Return the prompt's name in the source, and its value.

        Raises:
            DataError: several columns may be the prompt, or the one that --data.columns names is not there.
        """
        if "prompt" in self.row_format.columns:
            return self.row_format.columns["prompt"], self.get("prompt")
        found = [name for name in PROMPT_NAMES if self.values.get(name) is not None]
        if len(found) > 1:
            raise DataError(
                f"has the columns {' and '.join(found)}, and any may be the prompt. "
                f"Say which with {{flag}} prompt={found[0]}.",
                flag="--data.columns",
            )
        return (found[0], self.values[found[0]]) if found else ("prompt", None)
