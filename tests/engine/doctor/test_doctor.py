"""The doctor's report: healthy or not, for people and for issues; and a kernel made wrong on purpose that it finds."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from alttrain.engine.doctor import doctor as room
from alttrain.engine.doctor.config import DoctorConfig
from alttrain.engine.doctor.doctor import doctor
from alttrain.engine.doctor.problems import Problem
from alttrain.engine.errors import ConfigError
from alttrain.engine.proof import proving, shapes, trying
from alttrain.engine.proof.kernels import TRIALS
from alttrain.engine.proof.trial import Verdict
from alttrain.kernels import backend
from planted_faults import FORWARD, RAISING, Fault
from skips import HAS_GPU

ROOT = Path(__file__).resolve().parents[3]
PASSED = dict.fromkeys(TRIALS, Verdict("passed", "", 0.5))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this a machine without a GPU on which nothing is wrong and nothing takes time."""
    monkeypatch.setattr(room, "problems", lambda: [])
    monkeypatch.setattr(room, "ceiling_rows", lambda device: [("product", f"1.0 TFLOP/s on {device}")])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(backend, "INTERPRETED", False)


def gpus(monkeypatch: pytest.MonkeyPatch, *names: str, **verdicts: Verdict) -> list[Any]:
    """Give the machine GPUs on which kernels have these verdicts; return what is asked of them."""
    asked: list[Any] = []

    def prove(device: torch.device, of: shapes.KernelShapes, *, anew: bool) -> proving.Proof:
        asked.append((str(device), of, anew))
        return proving.Proof(PASSED | verdicts, "")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])
    monkeypatch.setattr(room, "gpu_rows", lambda: [(f"GPU {index}", name) for index, name in enumerate(names)])
    monkeypatch.setattr(proving, "prove", prove)
    return asked


def test_on_a_cpu_it_says_which_path_runs() -> None:
    report = doctor(DoctorConfig())
    assert report.startswith("## alttrain doctor: nothing found wrong\n\n| machine |  |\n| --- | --- |\n")
    assert "| product | 1.0 TFLOP/s on cpu |" in report
    assert "--model.kernels auto runs PyTorch's path of every kernel" in report
    assert "| kernel |" not in report


def test_on_a_gpu_every_kernel_has_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = gpus(monkeypatch, "Card 9", "Card 8", "Card 9")
    report = doctor(DoctorConfig())
    assert [device for device, *_ in asked] == ["cuda:0", "cuda:1"], "one of each kind"
    assert {(of, anew) for _, of, anew in asked} == {(shapes.DEFAULT_SHAPES, True)}
    assert "### Kernels on Card 8, at the shapes of a 7B (DeepSeek-R1-Distill-Qwen-7B) in bfloat16" in report
    assert all(f"| {name} | passed | 0.5 |" in report for name in TRIALS)
    assert "--model.kernels auto here: Triton, each compared with PyTorch on Card 9." in report
    assert "| product | 1.0 TFLOP/s on cuda:0 |" in report


def test_the_shapes_may_be_those_of_a_model(monkeypatch: pytest.MonkeyPatch, write_model: Any, tmp_path: Path) -> None:
    asked = gpus(monkeypatch, "Card 9")
    model = write_model(tmp_path / "mine", "qwen3", save_weights=False)
    report = doctor(DoctorConfig(model=str(model), dtype="float32"))
    ((_, of, _),) = asked
    assert (of.hidden_size, of.head_dim, of.dtype, of.normalises_heads) == (48, 12, "float32", True)
    assert "at the shapes of mine in float32" in report
    with pytest.raises(ConfigError, match=r"^--model nowhere: no such folder"):
        doctor(DoctorConfig(model="nowhere"))


def test_a_kernel_that_failed_is_the_first_problem_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(monkeypatch, "Card 9", rope=Verdict("wrong", "12 tokens: out_0 is off by 1.0e-01, PyTorch's by 2.0e-03", 0.7))
    monkeypatch.setattr(room, "problems", lambda: [Problem("The disk is full.")])
    with pytest.raises(SystemExit) as left:
        doctor(DoctorConfig())
    assert left.value.code == 1
    report, _ = capsys.readouterr()
    assert report.startswith(
        "## alttrain doctor: 2 problems\n\n1. rope fails on Card 9. Runs with --model.kernels auto leave them to "
        "PyTorch there; please open an issue with this report.\n2. The disk is full.\n\n| machine |"
    )
    assert "| rope | wrong: 12 tokens: out_0 is off by 1.0e-01, PyTorch's by 2.0e-03 | 0.7 |" in report
    assert "auto here: Triton, but PyTorch for rope, which failed on Card 9 (rope: 12 tokens" in report


def test_where_pytorch_fails_as_well_no_path_is_promised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(monkeypatch, "Card 9", rope=Verdict("raised", "PyTorch: no", 0.7, torch_failed=True))
    with pytest.raises(SystemExit):
        doctor(DoctorConfig())
    assert "2. PyTorch's own path of rope fails on Card 9 as well: no run can go on there." in capsys.readouterr().out


def test_want_of_memory_is_no_fault_of_a_kernel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus(monkeypatch, "Card 9", rope=Verdict("raised", "PyTorch: OutOfMemoryError: CUDA", 0.7, torch_failed=True))
    with pytest.raises(SystemExit):
        doctor(DoctorConfig())
    report, _ = capsys.readouterr()
    assert report.startswith(
        "## alttrain doctor: 1 problem\n\n1. rope could not be tried on Card 9 for want of memory."
    )


def test_what_is_not_grave_is_told_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "problems", lambda: [Problem("The disk is full.")])
    assert doctor(DoctorConfig()).startswith("## alttrain doctor: 1 problem\n\n1. The disk is full.\n")


@pytest.mark.parametrize("is_grave", [False, True])
def test_the_report_may_go_to_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, is_grave: bool
) -> None:
    monkeypatch.setattr(room, "problems", lambda: [Problem("Something.", is_grave)])
    config = DoctorConfig(output=str(tmp_path / "reports" / "mine.md"))
    if is_grave:
        with pytest.raises(SystemExit):
            doctor(config)
    else:
        assert doctor(config) == ""
    assert Path(config.output).read_text().startswith("## alttrain doctor: 1 problem\n")
    assert capsys.readouterr() == ("", f"report: {config.output}\n")


def test_no_folder_and_no_user_stands_in_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/home/somebody/.triton")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/data/secret-project/lib:/home/somebody/lib")
    gpus(monkeypatch, "Card 9", rope=Verdict("raised", "OSError: /home/somebody/x.so and /scratch/secret/y.cubin", 0.7))
    monkeypatch.setattr(room, "problems", lambda: [])
    with pytest.raises(SystemExit):
        doctor(DoctorConfig())
    report, _ = capsys.readouterr()
    assert "| TRITON_CACHE_DIR | ~/.triton |" in report
    assert "y.cubin" in report
    assert "somebody" not in report
    assert "secret" not in report


def test_under_the_interpreter_kernels_are_tried_at_small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def try_kernels(names: list[str], of: shapes.KernelShapes, device: str, say: Any) -> Mapping[str, Verdict]:
        assert (names, of, device) == (list(TRIALS), shapes.SMALL_SHAPES, "cpu")
        return PASSED

    monkeypatch.setattr(backend, "INTERPRETED", True)
    monkeypatch.setattr(trying, "try_kernels", try_kernels)
    report = doctor(DoctorConfig())
    assert "### Kernels under Triton's interpreter, at the shapes of a small model" in report
    assert "--model.kernels auto here: PyTorch, lean." in report


def run_of(folder: Path, *faults: Fault) -> subprocess.CompletedProcess[str]:
    """Run the command on a copy of the project with faults in its kernels, under Triton's interpreter."""
    for source, name in (("engine", "engine"), ("kernels", "kernels"), ("recipes/command", "command")):
        shutil.copytree(ROOT / source, folder / "alttrain" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for fault in faults:
        file = folder / "alttrain" / "kernels" / f"{fault.kernel}.py"
        text = file.read_text(encoding="utf-8")
        assert fault.old in text, "the fault no longer fits the kernel"
        file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-P", "-m", "alttrain.command", "doctor"]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=300
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason=HAS_GPU)
def test_the_command_finds_kernels_made_wrong_on_purpose(tmp_path: Path) -> None:
    wrong = Fault("swiglu", FORWARD, "(activated * up).to(y_ptr", "(gate * up).to(y_ptr")
    broken = Fault("adamw", RAISING, "update = tl.div_rn(", "update = tl.div_nothing(")
    done = run_of(tmp_path, wrong, broken)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("trying 9 kernels under Triton's interpreter: rms_norm rope swiglu ")
    lines = done.stdout.splitlines()
    assert "swiglu, adamw fail under the interpreter." in done.stdout
    passed = {line.split(" | ")[0].removeprefix("| ") for line in lines if " | passed | " in line}
    assert passed == TRIALS.keys() - {"swiglu", "adamw"}
    assert any(line.startswith("| swiglu | wrong: 15 rows of 156: out_0 is off by ") for line in lines)
    assert any(line.startswith("| adamw | raised: ") for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason=HAS_GPU)
def test_the_command_finds_nothing_wrong_where_nothing_is(tmp_path: Path) -> None:
    done = run_of(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" | passed | ") == len(TRIALS)
