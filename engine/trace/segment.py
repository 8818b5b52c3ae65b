"""Ordinary responses: where the reasoning ends and the answer begins, and which rule finds which span.

Texts are cut, never changed: the spans of a trace join to exactly that trace.
"""

from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import Span
from alttrain.engine.trace.sentences import is_filler, split_sentences
from alttrain.engine.trace.verdicts import is_verdict


def segment(think: str) -> tuple[list[Span], list[str]]:
    """Find the spans of an ordinary trace; their texts join to `think` exactly.

    The first sentence that is no filler is the understanding, with the fillers before it; the first later sentence
    with a harm verdict is the assessment; everything else is reasoning, which may stand on both sides of it. A trace
    of nothing but fillers is one `unsegmented` span, and an empty one has no spans.

    Returns:
        The spans, and the names of the rules that placed one: `first_sentence`, `verdict_sentence`.
    """
    sentences = split_sentences(think)
    first = next((i for i, sentence in enumerate(sentences) if not is_filler(sentence)), None)
    if first is None:
        return [Span("unsegmented", think)] if think else [], []
    spans, rules = [Span("understanding", "".join(sentences[: first + 1]))], ["first_sentence"]
    later = sentences[first + 1 :]
    verdict = next((i for i, sentence in enumerate(later) if is_verdict(sentence)), None)
    if verdict is None:
        spans.append(Span("reasoning", "".join(later)))
    else:
        rules.append("verdict_sentence")
        spans.append(Span("reasoning", "".join(later[:verdict])))
        spans.append(Span("assessment", later[verdict]))
        spans.append(Span("reasoning", "".join(later[verdict + 1 :])))
    return [span for span in spans if span.text], rules


def split_response(text: str, think_open: str = "<think>", think_close: str = "</think>") -> tuple[str, str | None]:
    """Cut a response at its own delimiters into the reasoning and the answer, without the white space around either.

    The opening delimiter may be missing, since many templates write it, or doubled, since many rows repeat it.

    Returns:
        (reasoning, answer). The answer is None where nothing follows the closing delimiter.

    Raises:
        DataError: there is no closing delimiter, or it stands at several places; without `file:line`, which the caller
            knows.
    """
    opened, body = strip_opening(text, think_open)
    think, *rest = body.split(think_close)
    if not rest:
        what = "opens its reasoning and never closes it" if opened else "has no reasoning"
        raise DataError(f"the response {what}: {think_close!r} is missing. Give the source's own --data.think-close.")
    while len(rest) > 1 and not rest[0].strip():
        rest = rest[1:]
    if len(rest) > 1:
        raise DataError(
            f"the response closes its reasoning {len(rest)} times with {think_close!r}; once is the rule. Mend the row."
        )
    return think.strip(), rest[0].strip() or None


def strip_opening(text: str, think_open: str) -> tuple[bool, str]:
    """Return whether `text` begins with the opening delimiter, and what follows it and its repetitions."""
    body = text.lstrip()
    opened = bool(think_open) and body.startswith(think_open)
    while opened and body.startswith(think_open):
        body = body[len(think_open) :].lstrip()
    return opened, body
