"""The engine in a world of one: a step is that of the definition, and what is asked of the model is answered whole.

What several ranks and stages owe to one another is in tests/distributed.
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from held_memory import held_bytes
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from alttrain.engine.config import LossConfig, ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.data.batch import Collator, StepBatch
from alttrain.engine.distributed import zero, zero_settings
from alttrain.engine.distributed.optimizer import FlatAdamW
from alttrain.engine.distributed.world import World
from alttrain.engine.distributed.zero import ZeroEngine
from alttrain.engine.errors import ModelError
from alttrain.engine.model.backbone import open_backbone
from alttrain.engine.model.kernel_choice import KernelPaths, Kernels
from alttrain.engine.trace.roles import ROLES, Example

LOSS = LossConfig(understanding=0.5, assessment=3.0, closing=0.0, end=2.0)
LR = 0.01
OPTIM = OptimConfig(betas=(0.8, 0.9), weight_decay=0.5, max_grad_norm=0.25, moments="float32", gradients="float32")
Engines = Callable[..., ZeroEngine]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Join a world of one for this module; the launcher's variables are given back."""
    before = dict(os.environ)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    with pytest.MonkeyPatch.context() as patched, World.from_environment() as joined:
        # Buckets of 50 million elements take seconds to lay out; a small model has several of these.
        patched.setattr(zero_settings, "BUCKET_ELEMENTS", 10_000)
        # Put back what ZeRO-3 has replaced for good: other tests count products.
        patched.setattr(nn.functional, "linear", nn.functional.linear)
        yield joined
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> Path:
    return write_model(tmp_path_factory.mktemp("zero") / "model")


@pytest.fixture(scope="module")
def build(world: World, model: Path) -> Engines:
    def engine(stage: int, path: Path = model) -> ZeroEngine:
        config = RunConfig(
            model=ModelConfig(path=str(path), dtype="float32", checkpointing="off", kernels="torch"),
            optim=OPTIM,
            zero=ZeroConfig(stage=stage),
        )
        return ZeroEngine(config, open_backbone(config), world)

    return engine


def examples(seed: int) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Example(
            id=str(length),
            input_ids=torch.randint(250, (length,), generator=generator).tolist(),
            span_ids=torch.randint(len(ROLES), (length,), generator=generator).tolist(),
            where="made",
        )
        for length in (9, 1, 6, 12, 2)
    ]


def collated(documents: list[Example], world: World) -> StepBatch:
    packs = [documents[:2], documents[2:]]
    return Collator(LOSS, world.device, backend="torch").collate(packs)


def gradient_by_definition(causal_lm: nn.Module, documents: list[Example]) -> None:
    """Leave the gradient of sum(w * nll) / sum(w) in `causal_lm`, one document at a time."""
    table = torch.tensor(list(LOSS.weights().values()), dtype=torch.float64)
    weights = [table[torch.tensor(example.span_ids[1:], dtype=torch.long)] for example in documents]
    denominator = sum(float(weight.sum()) for weight in weights)
    for example, weight in zip(documents, weights, strict=True):
        input_ids = torch.tensor([example.input_ids])
        logits = causal_lm(input_ids=input_ids, use_cache=False).logits[0, :-1]
        nll = nn.functional.cross_entropy(logits, input_ids[0, 1:], reduction="none")
        torch.autograd.backward((weight * nll).sum() / denominator)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_steps_are_those_of_the_definition(build: Engines, model: Path, world: World, stage: int) -> None:
    """Gradient, clipping, AdamW, its two groups and the learning rate: every weight ends where fp64 puts it."""
    engine = build(stage)
    truth = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64, attn_implementation="eager")
    matrices, vectors = ([p for p in truth.parameters() if (p.dim() > 1) == is_matrix] for is_matrix in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": OPTIM.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        betas=OPTIM.betas,
    )
    start = {name: parameter.detach().clone() for name, parameter in truth.named_parameters()}
    for step, lr in ((1, LR), (2, LR / 4)):
        documents = examples(seed=step)
        gradient_by_definition(truth, documents)
        batch = collated(documents, world)
        for index, micro_batch in enumerate(batch.micro_batches):
            loss_sum, _, _ = engine.loss_sums(micro_batch)
            engine.backward(loss_sum, batch.denominator, is_last=index == 1)
        norm = nn.utils.clip_grad_norm_(truth.parameters(), OPTIM.max_grad_norm)
        assert float(norm) > OPTIM.max_grad_norm, "the law is about a gradient that is clipped"
        assert float(engine.step(lr)) == pytest.approx(float(norm), rel=1e-5)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in truth.named_parameters():
        with engine.gathered(name) as found:
            error = (found.double() - parameter.detach()).norm() / (parameter.detach() - start[name]).norm()
        assert float(error) < 1e-3, f"{name}: {float(error)}"


def test_backward_undoes_the_average_over_the_world(build: Engines, world: World) -> None:
    """ZeRO divides by the number of ranks, so it is handed as many times the gradient; and micro-batches add."""
    engine = build(0)
    (_, micro_batch) = collated(examples(seed=1), world).micro_batches
    embedding = engine._model.get_parameter("causal_lm.model.embed_tokens.weight")
    gradients = []
    for size, denominator, is_last in ((1, 8.0, False), (4, 2.0, True)):
        engine.world = dataclasses.replace(world, size=size)
        loss_sum, _, _ = engine.loss_sums(micro_batch)
        engine.backward(loss_sum, torch.tensor(denominator).double(), is_last=is_last)
        assert embedding.grad is not None
        gradients.append(embedding.grad.clone())
    assert float(gradients[0].norm()) > 0
    torch.testing.assert_close(gradients[1], (1 + 4 * 8 / 2) * gradients[0])


def test_evaluating_keeps_no_graph_and_training_goes_on(build: Engines, world: World) -> None:
    engine = build(0)
    (micro_batch, _) = collated(examples(seed=1), world).micro_batches
    trained = engine.loss_sums(micro_batch)[0]
    with engine.evaluating():
        sums = engine.loss_sums(micro_batch)
        assert not any(tensor.requires_grad for tensor in sums)
        assert not engine._model.training
    assert float(sums[0]) == pytest.approx(float(trained.detach()), rel=1e-6)
    assert engine._model.training
    assert engine.loss_sums(micro_batch)[0].requires_grad


def test_under_stage_3_a_layer_is_gathered_as_one(build: Engines) -> None:
    """Its products read weights outside of the forwards of the modules that own them."""
    from deepspeed.utils import get_z3_leaf_modules

    engine = build(3)
    assert get_z3_leaf_modules(engine._root) == list(engine._model.causal_lm.model.layers)


@pytest.mark.parametrize("stage", [0, 3])
def test_every_parameter_is_whole_under_its_name_in_the_folder(build: Engines, model: Path, stage: int) -> None:
    engine, stored = build(stage), load_file(model / "model.safetensors")
    assert engine.parameter_bytes() == {name: 4 * tensor.numel() for name, tensor in stored.items()}
    for name, tensor in stored.items():
        with engine.gathered(name) as whole:
            assert torch.equal(whole, tensor), name
            assert not whole.requires_grad


def test_a_tied_head_is_counted_once(build: Engines, tmp_path: Path, write_model: Callable[..., Path]) -> None:
    engine = build(1, write_model(tmp_path / "tied", tied=True))
    assert "lm_head.weight" not in engine.parameter_bytes()
    assert "model.embed_tokens.weight" in engine.parameter_bytes()


@pytest.mark.parametrize(
    ("backend", "offload", "moments", "kind"),
    [
        ("triton", "none", "float32", FlatAdamW),
        ("triton", "optimizer", "float32", torch.optim.AdamW),  # the states are on the CPU, where no kernel runs
        ("torch", "none", "float32", torch.optim.AdamW),
        ("torch", "none", "bfloat16", FlatAdamW),  # torch's has moments of the parameter's dtype alone
    ],
)
def test_our_adamw_runs_where_its_kernel_does(
    world: World, backend: Any, offload: Any, moments: Any, kind: type
) -> None:
    layer: Any = nn.Linear(3, 2)
    layer.kernels = Kernels(KernelPaths(adamw=backend))
    optim = dataclasses.replace(OPTIM, moments=moments)
    optimizer = zero._adamw(layer, RunConfig(optim=optim, zero=ZeroConfig(stage=2, offload=offload)), world)
    assert type(optimizer) is kind
    decayed, plain = optimizer.param_groups
    assert (decayed["params"][0] is layer.weight, decayed["weight_decay"]) == (True, 0.5)
    assert (plain["params"][0] is layer.bias, plain["weight_decay"]) == (True, 0.0)
    assert decayed["betas"] == plain["betas"] == OPTIM.betas


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [
        ("float32", torch.nan, r"1 of the 48 numbers of model\.norm\.weight are NaN or infinite\. Fetch"),
        ("bfloat16", -torch.inf, r"1 of the 48 numbers of model\.norm\.weight are NaN or infinite\. Fetch"),
        (
            "bfloat16",
            3.4e38,
            r"model\.norm\.weight holds 3\.4e\+38, which is infinite in bfloat16\. Give --model",
        ),
    ],
)
@pytest.mark.parametrize("stage", [1, 3])
def test_weights_that_are_not_finite_are_refused(
    world: World, model: Path, tmp_path: Path, stage: int, dtype: Any, value: float, reason: str
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][-1] = value
    save_file(tensors, folder / "model.safetensors")
    config = RunConfig(
        model=ModelConfig(path=str(folder), dtype=dtype, checkpointing="off", kernels="torch"),
        optim=OPTIM,
        zero=ZeroConfig(stage=stage),
    )
    with pytest.raises(ModelError, match=reason):
        ZeroEngine(config, open_backbone(config), world)


def test_bytes_held_per_parameter(world: World, model: Path) -> None:
    """Weights 2, master 4, gradients 4, moments 8: what `one_process.py` halves."""
    config = RunConfig(
        model=ModelConfig(path=str(model), checkpointing="off", kernels="torch"), optim=OPTIM, zero=ZeroConfig(stage=1)
    )
    before = held_bytes()
    engine = ZeroEngine(config, open_backbone(config), world)
    batch = collated(examples(seed=1), world)
    engine.backward(engine.loss_sums(batch.micro_batches[0])[0], batch.denominator, is_last=True)
    engine.step(LR)
    held, numel = held_bytes() - before, sum(parameter.numel() for parameter in engine._model.parameters())
    assert 18 * numel <= held < 18.25 * numel, held / numel
