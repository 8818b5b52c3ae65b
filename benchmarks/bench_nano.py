"""The engine's alignment step on CPU against the best plain loop over padded batches, on the nano alignment set.

    python benchmarks/bench_nano.py --out benchmarks/results/cpu [--examples 64] [--threads 2]

Both train the shipped base on the 1,000 AltTrain examples, 64 a step, in float32, with AdamW and clipping. The plain
loop is transformers' model over right-padded batches: one causal attention without a mask, which is exact, mean cross
entropy over the labels, torch's fused AdamW. Both take each step in turn, on the same examples, inside the engine's
own loop. The plain loop's time is that of its step; the engine's is the rest of the loop between two plain steps. The
losses must agree.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu")

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from alttrain.engine.config import BatchConfig, OptimConfig, ScheduleConfig
from alttrain.engine.data.batch import StepBatch
from alttrain.engine.train import loop
from alttrain.nano.alignment import alignment_rows
from alttrain.nano.config import ExampleNumbers, Shape, Training, run_config
from alttrain.nano.folder import write_model_folder
from alttrain.nano.jobs import SHIPPED, SHIPPED_SEED
from alttrain.nano.running import write_rows
from alttrain.nano.world import World
from harness.record import write_json

WARM_UP_STEPS = 3
MAX_LOSS_DIFFERENCE = 1e-3
MAX_GRAD_NORM = 1.0


class PlainLoop:
    """Transformers' model, padded batches, torch's optimizer."""

    def __init__(self, folder: Path, optim: OptimConfig) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").train()
        self.model.config.use_cache = False
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": optim.weight_decay},
            {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, fused=True)

    def step(self, documents: list[torch.Tensor], labels: list[torch.Tensor], lr: float) -> torch.Tensor:
        """Take a step over the documents and return its loss as a tensor."""
        input_ids = pad_sequence(documents, batch_first=True)
        targets = pad_sequence(labels, batch_first=True, padding_value=-100)
        logits = self.model(input_ids=input_ids).logits
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


@dataclass
class Turns:
    """Replaces the engine's `train_step`: lets the plain loop take the same step first, and times both."""

    plain: PlainLoop
    engine_step: Any
    tokens: list[int] = field(default_factory=list)
    engine_seconds: list[float] = field(default_factory=list)
    plain_seconds: list[float] = field(default_factory=list)
    loss_differences: list[float] = field(default_factory=list)
    resumed_at: float = 0.0

    def __call__(self, engine: Any, batch: StepBatch, world: Any, lr: float) -> Any:
        """Take the plain step, then the engine's."""
        if self.resumed_at:
            self.engine_seconds.append(time.perf_counter() - self.resumed_at)
        documents, labels = documents_of(batch)
        started = time.perf_counter()
        loss = self.plain.step(documents, labels, lr)
        self.plain_seconds.append(time.perf_counter() - started)
        self.tokens.append(sum(len(document) for document in documents))
        self.resumed_at = time.perf_counter()
        stats = self.engine_step(engine, batch, world, lr)
        self.loss_differences.append(abs(float(stats.loss) - float(loss)))
        return stats


def documents_of(batch: StepBatch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the documents of a step and their labels, one tensor each."""
    documents: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for pack in batch.micro_batches:
        lengths = pack.cu_seqlens.diff().tolist()
        documents += torch.split(pack.input_ids[0], lengths)
        unweighted = pack.loss_weights == 0
        labels += torch.split(pack.labels.masked_fill(unweighted, -100), lengths)
    return documents, labels


def compare(examples: int, epochs: int, pack_tokens: int) -> Turns:
    """Run the engine's training with the plain loop inside it."""
    world = World(SHIPPED_SEED)
    optim = OptimConfig(lr=2e-4, betas=(0.9, 0.95), weight_decay=1e-4, max_grad_norm=MAX_GRAD_NORM)
    batch = BatchConfig(examples=examples, pack_tokens=pack_tokens)
    training = Training(batch, optim, ScheduleConfig(epochs=epochs, warmup_steps=10))
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        write_model_folder(folder / "base", world, Shape())
        shutil.copyfile(SHIPPED, folder / "base" / "model.safetensors")
        write_rows(folder / "rows.jsonl", alignment_rows(world, ExampleNumbers(), "full"))
        turns = Turns(PlainLoop(folder / "base", optim), loop.train_step)
        loop.train_step = turns
        loop.train(run_config(training, folder / "base", folder / "rows.jsonl", folder / "run", 0, is_base=False))
    return turns


def main() -> None:
    """Measure, print and write nano.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--examples", type=int, default=64, help="examples per step")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--pack-tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    turns = compare(options.examples, options.epochs, options.pack_tokens)
    assert max(turns.loss_differences) < MAX_LOSS_DIFFERENCE, max(turns.loss_differences)

    # The engine's last step has no time, as no step follows it; the first steps are warm-up.
    steps = slice(WARM_UP_STEPS, len(turns.engine_seconds))
    tokens = turns.tokens[steps]
    rates = {
        name: [count / spent for count, spent in zip(tokens, seconds[steps], strict=True)]
        for name, seconds in (("engine", turns.engine_seconds), ("padded", turns.plain_seconds))
    }
    ratios = [engine / padded for engine, padded in zip(rates["engine"], rates["padded"], strict=True)]
    low, *_, high = statistics.quantiles(ratios, n=20, method="inclusive")
    row: dict[str, Any] = {
        "case": "nano alignment",
        "examples_a_step": options.examples,
        "pack_tokens": options.pack_tokens,
        "threads": options.threads,
        "steps": len(tokens),
        "tokens_a_step": statistics.mean(tokens),
        "max_loss_difference": max(turns.loss_differences),
        **{f"{name}_tokens_per_second": statistics.median(values) for name, values in rates.items()},
        "ratio": statistics.median(ratios),
        "ratio_low": low,
        "ratio_high": high,
    }
    print(row)
    write_json(options.out, "nano", [row])


if __name__ == "__main__":
    main()
