"""How full the packs of a whole run are, and how evenly its predicted work is spread over the ranks.

    python benchmarks/bench_packing.py [--rows FILE --tokenizer FOLDER] --out benchmarks/results/cpu

Without files the lengths are drawn like those of AltTrain-1K: 900 short refusals, 100 worked problems, one of 3,000
tokens. Nothing here needs a device: the figures are counts, and `seconds` is the planner's own time on one core.
As there is no second implementation to compare, only the harness's record is used: environment, and one row.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from alttrain.engine.config import BatchConfig, DataConfig, LossConfig, ScheduleConfig
from alttrain.engine.data.packs import pack_step
from alttrain.engine.data.steps import Plan
from alttrain.engine.data.work import WorkModel
from harness.record import write_json

R1_DISTILL_QWEN_7B = WorkModel.from_shape(3584, 18944, 28, 28, 4, 128, 152064)


def synthetic_lengths() -> list[int]:
    """Return 1,000 lengths with mean about 168 and one of 3,000."""
    draw = random.Random(0)
    short = [40 + round(draw.lognormvariate(4.2, 0.4)) for _ in range(900)]
    long = [min(2500, 100 + round(draw.lognormvariate(5.8, 0.7))) for _ in range(99)]
    return [*short, *long, 3000]


def lengths_of_rows(rows: str, tokenizer: str, pack_tokens: int) -> list[int]:
    """Return the tokens of each row of a JSONL file, as the engine reads them."""
    from transformers import AutoTokenizer

    from alttrain.engine.data.dataset import load_dataset

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    return [len(e.input_ids) for e in load_dataset([rows], DataConfig(), LossConfig(), loaded, pack_tokens).examples]


def measure(lengths: list[int], batch: BatchConfig, epochs: int, world_size: int) -> dict[str, Any]:
    """Return fill, imbalance (heaviest rank over the mean, minus 1) and planning time, over all and over full steps.

    A step is full unless it is the last of its epoch.
    """
    start = time.perf_counter()
    plan = Plan(lengths, batch, ScheduleConfig(epochs=epochs), seed=0)
    seconds = {"plan": time.perf_counter() - start, "pack_median": 0.0, "pack_max": 0.0}
    figures: dict[str, dict[str, list[float]]] = {which: {"fill": [], "imbalance": []} for which in ("all", "full")}
    pack_seconds = []
    for step in range(plan.num_steps):
        documents = [lengths[i] for i in plan.examples_of(step)]
        start = time.perf_counter()
        ranks = pack_step(documents, batch.pack_tokens, world_size, R1_DISTILL_QWEN_7B)
        pack_seconds.append(time.perf_counter() - start)
        works = [R1_DISTILL_QWEN_7B.flops([documents[i] for pack in rank for i in pack]) for rank in ranks]
        num_packs = sum(bool(pack) for rank in ranks for pack in rank)
        is_full = plan.epoch_of(step + 1) % 1 != 0
        for which in ("all", "full") if is_full else ("all",):
            figures[which]["fill"].append(sum(documents) / (num_packs * batch.pack_tokens))
            figures[which]["imbalance"].append(max(works) / statistics.mean(works) - 1)
    seconds |= {"pack_median": statistics.median(pack_seconds), "pack_max": max(pack_seconds)}
    summary: dict[str, Any] = {"seconds": seconds}
    for which, values in figures.items():
        summary[which] = {"steps": len(values["fill"])} | {
            name: {"min": min(v), "mean": statistics.mean(v), "max": max(v)} for name, v in values.items()
        }
    return summary


def main() -> None:
    """Print the figures, and write them to packing.json with the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="JSONL file of rows; without it, synthetic lengths")
    parser.add_argument("--tokenizer", help="tokenizer folder, with --rows")
    parser.add_argument("--tokens", type=int, default=65536, help="real tokens a step over all ranks")
    parser.add_argument("--pack-tokens", type=int, default=8192)
    parser.add_argument("--world-size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True, help="folder of packing.json")
    args = parser.parse_args()
    if bool(args.rows) != bool(args.tokenizer):
        parser.error("--rows and --tokenizer go together")
    lengths = lengths_of_rows(args.rows, args.tokenizer, args.pack_tokens) if args.rows else synthetic_lengths()
    batch = BatchConfig(tokens=args.tokens, pack_tokens=args.pack_tokens)
    result = {
        "rows": args.rows or "synthetic",
        "examples": len(lengths),
        "mean_tokens": statistics.mean(lengths),
        "max_tokens": max(lengths),
        "flags": {"tokens": args.tokens, "pack_tokens": args.pack_tokens, "world_size": args.world_size},
        **measure(lengths, batch, args.epochs, args.world_size),
    }
    print(json.dumps(result, indent=1))
    write_json(args.out, "packing", [result])


if __name__ == "__main__":
    main()
