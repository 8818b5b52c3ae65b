"""Comparisons of arms by paired items: differences with intervals, p values corrected by family, effect sizes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from alttrain.engine.evaluate.intervals import cohens_h, holm, mcnemar, t_interval, t_test
from alttrain.engine.evaluate.measures import (
    Item,
    Measure,
    Stratum,
    bounds,
    by_world,
    clustered,
    mean,
    observe,
    rounded,
    subtract,
)

Chosen = Callable[[str, str], list[Item]]  # (run, setting) -> its items


def compare_runs(
    pairs: Iterable[tuple[str, str]], items: Chosen, compared: Mapping[str, Sequence[Measure]]
) -> list[dict[str, Any]]:
    """Return the comparison of each (run, run to compare it with), by the measures `compared` in each setting.

    For Holm's correction a family is one measure in one setting, over all pairs: one p value over worlds for each pair,
    and one by McNemar for each pair and world. Pairs without a common item are left out.
    """
    ordered = list(pairs)
    found = []
    for setting, measures in compared.items():
        for measure in measures:
            family = [_compare(setting, measure, pair, items) for pair in ordered]
            found += _correct_for_family([comparison for comparison in family if comparison is not None])
    return found


def _compare(setting: str, measure: Measure, pair: tuple[str, str], items: Chosen) -> dict[str, Any] | None:
    run, against = pair
    after, before = (observe(items(name, setting), measure) for name in pair)
    strata = subtract(after, before)
    difference = mean(strata)
    if difference is None:
        return None
    worlds = by_world(strata)
    after, before = _common(after, strata), _common(before, strata)
    new, old = mean(after), mean(before)
    assert new is not None, "every pair of items has both"
    assert old is not None, "every pair of items has both"
    many = len(worlds) > 1
    return {
        "run": run,
        "against": against,
        "setting": setting,
        "measure": measure.name,
        "pairs": sum(len(_flat(stratum)) for stratum in strata),
        "shares": [rounded(new), rounded(old)],
        "difference": rounded(difference),
        "clustered": bounds(clustered(strata)),
        "t_interval": bounds(t_interval(list(worlds.values()))) if many else None,
        "t_p": t_test(list(worlds.values())) if many else None,
        "worlds": {world: rounded(value) for world, value in worlds.items()},
        "mcnemar": {world: _mcnemar(world, after, before) for world in worlds},
        "cohens_h": rounded(cohens_h(new, old)),
    }


def _correct_for_family(family: list[dict[str, Any]]) -> list[dict[str, Any]]:
    numbered = list(enumerate(family))
    over_worlds = holm({str(index): c["t_p"] for index, c in numbered if c["t_p"] is not None})
    of_worlds = holm({f"{index} {world}": p for index, c in numbered for world, p in c["mcnemar"].items()})
    return [
        comparison
        | {
            "t_p_holm": over_worlds.get(str(index)),
            "mcnemar_holm": {world: of_worlds[f"{index} {world}"] for world in comparison["mcnemar"]},
        }
        for index, comparison in numbered
    ]


def _mcnemar(world: str, after: Sequence[Stratum], before: Sequence[Stratum]) -> float:
    """Return McNemar's exact p of one world, from the pairs of all strata together."""
    answers_before: list[bool] = []
    answers_after: list[bool] = []
    for new, old in zip(after, before, strict=True):
        numbers, others = _flat({world: new[world]}), _flat({world: old[world]})
        answers_after += [bool(value) for value in numbers.values()]
        answers_before += [bool(others[name]) for name in numbers]
    return mcnemar(answers_before, answers_after)


def _common(strata: Sequence[Stratum], chosen: Sequence[Stratum]) -> list[Stratum]:
    """Return the items of `strata` that are also in `chosen`."""
    return [
        {
            world: {unit: {name: stratum[world][unit][name] for name in names} for unit, names in units.items()}
            for world, units in chosen_stratum.items()
        }
        for stratum, chosen_stratum in zip(strata, chosen, strict=True)
    ]


def _flat(stratum: Stratum) -> dict[tuple[str, str, str], float]:
    return {
        (world, unit, name): value
        for world, units in stratum.items()
        for unit, numbers in units.items()
        for name, value in numbers.items()
    }
