"""The law the engine stands on: the first step's loss, gradient norm and every gradient are those of the definition.

The definition is computed in fp64, one document at a time, with transformers alone; the engine in fp32, on two ranks,
in several packs a rank, with unequal weights.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alttrain.engine.config import DataConfig, LossConfig
from alttrain.engine.data.dataset import load_dataset
from alttrain.engine.trace.roles import ROLES

WEIGHTS = LossConfig(understanding=0.5, assessment=3.0, reasoning=1.25, closing=0.0, answer=0.75, end=2.0)
WORKER = Path(__file__).with_name("gradients_worker.py")


def by_definition(model: Path, rows: Path, per: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of L = sum(w * nll) / D, one document at a time in fp64."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    dataset = load_dataset((str(rows),), DataConfig(), WEIGHTS, tokenizer, 400)
    causal_lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64, attn_implementation="eager")
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
    loss = 0.0
    for input_ids, weights in documents:
        logits = causal_lm(input_ids=input_ids, use_cache=False).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, input_ids[0, 1:], reduction="none")
        part = (weights * nll).sum() / denominator
        part.backward()
        loss += part.item()
    return loss, {name: p.grad for name, p in causal_lm.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("stage", "checkpointing", "tied", "kernels"),
    [
        (0, "off", False, "auto"),
        (1, "full", False, "torch"),
        (1, "off", True, "auto"),
        (2, "selective", False, "auto"),
        (2, "full", True, "auto"),
        (3, "full", False, "auto"),
        (3, "off", True, "torch"),
        (3, "full", True, "triton"),
    ],
)
def test_first_step_is_the_definition(
    tmp_path: Path,
    run_ranks: Callable[..., object],
    write_model: Callable[..., Path],
    write_rows: Callable[..., Path],
    stage: int,
    checkpointing: str,
    tied: bool,
    kernels: str,
) -> None:
    model = write_model(tmp_path / "model", tied=tied)
    rows = write_rows(tmp_path / "rows.jsonl")
    # The interpreter is slow: one denominator there.
    denominators = "example" if kernels == "triton" else "weight,token,example"
    settings = (json.dumps(WEIGHTS.weights()), denominators, stage, checkpointing, kernels)
    run_ranks(2, WORKER, model, rows, *settings, tmp_path / "out.pt", interpret=kernels == "triton")
    measured = torch.load(tmp_path / "out.pt")
    assert ",".join(measured) == denominators
    for per, result in measured.items():
        loss, gradients = by_definition(model, rows, per)
        assert result["loss"] == pytest.approx(loss, rel=1e-5)
        assert result["gradients"].keys() == gradients.keys()
        for name, gradient in gradients.items():
            error = float((result["gradients"][name] - gradient).norm() / gradient.norm())
            assert error < 1e-5, f"{per} {name}: {error}"
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        assert result["grad_norm"] == pytest.approx(norm, rel=1e-5)
