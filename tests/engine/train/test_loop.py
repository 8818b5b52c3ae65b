"""One step of the loop with an engine that only remembers, and what a run says before its first step."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from alttrain.engine.config import DataConfig, RunConfig, ZeroConfig
from alttrain.engine.distributed.world import World
from alttrain.engine.trace.roles import ROLES, Example
from alttrain.engine.train import loop
from alttrain.engine.train.preparation import Preparation

ONE = World(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
CONFIG = RunConfig(data=DataConfig(train=("t.jsonl",), eval=("e.jsonl",)), output="runs/it", zero=ZeroConfig(stage=3))


class Engine:
    """Remembers in which order it was asked for what."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events

    def loss_sums(self, micro_batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return fp32 sums that tell the micro-batches apart, the loss with a graph behind it."""
        self.events.append(("forward", micro_batch))
        roles = torch.arange(len(ROLES))
        return torch.tensor(10.0**micro_batch, requires_grad=True), roles + micro_batch, roles * micro_batch

    def backward(self, loss_sum: Tensor, denominator: Tensor, *, is_last: bool) -> None:
        assert loss_sum.requires_grad
        self.events.append(("backward", loss_sum.item(), denominator.item(), is_last))

    def step(self, lr: float) -> Tensor:
        self.events.append(("step", lr))
        return torch.tensor(0.5).double()


def take_a_step(monkeypatch: pytest.MonkeyPatch, num_micro_batches: int) -> tuple[list[Any], Any]:
    """Take a step in a world of three ranks that all hold the same; return what happened and the step's numbers."""
    events: list[Any] = []

    def sum_over_ranks(world: World, tensor: Tensor) -> Tensor:
        events.append(("sum", tensor.numel()))
        return world.size * tensor

    monkeypatch.setattr(World, "sum", sum_over_ranks)
    batch: Any = SimpleNamespace(
        micro_batches=tuple(range(1, num_micro_batches + 1)),
        denominator=torch.tensor(4.0).double(),
        weight_sum=torch.tensor(6.0).double(),
    )
    engine: Any = Engine(events)
    return events, loop.train_step(engine, batch, dataclasses.replace(ONE, size=3), lr=0.25)


def test_the_denominator_is_the_worlds_before_the_first_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    events, _ = take_a_step(monkeypatch, 3)
    assert events == [
        ("sum", 1),
        ("forward", 1), ("backward", 10.0, 12.0, False),
        ("forward", 2), ("backward", 100.0, 12.0, False),
        ("forward", 3), ("backward", 1000.0, 12.0, True),
        ("step", 0.25),
        ("sum", 2 + 2 * len(ROLES)),
    ]  # fmt: skip


def test_a_single_micro_batch_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    events, _ = take_a_step(monkeypatch, 1)
    assert events[1:3] == [("forward", 1), ("backward", 10.0, 12.0, True)]


def test_the_numbers_of_a_step_are_sums_over_ranks_and_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stats = take_a_step(monkeypatch, 3)
    roles = torch.arange(len(ROLES)).double()
    assert float(stats.loss) == 3 * 1110.0 / 12.0
    assert torch.equal(stats.nll_sums, 3 * (3 * roles + 6))
    assert torch.equal(stats.token_counts, 3 * 6 * roles)
    assert float(stats.weight_sum) == 18.0
    assert float(stats.grad_norm) == 0.5
    # In fp64 and without a graph, which would keep the step's activations.
    numbers = (stats.loss, stats.nll_sums, stats.token_counts, stats.weight_sum, stats.grad_norm)
    assert {tensor.dtype for tensor in numbers} == {torch.float64}
    assert not any(tensor.requires_grad for tensor in numbers)


@pytest.mark.parametrize(
    ("every", "num_steps", "due"),
    [(3, 10, [3, 6, 9, 10]), (5, 10, [5, 10]), (0, 10, [10]), (1, 3, [1, 2, 3]), (20, 10, [10])],
)
def test_the_last_step_is_always_due(every: int, num_steps: int, due: list[int]) -> None:
    assert [step for step in range(1, num_steps + 1) if loop._is_due(every, step, num_steps)] == due


class Report:
    """A data set's account."""

    def __init__(self, text: str) -> None:
        self.text = text

    def summary(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, Any]:
        return {"summary": self.text}


def dataset(text: str, num_examples: int) -> Any:
    examples = [Example(str(index), [index], [0], f"{text}:{index}") for index in range(num_examples)]
    return SimpleNamespace(examples=examples, report=Report(text))


TRAIN, HELD_OUT, NONE = dataset("9 of 10 rows", 9), dataset("3 of 3 rows", 3), dataset("0 of 0 rows", 0)
PLAN: Any = SimpleNamespace(num_steps=40)


def announced(capsys: pytest.CaptureFixture[str], *, resume: bool = False, done: int = 0, eval_set: Any = NONE) -> str:
    config = dataclasses.replace(CONFIG, resume=resume)
    backbone: Any = SimpleNamespace(notes=("a note on the model",))
    run = Preparation(backbone, TRAIN, eval_set, PLAN, {})
    engine: Any = SimpleNamespace(layout="on 2 ranks, ZeRO stage 3", kernels=SimpleNamespace(reason="PyTorch, lean"))
    loop._announce(config, run, engine, done, ["--zero.stage 2 -> 3: a change", "on disk: much"])
    output, errors = capsys.readouterr()
    assert output == "", "standard output is for programs"
    return errors


def test_what_was_read_and_what_will_be_done_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    rows, plan = (
        "train: 9 of 10 rows\n",
        "40 steps on 2 ranks, ZeRO stage 3\n--zero.stage 2 -> 3: a change\non disk: much\na note on the model\n"
        "kernels: PyTorch, lean\n",
    )
    assert announced(capsys) == rows + plan
    shared = "held out: 3 rows have the prompt of a row that is trained, and say nothing of new ones: " + (
        "3 of 3 rows:0, 3 of 3 rows:1, 3 of 3 rows:2\n"
    )
    assert announced(capsys, eval_set=HELD_OUT) == f"{rows}held out: 3 of 3 rows\n{shared}{plan}"
    assert announced(capsys, resume=True, done=20) == f"{rows}going on after step 20\n{plan}"
    assert announced(capsys, resume=True) == f"{rows}no checkpoint in runs/it: starting\n{plan}"


def test_a_warm_up_that_never_ends_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLAN, "num_steps", 4)
    assert "the warm-up of 5 steps is longer than the run, whose learning rate never reaches" in announced(capsys)
    monkeypatch.setattr(PLAN, "num_steps", 5)
    assert "warm-up" not in announced(capsys)
