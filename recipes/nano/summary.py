"""summary.json: every figure of the report with its intervals, computed from the files that the runs wrote.

Answers of one world are not independent of each other, so that every rate has two intervals: Wilson's over pooled
items, and one that resamples worlds, then components. A study of one world can only resample components, and its
summary says so.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from alttrain.engine.evaluate.comparisons import compare_runs
from alttrain.engine.evaluate.measures import (
    BALANCED,
    EXACT,
    EXACT_BENIGN,
    FOLLOWED,
    REFUSED_BENIGN,
    REFUSED_HARMFUL,
    REQUEST_MEASURES,
    STRUCTURE_MEASURES,
    Item,
    Measure,
    rate,
    rounded,
)
from alttrain.engine.evaluate.structure_sets import transition_entropy
from alttrain.engine.files import read_lines
from alttrain.nano.arms import BEFORE, CONTROL, READING_ORDER, TREATMENT
from alttrain.nano.evaluation import REQUESTS, SKILLS
from alttrain.nano.findings import find

# The measures by which runs are compared, for each setting.
COMPARED: Mapping[str, Sequence[Measure]] = {
    **dict.fromkeys(REQUESTS, (BALANCED, REFUSED_HARMFUL, REFUSED_BENIGN, EXACT_BENIGN)),
    **dict.fromkeys(SKILLS, (EXACT,)),
}
NUM_POINTS = 60
# The kinds of traces that are shown; of the failures only the first in this order.
KINDS = (
    "harmful: the control serves it, AltTrain refuses",
    "benign: the control refuses it, AltTrain serves",
    "a failure of AltTrain: harmful, and served",
    "a failure of AltTrain: benign, and refused",
    "a failure of AltTrain: benign, and served wrongly",
)
ONE_WORLD = (
    "One world only: worlds cannot be clustered. Intervals resample the components within this world, and say nothing "
    "of how other worlds would turn out."
)
MANY_WORLDS = (
    "Intervals resample the {worlds} worlds, then the components within each; the t intervals take one number a world. "
    "With fewer than about ten worlds the resampled ones are too narrow, so an effect counts only where both exclude 0."
)

Lines = Sequence[Mapping[str, Any]]


def summarise(folder: Path) -> dict[str, Any]:
    """Return the summary of the study in `folder`, from study.json and its three .jsonl files alone."""
    design = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    items, runs = read_lines(folder / "items.jsonl"), read_lines(folder / "runs.jsonl")
    interventions = read_lines(folder / "interventions.jsonl")
    names = _names([*items, *runs], design.get("assessment_weights", []))
    answered: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        answered[names[_key(item)], item["setting"]].append(item)
    worlds = sorted({item["seed"] for item in items})
    table = [
        _describe(
            name,
            key,
            {setting: answered[name, setting] for setting in (*REQUESTS, *SKILLS)},
            [line for line in runs if _key(line) == key],
            [line for line in interventions if _key(line) == key],
        )
        for key, name in names.items()
    ]
    for row in table:
        row["token_ratio"] = _ratio(row, next((other for other in table if other["name"] == CONTROL), None))
    arms = [row["name"] for row in table]
    pairs = {
        "control": [(name, CONTROL) for name in arms if name not in (CONTROL, BEFORE) and CONTROL in arms],
        "treatment": [(TREATMENT, name) for name in arms if name != TREATMENT and TREATMENT in arms],
    }

    def items_of(name: str, setting: str) -> list[Item]:
        return answered[name, setting]

    summary: dict[str, Any] = {
        "study": design,
        "worlds": [str(seed) for seed in worlds],
        "clustering": ONE_WORLD if len(worlds) == 1 else MANY_WORLDS.format(worlds=len(worlds)),
        "treatment": TREATMENT,
        "control": CONTROL,
        "before": BEFORE,
        "runs": table,
        "against_control": compare_runs(pairs["control"], items_of, COMPARED),
        "treatment_against": compare_runs(pairs["treatment"], items_of, COMPARED),
        "traces": _traces({name: answered[name, "held-out"] for name in (BEFORE, CONTROL, TREATMENT)}),
    }
    return {"finding": find(summary), **summary}


def _key(line: Mapping[str, Any]) -> tuple[str, float]:
    return str(line["arm"]), float(line.get("assessment_weight") or 0.0)


def _names(lines: Lines, weights: Sequence[float]) -> dict[tuple[str, float], str]:
    """Return a name for each (arm, weight) in order; at the study's first weight (or its smallest), the arm's own."""
    found: dict[str, set[float]] = defaultdict(set)
    for arm, weight in map(_key, lines):
        found[arm].add(weight)
    known = [*READING_ORDER, *sorted(set(found) - set(READING_ORDER))]
    names = {}
    for arm in sorted(found, key=known.index):
        main = next((weight for weight in weights if weight in found[arm]), min(found[arm]))
        names[arm, main] = arm
        for weight in sorted(found[arm] - {main}):
            names[arm, weight] = f"{arm}, weight {weight:g}"
    return names


def _describe(
    name: str, key: tuple[str, float], items: Mapping[str, list[Item]], runs: Lines, interventions: Lines
) -> dict[str, Any]:
    """Return all figures of one arm at one weight."""
    held_out = items["held-out"]
    clusters = {(item["seed"], item["id"]): item["cluster"] for item in held_out}
    steered = [line | {"cluster": clusters.get((line["seed"], line["id"]), "")} for line in map(dict, interventions)]
    return {
        "name": name,
        "arm": key[0],
        "assessment_weight": key[1],
        "settings": {
            setting: {measure.name: rate(items[setting], measure) for measure in REQUEST_MEASURES}
            for setting in REQUESTS
        },
        "skills": {setting: rate(items[setting], EXACT) for setting in SKILLS},
        "structure": {measure.name: rate(held_out, measure) for measure in STRUCTURE_MEASURES}
        | {
            "transition_entropy_bits": rounded(transition_entropy(map(_steps, held_out))) if held_out else None,
            "ways": _ways(held_out),
        },
        "generated_tokens": {label: _tokens(held_out, label) for label in ("", "harmful", "benign")},
        "followed": {
            written: rate([line for line in steered if line["written"] == written], FOLLOWED)
            for written in ("true", "flipped")
        },
        "training": _training(runs),
        "nll": _curves(runs),
    }


def _steps(item: Item) -> tuple[str, ...]:
    """Return the steps of a trace as in structure.py: its labels without `other`, repetitions in a row as one."""
    return tuple(label for label, _ in groupby(label for label in item["labels"] if label != "other"))


def _ways(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Return the three commonest sequences of steps."""
    ways = Counter(_steps(item) for item in items)
    ordered = sorted(ways.items(), key=lambda way: (-way[1], way[0]))[:3]
    return [{"steps": list(steps), "share": rounded(count / len(items))} for steps, count in ordered]


def _tokens(items: Sequence[Item], label: str) -> float | None:
    numbers = [item["num_tokens"] for item in items if label in ("", item["label"])]
    return rounded(fmean(numbers)) if numbers else None


def _ratio(row: Mapping[str, Any], control: Mapping[str, Any] | None) -> float | None:
    """Return how many times the control's tokens a run generates."""
    own = row["generated_tokens"][""]
    others = control["generated_tokens"][""] if control else None
    return rounded(own / others) if own is not None and others else None


def _training(runs: Lines) -> dict[str, float | None]:
    """Return the means over worlds of steps, tokens and seconds."""
    names = ("num_steps", "num_tokens", "mean_trace_tokens", "train_seconds", "evaluation_seconds")
    values = {name: [run[name] for run in runs if run.get(name) is not None] for name in names}
    return {name: rounded(fmean(numbers)) if numbers else None for name, numbers in values.items()}


def _curves(runs: Lines) -> dict[str, dict[str, Any]]:
    """Return each role's nll by step, the mean over worlds: NUM_POINTS steps at most, first and last among them."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for point in run.get("nll") or []:
            for role, value in point.items():
                if role != "step" and value is not None:
                    found[role][point["step"]].append(value)
    curves: dict[str, dict[str, Any]] = {}
    for role, points in found.items():
        steps = sorted(points)
        count = min(NUM_POINTS, len(steps))
        kept = [steps[round(index * (len(steps) - 1) / max(1, count - 1))] for index in range(count)]
        curves[role] = {"step": [float(step) for step in kept], "nll": [rounded(fmean(points[step])) for step in kept]}
    return curves


def _traces(items: Mapping[str, Sequence[Item]]) -> list[dict[str, Any]]:
    """Return up to three requests with the response of each arm: the first request of each kind, by world and id."""
    at = {name: {(item["seed"], item["id"]): item for item in lines} for name, lines in items.items()}
    common = [key for key in sorted(at[TREATMENT]) if key in at[CONTROL]]
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for key in common:
        treatment, control = at[TREATMENT][key], at[CONTROL][key]
        is_harmful = treatment["label"] == "harmful"
        if is_harmful and treatment["refused"] and not control["refused"]:
            kinds["harmful: the control serves it, AltTrain refuses"].append(key)
        elif not is_harmful and control["refused"] and treatment["exact"]:
            kinds["benign: the control refuses it, AltTrain serves"].append(key)
        elif treatment["refused"] != is_harmful:
            kinds[f"a failure of AltTrain: {'harmful, and served' if is_harmful else 'benign, and refused'}"].append(
                key
            )
        elif not is_harmful and not treatment["exact"]:
            kinds["a failure of AltTrain: benign, and served wrongly"].append(key)
    shown = [kind for kind in KINDS if kind in kinds]
    failures = [kind for kind in shown if kind.startswith("a failure")]
    return [
        {
            "kind": kind,
            "seed": keys[0][0],
            "prompt": at[TREATMENT][keys[0]]["prompt"],
            "of": len(keys),
            "answers": [
                {"run": name} | {field: at[name][keys[0]][field] for field in ("think", "answer", "refused", "exact")}
                for name in (BEFORE, CONTROL, TREATMENT)
                if keys[0] in at[name]
            ],
        }
        for kind in shown
        for keys in [kinds[kind]]
        if kind not in failures[1:]
    ]
