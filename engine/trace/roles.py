"""What a row is: its turns, the spans of its response and the role of each, as text and as tokens."""

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
"""The roles that a row may name; the others come from the template and from the way a row is written."""


@dataclass(frozen=True)
class Message:
    """One turn of the prompt."""

    role: str
    content: str


@dataclass(frozen=True)
class Span:
    """A piece of the response with a role of its own, to the letter."""

    role: str
    text: str


@dataclass(frozen=True)
class Row:
    """One training example as text; the text may be harmful and stays out of the row's repr."""

    id: str
    label: str
    """`harmful`, `benign`, or empty where the source does not say."""
    messages: tuple[Message, ...] = field(repr=False)
    """Everything before the response; the last is a user turn. None where the row is plain text."""
    spans: tuple[Span, ...] = field(repr=False)
    """The response, in the order in which it is written; or the plain text, `unsegmented`."""
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
