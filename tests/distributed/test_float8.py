"""Float8 products train as plain ones do: a tiny model in float32, in one process and under ZeRO 1 to 3.

On CPU the products are those of the same float8 numbers. The documents can be learned, so that a run that learns less
shows; one without scales, a fault planted here, must fail what the others pass.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("lean_worker.py")
Run = Callable[..., subprocess.CompletedProcess[str]]
Curves = dict[str, list[float]]
STEPS, STEPS_OF_TWO_RANKS = 200, 40
FLOAT32 = {"dtype": "float32", "stage": 1, "optim": {}}
ONE_PROCESS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rowwise": {"fp8": "rowwise"},
    "tensorwise": {"fp8": "tensorwise"},
    "unscaled": {"fp8": "rowwise", "unscaled": True},
}


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory, run_ranks: Run, write_model: Callable[..., Path]) -> Curves:
    """Losses by setting; those of as many ranks share a launch. ZeRO-3 comes last, as it stays in its process."""
    folder = tmp_path_factory.mktemp("float8")
    model = write_model(folder / "model")
    one = [FLOAT32 | {"steps": STEPS, "name": name} | changes for name, changes in ONE_PROCESS.items()]
    two = [
        FLOAT32 | {"stage": stage, "steps": STEPS_OF_TWO_RANKS, "name": f"ZeRO {stage}", "fp8": "rowwise"}
        for stage in (1, 2, 3)
    ]
    for ranks, settings in ((1, one), (2, two)):
        for setting in settings:
            setting["out"] = str(folder / f"{setting['name']}.json")
        run_ranks(ranks, WORKER, model, json.dumps(settings))
    return {str(s["name"]): json.loads(Path(str(s["out"])).read_text()) for s in (*one, *two)}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def ends_where_plain_ends(curves: Curves, name: str) -> bool:
    """Whether the last losses are the plain run's, to a tenth of what was learned."""
    first, last = curves["plain"][0], mean(curves["plain"][-20:])
    return abs(mean(curves[name][-20:]) - last) < 0.1 * (first - last)


def test_something_is_learned(curves: Curves) -> None:
    assert mean(curves["plain"][-20:]) < 0.4 * curves["plain"][0]


@pytest.mark.parametrize("name", ["rowwise", "tensorwise"])
def test_a_run_ends_where_the_plain_one_does(curves: Curves, name: str) -> None:
    assert curves[name] != curves["plain"]
    assert ends_where_plain_ends(curves, name)


def test_a_run_without_scales_does_not(curves: Curves) -> None:
    assert not ends_where_plain_ends(curves, "unscaled")


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_ranks_take_the_same_products(curves: Curves, stage: int) -> None:
    """A row has a scale of its own, so that packs on two ranks are quantised as in one process: only sums differ."""
    pairs = list(zip(curves[f"ZeRO {stage}"], curves["rowwise"], strict=False))
    assert pairs[0][0] == pytest.approx(pairs[0][1], rel=1e-5)
    assert mean([abs(found / one - 1) for found, one in pairs]) < 0.02
