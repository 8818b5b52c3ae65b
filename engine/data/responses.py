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
from alttrain.engine.thinking import ANSWER_MARKS, KNOWN, TAGS, THOUGHT_AND_SOLUTION, Thinking
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

    Marks such as `<answer>`, which may be ordinary words in angle brackets, count at the beginning of a line alone.

    Raises:
        DataError: it does.
    """
    if row_format.keeps_foreign_marks:
        return
    if thinking := find_foreign(text, row_format):
        mark = thinking.open if thinking.open in text else thinking.close
        raise DataError(
            f"the response holds {mark!r}, a mark of the reasoning in another format, and it would be trained as text. "
            f"Read it with {{flag}} {thinking.open!r} --data.think-close {thinking.close!r}, or keep it as text with "
            "--data.foreign-marks keep.",
            flag="--data.think-open",
        )
    for opening, closing in ANSWER_MARKS:
        is_special = "|" in opening
        if (is_special and (opening in text or closing in text)) or (not is_special and _begins_line(opening, text)):
            raise DataError(
                f"the answer holds {opening!r} or {closing!r}, which this model does not write, and it would be "
                f"trained as text. Take such marks off with {{flag}} {opening!r} --data.answer-close {closing!r}, or "
                "keep them with --data.foreign-marks keep.",
                flag="--data.answer-open",
            )


def find_foreign(text: str, row_format: Format) -> Thinking | None:
    """Return the marks of reasoning of another format that `text` holds, or None."""
    own = row_format.tags
    for thinking in KNOWN:
        if thinking.open not in own and (thinking.open in text or _closes(thinking, text)):
            return thinking
    return next((tags for tags in TAGS if tags.open not in own and _begins_line(tags.open, text)), None)


def _closes(thinking: Thinking, text: str) -> bool:
    # Only marks that cannot be words: "<|end|>..." of gpt-oss begins as other families' ends do.
    return thinking.close in text and "|start|" not in thinking.close


def _begins_line(mark: str, text: str) -> bool:
    return re.search(rf"^[ \t]*{re.escape(mark)}", text, re.MULTILINE | re.IGNORECASE) is not None
