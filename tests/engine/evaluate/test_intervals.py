"""Statistics against published numbers, against each other, and by simulation of what an interval promises."""

import math
import random
import subprocess
import sys
import tracemalloc

import pytest

from alttrain.engine.evaluate.intervals import (
    Interval,
    cluster_bootstrap,
    cohens_h,
    holm,
    mcnemar,
    paired_bootstrap,
    t_interval,
    t_test,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "trials", "level", "low", "high"),
    [  # statsmodels 0.15.0, proportion_confint(method="wilson")
        (0, 20, 0.95, 0.0, 0.16112515805281938),
        (3, 40, 0.95, 0.025836025774588198, 0.19864233524310543),
        (3, 40, 0.5, 0.05144209767688408, 0.10811658647496257),
        (37, 40, 0.99, 0.7482310238479384, 0.9808367446706148),
        (84, 84, 0.95, 0.95626827158534, 1.0),
        (5000, 9999, 0.95, 0.4902515579156228, 0.5098484136778605),
    ],
)
def test_wilson_as_statsmodels(successes: int, trials: int, level: float, low: float, high: float) -> None:
    assert wilson(successes, trials, level) == pytest.approx((low, high), abs=1e-14)


def test_wilson_of_nothing_knows_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_mirrors_and_narrows() -> None:
    low, high = wilson(3, 40)
    assert wilson(37, 40) == pytest.approx((1 - high, 1 - low))
    wide, narrow = wilson(3, 40), wilson(3, 40, level=0.5)
    assert wide.low < narrow.low < 3 / 40 < narrow.high < wide.high


def test_t_interval_and_test_as_published() -> None:
    # Student 1908, the second soporific: mean 2.33, sd 2.002, n = 10, t(9) = 2.262; and the paired difference of the
    # two (R's `sleep`): t = 4.0621, p = 0.002833, 95% interval 0.7001142 to 2.4598858.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    difference = [b - a for a, b in zip(first, second, strict=True)]
    assert t_interval(difference) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert t_test(difference) == pytest.approx(0.002833, abs=1e-6)
    assert t_interval(second) == pytest.approx(
        (2.33 - 2.262 * 2.002 / 10**0.5, 2.33 + 2.262 * 2.002 / 10**0.5), abs=1e-2
    )


def test_worlds_that_agree_have_no_spread() -> None:
    assert t_interval([0.25, 0.25]) == (0.25, 0.25)
    assert (t_test([0.25, 0.25]), t_test([0.0, 0.0])) == (0.0, 1.0)


def test_mcnemar_as_published() -> None:
    # Agresti, Categorical Data Analysis, table 10.1 (approval, 150 and 86 changed): far below any threshold.
    # Small: of 12 changed pairs 10 one way, exact p = 2 * (1 + 12 + 66) / 4096.
    before = [False] * 10 + [True] * 2 + [True] * 30
    after = [True] * 10 + [False] * 2 + [True] * 30
    assert mcnemar(before, after) == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert mcnemar(after, before) == pytest.approx(mcnemar(before, after))
    agresti = [(True, True)] * 794 + [(True, False)] * 150 + [(False, True)] * 86 + [(False, False)] * 570
    assert mcnemar([a for a, _ in agresti], [b for _, b in agresti]) == pytest.approx(3.716e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("one_way", "other_way", "p"),  # statsmodels 0.15.0, mcnemar(exact=True)
    [(10, 2, 0.03857421875), (150, 86, 3.7159361395713866e-05), (0, 7, 0.015625), (400, 455, 0.0647188360376285)],
)
def test_mcnemar_as_statsmodels(one_way: int, other_way: int, p: float) -> None:
    before = [False] * one_way + [True] * other_way
    assert mcnemar(before, [not value for value in before]) == pytest.approx(p, rel=1e-12)


def test_mcnemar_without_change_is_one() -> None:
    assert mcnemar([True, False], [True, False]) == 1.0
    assert mcnemar([True, False], [False, True]) == 1.0
    assert mcnemar([], []) == 1.0


def test_holm_by_hand() -> None:
    # Smallest times 4, next times 3, ...; never below one before it; never above 1; in the order given.
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9}) == pytest.approx(
        {"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.9}
    )
    assert holm({}) == {}
    assert list(holm({"z": 0.5, "a": 0.4})) == ["z", "a"]


def test_holm_as_statsmodels() -> None:
    family = dict(zip("abcdefg", (0.021, 0.004, 0.3, 0.004, 0.0001, 0.9, 0.02), strict=True))
    # statsmodels 0.15.0, multipletests(method="holm")
    assert list(holm(family).values()) == pytest.approx([0.08, 0.024, 0.6, 0.024, 0.0007, 0.9, 0.08], rel=1e-12)


def test_cohens_h_as_published() -> None:
    # Cohen 1988, table 6.2.2: phi(.50) = 1.571, phi(.60) = 1.772, phi(.10) = .644, phi(.95) = 2.691.
    assert cohens_h(0.6, 0.5) == pytest.approx(0.201, abs=1e-3)
    assert cohens_h(0.95, 0.1) == pytest.approx(2.691 - 0.644, abs=1e-3)
    # statsmodels 0.15.0, proportion_effectsize
    assert cohens_h(0.0, 0.03) == pytest.approx(-0.34816602127296087, rel=1e-12)
    assert cohens_h(0.3, 0.7) == -cohens_h(0.7, 0.3)
    assert cohens_h(1.0, 0.0) == pytest.approx(math.pi)


def test_bootstrap_is_its_seed_and_flips_with_its_sign() -> None:
    generator = random.Random(0)
    differences = {str(world): [generator.choice((-1, 0, 1, 1)) for _ in range(30)] for world in range(5)}
    interval = paired_bootstrap(differences, seed=3)
    assert paired_bootstrap(differences, seed=3) == interval != paired_bootstrap(differences, seed=4)
    flipped = paired_bootstrap({name: [-value for value in items] for name, items in differences.items()}, seed=3)
    assert flipped == pytest.approx((-interval.high, -interval.low), abs=1e-9)
    mean = sum(map(sum, differences.values())) / 150
    assert interval.low < mean < interval.high


def test_bootstrap_of_independent_items_is_the_normal_interval() -> None:
    generator = random.Random(1)
    values = [generator.gauss(0.3, 1.0) for _ in range(400)]
    mean = sum(values) / 400
    error = (sum((value - mean) ** 2 for value in values) / 400) ** 0.5 / 20
    assert paired_bootstrap({"one": values}, num_resamples=20_000) == pytest.approx(
        (mean - 1.96 * error, mean + 1.96 * error), abs=0.01
    )


def test_items_that_agree_within_units_count_as_units() -> None:
    # Ten times the same item says no more than the item once.
    generator = random.Random(2)
    units = {str(index): [generator.gauss(0, 1)] for index in range(40)}
    copied = {name: items * 10 for name, items in units.items()}
    assert cluster_bootstrap([{"w": copied}]) == pytest.approx(cluster_bootstrap([{"w": units}]))
    apart = paired_bootstrap({"w": [value for items in copied.values() for value in items]})
    together = cluster_bootstrap([{"w": copied}])
    assert (together.high - together.low) > 2.5 * (apart.high - apart.low)


def test_clusters_of_unlike_size_weigh_by_their_items() -> None:
    # 90 ones in one cluster and 10 zeros in the other: a resample has mean 1, 0.9 or 0.
    interval = paired_bootstrap({"a": [1.0] * 90, "b": [0.0] * 10}, level=0.4)
    assert interval == (pytest.approx(0.9), pytest.approx(0.9))


def test_strata_weigh_alike_and_share_their_clusters() -> None:
    harmful = {"a": {"c": [1.0] * 9}, "b": {"c": [0.0]}}
    benign = {"a": {"d": [0.0]}, "b": {"d": [0.9] * 9}}
    # Only (a, a) and (b, b) are at the ends; apart they would reach 0 and 0.95.
    assert cluster_bootstrap([harmful, benign]) == pytest.approx((0.45, 0.855))


def invented_strata(unlike: bool) -> list[dict[str, dict[str, list[float]]]]:
    """Return two strata of 7 clusters of 5 units of 2 items, or of 1 to 5 and 1 to 2, the same in every process."""
    draw = random.Random(f"strata {unlike}")
    return [
        {
            f"w{index}": {
                f"u{unit}": [draw.gauss(0.2, 1.0) for _ in range(draw.randint(1, 2) if unlike else 2)]
                for unit in range(draw.randint(1, 5) if unlike else 5)
            }
            for index in range(7)
        }
        for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("unlike", "low", "high"),
    [(False, 0.032441913883280306, 0.4462622104051306), (True, -0.0938139683234011, 0.4191193524650043)],
)
def test_bootstrap_draws_what_it_drew_when_all_resamples_were_in_memory(unlike: bool, low: float, high: float) -> None:
    # Taken from the version that drew all resamples at once, at its last commit.
    assert cluster_bootstrap(invented_strata(unlike), seed=3, num_resamples=500) == pytest.approx(
        (low, high), rel=1e-12
    )


@pytest.mark.parametrize("at_once", [1, 40, 1 << 22])
@pytest.mark.parametrize("unlike", [False, True])
def test_how_many_resamples_are_taken_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, unlike: bool, at_once: int
) -> None:
    strata = invented_strata(unlike)
    expected = cluster_bootstrap(strata, seed=5, num_resamples=300)
    monkeypatch.setattr("alttrain.engine.evaluate.intervals.NUMBERS_AT_ONCE", at_once)
    assert cluster_bootstrap(strata, seed=5, num_resamples=300) == expected


@pytest.mark.parametrize("clusters", [10_000, 5])
def test_ten_thousand_pairs_take_few_mebibytes(clusters: int) -> None:
    draw = random.Random(0)
    differences: dict[str, list[float]] = {str(index): [] for index in range(clusters)}
    for index in range(10_000):
        differences[str(index % clusters)].append(draw.gauss(0.1, 1.0))
    tracemalloc.start()
    try:
        interval = paired_bootstrap(differences, num_resamples=100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert interval.low < 0.1 < interval.high
    assert peak < 50 * 2**20  # of 0.2 GiB; the arrays do not grow with the number of resamples


def draw_study(generator: random.Random, worlds: int, spread: float) -> dict[str, list[float]]:
    study = {}
    for world in range(worlds):
        effect = generator.gauss(0.2, spread)
        study[str(world)] = [generator.gauss(effect, 1.0) for _ in range(20)]
    return study


def test_coverage_over_worlds() -> None:
    """t holds 95% at 5 worlds; the bootstrap does at 20 and is too narrow at 5; pooled items lie."""
    generator = random.Random(5)
    held = {"t 5": 0, "bootstrap 5": 0, "bootstrap 20": 0, "pooled 20": 0}
    for _ in range(400):
        few, many = draw_study(generator, 5, 0.5), draw_study(generator, 20, 0.5)
        held["t 5"] += t_interval([sum(items) / 20 for items in few.values()]).contains(0.2)
        held["bootstrap 5"] += paired_bootstrap(few, num_resamples=300).contains(0.2)
        held["bootstrap 20"] += paired_bootstrap(many, num_resamples=300).contains(0.2)
        held["pooled 20"] += t_interval([value for items in many.values() for value in items]).contains(0.2)
    share = {name: count / 400 for name, count in held.items()}
    assert 0.92 <= share["t 5"] <= 0.98, share
    assert 0.91 <= share["bootstrap 20"] <= 0.98, share
    assert 0.80 <= share["bootstrap 5"] < share["t 5"], share
    assert share["pooled 20"] < 0.75, share


def test_coverage_of_wilson() -> None:
    generator = random.Random(6)
    held = sum(wilson(sum(generator.random() < 0.97 for _ in range(84)), 84).contains(0.97) for _ in range(600))
    assert 0.92 <= held / 600 <= 0.985


def test_holm_rejects_first_where_bonferroni_does() -> None:
    generator = random.Random(7)
    for size in (2, 5, 9):
        family = {str(index): generator.random() * 0.02 for index in range(size)}
        raised = holm(family)
        assert min(raised.values()) == pytest.approx(size * min(family.values()))
        assert all(family[name] <= value <= min(1.0, size * family[name]) + 1e-12 for name, value in raised.items())
    assert holm({"alone": 0.04}) == {"alone": 0.04}


def test_an_interval_holds_its_ends() -> None:
    assert Interval(0.0, 1.0).contains(0.0)
    assert Interval(0.0, 1.0).contains(1.0)
    assert not Interval(0.0, 1.0).contains(1.01)


def test_imported_without_heavy_libraries() -> None:
    program = "import sys, alttrain.engine.evaluate.intervals\nprint({'numpy', 'scipy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
