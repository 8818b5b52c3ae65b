"""Training in one process: the definition's steps, the bytes that are held, and an exact master in two halves."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from held_memory import held_bytes
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from alttrain.engine.config import LossConfig, ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.data.batch import Collator, StepBatch
from alttrain.engine.distributed.choice import build_engine, settled
from alttrain.engine.distributed.engine import Engine
from alttrain.engine.distributed.one_process import OneProcessEngine
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import CheckpointError
from alttrain.engine.model.backbone import open_backbone
from alttrain.engine.trace.roles import ROLES, Example
from alttrain.engine.train.loop import train_step
from alttrain.kernels.adamw import adamw_step, join_master, split_master

LOSS = LossConfig(understanding=0.5, assessment=3.0, closing=0.0, end=2.0)
OPTIM = OptimConfig(lr=0.01, betas=(0.8, 0.9), weight_decay=0.5, max_grad_norm=0.25)
PLAIN: dict[str, Any] = {"moments": "float32", "gradients": "float32"}
EIGHT: dict[str, Any] = {"master": "bfloat16"}
Engines = Callable[..., OneProcessEngine]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Join a world of one for this module; the launcher's variables are given back."""
    before = dict(os.environ)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    with World.from_environment() as joined:
        yield joined
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> dict[bool, Path]:
    """Model folders by whether their embeddings are tied."""
    folder = tmp_path_factory.mktemp("models")
    return {tied: write_model(folder / f"tied-{tied}", tied=tied) for tied in (False, True)}


def configure(
    model: Path,
    dtype: Any = "bfloat16",
    *,
    checkpointing: Any = "off",
    layers: int = 0,
    fp8: Any = "off",
    seed: int = 0,
    **optim: Any,
) -> Any:
    config = RunConfig(
        model=ModelConfig(path=str(model), dtype=dtype, checkpointing=checkpointing, recomputed_layers=layers, fp8=fp8),
        optim=dataclasses.replace(OPTIM, **optim),
        zero=ZeroConfig(stage=1),
        seed=seed,
    )
    return settled(config, 1)[0]


@pytest.fixture(scope="module")
def build(world: World, models: dict[bool, Path]) -> Engines:
    def engine(dtype: Any = "bfloat16", *, tied: bool = False, **changes: Any) -> OneProcessEngine:
        config = configure(models[tied], dtype, **changes)
        built = build_engine(config, open_backbone(config), world)
        assert isinstance(built, OneProcessEngine)
        return built

    return engine


def examples(seed: int, lengths: tuple[int, ...] = (9, 1, 6, 12, 2)) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Example(
            id=str(length),
            input_ids=torch.randint(250, (length,), generator=generator).tolist(),
            span_ids=torch.randint(len(ROLES), (length,), generator=generator).tolist(),
            where="made",
        )
        for length in lengths
    ]


def collated(world: World, seed: int, packs: int = 2) -> StepBatch:
    documents = examples(seed)
    split = [documents[:2], documents[2:]] if packs == 2 else [documents]
    return Collator(LOSS, world.device, backend="torch").collate(split)


def leave_gradients(engine: Engine, batch: StepBatch) -> None:
    for micro_batch in batch.micro_batches:
        engine.backward(engine.loss_sums(micro_batch)[0], batch.denominator, is_last=micro_batch is None)


def everything(engine: OneProcessEngine) -> dict[str, Tensor]:
    """Return a copy of all that decides how training goes on."""
    tensors = engine._tensors()
    return {f"{kind} {name}": t.clone() for kind, named in tensors.items() for name, t in named.items()}


@pytest.mark.parametrize("tied", [False, True])
def test_two_steps_are_those_of_the_definition(build: Engines, models: Any, world: World, tied: bool) -> None:
    """Gradient, clipping, AdamW, its two groups and the learning rate: every weight ends where fp64 puts it."""
    engine = build("float32", tied=tied)
    truth = AutoModelForCausalLM.from_pretrained(models[tied], dtype=torch.float64, attn_implementation="eager")
    matrices, vectors = ([p for p in truth.parameters() if (p.dim() > 1) == is_matrix] for is_matrix in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": OPTIM.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        betas=OPTIM.betas,
    )
    start = {name: parameter.detach().clone() for name, parameter in truth.named_parameters()}
    for step, lr in ((1, OPTIM.lr), (2, OPTIM.lr / 4)):
        gradient_by_definition(truth, examples(step))
        leave_gradients(engine, collated(world, step))
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


def test_gradients_do_not_depend_on_what_is_recomputed(build: Engines, world: World) -> None:
    """To the bit, over several micro-batches too; where outputs are kept, gate's and up's gradients lie apart, and the
    gradient of their input is two products and not one."""
    found = []
    for checkpointing, layers in (("off", 0), ("full", 1), ("full", 0), ("selective", 1)):
        engine = build(checkpointing=checkpointing, layers=layers)
        leave_gradients(engine, collated(world, 1, packs=2))
        found.append([parameter.grad for parameter in engine._model.parameters()])
    off, *whole, selective = found
    for others in whole:
        assert all(torch.equal(a, b) for a, b in zip(off, others, strict=True))  # type: ignore[arg-type]
    for a, b in zip(off, selective, strict=True):
        assert a is not None
        assert b is not None
        assert (a.float() - b.float()).norm() <= 0.02 * a.float().norm()


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


@pytest.mark.parametrize(("checkpointing", "layers"), [("off", 0), ("selective", 0), ("full", 0), ("full", 1)])
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_are_autograds_to_the_bit(
    build: Engines, world: World, checkpointing: str, layers: int, tied: bool
) -> None:
    """With one micro-batch nothing is added but a tied embedding's share, so that nothing is rounded twice."""
    settings: dict[str, Any] = {"checkpointing": checkpointing, "layers": layers, "max_grad_norm": 0.0}
    direct, usual = (build(tied=tied, **settings) for _ in range(2))
    for module in usual._model.modules():
        if hasattr(module, "weight_gradient"):
            if type(module).__name__ == "DirectLinear":
                module.__class__ = nn.Linear  # type: ignore[assignment]
            module.weight_gradient = None  # type: ignore[assignment]
    torch._foreach_zero_([flat.gradients for flat in usual._flat])
    for engine in (direct, usual):
        leave_gradients(engine, collated(world, 1, packs=1))
    for (name, mine), other in zip(direct._model.named_parameters(), usual._model.parameters(), strict=True):
        assert mine.grad is not None
        assert mine.grad.count_nonzero() > 0, name
        assert torch.equal(mine.grad, other.grad), name  # type: ignore[arg-type]


def test_the_master_in_two_halves_is_a_float32_master_to_the_bit(build: Engines, world: World) -> None:
    engine = build(moments="float32")
    flats = [(flat, flat.weights.float()) for flat in engine._flat]
    moments = [[torch.zeros_like(master) for _ in range(2)] for _, master in flats]
    for step in range(1, 9):
        leave_gradients(engine, collated(world, step))
        gradients = [flat.gradients.clone() for flat, _ in flats]
        norm = engine.step(OPTIM.lr / step)
        clip = (OPTIM.max_grad_norm / (norm + 1e-6)).clamp(max=1.0).float()
        for (_, master), gradient, both, decay in zip(flats, gradients, moments, (0.5, 0.0), strict=True):
            numbers: dict[str, Any] = {"step": step, "lr": OPTIM.lr / step, "betas": OPTIM.betas}
            adamw_step(master, gradient, *both, **numbers, weight_decay=decay, clip=clip)
    for flat, master in flats:
        low_bits = engine.optimizer.state[flat.weights]["low_bits"]
        assert low_bits.count_nonzero() > 0
        assert torch.equal(join_master(flat.weights, low_bits), master)
        assert torch.equal(flat.weights, split_master(master)[0])


@pytest.mark.parametrize("max_grad_norm", [0.0, 1e6])
def test_a_gradient_within_the_limit_is_not_touched(build: Engines, world: World, max_grad_norm: float) -> None:
    free, limited = build(max_grad_norm=0.0), build(max_grad_norm=max_grad_norm)
    for engine in (free, limited):
        leave_gradients(engine, collated(world, 1))
        engine.step(OPTIM.lr)
    for name, value in everything(free).items():
        assert torch.equal(value, everything(limited)[name]), name


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_gradient_that_is_not_finite_is_seen(build: Engines, world: World, value: float) -> None:
    """The norm that the step returns says so, and the run ends with the line of metrics that would hold it."""
    engine = build()
    batch = collated(world, 1)
    engine._flat[0].gradients[17] = 0.0
    leave_gradients(engine, batch)
    engine._flat[0].gradients[17] = value
    assert not engine.step(OPTIM.lr).isfinite()


LAYOUTS: list[tuple[Any, dict[str, Any], int]] = [
    ("bfloat16", {}, 10),
    ("bfloat16", EIGHT, 8),
    ("bfloat16", {"moments": "float32"}, 14),
    ("bfloat16", {"gradients": "float32"}, 12),
    ("bfloat16", PLAIN, 16),
    ("float32", {}, 16),
    ("float32", {"moments": "bfloat16"}, 12),
]


@pytest.mark.parametrize(("dtype", "optim", "wanted"), LAYOUTS)
def test_bytes_held_per_parameter(build: Engines, world: World, dtype: Any, optim: Any, wanted: int) -> None:
    """All tensors alive are counted, so that a clone anywhere shows; after construction as between steps."""
    before = held_bytes()
    engine = build(dtype, **optim)
    after_start = held_bytes() - before
    train_step(engine, collated(world, 1), world, 1e-3)
    between_steps = held_bytes() - before
    numel = sum(parameter.numel() for parameter in engine._model.parameters())
    for held in (after_start, between_steps):
        assert wanted * numel <= held < (wanted + 0.25) * numel, held / numel
    assert engine.layout == f"in one process, {wanted} bytes a parameter"


@pytest.mark.parametrize("optim", [{}, EIGHT, PLAIN, {"fp8": "rowwise"}, {"fp8": "tensorwise"}])
def test_saved_and_loaded_goes_on_to_the_bit(build: Engines, world: World, tmp_path: Path, optim: Any) -> None:
    def steps(engine: OneProcessEngine, first: int, last: int) -> None:
        for step in range(first, last):
            train_step(engine, collated(world, step), world, 1e-2)

    whole, begun, resumed = build(**optim), build(**optim), build(**optim)
    steps(whole, 1, 5)
    steps(begun, 1, 3)
    (tmp_path / "step-2").mkdir()
    begun.save(tmp_path, "step-2")
    steps(resumed, 7, 8)  # what was there before is replaced, the gradients too
    resumed.load(tmp_path, "step-2")
    steps(resumed, 3, 5)
    wanted, found = everything(whole), everything(resumed)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert torch.equal(value, found[name]), name


def test_a_checkpoint_of_deepspeeds_is_refused(build: Engines, tmp_path: Path) -> None:
    (tmp_path / "step-2").mkdir()
    with pytest.raises(CheckpointError, match=r"step-2: has no state\.pt: an earlier version of alttrain wrote it"):
        build().load(tmp_path, "step-2")


def test_the_seed_decides_how_weights_are_rounded(build: Engines, world: World) -> None:
    ends = []
    for seed in (0, 0, 1):
        engine = build(seed=seed, **EIGHT)
        train_step(engine, collated(world, 1), world, 1e-3)
        ends.append(everything(engine))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert not all(torch.equal(value, ends[2][name]) for name, value in ends[0].items())


def test_every_parameter_is_whole_under_its_name_in_the_folder(build: Engines, models: dict[bool, Path]) -> None:
    from safetensors.torch import load_file

    engine, stored = build("float32"), load_file(models[False] / "model.safetensors")
    assert engine.parameter_bytes() == {name: 4 * tensor.numel() for name, tensor in stored.items()}
    for name, tensor in stored.items():
        with engine.gathered(name) as whole:
            assert torch.equal(whole, tensor), name
            assert not whole.requires_grad


def test_evaluating_keeps_no_graph_and_training_goes_on(build: Engines, world: World) -> None:
    engine = build("float32")
    (micro_batch, _) = collated(world, 1).micro_batches
    trained = engine.loss_sums(micro_batch)[0]
    with engine.evaluating():
        sums = engine.loss_sums(micro_batch)
        assert not any(tensor.requires_grad for tensor in sums)
        assert not engine._model.training
    assert float(sums[0]) == pytest.approx(float(trained.detach()), rel=1e-6)
    assert engine.loss_sums(micro_batch)[0].requires_grad
