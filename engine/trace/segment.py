"""Segmenting ordinary responses: into reasoning and answer, and the reasoning into spans.

Texts are split, never changed: the spans of a trace join to exactly that trace.
"""

import re
from itertools import groupby

from alttrain.engine.errors import DataError
from alttrain.engine.thinking import MARKS, Thinking
from alttrain.engine.trace.roles import Span
from alttrain.engine.trace.rules import Rules
from alttrain.engine.trace.sentences import is_filler


def segment(think: str) -> tuple[list[Span], list[str]]:
    """Find the spans of an ordinary trace; their texts join to `think` exactly.

    The understanding is the first sentence that is no filler, whatever it says, with the fillers before it and the
    sentences directly after it that the rules label understanding. The assessment is the first later sentence that the
    rules label assessment, with the assessment sentences directly after it: one that asks, one that names the policy
    and one that comes to a verdict form one span, which ends at the first sentence with another label. Everything else
    is reasoning, which may stand on both sides of the assessment and may contain later assessments. A trace of nothing
    but fillers is one `unsegmented` span; an empty trace has no spans. The rules are `Rules.default()`, as in the
    structure metric.

    Returns:
        The spans, and the names of the rules that placed one: `first_sentence` for the understanding,
        `first_assessment` for the assessment.
    """
    rules = Rules.default()
    sentences = iter(rules.split(think))
    understanding = before = assessment = ""
    for sentence in sentences:
        understanding += sentence
        if not is_filler(sentence):
            break
    else:
        return [Span("unsegmented", think)] if think else [], []
    # groupby labels a sentence when it reaches it, so those after the assessment, most of a trace, are never labelled.
    for label, run in groupby(sentences, key=lambda sentence: rules.label(sentence).label):
        text = "".join(run)
        if label == "assessment":
            assessment = text
            break
        if label == "understanding" and not before:
            understanding += text
        else:
            before += text
    rest = think[len(understanding) + len(before) + len(assessment) :]
    spans = [
        Span("understanding", understanding),
        Span("reasoning", before),
        Span("assessment", assessment),
        Span("reasoning", rest),
    ]
    return [span for span in spans if span.text], ["first_sentence", *(["first_assessment"] if assessment else [])]


def split_response(text: str, thinking: Thinking = MARKS) -> tuple[str, str | None]:
    """Split a response at its source's marks into reasoning and answer, both without surrounding white space.

    The opening mark may be missing, since many templates write it, or doubled, since many rows repeat it.

    Returns:
        (reasoning, answer). The answer is None where nothing follows the closing mark.

    Raises:
        DataError: there is no closing mark, or it stands at several places; the caller adds `file:line`.
    """
    close = thinking.close
    opened, body = strip_opening(text, thinking)
    think, *rest = body.split(close)
    if not rest:
        what = "opens its reasoning and never closes it" if opened else "has no reasoning"
        raise DataError(
            f"the response {what}: {close!r} is missing. Give the source's own {{flag}}.", flag="--data.think-close"
        )
    first = next((index for index, part in enumerate(rest) if part.strip()), len(rest) - 1)
    rest = rest[first:]
    if len(rest) > 1:
        raise DataError(
            f"the response closes its reasoning {len(rest)} times with {close!r}; once is the rule. Mend the row."
        )
    return think.strip(), rest[0].strip() or None


def strip_opening(text: str, thinking: Thinking) -> tuple[bool, str]:
    """Return whether `text` begins with the opening mark, and what follows it and its repetitions."""
    match = re.match(rf"\s*((?:{re.escape(thinking.open)}\s*+)*)", text)
    assert match, "the pattern matches the empty text too"
    return bool(match[1]), text[match.end() :]
