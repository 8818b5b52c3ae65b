"""Agreement of two labellings of the same items: precision, recall and Cohen's kappa, each with its interval."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from alttrain.engine.evaluate.intervals import wilson

Pair = tuple[bool, bool]
"""(whether a rule gives an item some label, whether a reader gives it)."""


def agreement(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return precision, recall and kappa of a rule, taking the reader's labels as the truth."""
    return {
        "precision": rate(reader for rule, reader in pairs if rule),
        "recall": rate(rule for rule, reader in pairs if reader),
        "kappa": kappa(pairs),
    }


def rate(answers: Iterable[bool]) -> dict[str, Any]:
    """Return the number of true answers, the number of all answers, and Wilson's 95% interval of the share."""
    values = list(answers)
    low, high = wilson(sum(values), len(values))
    return {"count": sum(values), "total": len(values), "low": round(low, 4), "high": round(high, 4)}


def kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> dict[str, float] | None:
    """Return Cohen's kappa with its normal 95% interval; None where either side gives only one label.

    Sources: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20
    (1960); the error by J. L. Fleiss, J. Cohen and B. S. Everitt, Psychological Bulletin 72 (1969), equation 13.
    """
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    if min(len(left), len(right)) < 2:
        return None
    total = len(pairs)
    joint = {pair: count / total for pair, count in Counter(pairs).items()}
    of_left, of_right = ({label: count / total for label, count in side.items()} for side in (left, right))
    observed = sum(share for (a, b), share in joint.items() if a == b)
    by_chance = sum(share * of_right.get(label, 0.0) for label, share in of_left.items())
    value = (observed - by_chance) / (1 - by_chance)
    rest = 1 - value
    on_diagonal = sum(share * (1 - (of_left[a] + of_right[a]) * rest) ** 2 for (a, b), share in joint.items() if a == b)
    off_diagonal = rest**2 * sum(
        share * (of_right.get(a, 0.0) + of_left.get(b, 0.0)) ** 2 for (a, b), share in joint.items() if a != b
    )
    variance = on_diagonal + off_diagonal - (value - by_chance * rest) ** 2
    error = math.sqrt(max(0.0, variance) / total) / (1 - by_chance)
    return {
        "value": round(value, 4),
        "low": round(value - 1.959964 * error, 4),
        "high": round(min(1.0, value + 1.959964 * error), 4),
    }
