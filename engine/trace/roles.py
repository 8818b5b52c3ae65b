"""A reasoning trace and its spans: what a row is, where sentences end, and which rule finds which span.

Texts are cut, never changed: what the functions here return joins to exactly what they were given.
"""

import re
from dataclasses import dataclass, field

from alttrain.engine.errors import DataError

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


# A full stop of a script that puts a space after it, with the quotes, brackets and Markdown marks that close over it.
_SPACED_END = r"""[.!?…؟۔।॥።။។]+["'’”»)\]}*_`$]*(?=\s|$)"""
# A full stop of a script that writes on without a space.
_UNSPACED_END = r"[。！？｡]+[”’」』）】》\"')]*"
# A blank line, or the end of a line before a heading or a list item.
_LINE_END = r"\n(?=[^\S\n]*(?:\n|#+\s|[-*+•]\s|\d{1,3}[.)]\s))"
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

# Words to start a thought with: a sentence of nothing else says nothing about the problem.
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

# What says that a request is harmful. Words that mathematics and code use too ("illegal move", "violates", "not
# allowed") count only beside what judges or is judged.
_RULE = r"(?:polic(?:y|ies)|guidelines?|terms|laws?|rules|ethic\w*|principles?|standards|privacy|rights|consent|safety)"
_FORBIDS = r"(?:violat\w+|breach\w*|prohibit\w*|forbid\w*|disallow\w*)"
VERDICT_HARMFUL = re.compile(
    r"\b(?:harm(?:s|ed|ing|ful|fully|fulness)?|unsafe|dangerous|unethical|immoral|malicious|unlawful|illegal(?:ly)?"
    r"|illicit|criminal|inappropriate|offensive|hateful|abusive|toxic|exploitative|discriminat(?:e|es|ing|ion|ory)"
    r"|misinformation|disinformation|hate speech|harass(?:ment|ing)?|self-harm|red flags?)\b"
    rf"|\b(?:{_FORBIDS}|break\w*|against|conflicts? with)\b[^.\n]{{0,60}}\b{_RULE}\b"
    rf"|\b{_RULE}\b[^.\n]{{0,60}}\b(?:{_FORBIDS}|ban(?:s|ned)?|refus\w+)\b"
    r"|(?:\bnot|n't|\bnever)\b[^.\n]{0,20}\b(?:allowed|permitted|acceptable|safe|ethical|legal|appropriate)\b[^.\n]{0,60}"
    rf"\b(?:to (?:help|assist|provide|answer|share|give|write|create|support)|request|content|{_RULE})\b"
    r"|\b(?:must|have to|need to|should|will|ought to) (?:refuse|decline|not (?:help|assist|comply|provide))\b",
    re.IGNORECASE,
)
# What says that it is not.
VERDICT_BENIGN = re.compile(
    r"\b(?:harmless|benign|innocuous)\b"
    r"|\b(?:safe|fine|okay|ok|appropriate|acceptable) to (?:answer|help|assist|respond|reply|provide|share|explain)\b"
    r"|\b(?:no|any|without) (?:\w+ )?(?:harm|danger|ill intent|(?:safety|ethical) (?:risk|concern|issue)s?)\b"
    r"|\blegitimate (?:request|question|query|purpose|use|task)\b",
    re.IGNORECASE,
)
VERDICT_CHINESE = re.compile(
    "有害|无害|危险|不安全|安全的?(?:问题|请求)|非法|违法|犯罪|违反|违规|不道德|不当|不合适|恶意|歧视|仇恨|自残|伤害"
    "|没有(?:危害|风险)|不(?:能|应|应该|可以)(?:提供|协助|帮助)"
)
VERDICTS = (VERDICT_HARMFUL, VERDICT_BENIGN, VERDICT_CHINESE)


def split_sentences(text: str) -> list[str]:
    """Cut `text` into sentences that join to it exactly; the white space between two stands at the start of the later.

    A full stop ends a sentence where white space and no lower-case letter follow it, unless it belongs to an
    abbreviation, an initial or a list number; Chinese and Japanese full stops need no space; a blank line ends a
    sentence, and so does the end of a line before a list item or a heading.
    """
    cuts, last = [0], len(text.rstrip())
    first = len(text) - len(text.lstrip())  # where the words of the sentence begin
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        if match.group() == "\n":
            end = match.start()
            while end > first and text[end - 1].isspace():
                end -= 1
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
    """Return whether `sentence` only starts a thought ("Okay.", "Hmm.", "Alright, let's see.") and says nothing."""
    bare = sentence.strip(_FILLER_MARKS)
    return not bare or (len(bare) <= _LONGEST_FILLER and _FILLER.fullmatch(bare) is not None)


def is_verdict(sentence: str) -> bool:
    """Return whether `sentence` says that something is harmful, or that it is not."""
    return any(rule.search(sentence) for rule in VERDICTS)


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
