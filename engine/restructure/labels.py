"""What a row's own label says of its prompt: harmful, benign, nothing, or something that nobody here understands.

A label is text in a column whose name tells nothing (`label`: `vanilla_harmful`), or true or false in a column whose
name says what is true (`is_safe`). The spellings below are those of published sets; none is guessed at.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Verdict = Literal["harmful", "benign", "not understood", "none"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

LABEL_COLUMNS = (
    "label", "data_type", "prompt_label", "prompt_harm_label", "prompt_safety", "is_harmful", "is_unsafe", "is_safe",
    "is_benign", "prompt_harmful", "prompt_is_harmful", "harmful", "unsafe", "safe", "benign",
    "type", "prompt_type", "category", "subset",
)  # fmt: skip
"""The columns read as labels where --*.columns names none."""

_MOSTLY_TOPICS = ("type", "prompt_type", "category", "subset")

_HARMFUL = (
    "harmful", "unsafe", "malicious", "toxic", "jailbreak", "vanilla_harmful", "adversarial_harmful",
    "harmful_prompt", "unsafe_prompt", "有害", "不安全",
)  # fmt: skip
_BENIGN = (
    "benign", "safe", "harmless", "unharmful", "not_harmful", "non_harmful", "nonharmful", "not_unsafe",
    "vanilla_benign", "adversarial_benign", "benign_prompt", "safe_prompt", "无害", "安全",
)  # fmt: skip
SPELLINGS: Mapping[str, Verdict] = {**dict.fromkeys(_HARMFUL, "harmful"), **dict.fromkeys(_BENIGN, "benign")}
"""What a label means, in lower case, with one underscore for spaces and hyphens."""

_TRUTHS: Mapping[str, bool] = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MEANINGS: Mapping[str, tuple[Verdict, Verdict]] = {
    **dict.fromkeys(("harmful", "unsafe", "toxic", "malicious"), ("harmful", "benign")),
    **dict.fromkeys(("safe", "benign", "harmless"), ("benign", "harmful")),
}


@dataclass(frozen=True)
class OwnLabel:
    """What a row says of its prompt, and in which column."""

    verdict: Verdict
    column: str = ""


def own_label(row: Mapping[str, Any], columns: Sequence[str], expected: str) -> OwnLabel:
    """Return what the row's label columns say.

    Args:
        row: the source's values by the source's names.
        columns: the columns to read; null and empty text count as missing. In columns that mostly hold topics, what is
            not understood does too, unless the column is the only one.
        expected: `harmful` or `benign`: of several labels the first that says the other counts, then one that agrees.
    """
    values = [(name, row.get(name)) for name in columns]
    found = [OwnLabel(read_label(name, value), name) for name, value in values if not _is_missing(value)]
    if len(columns) > 1:
        found = [one for one in found if one.verdict != "not understood" or one.column not in _MOSTLY_TOPICS]
    understood = [label for label in found if label.verdict != "not understood"]
    contradiction = next((label for label in understood if label.verdict != expected), None)
    return contradiction or next(iter(understood + found), OwnLabel("none"))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def read_label(column: str, value: Any) -> Verdict:
    """Return what `value` means in a column of that name."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and (spelled := SPELLINGS.get(_plain(value))):
        return spelled
    if (meaning := _meaning_of(column)) and (truth := _truth(value)) is not None:
        return meaning[0] if truth else meaning[1]
    return "not understood"


def _meaning_of(column: str) -> tuple[Verdict, Verdict] | None:
    """Return what true and what false mean in the column: is_safe, prompt_is_harmful, isUnsafe."""
    words = _plain(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column)).split("_")
    bare = [word for word in words if word not in ("is", "prompt", "request", "query", "question", "input", "label")]
    return _MEANINGS.get(bare[0]) if len(bare) == 1 else None


def _truth(value: Any) -> bool | None:
    if isinstance(value, (bool, int, float)):
        return bool(value) if value in (0, 1) else None
    return _TRUTHS.get(_plain(value)) if isinstance(value, str) else None


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFKC", text).casefold().strip())
