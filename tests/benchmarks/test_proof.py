"""A results file proves a GPU only if it names the tests that count, and all of them passed."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.model.kernel_choice import PROVEN_GPUS
from harness.proof import REQUIRED, objections
from skips import NO_PROVEN_GPU

ROOT = Path(__file__).resolve().parents[2]
GPU = "NVIDIA H200"


def proof() -> dict[str, Any]:
    """Return what a good run leaves: two cases of every test that must have passed, and one that may be skipped."""
    tests = []
    for file, functions in REQUIRED.items():
        for function in functions:
            name, _, word = function.removesuffix("]").partition("[")
            for case in ("a", "b"):
                brackets = "-".join(filter(None, [case, word, "off"]))
                tests.append({"name": f"{file}::{name}[{brackets}]", "outcome": "passed", "seconds": 0.1})
    tests.append({"name": "tests/kernels/test_rope.py::test_of_a_cpu", "outcome": "skipped", "seconds": 0.0})
    return {"environment": {"gpu": GPU}, "dry_run": False, "cut": [], "tests": tests}


def test_a_whole_run_is_a_proof() -> None:
    assert objections(proof(), GPU) == []


@pytest.mark.parametrize("outcome", ["skipped", "failed"])
@pytest.mark.parametrize(
    "name", [f"{file}::{function}" for file, functions in REQUIRED.items() for function in functions]
)
def test_one_case_that_did_not_pass_is_an_objection(name: str, outcome: str) -> None:
    results = proof()
    case = next(test for test in results["tests"] if test["name"].startswith(name.split("[")[0]))
    case["outcome"] = outcome
    assert objections(results, GPU) == [f"{outcome}: {case['name']}"]


@pytest.mark.parametrize(
    "name", [f"{file}::{function}" for file, functions in REQUIRED.items() for function in functions]
)
def test_a_test_that_never_ran_is_an_objection(name: str) -> None:
    results = proof()
    results["tests"] = [test for test in results["tests"] if not test["name"].startswith(name.split("[")[0] + "[")]
    assert objections(results, GPU) == [f"lacks {name}"]


def test_only_the_cases_meant_count() -> None:
    """The layers' tests have cases for the PyTorch path too, which prove nothing of a GPU and may be skipped there."""
    results = proof()
    name = "tests/engine/model/test_layers.py::test_loss_and_gradients_are_those_of_the_definition"
    results["tests"].append({"name": f"{name}[qwen2-off-auto-float32-8]", "outcome": "skipped"})
    assert objections(results, GPU) == []
    results["tests"].append({"name": f"{name}[qwen2-off-triton-float32-8]", "outcome": "skipped"})
    assert objections(results, GPU) == [f"skipped: {name}[qwen2-off-triton-float32-8]"]


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        ({"dry_run": True}, "it was a dry run"),
        ({"cut": ["rope"]}, "cut: rope"),
        ({"environment": {"gpu": "another"}}, f"it ran on another, not on {GPU}"),
        ({"environment": {}}, f"it ran on None, not on {GPU}"),
    ],
)
def test_another_machine_a_dry_run_or_a_cut_one_is_no_proof(change: dict[str, Any], objection: str) -> None:
    assert objections(proof() | change, GPU) == [objection]


def test_any_failure_is_an_objection() -> None:
    results = proof()
    results["tests"].append({"name": "tests/kernels/test_rope.py::test_of_nothing", "outcome": "failed"})
    assert objections(results, GPU) == ["failed: tests/kernels/test_rope.py::test_of_nothing"]


@pytest.mark.parametrize("file", REQUIRED)
def test_every_required_test_exists(file: str) -> None:
    """A name that no test has any more would make every proof fail, and one that is misspelt would never be asked."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {function.split("[")[0] for function in REQUIRED[file]} <= defined


def test_every_kernel_has_required_tests() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "kernels").glob("test_*.py")}
    assert files <= REQUIRED.keys()


@pytest.mark.skipif(not PROVEN_GPUS, reason=NO_PROVEN_GPU)
def test_a_proven_gpu_has_its_proof() -> None:
    """Whoever enters a GPU must commit what its native tests gave."""
    for gpu, folder in PROVEN_GPUS.items():
        results = json.loads((ROOT / "benchmarks" / "results" / folder / "tests.json").read_text())
        assert objections(results, gpu) == []
