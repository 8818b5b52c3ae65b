"""What a row's own label says of its prompt: harmful, benign, nothing, or something that nobody here understands.

A label is text in a column whose name tells nothing (`label`: `vanilla_harmful`), or true or false in a column whose
name says what is true (`is_safe`). The spellings below are those of published sets; none is guessed at. A label that is
in no table and may yet say what the prompt is (`rather safe`) is `unclear`: to take it for nothing would be a guess.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Verdict = Literal["harmful", "benign", "unclear", "not understood", "none"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

LABEL_COLUMNS = (
    "label", "labels", "data_type", "prompt_label", "prompt_labels", "prompt_harm_label", "harm_label", "safety_label",
    "prompt_safety_label", "prompt_safety", "safety", "prompt_harmfulness", "harmfulness", "prompt_toxicity",
    "toxicity", "toxic", "is_toxic", "malicious", "is_malicious", "is_harmful", "is_unsafe", "is_safe", "is_benign",
    "is_harmless", "prompt_harmful", "prompt_is_harmful", "prompt_unsafe", "prompt_is_unsafe", "prompt_safe",
    "prompt_is_safe", "harmful", "unsafe", "safe", "benign", "harmless",
    "type", "prompt_type", "category", "subset",
)  # fmt: skip
"""The columns read as labels where --*.columns names none, in any writing (`isSafe`), in `metadata` too."""

NESTS = ("metadata", "meta", "extra_info", "extra", "info", "annotations")
"""Columns whose value may be an object with labels in it; its keys are called `metadata.label`."""

_OF_RESPONSES = frozenset(("response", "answer", "output", "completion", "refusal", "chosen", "rejected", "solution"))
_MOSTLY_TOPICS = ("type", "prompt_type", "category", "subset")

_HARMFUL = (
    "harmful", "unsafe", "malicious", "toxic", "jailbreak", "vanilla_harmful", "adversarial_harmful",
    "harmful_prompt", "unsafe_prompt", "harmful_request", "unsafe_request", "not_safe", "not_benign", "not_harmless",
    "有害", "有害的", "不安全", "不安全的", "恶意", "有毒", "惡意", "有毒的",
)  # fmt: skip
_BENIGN = (
    "benign", "safe", "harmless", "unharmful", "not_harmful", "non_harmful", "nonharmful", "not_unsafe",
    "non_toxic", "nontoxic", "not_toxic", "non_malicious", "not_malicious", "vanilla_benign", "adversarial_benign",
    "benign_prompt", "safe_prompt", "harmless_prompt", "benign_request", "safe_request", "harmless_request",
    "无害", "无害的", "安全", "安全的", "良性", "良性的", "無害",
)  # fmt: skip
SPELLINGS: Mapping[str, Verdict] = {**dict.fromkeys(_HARMFUL, "harmful"), **dict.fromkeys(_BENIGN, "benign")}
"""What a label means, in lower case, with one underscore for spaces and hyphens."""

_TRUTHS: Mapping[str, bool] = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MEANINGS: Mapping[str, tuple[Verdict, Verdict]] = {
    **dict.fromkeys(
        ("harmful", "unsafe", "toxic", "malicious", "toxicity", "harmfulness", "harm"), ("harmful", "benign")
    ),
    **dict.fromkeys(("safe", "benign", "harmless", "safety"), ("benign", "harmful")),
}
# 1 may be the least of a scale, and then says the contrary of true; 0 is the least of every scale.
_DEGREES = ("harmfulness", "harm", "safety")
_LONGEST_LABEL = 60
_AROUND = "_.,;:!。\"'()[]{}*`"  # in NFKC
_MAY_SAY = re.compile(
    "benign|safe|harm|toxic|malic|innocu|offens|jailbreak|(?:^|_)(?:non?|not|never)(?:_|$)|(?:^|_)(?:un|non(?!e(?:_|$)))"
    "|良|无害|無害|有害|安全|恶|惡|正常|毒"
)
_TOPIC_MAY_SAY = re.compile(
    "benign|harmless|(?:^|_)(?:non|not|un)_?(?:harmful|toxic|malicious)|(?:^|_)safe(?:_|$)|良性|无害|無害"
)


@dataclass(frozen=True)
class OwnLabel:
    """What a row says of its prompt, and in which column."""

    verdict: Verdict
    column: str = ""
    """By the source's name; empty where the row has no label."""
    value: Any = field(default=None, compare=False, repr=False)
    """As the source has it."""


def own_label(row: Mapping[str, Any], columns: Sequence[str], expected: str) -> OwnLabel:
    """Return what the row's label columns say.

    Args:
        row: the source's values by the source's names.
        columns: LABEL_COLUMNS, which stand in the row in any writing, or the one column that the user has named. Null
            and empty text count as missing. In columns that mostly hold topics, what is not understood does too, unless
            the column is the only one.
        expected: `harmful` or `benign`: of several labels the first that says the other counts, then one that is
            unclear, then one that agrees. An unclear topic weighs less than a label, and so does a column of another
            name that says the other in a spelling of labels, which is unclear then.
    """
    is_named = len(columns) == 1
    if is_named:
        found = [(columns[0], columns[0], row.get(columns[0]))]
    else:
        places = {name: place for place, name in enumerate(columns)}
        found = [(name, column, value) for name, column, value in _flat(row) if name in places or _states(name)]
        found.sort(key=lambda each: places.get(each[0], len(places)))
    labels, topics = list[OwnLabel](), list[OwnLabel]()
    for name, column, value in found:
        if _is_missing(value):
            continue
        is_topic = name in _MOSTLY_TOPICS and not is_named
        verdict = read_label(column.rpartition(".")[2] if not is_named else column, value)
        if is_topic and verdict not in ("harmful", "benign"):
            verdict = "unclear" if _says(_TOPIC_MAY_SAY, value) else "none"
        (topics if is_topic else labels).append(OwnLabel(verdict, column, value))
    others = ("harmful",) if expected == "benign" else ("benign",)
    for wanted, among in (
        (others, [*labels, *topics]),
        (("unclear",), labels),
        ((expected,), [*labels, *topics]),
        (("unclear",), topics),
        (("unclear",), [] if is_named else _elsewhere(row, columns, expected)),
        (("not understood",), labels),
    ):
        if first := next((label for label in among if label.verdict in wanted), None):
            return first
    return OwnLabel("none")


def _elsewhere(row: Mapping[str, Any], columns: Sequence[str], expected: str) -> list[OwnLabel]:
    """Return what columns of other names, that do not speak of the response, say against what is expected."""
    return [
        OwnLabel("unclear", column, value)
        for name, column, value in _flat(row)
        if name not in columns and _OF_RESPONSES.isdisjoint(name.split("_")) and _spelled(value) not in (None, expected)
    ]


def read_label(column: str, value: Any) -> Verdict:
    """Return what `value` means in a column of that name; a list of one value, or of one many times, is that value."""
    if spelled := _spelled(value):
        return spelled
    value = _single(value)
    bare = _bare(column)
    if bare in _MEANINGS:
        truth = None if bare in _DEGREES and _is_one(value) else _truth(value)
        if truth is not None:
            return _MEANINGS[bare][0 if truth else 1]
        return "unclear"  # the column speaks of it, in words or numbers that are not known here
    return "unclear" if _says(_MAY_SAY, value) else "not understood"


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value and all(item == value[0] for item in value) else value


def _spelled(value: Any) -> Verdict | None:
    value = _single(value)
    return SPELLINGS.get(_plain(value)) if isinstance(value, str) and len(value) <= _LONGEST_LABEL else None


def may_speak_of_response(column: str) -> bool:
    """Return whether the column may label the response, as BeaverTails' `is_safe` does, and not the prompt."""
    return plain_column(column).rpartition(".")[2] in ("is_safe", "is_unsafe", "is_harmful")


def plain_column(name: str) -> str:
    """Return a column's name in lower case with underscores: `isSafe` and `Is safe` are `is_safe`."""
    return _plain(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", unicodedata.normalize("NFKC", name)))


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (plain name, the source's name, value) of each column, and of each key of an object called metadata."""
    for column, value in row.items():
        name = plain_column(column)
        if name not in NESTS:
            yield name, column, value
            continue
        if isinstance(value, str) and value.lstrip().startswith("{"):  # of a table, whose cells are text
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if isinstance(value, dict):
            yield from ((plain_column(key), f"{column}.{key}", item) for key, item in value.items())


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and (not value or not str(value).strip()))


def _bare(column: str) -> str:
    """Return what a column's name says without the words for a prompt: is_safe, prompt_is_harmful, isUnsafe."""
    words = plain_column(column).split("_")
    bare = [word for word in words if word not in ("is", "prompt", "request", "query", "question", "input", "label")]
    return bare[0] if len(bare) == 1 else ""


def _states(name: str) -> bool:
    """Return whether a name that is not listed is that of a label: is_harmful_prompt, but not harmful_prompt."""
    return _bare(name) in _MEANINGS and not {"is", "label"}.isdisjoint(name.split("_"))


def _truth(value: Any) -> bool | None:
    if isinstance(value, (bool, int, float)):
        return bool(value) if value in (0, 1) else None
    return _TRUTHS.get(_plain(value)) if isinstance(value, str) else None


def _is_one(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (is_number and value == 1) or (isinstance(value, str) and _plain(value) == "1")


def _says(pattern: re.Pattern[str], value: Any) -> bool:
    """Return whether a text in the value, at any depth, holds the pattern."""
    if isinstance(value, dict):
        return any(_says(pattern, item) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return any(_says(pattern, item) for item in value)
    return isinstance(value, str) and pattern.search(_plain(value)) is not None


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFKC", text).casefold()).strip(_AROUND)
