"""Splitting prose of several scripts into sentences, and recognising fillers such as "Okay.".

Texts are split, never changed: the sentences of a text join to exactly that text.
"""

import re

# Each pattern of an end begins only at the first mark, or the first white space, of a run, and never gives a mark back:
# begun anew at every mark of a run that ends no sentence, it would take time with the square of the run's length.
_MARKS = ".!?…؟۔।॥።။។"
# A full stop in a script with spaces between sentences, and the closing quotes, brackets and Markdown marks after it.
_SPACED_END = rf"""(?<![{_MARKS}])[{_MARKS}]++["'’”»)\]}}*_`$]*+(?=\s|$)"""
# A full stop in a script without spaces between sentences.
_UNSPACED_END = r"[。！？｡]+[”’」』）】》\"')]*"
# A blank line, or the end of a line before a heading or a list item.
_LINE_END = r"(?<!\s)\s*?\n(?=[^\S\n]*+(?:\n|#++\s|[-*+•]\s|\d{1,3}[.)]\s))"
_SENTENCE_END = re.compile(f"{_UNSPACED_END}|{_SPACED_END}|{_LINE_END}")

_ABBREVIATION = re.compile(
    r"(?:^|[^\w.])(?:mr|mrs|ms|dr|prof|sr|jr|st|vs|cf|al|approx|inc|ltd|corp|gen|gov|sen|rep|hon|rev|viz"
    r"|(?:[a-z]\.)+[a-z])$",
    re.IGNORECASE,
)
_NUMBERED_ABBREVIATION = re.compile(r"(?:^|[^\w.])(?:nos?|figs?|eqs?|sec|art|ch|vol|pp?|para|ex)$", re.IGNORECASE)
# "J. Smith" after a capitalised name or another initial; after a lower-case word a capital is a label ("point A.").
_INITIAL = re.compile(r"(?:^\W*|\b[A-Z]\w*\s+|\b[A-Z]\.\s*)[A-Z]$")
_LIST_MARKER = re.compile(r"(?:^|\n)[\s*_(#]*(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})$")
_LONGEST_ABBREVIATION = 40
_FOLLOWING = re.compile(r"(\s*)(\S?)")

# Filler words: a sentence made of nothing else says nothing about the problem.
_FILLER_WORD = (
    r"(?:o+ka+y|ok|al{1,2} ?right|right|so|well|hm+|um+|uh+|ah+|oh|now|wait|sure|yes|yeah|first(?:ly)?|then|and|but"
    r"|great|good|got it|i see|step by step"
    r"|(?:let me|let'?s)(?: (?:think|see|work|go|break|tackle|look|figure|start|begin|about|with|by|through|at|down"
    r"|into|out|on|this|that|it|over|one|problem|question|task|request|here|carefully|again|together|step|thinking|the))+"
    r"|好的?|嗯+|呃|那么|首先|让我(?:想想|看看|想一想|思考一下))"
)
_FILLER = re.compile(rf"{_FILLER_WORD}(?:[\s,.;:!…—，、。-]+{_FILLER_WORD})*", re.IGNORECASE)
_FILLER_MARKS = " \t\r\n\f\v.,;:!?-*_#\"'()…—。，！？、"
_LONGEST_FILLER = 120


def split_sentences(text: str) -> list[str]:
    """Cut `text` into sentences that join to it exactly; white space belongs to the sentence after it.

    A full stop ends a sentence where white space and no lower-case letter follow it, unless it belongs to an
    abbreviation, an initial or a list number; Chinese and Japanese full stops need no space; a blank line ends a
    sentence, and so does the end of a line before a list item or a heading.
    """
    cuts, last = [0], len(text.rstrip())
    first = len(text) - len(text.lstrip())  # where the words of the sentence begin
    for match in _SENTENCE_END.finditer(text):
        end = match.start() if match.group()[0].isspace() else match.end()
        if first < end < last and _is_end(text, cuts[-1], match):
            cuts.append(end)
            first = end + len(_following(text, end)[0])
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True) if end > start]


def _is_end(text: str, start: int, match: re.Match[str]) -> bool:
    """Return whether the marks of `match` end the sentence that begins at `start`."""
    marks = match.group()
    if marks[0] not in ".!?…":
        return True
    space, next_char = _following(text, match.end())
    if space.count("\n") > 1:
        return True
    if next_char.islower():
        return False
    if marks[0] != "." or marks.startswith(".."):
        return True
    before = text[max(start, match.start() - _LONGEST_ABBREVIATION) : match.start()]
    is_numbered = next_char.isdigit() and _NUMBERED_ABBREVIATION.search(before)
    is_list_number = match.start() - start <= _LONGEST_ABBREVIATION and _LIST_MARKER.search(before)
    return not (is_numbered or is_list_number or _ABBREVIATION.search(before) or _INITIAL.search(before))


def _following(text: str, at: int) -> tuple[str, str]:
    """Return the white space that begins at `at`, and the character after it."""
    match = _FOLLOWING.match(text, at)
    assert match, "the pattern matches the empty text too"
    return match[1], match[2]


def is_filler(sentence: str) -> bool:
    """Return whether `sentence` is a filler ("Okay.", "Hmm.", "Alright, let's see."), which says nothing."""
    bare = sentence.strip(_FILLER_MARKS)
    return not bare or (len(bare) <= _LONGEST_FILLER and _FILLER.fullmatch(bare) is not None)
