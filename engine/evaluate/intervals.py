"""Intervals, tests and effect sizes for rates of items that are not independent of each other; scipy and statsmodels.

Items of one world share its facts, its base model and its order of training, and items of one component share a fact,
so that an interval over pooled items is too narrow. What is said of worlds to come is taken from `cluster_bootstrap`,
which resamples worlds and then components, and from `t_interval` over one number a world, which is the stricter of the
two where worlds are few. Heavy libraries are imported where they are used: this file is imported by light ones.
"""

import gc
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# An item's numbers by cluster and, within it, by unit; the units are resampled whole.
Clusters = Mapping[str, Mapping[str, Sequence[float]]]


class Interval(NamedTuple):
    """An interval with both ends in it."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Return whether `value` lies in the interval, its ends included."""
        return self.low <= value <= self.high


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion, for items that are independent of each other.

    It stays inside [0, 1] and keeps a width at 0 and at 1, where the normal interval has none. Without trials nothing
    is known, and it is [0, 1].

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    recommended for small n by Brown, Cai and DasGupta, Statistical Science 16 (2001).
    """
    from statsmodels.stats.proportion import proportion_confint

    assert 0 <= successes <= trials, f"{successes} successes of {trials} trials"
    if trials == 0:
        return Interval(0.0, 1.0)
    low, high = proportion_confint(successes, trials, alpha=1 - level, method="wilson")
    return Interval(float(low), float(high))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return Student's t interval of the mean of `values`: one number a world, at least two worlds.

    It needs no more than worlds drawn independently and a mean that is near normal; with few worlds it is wide, as it
    ought to be.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    from scipy import stats

    assert len(values) >= 2, "an interval over worlds needs two worlds"
    mean = sum(values) / len(values)
    error = float(stats.sem(values))
    if error == 0.0:  # worlds that agree to the digit leave nothing to estimate a spread from
        return Interval(mean, mean)
    low, high = stats.t.interval(level, len(values) - 1, loc=mean, scale=error)
    return Interval(float(low), float(high))


def t_test(values: Sequence[float]) -> float:
    """Return the two-sided p value of Student's test that the mean of `values`, one number a world, is 0."""
    from scipy import stats

    assert len(values) >= 2, "a test over worlds needs two worlds"
    if len(set(values)) == 1:
        return 1.0 if values[0] == 0 else 0.0
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def cluster_bootstrap(
    strata: Sequence[Clusters], seed: int = 0, level: float = 0.95, num_resamples: int = 4000
) -> Interval:
    """Return the percentile interval of the mean over strata of their items' means, resampling clusters, then units.

    A resample draws as many clusters as there are, with replacement, then in each one drawn as many units as it has,
    separately in every stratum; a unit's items stay together. The strata (harmful and benign, for balanced accuracy)
    share the draw of clusters. With one cluster it is a bootstrap over the units within it, which says nothing of
    other clusters. Under about ten clusters a percentile interval is too narrow (tests/engine/test_statistics.py
    measures it), so it is read beside `t_interval`. Where all items agree it has no width; read `wilson` there.

    Sources: Davison and Hinkley, "Bootstrap methods and their application" (1997), section 3.8; Field and Welsh,
    "Bootstrapping clustered data", JRSS B 69 (2007); Ren et al., Journal of Applied Statistics 37 (2010).
    """
    import numpy

    names = sorted(set().union(*strata))
    assert names, "no clusters"
    assert all(set(stratum) == set(names) for stratum in strata), "every stratum needs every cluster"
    generator = numpy.random.default_rng(seed)
    drawn = generator.integers(len(names), size=(num_resamples, len(names)))
    means = numpy.zeros(num_resamples)
    for stratum in strata:
        clusters = [[list(items) for items in stratum[name].values() if items] for name in names]
        assert all(clusters), "a cluster without items"
        widest = max(map(len, clusters))
        sums, counts = numpy.zeros((len(names), widest)), numpy.zeros((len(names), widest))
        for row, units in enumerate(clusters):
            sums[row, : len(units)] = [sum(unit) for unit in units]
            counts[row, : len(units)] = [len(unit) for unit in units]
        num_units = numpy.array([len(units) for units in clusters])[drawn]  # (resamples, clusters)
        unit = (generator.random((*drawn.shape, widest)) * num_units[..., None]).astype(int)
        is_drawn = numpy.arange(widest) < num_units[..., None]  # a cluster gives as many units as it has
        total = (sums[drawn[..., None], unit] * is_drawn).sum((1, 2))
        means += total / (counts[drawn[..., None], unit] * is_drawn).sum((1, 2)) / len(strata)
    low, high = numpy.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def paired_bootstrap(
    differences: Mapping[str, Sequence[float]], seed: int = 0, level: float = 0.95, num_resamples: int = 4000
) -> Interval:
    """Return the percentile interval of the mean of paired differences, resampling clusters, then items within.

    Args:
        differences: after minus before of every item, by cluster.
        seed: of the resampling; the same seed gives the same interval.
        level: the share of intervals that should hold the true mean.
        num_resamples: how many resamples the percentiles are taken from.
    """
    units = {name: {str(index): [value] for index, value in enumerate(items)} for name, items in differences.items()}
    return cluster_bootstrap([units], seed, level, num_resamples)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Return the exact two-sided p value of McNemar's test that a paired yes or no is as frequent before as after.

    Only pairs that changed count; without one, p is 1. It takes pairs as independent, so it is read world by world.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), by the binomial distribution of the pairs that changed.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    table = [[0, 0], [0, 0]]
    for old, new in zip(before, after, strict=True):
        table[int(old)][int(new)] += 1
    if table[0][1] + table[1][0] == 0:
        return 1.0
    return min(1.0, float(test(table, exact=True).pvalue))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p values of a family of comparisons, raised so that one false alarm in the family is as rare as one.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).
    """
    from statsmodels.stats.multitest import multipletests

    if len(p_values) < 2:
        return dict(p_values)
    # multipletests first collects garbage, which takes 0.2 s where much is held; what is frozen is not looked through.
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.freeze()
    try:
        raised = multipletests(list(p_values.values()), method="holm")[1]
    finally:
        if is_ours:
            gc.unfreeze()
    return {name: float(value) for name, value in zip(p_values, raised, strict=True)}


def cohens_h(p: float, q: float) -> float:
    """Return Cohen's h of two proportions, 2 asin sqrt p - 2 asin sqrt q: about 0.2 small, 0.5 medium, 0.8 large.

    Source: J. Cohen, "Statistical power analysis for the behavioral sciences", 2nd ed. (1988), chapter 6.
    """
    from statsmodels.stats.proportion import proportion_effectsize

    return float(proportion_effectsize(p, q))
