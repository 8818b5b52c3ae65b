"""`gpu_suite.py --part step` as it stands, run whole on the null device: ours and the trainers of others, counted.

The trainers' packages lie in a folder of their own, which `pip install --target FOLDER trl accelerate datasets
liger-kernel` fills, as a machine without a network is given them. What is kept of a row is what holds without a GPU:
memory, launches, fills, copies, waits, FLOPs of products, and what is predicted; times that were taken there are not.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from null_device.places import ROOT, Failure, VersionSet, link_names

BUDGET_SECONDS = 1500
KEPT = ("model", "tokens", "checkpointing", "master", "keeps", "attention")
HEAD = (
    "implementation", "model, tokens", "checkpointing", "peak / reserved GiB", "launches", "fills", "copies", "waits",
    "product TFLOP", "predicted ms", "predicted MFU",
)  # fmt: skip


def run_whole_steps(versions: VersionSet, packages: Path | None, cache: Path | None) -> dict[str, Any]:
    """Run the part and return its rows, what is absent, the environment, and the seconds that it took.

    Args:
        versions: the set, fetched and built.
        packages: the folder of the trainers' packages; None if the command line names none.
        cache: where Triton keeps what it compiles; the set's own folder if None.

    Raises:
        Failure: there is no such folder, or the part failed.
    """
    if packages is None or not packages.is_dir():
        raise Failure(f"--packages is {packages}; it must name the folder that pip install --target filled.")
    link_names()
    environment = versions.environment()
    environment["PYTHONPATH"] += f":{packages.absolute()}"
    if cache is not None:
        environment["TRITON_CACHE_DIR"] = str(cache.absolute())
    with tempfile.TemporaryDirectory() as folder:
        command = [str(versions.python), str(ROOT / "benchmarks" / "gpu_suite.py"), "--part", "step"]
        command += ["--budget-seconds", str(BUDGET_SECONDS), "--out", folder]
        begin = time.perf_counter()
        done = subprocess.run(command, env=environment, check=False, stdout=sys.stderr)
        seconds = round(time.perf_counter() - begin)
        if done.returncode:
            raise Failure(f"gpu_suite.py --part step ended with {done.returncode}; what it said stands above.")
        parts = [json.loads((Path(folder) / f"{name}.json").read_text()) for name in ("train_step", "rival_steps")]
        suite = json.loads((Path(folder) / "suite.json").read_text())["step"]
    absent = [entry for part in parts for entry in part["absent"]]
    rows = [condensed(row) for part in parts for row in part["rows"]]
    facts = {name: suite[name] for name in ("ran", "cut")} | {"seconds": seconds, "absent": absent}
    return {"environment": parts[0]["environment"]} | facts | {"rows": rows}


def condensed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what holds of a row without a GPU."""
    kept = {"implementation": row["implementation"]} | {n: row["sizes"][n] for n in KEPT if n in row["sizes"]}
    names = ("peak_memory_gib", "reserved_memory_gib", "launches", "predicted_ms", "predicted_mfu", "predicted_gib")
    figures = {name: row[name] for name in (*names, "predicted_parts_ms") if name in row}
    launches = {kind: each["launches"] for kind, each in row.get("kinds", {}).items()}
    return kept | figures | row.get("counted", {}) | {"launches_by_kind": launches}


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return condensed rows as a table, by model and tokens."""
    ordered = sorted(rows, key=lambda row: (row["model"], row["tokens"]))
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(row))} |" for row in ordered)])


def _cells(row: Mapping[str, Any]) -> list[str]:
    master = " (8 bytes)" if row.get("master") == "bfloat16" else ""
    attention = ", SDPA" if row.get("attention", "").startswith("SDPA") else ""
    return [
        f"{row['implementation']}{master}{attention}",
        f"{row['model'].removeprefix('R1-')}, {row['tokens']:,}",
        row["checkpointing"],
        f"{row['peak_memory_gib']:.2f} / {row['reserved_memory_gib']:.2f}",
        *(f"{row[name]:,}" for name in ("launches", "fills", "copies", "waits")),
        f"{row['product_flops'] / 1e12:.0f}",
        f"{row['predicted_ms']:.0f}",
        f"{row['predicted_mfu']:.1%}",
    ]
