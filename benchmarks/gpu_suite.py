"""Everything that needs a GPU, in parts, each within its time; what has been measured is on disk at any moment.

    python benchmarks/gpu_suite.py --part tests    --out benchmarks/results/h200   # kernels, layers, a step: natively
    python benchmarks/gpu_suite.py --part products --out benchmarks/results/h200   # ceilings, the 7B's products
    python benchmarks/gpu_suite.py --part step     --out benchmarks/results/h200   # whole steps, beside those of others
    python benchmarks/gpu_suite.py --part kernels  --out benchmarks/results/h200   # ceilings, every kernel's benchmark

The most telling runs first, each in a process of its own with a share of the time that is left. Writes tests.json, a
JSON file a benchmark, and suite.json: what ran, what was cut, seconds, environment, and which claims hold. Packages
that are not installed are left out and named. Exits with 2 without a GPU, with 1 if something of ours
failed. `--dry-run` takes tiny sizes on any machine, to show that everything runs; its figures say so and mean nothing.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch

from harness.claims import Claim, check_claims
from harness.record import environment, is_null_device
from harness.step_claims import check_step_claims

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Name: its weight in dividing the time left among the benchmarks that are left; the most important first.
KERNELS = {
    "linear_cross_entropy": 12.0,
    "weighted_cross_entropy": 4.0,
    "attention": 4.0,
    "adamw": 2.5,
    "rms_norm": 3.0,
    "swiglu": 3.0,
    "rope": 2.0,
    "span_weights": 1.0,
    "float8": 2.0,
}
# Of --part step, likewise: ours, the trainers of others, and the loss alone beside Liger's and TRL's.
STEPS = {"train_step": 5.0, "rival_steps": 9.0, "linear_cross_entropy": 2.0}
# Native laws beside those of the kernels, by file.
LAWS = {
    "attention_in_models": "engine/model/test_attention.py",
    "layers": "engine/model/test_layers.py",
    "layer_trials": "engine/proof/test_layer_trials.py",
    "step_trials": "engine/proof/test_step_trials.py",
    "batch": "engine/data/test_batch.py",
    "gradients": "distributed/test_gradients.py",
}
# Of a file of LAWS, the only tests that are meant for one GPU.
ONLY = {"gradients": "one_process"}
# Packages of others that are measured where they are installed.
RIVALS = ("trl", "accelerate", "datasets", "liger-kernel", "nvidia-cutlass-dsl", "flash-attn", "cut-cross-entropy")
# A process needs this to import torch and start the device; with less left nothing is begun.
START_SECONDS = 12.0
# Share of a benchmark's time after which it begins no further case, so that it ends by itself.
LAST_CASE = 0.8


class Suite(NamedTuple):
    """One run of one part."""

    part: str
    out: Path
    end: float  # on perf_counter's clock
    dry_run: bool
    only: list[str]
    variables: dict[str, str]  # of the children's environment
    record: dict[str, Any]  # of this part, in suite.json

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.end - perf_counter()

    def write(self) -> None:
        """Write suite.json, keeping the record of the other part."""
        path = self.out / "suite.json"
        parts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        _write(path, parts | {self.part: self.record})


def run_kernels(suite: Suite) -> None:
    """Measure the ceilings, then run each benchmark for its share of the time left."""
    _run_ceilings(suite)
    _run_benchmarks(suite, KERNELS)
    if not (suite.dry_run or is_null_device()):
        _tell_claims(suite, check_claims(suite.out))


def _tell_claims(suite: Suite, claims: list[Claim]) -> None:
    """Keep the claims in suite.json and print them: what was measured, and beside it what was predicted."""
    suite.record["claims"] = [claim._asdict() for claim in claims]
    for claim in claims:
        outcome = {None: "no figure", True: "holds", False: "DOES NOT HOLD"}[claim.holds]
        measured = "" if claim.figure is None else f", {claim.figure:.3f}"
        predicted = "" if claim.predicted is None else f" (predicted {claim.predicted:.3f})"
        print(f"{claim.claim}: {outcome}{measured}{predicted}")


def run_products(suite: Suite) -> None:
    """Measure the ceilings, then the products of the 7B."""
    _run_ceilings(suite)
    _run_benchmarks(suite, {"products": 1.0})


def run_steps(suite: Suite) -> None:
    """Measure whole training steps, ours and those of others, and the loss alone."""
    _run_benchmarks(suite, STEPS)
    if not (suite.dry_run or is_null_device()):
        _tell_claims(suite, check_step_claims(suite.out))


def _run_ceilings(suite: Suite) -> None:
    (suite.out / "ceilings.json").unlink(missing_ok=True)  # an earlier machine's
    tiny = ["--tiny", "--seconds", "0.05"] if suite.dry_run else []
    _run(suite, "ceilings", [str(HERE / "ceilings.py"), "--out", str(suite.out), *tiny], 60.0)


def _run_benchmarks(suite: Suite, shares: dict[str, float]) -> None:
    """Run each benchmark, by name, for its share of the time left."""
    ceilings = suite.out / "ceilings.json"
    tiny = ["--tiny", "--seconds", "0.05"] if suite.dry_run else []
    waiting = {name: share for name, share in shares.items() if not suite.only or name in suite.only}
    while waiting:
        total = sum(waiting.values())
        name = next(iter(waiting))
        seconds = suite.left() * waiting.pop(name) / total
        command = [str(HERE / f"bench_{name}.py"), "--out", str(suite.out), *tiny]
        command += ["--budget-seconds", f"{max(1.0, seconds * LAST_CASE - START_SECONDS):.1f}"]
        command += ["--ceilings", str(ceilings)] if ceilings.is_file() else []
        (suite.out / f"{name}.json").unlink(missing_ok=True)
        _run(suite, name, command, seconds if waiting else suite.left())


def run_tests(suite: Suite) -> None:
    """Run every kernel test and every law, a file at a time, and write tests.json after each file."""
    folder = ROOT / "tests"
    kernels = [*KERNELS, *sorted(p.stem[5:] for p in folder.glob("kernels/test_*.py") if p.stem[5:] not in KERNELS)]
    files = {name: f"kernels/test_{name}.py" for name in kernels} | LAWS
    facts, tests = suite.record["environment"], []
    for stale in (suite.out / "logs").glob("outcomes_*.jsonl"):
        stale.unlink()
    for name in (name for name in files if not suite.only or name in suite.only):
        outcomes = suite.out / "logs" / f"outcomes_{name}.jsonl"
        suite.variables["OUTCOMES"] = str(outcomes)
        options = ["-P", "-m", "pytest", "-p", "harness.record_outcomes", "-p", "no:cacheprovider", "--tb=short"]
        options += ["-k", ONLY[name]] if name in ONLY else []
        # A file that hangs leaves half of the time to the others.
        _run(suite, name, [*options, str(folder / files[name])], max(60.0, suite.left() / 2))
        tests = [test for path in sorted((suite.out / "logs").glob("outcomes_*.jsonl")) for test in _outcomes(path)]
        _write(
            suite.out / "tests.json",
            {"environment": facts, "dry_run": suite.dry_run, "cut": suite.record["cut"], "tests": tests},
        )
    counts = {kind: sum(test["outcome"] == kind for test in tests) for kind in ("passed", "failed", "skipped")}
    suite.record["tests"] = counts
    print(counts)
    for test in tests:
        if test["outcome"] == "failed":
            print(f"FAILED {test['name']}: {test['message'].splitlines()[-1][:300]}")
    # That no test failed says nothing of tests that never ran.
    for reason, number in Counter(_reason(test) for test in tests if test["outcome"] == "skipped").most_common():
        print(f"skipped {number}: {reason}")


def _reason(test: dict[str, Any]) -> str:
    """Return why a test was skipped: what stands last in ('file', line, 'Skipped: reason')."""
    return str(test.get("message", "")).rpartition("Skipped: ")[2].rstrip("')\"")


def _outcomes(path: Path) -> list[dict[str, Any]]:
    """Return the tests of one file; one that started and has no outcome is a failure."""
    tests: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        test = json.loads(line)
        if test["outcome"] == "started":
            test |= {"outcome": "failed", "message": "started and never ended: its process was stopped or died"}
        elif tests.get(test["name"], {}).get("seconds") is not None and test["outcome"] == "passed":
            continue  # an earlier failure stands
        tests[test["name"]] = test
    return list(tests.values())


def _run(suite: Suite, name: str, command: list[str], seconds: float) -> None:
    """Run one process for at most `seconds`, its output in logs/NAME.txt, and write suite.json."""
    seconds = min(seconds, suite.left())
    if seconds < (0 if suite.dry_run else START_SECONDS):
        suite.record["cut"].append(name)
        suite.write()
        return
    start = perf_counter()
    log = suite.out / "logs" / f"{suite.part}_{name}.txt"
    variables = os.environ | suite.variables
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT, env=variables, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # its own group: the process and what it started
                process.wait()
    elapsed = round(perf_counter() - start, 1)
    suite.record["ran"].append({"name": name, "exit_code": code, "stopped": code is None, "seconds": elapsed})
    suite.write()
    outcome = "stopped, its time was up" if code is None else f"exit code {code}"
    print(f"{suite.part} {name}: {outcome}, {elapsed} s", flush=True)
    if code != 0:
        print(log.read_text(encoding="utf-8", errors="replace")[-2000:], file=sys.stderr, flush=True)


def _write(path: Path, value: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _variables(folder: Path) -> dict[str, str]:
    """Return the children's PYTHONPATH; if the project is not installed, it includes `folder`, with links to it."""
    paths = [str(HERE)]
    if importlib.util.find_spec("alttrain") is None or importlib.util.find_spec("alttrain.kernels") is None:
        (folder / "alttrain").mkdir()
        for place in ("engine", "kernels", "recipes/nano"):
            (folder / "alttrain" / Path(place).name).symlink_to(ROOT / place)
        paths.append(str(folder))
    return {"PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])}


PARTS = {"tests": run_tests, "products": run_products, "step": run_steps, "kernels": run_kernels}


def main() -> int:
    """Run one part and return the exit code."""
    start = perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), required=True)
    parser.add_argument("--budget-seconds", type=float, default=540.0, help="for this part, everything included")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    names = list(dict.fromkeys([*KERNELS, *STEPS, *LAWS]))
    parser.add_argument("--only", nargs="+", choices=names, default=[], help="of these")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on any machine; measures nothing")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.dry_run:
        print("gpu_suite: torch sees no CUDA device here; run it on a GPU, or add --dry-run.", file=sys.stderr)
        return 2
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    facts = environment()
    record = {"environment": facts, "dry_run": options.dry_run, "budget_seconds": options.budget_seconds}
    record |= {"absent": [name for name in RIVALS if facts[name] is None]}
    record |= {"ran": [], "cut": []}
    with tempfile.TemporaryDirectory() as links:
        end = start + options.budget_seconds
        variables = _variables(Path(links))
        suite = Suite(options.part, options.out.resolve(), end, options.dry_run, options.only, variables, record)
        PARTS[options.part](suite)
    record["seconds"] = round(perf_counter() - start, 1)
    suite.write()
    return int(any(entry["exit_code"] != 0 for entry in record["ran"]))


if __name__ == "__main__":
    sys.exit(main())
