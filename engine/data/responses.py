"""The spans of an ordinary response: its reasoning and its answer, found by marks, positions and rules.

Error messages never quote the response, as it may be harmful.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from alttrain.engine.data.checks import describe_kind
from alttrain.engine.data.columns import Format
from alttrain.engine.errors import DataError
from alttrain.engine.thinking import (
    ANSWER_MARKS,
    ANSWER_WORDS,
    KNOWN,
    TAG_WORDS,
    THOUGHT_AND_SOLUTION,
    Thinking,
)
from alttrain.engine.trace.roles import Span
from alttrain.engine.trace.segment import segment, split_response, strip_opening

Spans = tuple[list[Span], list[str]]


def find_spans(response: str, row_format: Format) -> Spans:
    """Find the spans of an ordinary response by rule.

    A response that opens its reasoning and never closes it is one `unsegmented` span of reasoning, without an answer; a
    response without either delimiter is one `unsegmented` span after empty reasoning.

    Returns:
        The spans, and the names of the rules that placed one.

    Raises:
        DataError: the delimiters stand at several places, there is no text between them, or they are those of another
            format.
    """
    thinking = row_format.thinking
    opened, body = strip_opening(response, thinking)
    rules: list[str] = []
    if thinking.close in body:
        think, answer = split_response(response, thinking)
        spans, rules = segment(think)
        if answer is not None:
            spans.append(Span("answer", unwrap_answer(answer, row_format)))
    else:
        check_foreign(body, row_format)
        spans = [Span("unsegmented", body.strip() if opened else unwrap_answer(body.strip(), row_format))]
        if not opened:
            spans.insert(0, Span("answer", ""))
    if not any(span.text for span in spans):
        raise DataError("the response holds nothing but its delimiters; it must hold reasoning or an answer.")
    return spans, rules


def positioned_spans(response: str, positions: Sequence[Any], row_format: Format) -> Spans:
    """Return the spans of a row of SafeKey's: its understanding and its key sentence end at two characters of it.

    Its authors count from the opening mark and one line break, whatever white space the response has there. In a few of
    their rows the reasoning is empty, and the positions stand in the answer, which has no spans.

    Raises:
        DataError: a position is no number, or they do not stand in the reasoning in this order.
    """
    think, answer = split_response(response, row_format.thinking)
    if not think:
        return find_spans(response, row_format)
    begin = len(row_format.thinking.open) + len("\n")
    end = begin + len(think)
    positions = [int(value) if isinstance(value, str) and value.isdecimal() else value for value in positions]
    for name, value in zip(("summary_end_idx", "next_sentence_end_idx"), positions, strict=True):
        if not isinstance(value, int) or isinstance(value, bool):
            raise DataError(f"{name} is {describe_kind(value)}; it must be the number of a character of the response.")
    understood, assessed = (end if value == end + len("\n") else value for value in positions)
    if not begin < understood <= assessed <= end:
        raise DataError(
            f"summary_end_idx {understood} and next_sentence_end_idx {assessed} must follow each other within the "
            f"reasoning, characters {begin} to {end}. Mend them, or leave them out with "
            "--data.ignore summary_end_idx,next_sentence_end_idx."
        )
    cuts = (0, understood - begin, assessed - begin, len(think))
    texts = [think[start:stop] for start, stop in pairwise(cuts)]
    roles = ("understanding", "assessment", "reasoning")
    spans = [Span(role, text) for role, text in zip(roles, texts, strict=True) if text]
    if answer is not None:
        spans.append(Span("answer", unwrap_answer(answer, row_format)))
    return spans, ["positions"]


def unwrap_answer(answer: str, row_format: Format) -> str:
    """Return the answer without the marks around it: those that the format names, or those of its marks of reasoning.

    Raises:
        DataError: the marks that the format names are not there, or those of another format are.
    """
    opening, closing = row_format.answer_marks
    if not opening and not closing and row_format.thinking.tags == THOUGHT_AND_SOLUTION.tags:
        opening, closing = ANSWER_MARKS[0]
        if not answer.startswith(opening):
            opening = closing = ""
    if opening or closing:
        if not (answer.startswith(opening) and answer.endswith(closing)):
            raise DataError(
                f"the answer does not stand between {opening!r} and {closing!r}; give the source's own with {{flag}}.",
                flag="--data.answer-open",
            )
        answer = answer[len(opening) : len(answer) - len(closing)].strip()
    check_foreign(answer, row_format)
    return answer


def check_foreign(text: str, row_format: Format) -> None:
    """Refuse text that would be trained as an answer and holds a known mark of another format.

    Words in angle brackets, such as `<answer>`, are marks where they stand in a pair or at the beginning.

    Raises:
        DataError: it does.
    """
    if row_format.keeps_foreign_marks:
        return
    if thinking := find_foreign(text, row_format):
        mark = thinking.open if thinking.open in text else thinking.close
        raise DataError(
            f"the response holds {mark!r}, a mark of the reasoning in another format, and it would be trained as text. "
            f"Read it with {{flag}} {thinking.open!r} --data.think-close {thinking.close!r}, or {_KEEP}",
            flag="--data.think-open",
        )
    if found := _answer_marks(text):
        raise DataError(
            f"the answer holds {found[0]!r} or {found[1]!r}, which this model does not write, and it would be trained "
            f"as text. Take such marks off with {{flag}} {found[0]!r} --data.answer-close {found[1]!r}, or {_KEEP}",
            flag="--data.answer-open",
        )
    if special := _SPECIAL.search(text):
        raise DataError(
            f"the answer holds {special.group()!r}, by which models end or begin a turn, and it would be trained as "
            f"text. Take it out, or {_KEEP}"
        )


_KEEP = "keep it as text with --data.foreign-marks keep."
# Tokens by which models of other families end or begin a turn, where a data set has kept them.
_SPECIAL = re.compile(r"<\|[A-Za-z_]{2,30}\|>|<｜[^｜<>]{2,30}｜>|<(?:end|start)_of_turn>|\[/?INST\]|</s>\s*$")


def find_foreign(text: str, row_format: Format) -> Thinking | None:
    """Return the marks of reasoning of another format that `text` holds, as it writes them, or None."""
    own = row_format.tags
    for thinking in KNOWN:
        if thinking.open not in own and (thinking.open in text or _closes(thinking, text)):
            return thinking
    pair = _tag_pair(text, TAG_WORDS, own)
    if pair:
        return Thinking(*pair)
    # The form of HuatuoGPT-o1 and its data.
    if text.lstrip().startswith("## Thinking\n") and "\n## Final Response\n" in text:
        return Thinking("## Thinking", "## Final Response")
    return None


def _answer_marks(text: str) -> tuple[str, str] | None:
    for opening, closing in ANSWER_MARKS:
        if opening in text or closing in text:
            return opening, closing
    return _tag_pair(text, ANSWER_WORDS, ())


def _tag_pair(text: str, words: Sequence[str], own: Sequence[str]) -> tuple[str, str] | None:
    """Return the first word in angle brackets that stands in `text` in a pair, at its beginning or at its end.

    Case, spaces, bars and HTML's escapes are those of the text. What stands in `own` to the letter is no foreign mark.
    """
    if "<" not in text and "&lt;" not in text:
        return None
    opened: dict[str, str] = {}
    for found in _TAG.finditer(text):
        tag, is_closing, word = found.group(), bool(found[1]), found[2].lower()
        if word not in words or tag in own:
            continue
        if is_closing and word in opened:
            return opened[word], tag
        if (not is_closing and not text[: found.start()].strip()) or (is_closing and not text[found.end() :].strip()):
            other = tag.replace("/", "") if is_closing else tag.replace(found[2], f"/{found[2]}")
            return (other, tag) if is_closing else (tag, other)
        if not is_closing:
            opened.setdefault(word, tag)
    return None


_TAG = re.compile(r"(?:<|&lt;)[ |]{0,3}(/?)[ |]{0,3}([A-Za-z_]{3,20})[ |]{0,3}/?(?:>|&gt;)")


def _closes(thinking: Thinking, text: str) -> bool:
    # Only marks that cannot be words: "<|end|>..." of gpt-oss begins as other families' ends do.
    return thinking.close in text and "|start|" not in thinking.close
