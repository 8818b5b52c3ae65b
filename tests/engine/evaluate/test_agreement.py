"""Cohen's kappa against reference values, and where it must be 1, 0 and below."""

import pytest

from alttrain.engine.evaluate.agreement import cohens_kappa


def pairs_of(table: list[list[int]]) -> list[tuple[int, int]]:
    return [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]


@pytest.mark.parametrize(
    ("table", "kappa"),
    [  # statsmodels 0.15.0, inter_rater.cohens_kappa
        ([[20, 5], [10, 15]], (0.4, 0.151092290476661, 0.6489077095233389)),
        ([[44, 5, 1], [7, 20, 3], [9, 5, 6]], (0.49152542372881347, 0.35015820121748686, 0.6328926462401401)),
    ],
)
def test_kappa_as_statsmodels(table: list[list[int]], kappa: tuple[float, float, float]) -> None:
    assert cohens_kappa(pairs_of(table)) == pytest.approx(kappa, rel=1e-12)
    assert cohens_kappa([(other, one) for one, other in pairs_of(table)]) == pytest.approx(kappa, rel=1e-12)


def test_readers_who_agree_everywhere_by_chance_or_nowhere() -> None:
    assert cohens_kappa(pairs_of([[30, 0], [0, 20]])) == pytest.approx((1.0, 1.0, 1.0))
    assert cohens_kappa(pairs_of([[9, 9], [9, 9]])).value == pytest.approx(0.0)
    assert cohens_kappa(pairs_of([[0, 10], [10, 0]])).value == pytest.approx(-1.0)


def test_a_label_that_one_reader_alone_gives_counts_against_them() -> None:
    assert cohens_kappa(pairs_of([[10, 0, 0], [0, 10, 5], [0, 0, 0]])).value < 1.0


def test_a_lower_level_is_a_narrower_interval() -> None:
    wide, narrow = (cohens_kappa(pairs_of([[20, 5], [10, 15]]), level) for level in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_one_label_alone_leaves_nothing_to_agree_on() -> None:
    with pytest.raises(AssertionError, match="one label alone"):
        cohens_kappa([(0, 0), (0, 1)])
