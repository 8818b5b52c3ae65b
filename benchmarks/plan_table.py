"""What nodes of eight GPUs make of the 7B, the 14B and the 32B: predicted tables in Markdown, by the engine's own plan.

    python benchmarks/plan_table.py [--gpu h100-80]

Every GPU has one full pack of 8,192 tokens a step, in documents of 170, so that the step grows with the machine. The
setting is the fastest that fits. Loads no weights and needs no GPU; nothing in it was measured on one.
"""

import argparse
import sys

from alttrain.engine.config import ModelConfig, RunConfig
from alttrain.engine.model.shape import PUBLISHED
from alttrain.engine.train.gpus import GIB, GPUS
from alttrain.engine.train.plan import Option, fastest, options_of
from alttrain.engine.train.plan_load import ASSUMED_TOKENS, Load, assumed_rows, tiles_of
from alttrain.engine.train.time_model import Machine

MODELS = {"7B": "Qwen-7B", "14B": "Qwen-14B", "32B": "Qwen-32B"}
NODES = (1, 2, 4, 8, 16, 32, 64)
PACK = 8192


def best(model: str, machine: Machine) -> Option | None:
    """Return the fastest setting that fits for a model of MODELS, with a full pack on every GPU."""
    name = f"deepseek-ai/DeepSeek-R1-Distill-{MODELS[model]}"
    config = RunConfig(model=ModelConfig(path=name))
    tiles = PACK / ASSUMED_TOKENS * tiles_of(ASSUMED_TOKENS)
    load = Load(1, PACK * machine.world_size, 1.0, 1, PACK, tiles, PACK, 0.0)
    rows, shape = assumed_rows("a table"), PUBLISHED[name]
    return fastest(config, options_of(config, rows, shape, machine, load))


def table(model: str, gpu: str) -> str:
    """Return the table of one model on nodes of eight GPUs."""
    lines = [
        f"| {model} on {GPUS[gpu].title} | ZeRO, checkpointing | GiB a GPU | ms a step | tokens/s | MFU |",
        "|---|---|---|---|---|---|",
    ]
    for nodes in NODES:
        option = best(model, Machine(GPUS[gpu], 8, nodes))
        where = f"{nodes} node{'s' * (nodes > 1)}"
        if option is None:
            lines.append(f"| {where} | nothing fits | | | | |")
            continue
        rate = option.load.tokens_a_step / option.time.seconds
        lines.append(
            f"| {where} | {option.layout.stage}, {option.recomputation} | {option.memory.peak / GIB:.1f} | "
            f"{1e3 * option.time.seconds:,.0f} | {rate:,.0f} | {100 * option.mfu:.0f}% |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", choices=tuple(GPUS), default="h100-80")
    gpu = parser.parse_args(arguments).gpu
    print("\n\n".join(table(model, gpu) for model in MODELS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
