"""A training row: its turns, and the spans of its response with their roles, as text and as tokens."""

from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Message:
    """One turn of the prompt."""

    role: str
    content: str


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
    """Everything before the response; the last is a user turn. Empty where the row is plain text."""
    spans: tuple[Span, ...] = field(repr=False)
    """The response in order; for a row of plain text, one `unsegmented` span with that text."""
    source: str
    where: str
    """`file:line`, for errors."""


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
