"""Whole runs by the command line: killed and resumed is never killed, and transformers loads what is exported."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from alttrain.engine.config import CheckpointConfig, ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.run.space import space_of
from small_runs import RECIPE, RECIPE_WORKER, ROOT, command_lines, flags, steps

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


class Resumed(NamedTuple):
    """A run that is killed and resumed.

    Until it is killed it recomputes one of its two layers, afterwards none, like the run that nobody kills: that
    changes no bit, and is told.
    """

    ranks: int
    stage: int
    dtype: str
    offload: str = "none"

    @property
    def name(self) -> str:
        return "-".join(map(str, self))

    def flags(self, inputs: tuple[Path, Path], output: Path) -> list[str]:
        changes = {"zero__stage": self.stage, "model__dtype": self.dtype, "zero__offload": self.offload}
        changes |= {"schedule__steps": 12, "checkpoint__every": 2, "eval__every": 4}
        return flags(inputs, output, **changes)


# With bfloat16 moments are rounded at random. ZeRO-3 comes last: DeepSpeed leaves a
# linear layer of its own in a process that has run it.
RESUMED = (
    Resumed(1, 2, "bfloat16"),
    Resumed(2, 2, "float32"),
    Resumed(2, 3, "bfloat16"),
    Resumed(2, 3, "bfloat16", "all"),
)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory, run_ranks: Run, inputs: tuple[Path, Path]) -> Path:
    """The folder of the runs of RESUMED, by name, that nobody interrupts; those of as many ranks share a launch."""
    folder = tmp_path_factory.mktemp("never-killed")
    for ranks in (1, 2):
        runs = [one for one in RESUMED if one.ranks == ranks]
        run_ranks(ranks, RECIPE_WORKER, command_lines(one.flags(inputs, folder / one.name) for one in runs))
    return folder


@pytest.mark.parametrize("one", RESUMED, ids=lambda one: one.name)
def test_killed_and_resumed_is_never_killed(
    tmp_path: Path,
    run_ranks: Run,
    inputs: tuple[Path, Path],
    never_killed: Path,
    one: Resumed,
) -> None:
    whole, killed = never_killed / one.name, tmp_path / "killed"
    arguments = one.flags(inputs, killed)
    recomputing = ["--model.checkpointing", "full", "--model.recomputed-layers", "1"]
    _run_and_kill(one.ranks, [*arguments, *recomputing], killed, after_step=5)
    assert not (killed / "model").exists()
    done = run_ranks(one.ranks, RECIPE, *arguments, "--resume")
    assert "going on after step" in done.stderr
    assert "--model.checkpointing auto -> off: on a CPU nothing is recomputed" in done.stderr
    assert "--model.checkpointing off, before full; --model.recomputed-layers 0, before 1" in done.stderr
    model = json.loads((killed / "config.json").read_text(encoding="utf-8"))["run"]["model"]
    assert (model["checkpointing"], model["recomputed_layers"]) == ("off", 0)

    exact = [{k: v for k, v in line.items() if k not in MEASURED} for line in steps(whole)]
    assert [{k: v for k, v in line.items() if k not in MEASURED} for line in steps(killed)] == exact
    assert (killed / "eval.jsonl").read_text() == (whole / "eval.jsonl").read_text()
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole, killed)]
    assert weights[0] == weights[1]
    kept = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert kept == ["LATEST", "step-000010", "step-000012"]


@pytest.mark.parametrize("one", RESUMED, ids=lambda one: one.name)
def test_a_run_takes_the_space_that_it_says(never_killed: Path, one: Resumed) -> None:
    """Two checkpoints are left at the end; beside weights and moments each holds a few names and random states."""
    folder = RunFolder(never_killed / one.name)
    run = json.loads((folder.path / "config.json").read_text(encoding="utf-8"))
    num_parameters = sum(tensor.numel() for tensor in load_file(folder.model / "model.safetensors").values())
    config = RunConfig(
        model=ModelConfig(dtype=run["run"]["model"]["dtype"]),
        zero=ZeroConfig(stage=run["run"]["zero"]["stage"], offload=run["run"]["zero"]["offload"]),
        optim=OptimConfig(moments=run["run"]["optim"]["moments"]),
        checkpoint=CheckpointConfig(**run["run"]["checkpoint"]),
    )
    space = space_of(config, folder, num_parameters, run["num_steps"], run["world_size"])
    assert space.num_checkpoints == 3
    assert 0 <= space.written / 2 - space.checkpoint < 80_000
    assert 0 <= (folder.model / "model.safetensors").stat().st_size - space.model < 10_000


def _run_and_kill(ranks: int, arguments: list[str], output: Path, after_step: int) -> None:
    """Start a run of `ranks` and end all its processes by SIGKILL once it has logged step `after_step`."""
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(ranks),
        str(RECIPE),
    ]
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


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, run_ranks: Run, inputs: tuple[Path, Path]
) -> tuple[list[str], Path, str]:
    """The command line of a run of four steps that was asked to resume where nothing was, its folder, what it said."""
    output = tmp_path_factory.mktemp("finished") / "run"
    arguments = [*flags(inputs, output, schedule__steps=4, checkpoint__every=2), "--resume"]
    return arguments, output, run_ranks(1, RECIPE, *arguments).stderr


def test_resume_without_a_checkpoint_says_so_and_starts(finished: tuple[list[str], Path, str]) -> None:
    _, output, said = finished
    assert "no checkpoint in" in said
    assert [line["step"] for line in steps(output)] == [1, 2, 3, 4]


def test_a_finished_run_resumed_stays_as_it_is_and_a_damaged_one_is_refused(
    run_ranks: Run, finished: tuple[list[str], Path, str]
) -> None:
    arguments, output, _ = finished
    before, weights = steps(output), (output / "model" / "model.safetensors").read_bytes()
    done = run_ranks(1, RECIPE, *arguments)
    assert "going on after step 4" in done.stderr
    assert steps(output) == before
    assert (output / "model" / "model.safetensors").read_bytes() == weights

    for file in (output / "checkpoints" / "step-000004").glob("*.pt"):
        file.write_bytes(file.read_bytes()[:1000])
    done = run_ranks(1, RECIPE, *arguments, check=False)
    assert "damaged since it was published" in done.stderr
    assert steps(output) == before


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
    run_ranks: Run,
    write_model: Callable[..., Path],
    inputs: tuple[Path, Path],
) -> Path:
    """The folder of a model of each family, and of a run that exported it; at a rate of 1e-12 no weight has moved."""
    folder = tmp_path_factory.mktemp("exported")
    lines = []
    # Small shards stay small in their process: they come last.
    for family, tied, program in (("qwen2", True, RECIPE), ("llama", True, RECIPE), ("qwen3", False, SMALL_SHARDS)):
        model = write_model(folder / family / "model", family, tied=tied)
        changes = {"zero__stage": 3, "schedule__steps": 2, "optim__lr": "1e-12"}
        lines.append([str(program), *flags((model, inputs[1]), folder / family / "run", **changes)])
    run_ranks(2, RECIPE_WORKER, json.dumps(lines))
    return folder


@pytest.mark.parametrize(
    ("family", "is_sharded"),
    [("qwen2", False), ("qwen3", True), ("llama", False)],
    ids=["qwen2-tied", "qwen3-untied-sharded", "llama-tied"],
)
def test_export_is_what_transformers_loads(exported: Path, family: str, is_sharded: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, output = exported / family / "model", exported / family / "run"
    assert (len(list((output / "model").glob("*.safetensors"))) > 3) == is_sharded
    loaded, report = AutoModelForCausalLM.from_pretrained(output / "model", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    original = AutoModelForCausalLM.from_pretrained(model)
    for (name, trained), (_, before) in zip(loaded.named_parameters(), original.named_parameters(), strict=True):
        assert torch.allclose(trained, before, atol=1e-6), name
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (output / "model" / name).read_bytes() == (model / name).read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(output / "model")
    assert tokenizer.chat_template
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "thing 1?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert loaded.generate(**prompt, max_new_tokens=4, do_sample=True).shape[1] > prompt["input_ids"].shape[1]
    assert "## Loss weights" in (output / "model" / "README.md").read_text()
    assert "<svg" in (output / "report.html").read_text()
