"""The process that tries kernels: a line when it begins one, a line with its verdict, and nothing else on stdout."""

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from alttrain.engine.proof import child
from alttrain.engine.proof.shapes import SMALL_SHAPES
from alttrain.engine.proof.trial import Verdict
from alttrain.engine.proof.trying import CHILD, try_kernels


def request(*kernels: str) -> dict[str, Any]:
    return {"device": "cpu", "shapes": SMALL_SHAPES.as_dict(), "kernels": list(kernels)}


def test_a_line_for_each_beginning_and_each_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = {"rope": Verdict("passed", "", 0.1), "adamw": Verdict("wrong", "off", 0.2)}
    monkeypatch.setattr(child, "try_kernel", lambda name, shapes, device: verdicts[name])
    answers = io.StringIO()
    assert child.serve(request("rope", "adamw"), answers) == 0
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [
        {"begins": "rope"},
        {"kernel": "rope", "verdict": vars(verdicts["rope"])},
        {"begins": "adamw"},
        {"kernel": "adamw", "verdict": vars(verdicts["adamw"])},
    ]


def test_a_device_that_is_lost_ends_it_after_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    monkeypatch.setattr(child, "try_kernel", lambda *_: Verdict("raised", "an illegal address"))
    answers = io.StringIO()
    assert child.serve(request("rope", "adamw") | {"device": "cuda:0"}, answers) == child.DEVICE_LOST
    assert [list(json.loads(line)) for line in answers.getvalue().splitlines()] == [
        ["begins"],
        ["kernel", "verdict"],
    ]


def test_the_process_itself_under_the_interpreter() -> None:
    """What a kernel prints does not get between the answers."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        CHILD, input=json.dumps(request("span_weights")) + "\n", capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first == {"begins": "span_weights"}
    assert second["verdict"]["outcome"] == "passed"


def test_without_the_interpreter_a_cpu_runs_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    verdicts = try_kernels(("span_weights",), SMALL_SHAPES, "cpu")
    assert verdicts["span_weights"].outcome == "raised"
    assert "set TRITON_INTERPRET=1" in verdicts["span_weights"].reason


def test_it_needs_no_folder_of_its_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the run that is named like a library is not taken for it."""
    (tmp_path / "torch.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(CHILD, input="{}\n", capture_output=True, text=True, check=False)
    assert "KeyError: 'device'" in done.stderr
    assert sys.executable == CHILD[0]
