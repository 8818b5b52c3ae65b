"""Intervals, tests and effect sizes for rates of items that are not independent of each other, by numpy and scipy.

Items of one world share its facts, its base model and its order of training, and items of one component share a fact,
so that an interval over pooled items is too narrow. Statements about other worlds rest on `cluster_bootstrap`, which
resamples worlds and then components, and on `t_interval` over one number a world, which is wider where worlds are few.
numpy and scipy are imported inside the functions, because modules that must import quickly import this file.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

# Numbers of a resampling that are in memory at once, or one resample if it has more. An array of 64 KiB reuses memory
# of the process; larger ones were allocated by the system each time, which took half of the total time.
NUMBERS_AT_ONCE = 1 << 13
# The items' numbers by cluster and, within a cluster, by unit; units are resampled whole.
Clusters = Mapping[str, Mapping[str, Sequence[float]]]


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Return whether `value` lies in the interval, its ends included."""
        return self.low <= value <= self.high


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion, for items that are independent of each other.

    The interval stays inside [0, 1], and it keeps a width at 0 and at 1, where the normal interval has none. Without
    trials it is [0, 1].

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    recommended for small n by Brown, Cai and DasGupta, Statistical Science 16 (2001).
    """
    from scipy import stats

    assert 0 <= successes <= trials, f"{successes} successes of {trials} trials"
    if trials == 0:
        return Interval(0.0, 1.0)
    low, high = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(float(low), float(high))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return Student's t interval of the mean of `values`: one number a world, at least two worlds.

    It assumes only that the worlds are drawn independently and that their mean is nearly normal; with few worlds it is
    wide.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    from scipy import stats

    assert len(values) >= 2, "an interval over worlds needs two worlds"
    mean = sum(values) / len(values)
    error = float(stats.sem(values))
    if error == 0.0:  # all worlds have the same number, so the estimated spread is 0
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
    share the draw of clusters. With one cluster this is a bootstrap over the units within it, which says nothing
    about other clusters. With fewer than about ten clusters a percentile interval is too narrow, as
    `test_coverage_over_worlds` measures, so use `t_interval` beside it. Where all items have the same value the
    interval has no width: use `wilson` there.

    Resamples are computed a few at a time: memory grows with the items and one resample, not with `num_resamples`. Time
    grows with the number of clusters times the units of the largest, as every cluster draws that many numbers.

    Sources: Davison and Hinkley, "Bootstrap methods and their application" (1997), section 3.8; Field and Welsh,
    "Bootstrapping clustered data", JRSS B 69 (2007); Ren et al., Journal of Applied Statistics 37 (2010).
    """
    import numpy

    names = sorted(set().union(*strata))
    assert names, "no clusters"
    assert all(set(stratum) == set(names) for stratum in strata), "every stratum needs every cluster"
    tables = [_table(stratum, names) for stratum in strata]
    shape = (num_resamples, len(names))
    of_clusters, *of_units = _generators(seed, shape, [table.sums.shape[1] for table in tables])
    at_once = max(1, NUMBERS_AT_ONCE // (len(names) * max(table.sums.shape[1] for table in tables)))
    means = numpy.zeros(num_resamples)
    for start in range(0, num_resamples, at_once):
        stop = min(start + at_once, num_resamples)
        drawn = of_clusters.integers(len(names), size=(stop - start, len(names)))
        for table, generator in zip(tables, of_units, strict=True):
            means[start:stop] += _resampled_means(table, drawn, generator) / len(strata)
    low, high = numpy.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


class _Table(NamedTuple):
    """A stratum as a table: a row for each cluster, a column for each of its units; shorter rows end in zeros."""

    sums: "NDArray[numpy.float64]"
    """Sum of each unit's items."""
    counts: "NDArray[numpy.float64]"
    """Number of each unit's items."""
    num_units: "NDArray[numpy.int64]"
    """Number of each row's units."""
    are_single: bool
    """Whether every unit has one item."""


def _table(stratum: Clusters, names: Sequence[str]) -> _Table:
    import numpy

    clusters = [[list(items) for items in stratum[name].values() if items] for name in names]
    assert all(clusters), "a cluster without items"
    shape = (len(names), max(map(len, clusters)))
    sums, counts = numpy.zeros(shape), numpy.zeros(shape)
    for row, units in enumerate(clusters):
        sums[row, : len(units)] = [sum(unit) for unit in units]
        counts[row, : len(units)] = [len(unit) for unit in units]
    num_units = numpy.array([len(units) for units in clusters])
    return _Table(sums, counts, num_units, are_single=bool(counts.max() == 1))


def _generators(seed: int, shape: tuple[int, int], widths: Sequence[int]) -> list["numpy.random.Generator"]:
    """Return a generator for the clusters and one for the units of each stratum, all on one stream of `seed`.

    The stream holds the clusters of all resamples, then stratum by stratum the units of all resamples, so the numbers
    drawn from a seed do not depend on how many resamples are computed at once.
    """
    import numpy

    generators = [numpy.random.default_rng(seed)]
    stream = numpy.random.PCG64(seed)  # the bit generator of default_rng
    if max(widths) > 1:  # advance the stream by drawing the clusters: how many numbers that takes is not known before
        num_rows, num_clusters = shape
        at_once = max(1, NUMBERS_AT_ONCE // num_clusters)
        for first in range(0, num_rows, at_once):
            drawn_again = (min(at_once, num_rows - first), num_clusters)
            numpy.random.Generator(stream).integers(num_clusters, size=drawn_again)
    for width in widths:
        here = numpy.random.PCG64(seed)
        here.state = stream.state
        generators.append(numpy.random.Generator(here))
        stream.advance(math.prod(shape) * width)  # each unit draws one number
    return generators


def _resampled_means(
    table: _Table, drawn: "NDArray[numpy.int64]", generator: "numpy.random.Generator"
) -> "NDArray[numpy.float64]":
    """Return the mean of the items of each resample; a row of `drawn` holds the clusters of one resample."""
    import numpy

    width = table.sums.shape[1]
    num_units = table.num_units[drawn][..., None]  # (resamples, clusters, 1)
    if width == 1:  # every cluster has one unit: nothing to draw
        places, is_drawn = drawn[..., None], None
    else:
        places, is_drawn = _draw_units(num_units, drawn[..., None] * width, width, generator)
    count = num_units.sum((1, 2)) if table.are_single else _sum(table.counts, places, is_drawn)
    mean: NDArray[numpy.float64] = _sum(table.sums, places, is_drawn) / count
    return mean


def _draw_units(
    num_units: "NDArray[numpy.int64]", firsts: "NDArray[numpy.int64]", width: int, generator: "numpy.random.Generator"
) -> tuple["NDArray[numpy.int64]", "NDArray[numpy.bool_] | None"]:
    """Return the drawn units' places in the flat table, and a mask of the columns drawn, or None if all are.

    From a cluster as many units are drawn as it has. `width` numbers are drawn for each all the same, so that the
    numbers of one cluster do not depend on another.
    """
    import numpy

    numbers = generator.random((*num_units.shape[:2], width))
    if num_units.min() == width:
        return (numbers * width).astype(numpy.int64) + firsts, None
    is_drawn = numpy.arange(width) < num_units
    sizes = num_units.ravel()
    places = (numbers[is_drawn] * numpy.repeat(sizes, sizes)).astype(numpy.int64)
    return places + numpy.repeat(firsts.ravel(), sizes), is_drawn


def _sum(
    values: "NDArray[numpy.float64]", places: "NDArray[numpy.int64]", is_drawn: "NDArray[numpy.bool_] | None"
) -> "NDArray[numpy.float64]":
    """Return for each resample the sum of the values at `places`."""
    import numpy

    found = values.take(places)
    if is_drawn is not None:
        rows = numpy.zeros(is_drawn.shape)
        rows[is_drawn] = found
        found = rows
    total: NDArray[numpy.float64] = found.sum((1, 2))
    return total


def paired_bootstrap(
    differences: Mapping[str, Sequence[float]], seed: int = 0, level: float = 0.95, num_resamples: int = 4000
) -> Interval:
    """Return the percentile interval of the mean of paired differences, resampling clusters, then items within.

    Args:
        differences: after minus before of every item, by cluster.
        seed: seed of the resampling; the same seed gives the same interval.
        level: the share of intervals that should hold the true mean.
        num_resamples: how many resamples the percentiles are taken from.
    """
    units = {name: {str(index): [value] for index, value in enumerate(items)} for name, items in differences.items()}
    return cluster_bootstrap([units], seed, level, num_resamples)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Return the exact two-sided p value of McNemar's test that a paired yes or no is as frequent before as after.

    Only pairs that changed count; without any, p is 1. The test assumes independent pairs, so use it within one world.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), by the binomial distribution of the pairs that changed.
    """
    from scipy import stats

    changed = [new for old, new in zip(before, after, strict=True) if bool(old) != bool(new)]
    fewer = min(sum(changed), len(changed) - sum(changed))
    return min(1.0, 2 * float(stats.binom.cdf(fewer, len(changed), 0.5)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p values of a family of comparisons, raised by Holm's correction for the size of the family.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).
    """
    raised, least = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        least = max(least, min(1.0, p_values[name] * (len(p_values) - rank)))
        raised[name] = least
    return {name: raised[name] for name in p_values}


def cohens_h(p: float, q: float) -> float:
    """Return Cohen's h of two proportions, 2 asin sqrt p - 2 asin sqrt q: about 0.2 small, 0.5 medium, 0.8 large.

    Source: J. Cohen, "Statistical power analysis for the behavioral sciences", 2nd ed. (1988), chapter 6.
    """
    return 2 * (math.asin(math.sqrt(p)) - math.asin(math.sqrt(q)))
