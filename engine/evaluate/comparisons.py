"""Arms against each other, item by item: differences with intervals, p values held to their family, effect sizes."""

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
    """Return the comparisons of each (run, run it is held against), under the measures `compared` in each setting.

    A family, for Holm, is what one measure in one setting says of all the pairs: over worlds one p value a pair, and
    by McNemar one a pair and world. Pairs without a common item are left out.
    """
    ordered = list(pairs)
    found = []
    for setting, measures in compared.items():
        for measure in measures:
            family = [_compare(setting, measure, pair, items) for pair in ordered]
            found += _held_to_family([one for one in family if one is not None])
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


def _held_to_family(family: list[dict[str, Any]]) -> list[dict[str, Any]]:
    over_worlds = holm({str(index): one["t_p"] for index, one in enumerate(family) if one["t_p"] is not None})
    of_worlds = holm({f"{index} {world}": p for index, one in enumerate(family) for world, p in one["mcnemar"].items()})
    return [
        one
        | {
            "t_p_holm": over_worlds.get(str(index)),
            "mcnemar_holm": {world: of_worlds[f"{index} {world}"] for world in one["mcnemar"]},
        }
        for index, one in enumerate(family)
    ]


def _mcnemar(world: str, after: Sequence[Stratum], before: Sequence[Stratum]) -> float:
    """Return McNemar's exact p of one world; all strata's pairs together."""
    were: list[bool] = []
    are: list[bool] = []
    for new, old in zip(after, before, strict=True):
        numbers, others = _flat({world: new[world]}), _flat({world: old[world]})
        are += [bool(value) for value in numbers.values()]
        were += [bool(others[name]) for name in numbers]
    return mcnemar(were, are)


def _common(strata: Sequence[Stratum], chosen: Sequence[Stratum]) -> list[Stratum]:
    """Return of `strata` the items that `chosen` has."""
    return [
        {
            world: {unit: {name: stratum[world][unit][name] for name in names} for unit, names in units.items()}
            for world, units in wanted.items()
        }
        for stratum, wanted in zip(strata, chosen, strict=True)
    ]


def _flat(stratum: Stratum) -> dict[tuple[str, str, str], float]:
    return {
        (world, unit, name): value
        for world, units in stratum.items()
        for unit, numbers in units.items()
        for name, value in numbers.items()
    }
