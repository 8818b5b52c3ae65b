"""One rank of test_kernels: what it agrees on with the others, for each case of planted verdicts in turn.

usage: kernels_worker.py OUT_FOLDER; writes OUT_FOLDER/RANK.json, {case: {paths, reason, note, tried}}
"""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from alttrain.engine.config import ModelConfig
from alttrain.engine.distributed import kernel_agreement
from alttrain.engine.distributed.kernel_agreement import agreed_kernels
from alttrain.engine.distributed.world import OtherRankError, World
from alttrain.engine.proof.kernels import TRIALS
from alttrain.engine.proof.proving import Proof
from alttrain.engine.proof.trial import Verdict

PASSED = dict.fromkeys(TRIALS, Verdict("passed"))
OFF = Verdict("wrong", "off")
# What each rank finds, by case: its GPU and the verdicts that are not passed.
CASES: dict[str, tuple[tuple[str, dict[str, Verdict]], ...]] = {
    "one kind": (("Card 9", {"rope": OFF}), ("Card 9", {"adamw": OFF})),
    "two kinds": (("Card 9", {"rope": OFF}), ("Card 8", {"adamw": OFF})),
    "all well": (("Card 9", {}), ("Card 8", {})),
}


def main(folder: str) -> None:
    with World.from_environment() as joined:
        world = dataclasses.replace(joined, device=torch.device("cuda", joined.rank))
        backbone: Any = SimpleNamespace(config=None)
        results: dict[str, Any] = {}
        for case, ranks in CASES.items():
            gpu, failed = ranks[world.rank]
            tried: list[bool] = []

            def prove(*_: object, progress: bool, failed: Any = failed, tried: Any = tried) -> Proof:
                tried.append(progress)
                return Proof(PASSED | failed, f"rank {world.rank} keeps nothing.")

            def identity_of(*_: object, gpu: str = gpu) -> dict[str, str]:
                return {"gpu": gpu}

            patched: Any = kernel_agreement
            patched.prove, patched.identity_of, patched.shapes_of = prove, identity_of, lambda *_: None
            patched.flash_attention_3 = lambda *_: ""
            kernels = agreed_kernels(ModelConfig(), backbone, world)
            results[case] = dataclasses.asdict(kernels) | {"tried": tried}

        def lost(*_: object) -> dict[str, str]:
            if world.rank == 1:
                raise RuntimeError("no driver")
            return {"gpu": "Card 9"}

        patched.identity_of = lost
        try:
            agreed_kernels(ModelConfig(), backbone, world)
        except (RuntimeError, OtherRankError) as error:
            results["lost"] = str(error)
        Path(folder, f"{world.rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
