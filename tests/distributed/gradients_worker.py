"""One rank of test_gradients: the first step's loss, gradient norm and every gradient, for each setting in turn.

usage: gradients_worker.py ROWS WEIGHTS_JSON SETTINGS_JSON, the settings a list of
{model, stage, checkpointing, recomputed_layers, kernels, dtype, denominators, out}

On CUDA every wait of the host for the device is an error while the batch is made and in forward and backward; what
stands behind these is DeepSpeed's. The loss's sum is read by nobody before the step is taken.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_grad

from alttrain.engine.config import BatchConfig, DataConfig, LossConfig, ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.data.batch import Collator
from alttrain.engine.data.dataset import load_dataset
from alttrain.engine.data.packs import pack_step
from alttrain.engine.distributed.choice import build_engine, settled
from alttrain.engine.distributed.engine import Engine
from alttrain.engine.distributed.world import World
from alttrain.engine.model.backbone import open_backbone
from alttrain.engine.train.loop import train_step


def main(rows: str, weights: str, settings: str) -> None:
    with World.from_environment() as world:
        for setting in json.loads(settings):
            results = {
                per: first_step(rows, json.loads(weights), setting, per, world) for per in setting["denominators"]
            }
            if world.is_first:
                torch.save(results, Path(setting["out"]))


def first_step(rows: str, weights: dict[str, float], setting: dict[str, Any], per: Any, world: World) -> dict[str, Any]:
    loss = LossConfig(**weights, per=per)
    kernels = setting["kernels"]
    config = RunConfig(
        model=ModelConfig(
            path=setting["model"],
            dtype=setting["dtype"],
            checkpointing=setting["checkpointing"],
            recomputed_layers=setting["recomputed_layers"],
            kernels=kernels,
        ),
        data=DataConfig(train=(rows,)),
        loss=loss,
        batch=BatchConfig(examples=12, pack_tokens=400),
        optim=OptimConfig(lr=1e-12, max_grad_norm=0.5),
        zero=ZeroConfig(stage=setting["stage"]),
    )
    backbone = open_backbone(config)
    dataset = load_dataset(config.data.train, config.data, loss, backbone.tokenizer, 400)
    packs = pack_step(dataset.lengths, 400, world.size, backbone.work)[world.rank]
    assert len(packs) > 1, "the law is about several packs a rank"
    config, _ = settled(config, world.size)
    engine = build_engine(config, backbone, world)
    assert engine.kernels.fuses_layers == (kernels != "torch"), engine.kernels.reason
    collator = Collator(loss, world.device, backend=engine.kernels.paths.span_weights)
    gradients: dict[str, torch.Tensor] = {}
    engine.step = _record_gradients(engine, gradients, world.size, setting["stage"])  # type: ignore[method-assign]
    # Attention in fp32 reads the documents' bounds.
    with _waiting("error" if setting["dtype"] == "bfloat16" else "default"):
        batch = collator.collate([[dataset.examples[i] for i in pack] for pack in packs])
        stats = train_step(engine, batch, world, 1e-12)
    return {
        "loss": float(stats.loss),
        "grad_norm": float(stats.grad_norm),
        "weight_sum": float(stats.weight_sum),
        "nll_sums": stats.nll_sums.tolist(),
        "token_counts": stats.token_counts.tolist(),
        "gradients": gradients,
    }


@contextlib.contextmanager
def _waiting(mode: str) -> Iterator[None]:
    """Within it, a wait of the host for the GPU is what `mode` says; without a GPU nothing changes."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _record_gradients(  # type: ignore[no-untyped-def]
    engine: Engine, gradients: dict[str, torch.Tensor], world_size: int, stage: int
):
    step = engine.step

    def recorded(lr: float) -> torch.Tensor:
        with _waiting("default"):
            for name, parameter in engine._model.named_parameters():
                is_whole = world_size == 1 or stage == 0
                gradient = parameter.grad if is_whole else safe_get_full_grad(parameter)
                gradients[name.removeprefix("causal_lm.")] = gradient.detach().clone().double().cpu()
            return step(lr)

    return recorded


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # as the command line does
