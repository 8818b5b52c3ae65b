"""Whole runs by the command line: stages and world sizes agree, a killed run resumed is the run never killed, and what
is exported is what transformers loads.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "alttrain_7b.py"
SMALL_SHARDS = Path(__file__).with_name("small_shards.py")
Run = Callable[..., subprocess.CompletedProcess[str]]
# What depends on the clock or the machine, not on the run.
MEASURED = {"seconds", "tokens_per_second", "mfu", "peak_memory_gib"}


@pytest.fixture(scope="module")
def inputs(
    tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path], write_rows: Callable[..., Path]
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return write_model(folder / "model"), write_rows(folder / "rows.jsonl")


def flags(inputs: tuple[Path, Path], output: Path, **changes: object) -> list[str]:
    model, rows = inputs
    values = {
        "--model.path": model,
        "--model.dtype": "float32",
        "--data.train": rows,
        "--data.eval": rows,
        "--output": output,
        "--batch.examples": 4,
        "--batch.pack-tokens": 400,
        "--schedule.steps": 8,
        "--optim.lr": "1e-3",
        "--checkpoint.every": 0,
        "--zero.stage": 1,
        **{f"--{name.replace('__', '.').replace('_', '-')}": value for name, value in changes.items()},
    }
    return [str(part) for pair in values.items() for part in pair]


def steps(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def curve(output: Path, field: str = "loss") -> list[float]:
    return [line[field] for line in steps(output)]


def test_stages_and_world_sizes_agree_in_fp32(tmp_path: Path, run_ranks: Run, inputs: tuple[Path, Path]) -> None:
    runs = {(1, 0): {}, (2, 0): {}, (2, 1): {}, (2, 2): {}, (2, 3): {}}
    for ranks, stage in runs:
        output = tmp_path / f"{ranks}-{stage}"
        run_ranks(ranks, RECIPE, *flags(inputs, output, zero__stage=stage))
    first = tmp_path / "1-0"
    for ranks, stage in list(runs)[1:]:
        other = tmp_path / f"{ranks}-{stage}"
        assert curve(other) == pytest.approx(curve(first), rel=2e-5), (ranks, stage)
        assert curve(other, "grad_norm") == pytest.approx(curve(first, "grad_norm"), rel=2e-4), (ranks, stage)
        assert curve(other, "num_tokens") == curve(first, "num_tokens")
        assert curve(other, "weight_sum") == curve(first, "weight_sum")
    assert curve(first)[-1] < 0.8 * curve(first)[0]


def test_stages_agree_in_bf16(tmp_path: Path, run_ranks: Run, inputs: tuple[Path, Path]) -> None:
    for stage in (1, 2, 3):
        run_ranks(2, RECIPE, *flags(inputs, tmp_path / str(stage), zero__stage=stage, model__dtype="bfloat16"))
    for stage in (2, 3):
        assert curve(tmp_path / str(stage)) == pytest.approx(curve(tmp_path / "1"), rel=5e-3)
        assert curve(tmp_path / str(stage), "grad_norm")[0] == pytest.approx(
            curve(tmp_path / "1", "grad_norm")[0], rel=1e-2
        )
    assert load_file(tmp_path / "3" / "model" / "model.safetensors")["lm_head.weight"].dtype == torch.bfloat16


def test_micro_batches_do_not_matter(tmp_path: Path, run_ranks: Run, inputs: tuple[Path, Path]) -> None:
    for pack_tokens in (310, 4000):
        run_ranks(1, RECIPE, *flags(inputs, tmp_path / str(pack_tokens), batch__pack_tokens=pack_tokens))
    assert curve(tmp_path / "310") == pytest.approx(curve(tmp_path / "4000"), rel=2e-5)
    assert max(curve(tmp_path / "4000", "pack_fill")) < min(curve(tmp_path / "310", "pack_fill"))


def test_kernels_do_not_matter(tmp_path: Path, run_ranks: Run, inputs: tuple[Path, Path]) -> None:
    few = tmp_path / "few.jsonl"  # the interpreter is slow
    few.write_text("\n".join(inputs[1].read_text().splitlines()[:3]) + "\n")
    for kernels in ("torch", "auto", "triton"):
        changes = {"model__kernels": kernels, "zero__stage": 3, "schedule__steps": 3, "batch__examples": 2}
        values = flags((inputs[0], few), tmp_path / kernels, **changes)
        done = run_ranks(2, RECIPE, *values, interpret=kernels == "triton")
        said = {"torch": "kernels: PyTorch\n", "auto": "kernels: PyTorch, lean\n", "triton": "kernels: Triton\n"}
        assert said[kernels] in done.stderr
    for kernels in ("auto", "triton"):
        assert curve(tmp_path / kernels) == pytest.approx(curve(tmp_path / "torch"), rel=2e-5)
        assert curve(tmp_path / kernels, "grad_norm") == pytest.approx(curve(tmp_path / "torch", "grad_norm"), rel=2e-4)
        exported, wanted = (load_file(tmp_path / k / "model" / "model.safetensors") for k in (kernels, "torch"))
        for name, value in wanted.items():
            # AdamW's first steps are of the size of the rate whatever the gradient, which may be all rounding.
            assert (exported[name] - value).abs().mean() < 1e-5, name


@pytest.mark.parametrize(("stage", "dtype", "offload"), [(2, "float32", "none"), (3, "bfloat16", "all")])
def test_killed_and_resumed_is_never_killed(
    tmp_path: Path, run_ranks: Run, inputs: tuple[Path, Path], stage: int, dtype: str, offload: str
) -> None:
    changes = {"zero__stage": stage, "model__dtype": dtype, "zero__offload": offload, "schedule__steps": 12}
    changes |= {"checkpoint__every": 2, "eval__every": 4}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_ranks(2, RECIPE, *flags(inputs, whole, **changes))
    _run_and_kill(flags(inputs, killed, **changes), killed, after_step=5)
    assert not (killed / "model").exists()
    done = run_ranks(2, RECIPE, *flags(inputs, killed, **changes), "--resume")
    assert "going on after step" in done.stderr

    exact = [{k: v for k, v in line.items() if k not in MEASURED} for line in steps(whole)]
    assert [{k: v for k, v in line.items() if k not in MEASURED} for line in steps(killed)] == exact
    assert (killed / "eval.jsonl").read_text() == (whole / "eval.jsonl").read_text()
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole, killed)]
    assert weights[0] == weights[1]
    kept = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert kept == ["LATEST", "step-000010", "step-000012"]


def _run_and_kill(arguments: list[str], output: Path, after_step: int) -> None:
    """Start a run of two ranks and end all its processes by SIGKILL once it has logged step `after_step`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(RECIPE)]
    process = subprocess.Popen(
        [*launcher, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = output / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not metrics.exists() or len(metrics.read_text().splitlines()) < after_step:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_resume_without_a_checkpoint_says_so_and_starts(
    tmp_path: Path, run_ranks: Run, inputs: tuple[Path, Path]
) -> None:
    done = run_ranks(1, RECIPE, *flags(inputs, tmp_path / "run", schedule__steps=1), "--resume")
    assert "no checkpoint in" in done.stderr
    assert len(steps(tmp_path / "run")) == 1


@pytest.mark.parametrize(
    ("family", "tied", "program"),
    [("qwen2", True, RECIPE), ("qwen3", False, SMALL_SHARDS), ("llama", True, RECIPE)],
    ids=["qwen2-tied", "qwen3-untied-sharded", "llama-tied"],
)
def test_export_is_what_transformers_loads(
    tmp_path: Path,
    run_ranks: Run,
    write_model: Callable[..., Path],
    inputs: tuple[Path, Path],
    family: str,
    tied: bool,
    program: Path,
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = write_model(tmp_path / "model", family, tied=tied)
    output = tmp_path / "run"
    run_ranks(2, program, *flags((model, inputs[1]), output, zero__stage=3, schedule__steps=2, optim__lr="1e-12"))
    assert (len(list((output / "model").glob("*.safetensors"))) > 3) == (program == SMALL_SHARDS)
    loaded, report = AutoModelForCausalLM.from_pretrained(output / "model", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    original = AutoModelForCausalLM.from_pretrained(model)
    for (name, trained), (_, before) in zip(loaded.named_parameters(), original.named_parameters(), strict=True):
        assert torch.allclose(trained, before, atol=1e-6), name  # at a rate of 1e-12 nothing has moved
    tokenizer = AutoTokenizer.from_pretrained(output / "model")
    assert tokenizer.chat_template
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "thing 1?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert loaded.generate(**prompt, max_new_tokens=4, do_sample=True).shape[1] > prompt["input_ids"].shape[1]
    assert "## Loss weights" in (output / "model" / "README.md").read_text()
    assert "<svg" in (output / "report.html").read_text()


def test_a_finished_run_resumed_stays_as_it_is_and_a_damaged_one_is_refused(
    tmp_path: Path, run_ranks: Run, inputs: tuple[Path, Path]
) -> None:
    output = tmp_path / "run"
    arguments = flags(inputs, output, schedule__steps=4, checkpoint__every=2)
    run_ranks(1, RECIPE, *arguments)
    before, weights = steps(output), (output / "model" / "model.safetensors").read_bytes()
    run_ranks(1, RECIPE, *arguments, "--resume")
    assert steps(output) == before
    assert (output / "model" / "model.safetensors").read_bytes() == weights

    for file in (output / "checkpoints" / "step-000004").glob("*.pt"):
        file.write_bytes(file.read_bytes()[:1000])
    done = run_ranks(1, RECIPE, *arguments, "--resume", check=False)
    assert "damaged since it was published" in done.stderr
    assert steps(output) == before
