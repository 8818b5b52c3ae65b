"""Command lines of small runs of a recipe, and what such a run leaves in its metrics."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "alttrain_7b.py"
RECIPE_WORKER = ROOT / "tests" / "distributed" / "recipe_worker.py"


def flags(inputs: tuple[Path, Path], output: Path, **changes: object) -> list[str]:
    """Return the words of a run of eight steps on the model folder and the rows of `inputs`.

    `changes` are flags by name: zero__stage=3 is --zero.stage 3.
    """
    model, rows = inputs
    values = {
        "--model.path": model,
        "--model.dtype": "float32",
        "--data.train": rows,
        "--data.eval": rows,
        "--output": output,
        "--batch.examples": 4,
        "--batch.pack-tokens": 400,
        "--schedule.steps": 8,
        "--optim.lr": "1e-3",
        "--checkpoint.every": 0,
        "--zero.stage": 1,
        **{f"--{name.replace('__', '.').replace('_', '-')}": value for name, value in changes.items()},
    }
    return [str(part) for pair in values.items() for part in pair]


def command_lines(runs: Iterable[list[str]], program: Path = RECIPE) -> str:
    """Return what recipe_worker.py takes: the runs of a program, each given by its words."""
    return json.dumps([[str(program), *words] for words in runs])


def steps(output: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def curve(output: Path, field: str = "loss") -> list[float]:
    """Return one field of a run's metrics, a value a step."""
    return [line[field] for line in steps(output)]
