"""An ordinary reasoning trace becomes an AltTrain example, or one of the controls on the same prompt and answer.

AltTrain (arXiv 2604.18946) keeps the first sentence of a trace, which says what is asked, and adds one sentence that
assesses the request. The assessment decides the rest: a harmful request is refused in one sentence; for a benign one
the original reasoning follows. The sentences added are a function of (seed, id, label, category), so the controls
differ in structure alone.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from alttrain.engine.errors import DataError
from alttrain.engine.restructure.wording import Label, Wording, built_in
from alttrain.engine.trace.roles import Message, Row, Span
from alttrain.engine.trace.sentences import is_filler, split_sentences

Structure = Literal[
    "full",
    "no-assessment",
    "no-understanding",
    "no-conditional",
    "assessment-last",
    "after-answer",
    "answer-only",
]

ORDER: Mapping[Structure, tuple[str, ...]] = {
    "full": ("understanding", "assessment", "reasoning", "answer"),
    "no-assessment": ("understanding", "reasoning", "answer"),
    "no-understanding": ("assessment", "reasoning", "answer"),
    # The roles of `full`, but after the assessment a harmful trace continues with its original reasoning.
    "no-conditional": ("understanding", "assessment", "reasoning", "answer"),
    "assessment-last": ("understanding", "reasoning", "assessment", "answer"),
    "after-answer": ("understanding", "reasoning", "answer", "assessment"),
    "answer-only": ("answer",),
}

_FORMULAS = (("\\[", "\\]"), ("\\(", "\\)"), ("\\begin{", "\\end{"))


@dataclass(frozen=True)
class Trace:
    """A prompt with an ordinary reasoning trace and answer, and the prompt's label and categories."""

    id: str
    label: Label
    categories: tuple[str, ...]
    messages: tuple[Message, ...]
    think: str
    answer: str
    source: str
    where: str
    """`file:line`, for errors."""


class Assessor(Protocol):
    """Anything that assesses a request in one sentence: the templates below, a served model, a person."""

    def __call__(self, trace: Trace) -> str:
        """Return one sentence that says whether the request is harmful, and why."""
        ...


def restructure(trace: Trace, structure: Structure, assess: Assessor, seed: int, wording: Wording | None = None) -> Row:
    """Return `trace` as a row of the given structure.

    Prompt, label and answer are the same in every structure. Each span but the first and the answer begins with the
    space that separates it from the one before, if its script has one; fillers before the first sentence that is none
    are dropped; empty spans are left out. Decisions and refusals are those of `wording`, or the built-in ones.

    Raises:
        DataError: the trace holds nothing but fillers, or the assessor returned an empty text.
    """
    understanding, rest = split_understanding(trace)
    answer, reasoning = trace.answer.strip(), rest
    if trace.label == "harmful":
        answer = write_refusal(trace, seed, wording)
        if structure != "no-conditional":
            reasoning = write_decision(trace, seed, wording)
    texts = {"understanding": understanding, "reasoning": reasoning, "answer": answer}
    if "assessment" in ORDER[structure]:
        assessment = assess(trace).strip()
        if not assessment:
            raise DataError("the assessor returned an empty text; it must be one sentence.", where=trace.where)
        texts["assessment"] = assessment
    spans: list[Span] = []
    for role in filter(lambda role: texts[role].strip(), ORDER[structure]):
        # An answer stands after a blank line, and what follows in the source itself stays as it is there.
        is_apart = spans and (role == "answer" or (texts[role] is rest and spans[-1].role == "understanding"))
        before = spans[-1].text if spans else ""
        spans.append(Span(role, texts[role] if is_apart else _set_apart(before, texts[role])))
    return Row(trace.id, trace.label, trace.messages, tuple(spans), trace.source, trace.where, structure=structure)


def _set_apart(before: str, text: str) -> str:
    """Return `text` with a space in front where it needs one after `before`; without any where nothing is before.

    Chinese and Japanese sentences need none between them, but an English one beside them does.
    """
    if not before:
        return text.lstrip()
    if before[-1].isspace() or text[0].isspace() or (_is_unspaced(before[-1]) and _is_unspaced(text[0])):
        return text
    return " " + text


def _is_unspaced(char: str) -> bool:
    """Return whether the script of `char` puts no space between two sentences."""
    return "\u3000" <= char <= "\u9fff" or "\uff00" <= char <= "\uffef"


def split_understanding(trace: Trace) -> tuple[str, str]:
    """Return the first sentence of the trace that is no filler, and everything after it with the space before that.

    A factorial or a full stop inside a formula may look like the end of a sentence: the understanding then continues
    until the formula is closed.

    Raises:
        DataError: all sentences are fillers.
    """
    sentences = split_sentences(trace.think.strip())
    start = next((i for i, sentence in enumerate(sentences) if not is_filler(sentence)), None)
    if start is None:
        raise DataError("the trace has no sentence that says anything; a trace needs at least one.", where=trace.where)
    end = start + 1
    while end < len(sentences) and _opens_formula("".join(sentences[start:end])):
        end += 1
    return "".join(sentences[start:end]).strip(), "".join(sentences[end:])


def _opens_formula(text: str) -> bool:
    return any(text.count(opening) > text.count(closing) for opening, closing in _FORMULAS)


@dataclass(frozen=True)
class TemplateAssessor:
    """Assesses by the trace's label: a frame, a name for the kind of request and a reason, drawn from (seed, id)."""

    seed: int = 0
    wording: Wording | None = None
    """None for the built-in one."""

    def __call__(self, trace: Trace) -> str:
        """Return the assessment, the same for the same seed, trace and wording."""
        wording = self.wording or built_in()
        topic = wording.topic(trace.label, trace.categories)
        frames = wording.frames[trace.label]
        frame, kind, reason = _draw(self.seed, trace, "assessment", frames, topic.kinds, topic.reasons)
        return frame.format(kind=kind, reason=reason)


def write_decision(trace: Trace, seed: int, wording: Wording | None = None) -> str:
    """Return the sentence that ends a harmful trace; it does not judge, so that `no-assessment` has no assessment."""
    wording = wording or built_in()
    topic = wording.topic("harmful", trace.categories)
    start, end = _draw(seed, trace, "decision", wording.decisions, topic.turns or wording.turns)
    return start + end


def write_refusal(trace: Trace, seed: int, wording: Wording | None = None) -> str:
    """Return the short refusal that answers a harmful prompt, with an offer of something else."""
    wording = wording or built_in()
    topic = wording.topic("harmful", trace.categories)
    opener, offer = _draw(seed, trace, "refusal", wording.refusals, topic.offers)
    return opener + _set_apart(opener, offer)


def _draw(seed: int, trace: Trace, purpose: str, *choices: Sequence[str]) -> list[str]:
    draw = random.Random(f"{seed}/{trace.id}/{purpose}")  # a text seed is hashed with SHA-512: the same on any machine
    return [draw.choice(options) for options in choices]
