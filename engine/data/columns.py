"""How a source writes its rows: the names of its columns, which of them a row has, and its marks of the reasoning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.thinking import MARKS, Thinking

COLUMNS = ("id", "label", "source", "prompt", "messages", "response", "spans", "text")
"""Our names of the columns, for which --data.columns may give the source's names."""

PROMPT_NAMES = ("prompt", "question", "instruction")
"""Columns read as the prompt where --data.columns names none."""

CHAT_COLUMNS = ("prompt", "messages", "response", "spans")
"""The columns of a conversation; where a row has one of them, its `text` is ignored."""


@dataclass(frozen=True)
class Format:
    """How a source writes its rows."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name of a column -> the source's name, for the columns that --data.columns names."""
    thinking: Thinking = MARKS
    """The marks around its reasoning."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The texts that no span may hold."""
        return tuple(dict.fromkeys((*self.thinking.tags, *MARKS.tags)))


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
    """A row's values, looked up by our names of the columns; null counts as missing."""

    values: dict[str, Any]
    row_format: Format

    def get(self, name: str) -> Any:
        """Return the value of the column that we call `name`, or None.

        Raises:
            DataError: --data.columns names a column for it that the row does not have.
        """
        source_name = self.row_format.columns.get(name)
        if source_name is None:
            return self.values.get(name)
        if source_name not in self.values:
            raise DataError(
                f"no column {source_name!r}, which {{flag}} names for {name}; name one that is there.",
                flag="--data.columns",
            )
        return self.values[source_name]

    def are_plain_text(self) -> bool:
        """Return whether the row is plain text: --data.columns names `text`, or no column of a conversation is there.

        A conversation from another project may repeat itself in a column `text`, which is then ignored.
        """
        columns = self.row_format.columns
        if "text" in columns or not columns.keys().isdisjoint(CHAT_COLUMNS):
            return "text" in columns
        return self.values.get("text") is not None and all(
            self.values.get(name) is None for name in (*PROMPT_NAMES, *CHAT_COLUMNS)
        )

    def prompt(self) -> tuple[str, Any]:
        """Return the source's name of the prompt's column, and its value.

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
