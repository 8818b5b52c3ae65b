"""What became of a generated response: split at its marks where these stand as they should, and named where not.

Training reads responses strictly, since a row with its marks in a wrong place has to be mended (segment.py). What a
model wrote cannot be mended: it is counted.
"""

from dataclasses import dataclass, field

from alttrain.engine.thinking import MARKS, Thinking

OUTCOMES: tuple[str, ...] = ("answered", "forced", "unfinished", "doubled", "no reasoning", "empty")
"""answered: reasoning, closed once, then an answer.
forced: the same, where whoever asked closed the reasoning at its budget (`recipes/ask.py` says so; no text shows it).
unfinished: the reasoning is begun and never closed.
doubled: the reasoning is closed several times, or opened again or after other text.
no reasoning: an answer without marks, or after marks with nothing between them.
empty: nothing stands where the answer should.
"""

WITH_ANSWER: tuple[str, ...] = ("answered", "forced")
"""The outcomes whose answer counts as an answer; a text that may be cut-off reasoning is never taken for one."""


@dataclass(frozen=True)
class Generated:
    """A generated response, split; the texts may be harmful and stay out of the repr."""

    outcome: str
    """One of OUTCOMES, though never `forced`."""
    think: str = field(repr=False)
    """The reasoning, as far as it goes, without surrounding white space; of a doubled one what stands first."""
    answer: str = field(repr=False)
    """The answer, without surrounding white space; empty unless the outcome is `answered` or `no reasoning`."""


def split_generated(text: str, thinking: Thinking = MARKS, *, opened: bool = False) -> Generated:
    """Split what a model wrote into reasoning and answer.

    Args:
        text: the response as it was generated.
        thinking: the marks around the reasoning.
        opened: whether the prompt ended inside the reasoning, as the chat templates of many models write the opening
            mark. It decides about a text without any mark: unfinished reasoning if so, else an answer without
            reasoning. An opening mark at the start of the text, which many models repeat, changes nothing.
    """
    body, begun = _after_openings(text, thinking)
    think, close, rest = body.partition(thinking.close)
    if not close:
        _, again, inner = body.partition(thinking.open)
        if again and not (begun or opened):
            begun, body = True, inner
        think = body.strip()
        if begun or opened:
            return Generated("unfinished" if think else "empty", think, "")
        return Generated("no reasoning", "", think) if think else Generated("empty", "", "")
    if thinking.open in think:
        return Generated("doubled", think.partition(thinking.open)[0].strip(), "")
    think, rest = think.strip(), rest.strip()
    if thinking.close in rest or thinking.open in rest:
        return Generated("doubled", think, "")
    if not rest:
        return Generated("empty", think, "")
    return Generated("answered" if think else "no reasoning", think, rest)


def is_opened(texts: list[str], thinking: Thinking = MARKS) -> bool:
    """Return whether the chat template opened the reasoning before `texts`, as far as these show it.

    So it is where some text closes the reasoning without having opened it, and none opens it itself.
    """
    closed_only = False
    for text in texts:
        if _after_openings(text, thinking)[1]:
            return False
        before, close, _ = text.partition(thinking.close)
        closed_only = closed_only or bool(close and thinking.open not in before)
    return closed_only


def _after_openings(text: str, thinking: Thinking) -> tuple[str, bool]:
    """Return what follows the opening marks at the start of `text`, and whether there are any."""
    start, begun = len(text) - len(text.lstrip()), False
    while text.startswith(thinking.open, start):
        begun = True
        start += len(thinking.open)
        while start < len(text) and text[start].isspace():
            start += 1
    return text[start:], begun
