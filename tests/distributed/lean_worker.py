"""One rank of test_lean: the losses of the first steps of 200, for each setting in turn.

usage: lean_worker.py MODEL SETTINGS_JSON, the settings a list of {stage, optim, steps, out},
and {fp8, dtype, unscaled} where they are not the defaults

Every step has the same documents under every setting, all of one length: a new shape costs a bfloat16 product on CPU
more time than the product.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import torch

from alttrain.engine.config import LossConfig, ModelConfig, OptimConfig, RunConfig, ScheduleConfig, ZeroConfig
from alttrain.engine.data.batch import Collator
from alttrain.engine.distributed import zero_settings
from alttrain.engine.distributed.choice import build_engine, settled
from alttrain.engine.distributed.world import World
from alttrain.engine.model.backbone import open_backbone
from alttrain.engine.trace.roles import ROLES, Example
from alttrain.engine.train.loop import train_step
from alttrain.engine.train.schedule import learning_rate
from alttrain.kernels import float8

STEPS, LENGTH, DOCUMENTS_A_STEP = 200, 24, 4
LR = 1e-3


def main(model: str, settings: str) -> None:
    zero_settings.BUCKET_ELEMENTS = 10_000  # larger ones take seconds to lay out
    with World.from_environment() as world:
        for setting in json.loads(settings):
            losses = train(model, setting, world)
            if world.is_first:
                Path(setting["out"]).write_text(json.dumps(losses), encoding="utf-8")


def train(model: str, setting: dict[str, Any], world: World) -> list[float]:
    config = RunConfig(
        model=ModelConfig(model, setting.get("dtype", "bfloat16"), fp8=setting.get("fp8", "off"), checkpointing="off"),
        loss=LossConfig(assessment=2.0),
        optim=OptimConfig(lr=LR, **setting["optim"]),
        schedule=ScheduleConfig(steps=STEPS),
        zero=ZeroConfig(stage=setting["stage"]),
    )
    config, _ = settled(config, world.size)
    if setting.get("unscaled"):  # a fault
        float8._encode_torch = lambda largest_value, largest: torch.ones_like(largest_value)
    engine = build_engine(config, open_backbone(config), world)
    collator = Collator(config.loss, world.device, backend="torch")
    documents, draw = make_documents(), random.Random(1)
    mine = slice(world.rank * DOCUMENTS_A_STEP // world.size, (world.rank + 1) * DOCUMENTS_A_STEP // world.size)
    losses = []
    for step in range(1, setting["steps"] + 1):
        batch = collator.collate([draw.sample(documents, DOCUMENTS_A_STEP)[mine]])
        lr = learning_rate(LR, config.schedule, step, STEPS)
        losses.append(float(train_step(engine, batch, world, lr).loss))
    return losses


def make_documents() -> list[Example]:
    """Return documents that can be learned: each counts on from a number of its own, by a step of its own."""
    draw, reasoning = random.Random(0), ROLES.index("reasoning")
    documents = []
    for index in range(40):
        first, stride = draw.randrange(250), draw.choice((1, 2, 3, 5))
        ids = [(first + stride * place) % 250 for place in range(LENGTH)]
        documents.append(Example(str(index), ids, [reasoning] * LENGTH, "made"))
    return documents


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
    os._exit(0)  # as the command line does
