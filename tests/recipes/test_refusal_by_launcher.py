"""The same refusal whoever starts the recipe: plain python, torchrun with two processes, flags that do not parse."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "alttrain_7b.py"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def flags(tmp_path: Path, write_model: Callable[..., Path]) -> list[str]:
    """Return flags that would do, but for a row without a prompt."""
    rows, model, output = tmp_path / "rows.jsonl", write_model(tmp_path / "model"), tmp_path / "run"
    rows.write_text('{"id": "a", "spans": [{"role": "answer", "text": "It is noon."}]}\n')
    return ["--model.path", str(model), "--data.train", str(rows), "--output", str(output)]


def sentence(tmp_path: Path) -> str:
    return (
        f"{tmp_path / 'rows.jsonl'}:1: prompt is missing or null; it must be text. "
        "Another name is given with --data.columns; the columns are id, spans."
    )


def run_plain(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    command = [sys.executable, str(RECIPE), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_plain_python(tmp_path: Path, flags: list[str]) -> None:
    done = run_plain(*flags)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == sentence(tmp_path)
    assert done.stderr.count(str(tmp_path)) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--optim.lr", "fast"), "--optim.lr"),
        (("--zero.offload", "some"), "--zero.offload"),
        (("--no.such",), "--no.such"),
    ],
    ids=["value", "choice", "flag"],
)
def test_flag_that_does_not_parse(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    done = run_plain(*arguments, "--output", str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert named in done.stderr
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def assert_left_with_2(torchrun_stderr: str) -> None:
    """Check the exit code of each process in the summary that torchrun ends with.

    torchrun ends the others by SIGTERM once one has left; one that is still importing by then has no code of its own.
    """
    codes = re.findall(r"^  exitcode  : (-?\d+)", torchrun_stderr, flags=re.MULTILINE)
    assert len(codes) == 2
    assert "2" in codes
    assert set(codes) <= {"2", "-15"}


def test_torchrun_says_it_once_and_its_processes_exit_with_2(tmp_path: Path, run_ranks: Run, flags: list[str]) -> None:
    done = run_ranks(2, RECIPE, *flags, check=False)
    # torchrun itself exits with 1 and a summary for every failure; the codes of the processes stand in it.
    assert done.returncode == 1
    assert_left_with_2(done.stderr)
    assert done.stderr.splitlines().count(sentence(tmp_path)) == 1
    assert done.stderr.count(str(tmp_path / "rows.jsonl")) == 1
    assert not (tmp_path / "run").exists()


def test_torchrun_reports_a_flag_once(tmp_path: Path, run_ranks: Run, flags: list[str]) -> None:
    done = run_ranks(2, RECIPE, *flags, "--optim.lr", "fast", check=False)
    assert_left_with_2(done.stderr)
    assert done.stderr.count("Error parsing --optim.lr") == 1
    assert not (tmp_path / "run").exists()


def test_a_weight_that_is_nan_ends_every_rank(tmp_path: Path, run_ranks: Run, flags: list[str]) -> None:
    """Under ZeRO-3 only the second process reads it; both end, before anything is written, and it is said once."""
    rows, file = tmp_path / "rows.jsonl", tmp_path / "model" / "model.safetensors"
    rows.write_text('{"id": "a", "prompt": "?", "spans": [{"role": "answer", "text": "It is noon."}]}\n')
    tensors = load_file(file)
    tensors["model.norm.weight"][-1] = torch.nan
    save_file(tensors, file)
    done = run_ranks(2, RECIPE, *flags, "--zero.stage", "3", "--schedule.steps", "1", check=False)
    assert_left_with_2(done.stderr)
    wanted = f"{file}: 1 of the 48 numbers of model.norm.weight are NaN or infinite."
    assert sum(line.startswith(wanted) for line in done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
