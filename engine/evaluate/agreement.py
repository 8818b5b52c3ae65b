"""How far two readers who label the same things agree beyond chance: Cohen's kappa, with its interval."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple


class Kappa(NamedTuple):
    """Cohen's kappa, and the interval of its normal approximation; the upper end may lie above 1."""

    value: float
    low: float
    high: float


def cohens_kappa(pairs: Sequence[tuple[int, int]], level: float = 0.95) -> Kappa:
    """Return the kappa of two readers, from the label that each gave to each thing.

    1 is agreement everywhere, 0 as much as two readers with these habits have by chance. Each reader must have given
    two labels or more, or there is no chance to be better than.

    Sources: J. Cohen, "A coefficient of agreement for nominal scales", Educ. Psych. Measurement 20 (1960); its
    variance by Fleiss, Cohen and Everitt, "Large sample standard errors of kappa and weighted kappa", Psychological
    Bulletin 72 (1969).
    """
    total = len(pairs)
    shares = {pair: count / total for pair, count in Counter(pairs).items()}
    first, second = ({label: n / total for label, n in Counter(side).items()} for side in zip(*pairs, strict=True))
    assert min(len(first), len(second)) > 1, "a reader who gives one label alone agrees by chance as often as not"
    agreed = sum(share for (one, other), share in shares.items() if one == other)
    by_chance = sum(share * second.get(label, 0.0) for label, share in first.items())
    kappa = (agreed - by_chance) / (1 - by_chance)
    spread = 0.0
    for (one, other), share in shares.items():
        habits = second.get(one, 0.0) + first.get(other, 0.0)
        spread += share * ((one == other) - habits * (1 - kappa)) ** 2
    spread -= (kappa - by_chance * (1 - kappa)) ** 2
    error = math.sqrt(max(0.0, spread) / total) / (1 - by_chance)
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    return Kappa(kappa, kappa - reach, kappa + reach)
