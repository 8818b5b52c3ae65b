"""Every pattern that is applied to a trace takes time linear in it, on texts made to be slow.

Times are CPU times. A text of 100 kB may take `SECONDS`, several times what the slowest takes on an idle core, and,
where it takes long enough to be measured, at most `GROWTH` times what an eighth takes: linear is 8, quadratic is 64.
"""

import random
import re
import time
from collections.abc import Callable

import pytest

from alttrain.engine.errors import DataError
from alttrain.engine.thinking import MARKS
from alttrain.engine.trace.rules import Rules
from alttrain.engine.trace.segment import segment, split_response, strip_opening
from alttrain.engine.trace.sentences import is_filler, split_sentences
from alttrain.engine.trace.structure import analyse

LENGTH, PART = 100_000, 8
SECONDS, GROWTH, MEASURABLE = 5.0, 28, 0.4
RULES = Rules.default()
WORLD = Rules(sentence_end=r"[.?](?=\s)")

MARK_RUNS = [*".!?…؟۔।॥။。！？｡", *"\"'’”»)]}*_`$」』）】》", *"([{“‘«「『（【《<$\\#-+•:;,—、，"]
SPACE_RUNS = [" ", "\n", "\t", "\r\n", "\v", "\f", "\x1c", "\x85", "\u00a0", "\u2028", "\u3000", "\n ", " \n", "\n\t\n"]
WORD_RUNS = [
    "a",
    "A",
    "é",
    "1",
    "_",
    "好",
    "嗯",
    "あ",
    "a-",
    "a'",
    "i ",
    "A. ",
    "Hi! ",
    "好。",
    "1. ",
    "\n- ",
    "\n1",
    "\n#",
]
PAIRS = [
    ".)",
    ".)x",
    ".\n",
    ". ",
    "x.",
    "。)",
    "。x",
    "\n\n.",
    "\n\na",
    "a\n\n",
    "?\"'",
    "$x",
    "\\frac{1}{",
    "((x)",
    "12.",
    "e.g.",
]
TAGS = ["<think>", "</think>", "<think>\n", "</think> ", "<think></think>", "<", "</", "<think", "a</think>"]
FILLERS = ["okay ", "so, ", "let me ", "let me step by step ", "step by step ", "first, ", "嗯，", "so so. ", "wait\n"]
OPENERS = [
    "if ",
    "is it ",
    "look ",
    "under ",
    "the ",
    "the thing ",
    "falls a ",
    "no ",
    "not ",
    "this is ",
    "i ",
    "may be ",
]
UNITS = [*MARK_RUNS, *SPACE_RUNS, *WORD_RUNS, *PAIRS, *TAGS, *FILLERS, *OPENERS]


def long_text(unit: str, length: int) -> str:
    """Return a text of that length that is `unit` over and over, and so is one run, one line or one sentence."""
    return (unit * (length // len(unit) + 1))[:length]


def sentences_of(unit: str, length: int, size: int = 590) -> str:
    """Return a text of sentences that are `unit` over and over, each as long as the rules look at."""
    return long_text(f"{long_text(unit, size)}.\n\n", length)


def seconds(work: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    work(text)
    return time.process_time() - started


def check_linear(work: Callable[[str], object], make: Callable[[int], str]) -> None:
    # An eighth at first: a hang is found after seconds, not after minutes.
    part = seconds(work, make(LENGTH // PART))
    assert part < SECONDS / 2, f"{part:.1f} s for {LENGTH // PART} characters"
    whole = seconds(work, make(LENGTH))
    assert whole < SECONDS, f"{whole:.1f} s for {LENGTH} characters"
    if whole > MEASURABLE:
        again = max(part, seconds(work, make(LENGTH // PART)))
        assert whole < GROWTH * again, f"{again:.2f} s for an eighth, {whole:.2f} s for the whole"


def split_tags(text: str) -> None:
    strip_opening(text, MARKS)
    try:
        split_response(text)
    except DataError:
        return  # such a response is refused, and that too must be quick


def split_all(text: str) -> None:
    for whole in (text, f"Yes. {text}a"):
        assert "".join(split_sentences(whole)) == whole
        assert "".join(WORLD.split(whole)) == whole
        is_filler(whole)
        split_tags(whole)


@pytest.mark.parametrize("unit", UNITS, ids=[ascii(unit).strip("'") for unit in UNITS])
def test_a_run_is_split(unit: str) -> None:
    check_linear(split_all, lambda length: long_text(unit, length))


def test_runs_of_two_kinds_are_split() -> None:
    """A run of one kind before, after and between a run of another, which a pattern may try to share out."""
    runs = [".", "。", '"', " ", "\n", "a", "#", "…)", "1"]
    texts = [f"{long_text(a, 6_000)}{long_text(b, 6_000)}" for a in runs for b in runs if a != b]
    for text in [*texts, *(long_text(text[5_900:6_100], 12_000) for text in texts)]:
        assert seconds(split_all, text) < SECONDS / PART, ascii(text[:1] + text[-1:])


def label_all(text: str) -> None:
    assert "".join(sentence.text for sentence in analyse(text, text[:5_000], RULES).sentences) == text
    segment(text)


SLOWEST = ["so, ", "if ", "look ", "under, ", "i ", "no ", "the thing ", "is it ", "falls in ", "A. B. "]


@pytest.mark.parametrize("unit", SLOWEST)
def test_sentences_are_labelled(unit: str) -> None:
    check_linear(label_all, lambda length: sentences_of(unit, length))


def literals() -> list[str]:
    """Return the words of the rules' own patterns, with which their beginnings match."""
    found: set[str] = set()
    for rule in (*RULES.openings, *RULES.sentences, *RULES.refusals):
        plain = re.sub(r"\\[a-zA-Z]", " ", rule.pattern)
        found.update(re.findall(r"[A-Za-z']+|[\u4e00-\u9fff]+", plain))
    return sorted(found)


def test_sentences_of_the_patterns_own_words_are_labelled() -> None:
    """Each word alone, repeated, is labelled in the time that makes 100 kB of it take less than `SECONDS`."""
    for word in literals():
        taken = seconds(RULES.label, long_text(f"{word} ", 600))
        if taken > SECONDS * 600 / LENGTH:  # another process may have been in the way once
            taken = min(seconds(RULES.label, long_text(f"{word} ", 600)) for _ in range(5))
        assert taken < SECONDS * 600 / LENGTH, word


def test_a_search_for_slow_sentences_finds_none() -> None:
    """Random words of the patterns, with random separators, repeated to the length that is looked at."""
    draw, words = random.Random(9), literals()
    for _ in range(300):
        unit = "".join(draw.choice(words) + draw.choice([" ", " ", ", ", ". ", "-"]) for _ in range(draw.randint(1, 9)))
        text = long_text(unit, 600)
        taken = min(seconds(RULES.label, text) + seconds(RULES.is_refusal, text) for _ in range(2))
        assert taken < SECONDS * 600 / LENGTH, unit


def test_a_trace_without_an_end_is_segmented() -> None:
    """As a model writes that never stops: one formula, one list, one repeated clause."""
    for unit in (
        "\\frac{1}{2} + (",
        "1. x\n",
        "and then the user wants to know whether it is harmful, so ",
        "| a | b |\n",
    ):
        check_linear(label_all, lambda length, unit=unit: long_text(unit, length))  # type: ignore[misc]
