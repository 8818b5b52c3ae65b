"""The law the engine stands on: the first step's loss, gradient norm and every gradient are those of the definition.

The definition is computed in fp64, one document at a time, with transformers alone; the engine in fp32, on two ranks,
in several packs a rank, with unequal weights. A world of one runs the same on the device at hand, in bf16 too.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alttrain.engine.config import DataConfig, LossConfig
from alttrain.engine.data.dataset import load_dataset
from alttrain.engine.trace.roles import ROLES

WEIGHTS = LossConfig(understanding=0.5, assessment=3.0, reasoning=1.25, closing=0.0, answer=0.75, end=2.0)
CPU = torch.device("cpu")
WORKER = Path(__file__).with_name("gradients_worker.py")
Run = Callable[..., subprocess.CompletedProcess[str]]
Definition = tuple[float, dict[str, torch.Tensor]]


class Setting(NamedTuple):
    """What the engine is asked to compute the first step under."""

    stage: int
    checkpointing: str
    tied: bool
    kernels: str
    denominators: tuple[str, ...] = ("weight", "token", "example")
    dtype: str = "float32"
    recomputed_layers: int = 0


# By stage: DeepSpeed leaves a linear layer of its own in a process that has run ZeRO-3.
SETTINGS = (
    Setting(0, "off", False, "auto"),
    Setting(1, "full", False, "torch"),
    Setting(1, "off", True, "auto"),
    Setting(2, "selective", False, "auto"),
    Setting(2, "full", True, "auto", recomputed_layers=1),
    Setting(3, "full", False, "auto"),
    Setting(3, "full", False, "auto", ("weight",), recomputed_layers=1),
    Setting(3, "off", True, "torch"),
    Setting(3, "full", True, "triton", ("example",)),  # the interpreter is slow: one denominator there
)


# On CPU the kernels are asked by SETTINGS, under the interpreter; here PyTorch's path shows that the test is right.
ONE_PROCESS = (
    [(kernels, dtype) for kernels in ("torch", "triton") for dtype in ("float32", "bfloat16")]
    if torch.cuda.is_available()
    else [("auto", "float32"), ("auto", "bfloat16")]
)


def by_definition(
    model: Path,
    rows: Path,
    per: str,
    dtype: torch.dtype = torch.float64,
    device: torch.device = CPU,
) -> Definition:
    """Return loss and gradients of L = sum(w * nll) / D, one document at a time; sums over documents are fp64."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    dataset = load_dataset((str(rows),), DataConfig(), WEIGHTS, tokenizer, 400)
    causal_lm = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation="eager").to(device)
    table = torch.tensor([WEIGHTS.weights()[role] for role in ROLES], dtype=torch.float64)
    documents = []
    for example in dataset.examples:
        weights = table[torch.tensor(example.span_ids[1:])]
        documents.append((torch.tensor([example.input_ids]), weights / weights.sum() if per == "example" else weights))
    denominator = {
        "weight": sum(float(weights.sum()) for _, weights in documents),
        "token": sum(int((weights > 0).sum()) for _, weights in documents),
        "example": len(documents),
    }[per]
    names, parameters = zip(*causal_lm.named_parameters(), strict=True)
    loss, gradients = 0.0, {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in causal_lm.named_parameters()}
    for input_ids, weights in documents:
        logits = causal_lm(input_ids=input_ids.to(device), use_cache=False).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits.double(), input_ids[0, 1:].to(device), reduction="none")
        part = (weights.to(device) * nll).sum() / denominator
        for name, gradient in zip(names, torch.autograd.grad(part, parameters), strict=True):
            gradients[name] += gradient.double().cpu()
        loss += part.item()
    return loss, gradients


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, write_rows: Callable[..., Path]) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> dict[bool, Path]:
    """Model folders by whether their embeddings are tied."""
    folder = tmp_path_factory.mktemp("models")
    return {tied: write_model(folder / f"tied-{tied}", tied=tied) for tied in (False, True)}


@pytest.fixture(scope="module")
def definition(rows: Path, models: dict[bool, Path]) -> Callable[[bool, str], Definition]:
    """Return a function of (tied, denominator) that computes each definition once."""
    return cache(lambda tied, per: by_definition(models[tied], rows, per))


@pytest.fixture(scope="module")
def measure(
    tmp_path_factory: pytest.TempPathFactory, run_ranks: Run, rows: Path, models: dict[bool, Path]
) -> Callable[[Setting], dict[str, Any]]:
    """Return a function that gives what two ranks measured under a setting.

    The settings of SETTINGS share one launch, but for Triton's, which needs its interpreter.
    """
    folder = tmp_path_factory.mktemp("measured")

    @cache
    def launch(interpret: bool) -> subprocess.CompletedProcess[str]:
        settings = [setting for setting in SETTINGS if (setting.kernels == "triton") == interpret]
        described = [
            {
                "model": str(models[setting.tied]),
                "denominators": setting.denominators,
                "out": str(folder / f"{SETTINGS.index(setting)}.pt"),
                **{
                    name: getattr(setting, name)
                    for name in ("stage", "checkpointing", "recomputed_layers", "kernels", "dtype")
                },
            }
            for setting in settings
        ]
        arguments = (rows, json.dumps(WEIGHTS.weights()), json.dumps(described))
        return run_ranks(2, WORKER, *arguments, interpret=interpret, check=False)

    def measured(setting: Setting) -> dict[str, Any]:
        done = launch(setting.kernels == "triton")
        assert done.returncode == 0, done.stderr[-4000:]
        results: dict[str, Any] = torch.load(folder / f"{SETTINGS.index(setting)}.pt")
        return results

    return measured


@pytest.mark.parametrize(
    "setting", SETTINGS, ids=lambda s: f"{s.stage}-{s.checkpointing}-{s.recomputed_layers}-{s.tied}-{s.kernels}"
)
def test_first_step_is_the_definition(
    setting: Setting,
    measure: Callable[[Setting], dict[str, Any]],
    definition: Callable[[bool, str], Definition],
) -> None:
    measured = measure(setting)
    assert tuple(measured) == setting.denominators
    for per, result in measured.items():
        loss, gradients = definition(setting.tied, per)
        assert result["loss"] == pytest.approx(loss, rel=1e-5)
        assert result["gradients"].keys() == gradients.keys()
        for name, gradient in gradients.items():
            error = float((result["gradients"][name] - gradient).norm() / gradient.norm())
            assert error < 1e-5, f"{per} {name}: {error}"
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        assert result["grad_norm"] == pytest.approx(norm, rel=1e-5)


@pytest.fixture(scope="module")
def wide(
    tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path], write_rows: Callable[..., Path]
) -> tuple[Path, Path, tuple[float, dict[str, torch.Tensor]]]:
    """Return a model as wide as CUDA's attention wants, in numbers that every dtype holds, its rows, and the truth."""
    folder = tmp_path_factory.mktemp("wide")
    model = write_model(folder / "model", head_dim=64, initializer_range=0.08)
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(model)
    rows = write_rows(folder / "rows.jsonl", 3)
    return model, rows, by_definition(model, rows, "weight")


@pytest.mark.parametrize(("kernels", "dtype"), ONE_PROCESS)
def test_first_step_of_one_process_on_this_device(
    tmp_path: Path,
    device: torch.device,
    wide: tuple[Path, Path, tuple[float, dict[str, torch.Tensor]]],
    kernels: str,
    dtype: str,
) -> None:
    """On the GPU where there is one: within twice what transformers alone is off by in that dtype there."""
    model, rows, (loss, gradients) = wide
    setting = {"model": str(model), "stage": 1, "checkpointing": "full", "kernels": kernels, "dtype": dtype}
    setting |= {"recomputed_layers": 1, "denominators": ["weight"], "out": str(tmp_path / "out.pt")}
    run_worker(rows, json.dumps(WEIGHTS.weights()), json.dumps([setting]))
    result = torch.load(tmp_path / "out.pt")["weight"]
    own_loss, own = by_definition(model, rows, "weight", getattr(torch, dtype), device)
    exact = 1e-3 if dtype == "bfloat16" else 1e-5
    assert abs(result["loss"] - loss) <= 2 * abs(own_loss - loss) + exact * loss
    assert result["gradients"].keys() == gradients.keys()
    for name, wanted in gradients.items():
        error, its_own = (float((g[name] - wanted).norm() / wanted.norm()) for g in (result["gradients"], own))
        assert error <= 2 * its_own + 5e-6, f"{name}: {error}, transformers' own is {its_own}"
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in result["gradients"].values()))
    assert result["grad_norm"] == pytest.approx(norm, rel=exact)


def run_worker(*arguments: object) -> None:
    """Start the worker as plain Python does, so that the engine makes its world of one."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(WORKER), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
