"""A training row: its turns, and the spans of its response with their roles, as text and as tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES: tuple[str, ...] = (
    "prompt",
    "opening",
    "think",
    "understanding",
    "assessment",
    "reasoning",
    "closing",
    "answer",
    "end",
    "unsegmented",
)
"""Every role that a token may have; a token's span id is the index of its role."""

SPAN_ROLES: tuple[str, ...] = ("understanding", "assessment", "reasoning", "answer", "unsegmented")
"""The roles that a row's spans may have; the other roles are added by the chat template and by `render.py`."""

FORM = " > "
"""What stands between the parts of a trace where its form is written, as in understanding > answer."""

STRUCTURES: tuple[str, ...] = (
    "full",
    "no-assessment",
    "no-understanding",
    "no-conditional",
    "assessment-last",
    "after-answer",
    "answer-only",
)
"""What a row may say that it was made as: AltTrain's own structure, `full`, and the controls."""


@dataclass(frozen=True)
class Message:
    """One turn of the prompt."""

    role: str
    content: str
    extras: Mapping[str, Any] = field(default_factory=dict)
    """What else the template is given of the turn: `tool_calls`, `name`, `tool_call_id`, `reasoning_content`."""

    def as_turn(self) -> dict[str, Any]:
        """Return the turn as chat templates read it; a turn of tool calls alone has None as its content."""
        content = None if self.extras.get("tool_calls") and not self.content else self.content
        return {"role": self.role, "content": content, **self.extras}


@dataclass(frozen=True)
class Span:
    """A piece of the response with its role; the text is exactly that of the response."""

    role: str
    text: str


@dataclass(frozen=True)
class Row:
    """One training example as text; the text may be harmful and stays out of the row's repr."""

    id: str
    label: str
    """`harmful`, `benign`, or empty where the source does not say."""
    messages: tuple[Message, ...] = field(repr=False)
    """Everything before the response; the last is a turn of the user or a tool. Empty where the row is plain text."""
    spans: tuple[Span, ...] = field(repr=False)
    """The response in order; for a row of plain text, one `unsegmented` span with that text."""
    source: str
    where: str
    """`file:line`, for errors."""
    tools: tuple[Any, ...] = ()
    """The tools that the template tells the model of."""
    switches: Mapping[str, Any] = field(default_factory=dict)
    """Variables for the template that this row sets: its `chat_template_kwargs`."""
    tool_calls: tuple[Any, ...] = ()
    """The calls that the response makes after its answer, which the template writes."""
    weight: float = 1.0
    """What the loss weights of all its tokens are multiplied by."""
    structure: str = ""
    """One of STRUCTURES; empty where the row does not say."""


@dataclass(frozen=True)
class Example:
    """One training example as tokens."""

    id: str
    input_ids: list[int]
    """Token ids."""
    span_ids: list[int]
    """The index in ROLES of each token's role; as long as `input_ids`."""
    where: str
    """`file:line`, for errors."""
    weight: float = 1.0
    """What the loss weights of all its tokens are multiplied by."""
