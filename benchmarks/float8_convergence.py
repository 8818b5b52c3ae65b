"""Whether training with float8 products ends where training without them does: held-out losses, paired.

    python benchmarks/float8_convergence.py --out benchmarks/results/cpu
    python benchmarks/float8_convergence.py --model FOLDER --rows FILE --chat-template FILE --steps 200

The model is the shipped base of the small world, aligned as recipes/alttrain_nano.py does it, or any folder with rows.
Every arm of a seed has the same rows in the same order, the same initial weights and the same held-out rows; only the
products differ. `unscaled` is rowwise with every scale 1: a fault planted to show that the check sees one. Writes
float8_convergence.json: of every arm and seed the losses of the steps, and the held-out loss before and after. On CPU
the products are those of the same float8 numbers, summed in float32. Weights and all other products are float32 by
default, as bfloat16 products are slow on a CPU: the pairs differ by float8 alone.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from alttrain.engine.config import (
    BatchConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    ScheduleConfig,
    ZeroConfig,
)
from alttrain.engine.data.batch import Collator
from alttrain.engine.data.dataset import load_dataset
from alttrain.engine.distributed.choice import build_engine, settled
from alttrain.engine.distributed.engine import Engine
from alttrain.engine.distributed.world import World
from alttrain.engine.model.backbone import open_backbone
from alttrain.engine.trace.roles import Example
from alttrain.engine.train.loop import train_step
from alttrain.engine.train.schedule import learning_rate
from alttrain.kernels import float8
from harness.record import environment

ARMS = {"plain": "off", "rowwise": "rowwise", "tensorwise": "tensorwise", "unscaled": "rowwise"}
HELD_OUT = 100
ROOT = Path(__file__).resolve().parents[1]


def small_world(folder: Path) -> tuple[Path, Path]:
    """Write the shipped base and its alignment rows; return the model's folder and the rows' file."""
    from alttrain.nano.alignment import alignment_rows
    from alttrain.nano.folder import write_model_folder
    from alttrain.nano.recipe import CONFIG
    from alttrain.nano.running import write_rows
    from alttrain.nano.world import World as SmallWorld

    world = SmallWorld(0, CONFIG.world)
    model, rows = folder / "model", folder / "rows.jsonl"
    model.mkdir()
    write_model_folder(model, world, CONFIG.shape)
    shutil.copyfile(ROOT / "recipes" / "nano" / "base.safetensors", model / "model.safetensors")
    write_rows(rows, alignment_rows(world, CONFIG.examples, "full"))
    return model, rows


@contextmanager
def planted(arm: str) -> Iterator[None]:
    """Within this, the arm `unscaled` quantises with scales of 1."""
    real: Callable[..., Any] = float8._encode_torch
    if arm == "unscaled":
        float8._encode_torch = lambda largest_value, largest: torch.ones_like(largest_value)  # type: ignore[assignment]
    try:
        yield
    finally:
        float8._encode_torch = real


def run(config: RunConfig, world: World, seed: int) -> dict[str, Any]:
    """Train for the steps of `config` in an order drawn from `seed`; return losses, and held-out ones at both ends."""
    config, _ = settled(config, 1)
    backbone = open_backbone(config)
    dataset = load_dataset(config.data.train, config.data, config.loss, backbone.tokenizer, config.batch.pack_tokens)
    rows = list(dataset.examples)
    random.Random(0).shuffle(rows)
    held, trained = rows[:HELD_OUT], rows[HELD_OUT:]
    engine = build_engine(config, backbone, world)
    collator, draw, steps = Collator(config.loss, world.device), random.Random(seed), config.schedule.steps
    before, losses = held_out(engine, collator, held), []
    for step in range(1, steps + 1):
        batch = collator.collate([draw.sample(trained, config.batch.examples)])
        rate = learning_rate(config.optim.lr, config.schedule, step, steps)
        losses.append(round(float(train_step(engine, batch, world, rate).loss), 5))
    return {"before": before, "after": held_out(engine, collator, held), "losses": losses}


def held_out(engine: Engine, collator: Collator, rows: list[Example]) -> float:
    """Return the loss over rows, by the engine's own products."""
    batch = collator.collate([rows[first : first + 20] for first in range(0, len(rows), 20)])
    with engine.evaluating():
        total = sum(float(engine.loss_sums(micro_batch)[0]) for micro_batch in batch.micro_batches)
    return total / float(batch.denominator)


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return of each arm the mean held-out loss, and the mean and largest paired difference from the plain one's."""
    after = {arm: [result["after"] for result in results] for arm, results in found.items()}
    pairs = {arm: [a - b for a, b in zip(each, after["plain"], strict=False)] for arm, each in after.items()}
    return {
        arm: {"held_out": mean(after[arm]), "difference": mean(pair), "largest": max(map(abs, pair))}
        for arm, pair in pairs.items()
    }


def main() -> int:
    """Run every arm on every seed, writing after each; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="model folder; the small world's base if not given")
    parser.add_argument("--rows", default="", help="its rows")
    parser.add_argument("--chat-template", default="", help="a Jinja file")
    parser.add_argument("--name", default="nano", help="what the result is called")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=16, help="of a step")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path, default=Path("results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "float8_convergence.json"
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder, World.from_environment() as world:
        model, rows = (options.model, options.rows) if options.model else small_world(Path(folder))
        base = RunConfig(
            data=DataConfig(train=(str(rows),), too_long="skip", chat_template=options.chat_template),
            loss=LossConfig(assessment=2.0),
            batch=BatchConfig(examples=options.examples, pack_tokens=512 * options.examples),
            optim=OptimConfig(lr=options.lr),
            schedule=ScheduleConfig(steps=options.steps, warmup_steps=10),
            zero=ZeroConfig(stage=1),
        )
        for seed in range(options.seeds):
            for arm, fp8 in ARMS.items():
                settings = ModelConfig(str(model), options.dtype, checkpointing="off", fp8=fp8)  # type: ignore[arg-type]
                with planted(arm):
                    found[arm].append(run(dataclasses.replace(base, model=settings, seed=seed), world, seed))
                print(seed, arm, {k: v for k, v in found[arm][-1].items() if k != "losses"}, flush=True)
            kept |= {options.name: {"steps": options.steps, "summary": summary(found), "arms": found}}
            file.write_text(json.dumps({"environment": environment(), **kept}, indent=1) + "\n", encoding="utf-8")
    for arm, row in summary(found).items():
        print(f"{arm:10} {row['held_out']:.4f}  {row['difference']:+.4f}, at most {row['largest']:.4f}")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
