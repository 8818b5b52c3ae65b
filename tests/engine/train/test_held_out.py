"""Held-out rows against a computation by hand, with a model whose nll of a token is a function of that token alone."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from alttrain.engine.config import BatchConfig, LossConfig, RunConfig
from alttrain.engine.data.batch import PackedBatch
from alttrain.engine.data.work import WorkModel
from alttrain.engine.distributed.world import World
from alttrain.engine.files import read_lines
from alttrain.engine.model.kernel_choice import Kernels
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.trace.roles import ROLES, Example
from alttrain.engine.train import held_out

WORK = WorkModel(1.0, 0.0)
LOSS = LossConfig(understanding=0.5, assessment=3.0, reasoning=0.0, answer=1.0)
RUN = RunConfig(loss=LOSS, batch=BatchConfig(pack_tokens=12))
WRITTEN = ("understanding", "assessment", "reasoning", "answer")


def nll(token: int) -> float:
    return 0.25 + token / 16


def example(name: str, *roles: str) -> Example:
    """Return an example whose tokens are all different from one another and from those of other examples."""
    first = 20 * int(name)
    return Example(name, [first + place for place in range(len(roles))], [ROLES.index(role) for role in roles], "made")


DATASET: Any = SimpleNamespace(
    examples=[
        example("0", "prompt", "prompt", *WRITTEN, "end"),
        example("1", "prompt", "opening", "assessment", "assessment", "answer"),
        example("2", "prompt", "understanding", "answer", "answer", "answer"),
        example("3", "prompt", "reasoning"),
        example("4", "prompt", "opening", *WRITTEN),
    ]
)


class Model:
    """The part of an engine that an evaluation asks."""

    kernels = Kernels()

    def __init__(self) -> None:
        self.is_evaluating = False
        self.num_forwards = 0

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        self.is_evaluating = True
        yield
        self.is_evaluating = False

    def loss_sums(self, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        assert self.is_evaluating
        self.num_forwards += 1
        values = torch.tensor([nll(max(int(label), 0)) for label in batch.labels])
        nll_sums, token_counts = torch.zeros(len(ROLES)), torch.zeros(len(ROLES))
        for row in batch.rows:
            nll_sums[int(batch.label_span_ids[row])] += values[row]
            token_counts[int(batch.label_span_ids[row])] += 1
        return (batch.loss_weights * values).sum(), nll_sums, token_counts


def by_hand(per: str) -> tuple[float, dict[str, float]]:
    """Return the loss over all rows at once, and the mean nll of every role that the model writes."""
    weights = LOSS.weights()
    total, denominator, of_role = 0.0, 0.0, {role: [] for role in ROLES}  # type: ignore[var-annotated]
    for row in DATASET.examples:
        labels = [(token, ROLES[span]) for token, span in list(zip(row.input_ids, row.span_ids, strict=True))[1:]]
        sum_of_weights = sum(weights[role] for _, role in labels)
        scale = 1 / sum_of_weights if per == "example" and sum_of_weights else 1.0
        total += scale * sum(weights[role] * nll(token) for token, role in labels)
        denominator += {
            "weight": sum_of_weights,
            "token": sum(weights[role] > 0 for _, role in labels),
            "example": sum_of_weights > 0,
        }[per]
        for token, role in labels:
            of_role[role].append(nll(token))
    means = {role: sum(values) / len(values) for role, values in of_role.items() if values}
    return total / denominator, {role: mean for role, mean in means.items() if role not in ("prompt", "opening")}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def evaluate(folder: RunFolder, world: World, loss: LossConfig = LOSS, step: int = 5) -> Model:
    model: Any = Model()
    config = RunConfig(loss=loss, batch=RUN.batch)
    held_out.evaluate(model, DATASET, WORK, config, folder, world, step=step)
    return model  # type: ignore[no-any-return]


def world_of(size: int, rank: int = 0) -> World:
    return World(rank=rank, local_rank=rank, size=size, device=torch.device("cpu"))


@pytest.mark.parametrize("at_once", [1, 2, 512])
@pytest.mark.parametrize("per", ["weight", "token", "example"])
def test_loss_and_nll_are_those_of_all_rows_at_once(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, per: Any, at_once: int
) -> None:
    """However few are packed at a time: a mean of means would weigh short groups too much."""
    monkeypatch.setattr(held_out, "EXAMPLES_AT_ONCE", at_once)
    model = evaluate(folder, world_of(1), LossConfig(**{**LOSS.weights(), "per": per}))
    (line,) = read_lines(folder.evaluations)
    loss, means = by_hand(per)
    assert list(line) == ["step", "loss", "nll"]
    assert line["step"] == 5
    assert line["loss"] == pytest.approx(loss, rel=1e-6)
    assert line["nll"] == pytest.approx(means, rel=1e-6)
    assert model.num_forwards >= 3
    assert not model.is_evaluating


def test_a_role_without_weight_is_measured_and_a_prompt_only_with_it(folder: RunFolder) -> None:
    evaluate(folder, world_of(1))
    evaluate(folder, world_of(1), LossConfig(prompt=1.0, assessment=0.0))
    plain, with_prompt = (line["nll"] for line in read_lines(folder.evaluations))
    assert plain.keys() == {*WRITTEN, "end"}
    assert with_prompt.keys() == {*WRITTEN, "end", "prompt"}
    assert plain["assessment"] == with_prompt["assessment"], "a mean nll is no matter of weights"


def test_ranks_share_the_rows_and_the_first_writes_the_line_of_one(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(folder, world_of(1))
    partial: list[Tensor] = []

    def add(world: World, sums: Tensor) -> Tensor:
        """Stand for the collective: the second rank comes first, and the first has the sum of both."""
        partial.append(sums.clone())
        return sums + partial[0] if world.is_first else sums

    monkeypatch.setattr(World, "sum", add)
    forwards = [evaluate(folder, world_of(2, rank)).num_forwards for rank in (1, 0)]
    assert forwards[0] == forwards[1], "every rank runs as many forwards, or ZeRO-3 waits for ever"
    assert len(partial) == 2
    assert all(float(sums[1]) > 0 for sums in partial)
    one, two = read_lines(folder.evaluations)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert two["nll"] == pytest.approx(one["nll"], rel=1e-6)
