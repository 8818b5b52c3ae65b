import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.claims import check_claims
from skips import HAS_GPU

SUITE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_suite.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SUITE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_dry_run_of_the_kernels_leaves_its_json_and_says_that_it_is_one(tmp_path: Path) -> None:
    done = run("--part", "kernels", "--dry-run", "--only", "rope", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    suite = read(tmp_path / "suite.json")["kernels"]
    assert [(entry["name"], entry["exit_code"]) for entry in suite["ran"]] == [("ceilings", 0), ("rope", 0)]
    assert suite["cut"] == []
    assert suite["dry_run"] is True
    assert "claims" not in suite
    rope = read(tmp_path / "rope.json")
    assert rope["dry_run"] is True
    assert rope["cut"] == rope["refused"] == []
    assert {row["implementation"] for row in rope["rows"]} >= {"ours", "torch"}
    assert all(row["share_of_limit"] > 0 for row in rope["rows"])
    assert {entry["implementation"] for entry in rope["absent"]} <= {"torch.compile", "liger, copying"}


def test_dry_run_of_the_products(tmp_path: Path) -> None:
    done = run("--part", "products", "--dry-run", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    suite = read(tmp_path / "suite.json")["products"]
    assert [(entry["name"], entry["exit_code"]) for entry in suite["ran"]] == [("ceilings", 0), ("products", 0)]
    rows = read(tmp_path / "products.json")["rows"]
    assert {row["sizes"]["direction"] for row in rows if row["case"] == "product"} == {"Y", "dX", "dW"}
    assert [row["tflops_per_second"] > 0 for row in rows if row["case"] == "sustained"] == [True]


def test_dry_run_of_the_trainers_of_others_runs_or_names_each(tmp_path: Path) -> None:
    done = run("--part", "step", "--dry-run", "--only", "rival_steps", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [entry["name"] for entry in read(tmp_path / "suite.json")["step"]["ran"]] == ["rival_steps"]
    written = read(tmp_path / "rival_steps.json")
    names = {entry["implementation"] for entry in [*written["rows"], *written["absent"]]}
    assert names == {"transformers Trainer", "TRL SFTTrainer", "transformers Trainer, Liger", "TRL SFTTrainer, Liger"}


def test_laws_are_files_that_exist_and_kernels_are_not_among_them() -> None:
    from gpu_suite import KERNELS, LAWS, ONLY

    assert all((SUITE.parents[1] / "tests" / file).is_file() for file in LAWS.values())
    assert not LAWS.keys() & KERNELS.keys()
    assert ONLY.keys() <= LAWS.keys()


def test_what_there_is_no_time_for_is_cut_and_named(tmp_path: Path) -> None:
    done = run("--part", "tests", "--dry-run", "--only", "rope", "--out", tmp_path, "--budget-seconds", "0")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "suite.json")["tests"]["cut"] == ["rope"]
    assert read(tmp_path / "tests.json")["tests"] == []


def test_a_run_of_tests_that_is_stopped_keeps_what_had_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plug-in alone, on a file of its own: passed, failed, skipped, and the one during which the process dies."""
    (tmp_path / "test_few.py").write_text(
        "import os, pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.parametrize('text', ['a b'])\n"
        "def test_bad(text): assert text == 'c'\n"
        "def test_absent(): pytest.skip('not here')\n"
        "def test_dies(): os._exit(3)\n"
        "def test_never_reached(): pass\n"
    )
    outcomes = tmp_path / "outcomes.jsonl"
    monkeypatch.setenv("OUTCOMES", str(outcomes))
    monkeypatch.setenv("PYTHONPATH", str(SUITE.parent))
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "harness.record_outcomes", "test_few.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stdout
    from gpu_suite import _outcomes

    tests = {test["name"].split("::")[1]: test for test in _outcomes(outcomes)}
    assert {name: test["outcome"] for name, test in tests.items()} == {
        "test_good": "passed",
        "test_bad[a b]": "failed",
        "test_absent": "skipped",
        "test_dies": "failed",
    }
    assert "assert 'a b' == 'c'" in tests["test_bad[a b]"]["message"]
    assert "never ended" in tests["test_dies"]["message"]


@pytest.mark.skipif(torch.cuda.is_available(), reason=HAS_GPU)
def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path: Path) -> None:
    done = run("--part", "kernels", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert not (tmp_path / "out").exists()


def _row(name: str, milliseconds: float, weights: str = "drawn", weightless: float = 0.0, rows: int = 100) -> Any:
    sizes = {"weights": weights, "weightless": weightless, "rows": rows}
    return {"case": "linear_cross_entropy", "sizes": sizes, "implementation": name, "median_ms": milliseconds}


def test_claims_follow_from_the_figures(tmp_path: Path) -> None:
    rows = [
        _row("ours", 11.0), _row("products", 10.0), _row("products, chunked", 9.9), _row("ours", 10.0, "one"),
        _row("liger, sum", 30.0, "one"), _row("ours, rows given", 5.0, weightless=0.6, rows=40),
    ]  # fmt: skip
    (tmp_path / "linear_cross_entropy.json").write_text(json.dumps({"rows": rows}))
    found = {claim.claim: claim for claim in check_claims(tmp_path)}
    loss = found["loss over its three products, at most 1.15"]
    assert loss.figure == pytest.approx(1.1)
    assert loss.holds is True
    assert found["loss over the same products in chunks, at most 1.1"].holds is False
    assert found["Liger over ours, at least 2.0"].holds is True
    assert found["Liger in our memory over ours, at least 2.0"].holds is None
    proportion = next(claim for name, claim in found.items() if "60% weightless" in name)
    assert proportion.figure == pytest.approx(5 / 11 / 0.4)
    assert proportion.holds is True
