"""What a run asks of its model and optimizer, whoever steps them: DeepSpeed ZeRO, or this project in one process.

The rest of the code uses an `Engine`: loss_sums, backward, step; evaluating; gathered; save and load. `choice.py` says
which of the two trains a run.
"""

import abc
import contextlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alttrain.engine.config import RunConfig
from alttrain.engine.data.batch import PackedBatch
from alttrain.engine.distributed.finite import FiniteCheck
from alttrain.engine.distributed.world import World
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.model.kernel_choice import Kernels
from alttrain.engine.model.packed_lm import PackedCausalLM, build_model
from alttrain.engine.model.weights import WeightSource


class Engine(abc.ABC):
    """A model and its optimizer; between two steps every parameter can be read, and the whole state saved."""

    world: World
    layout: str
    """A phrase for the user: how weights and optimizer states are held."""

    @property
    @abc.abstractmethod
    def _model(self) -> PackedCausalLM: ...

    @property
    @abc.abstractmethod
    def _root(self) -> nn.Module:
        """The module whose forward is that of the model: the model itself, or what stands around it."""

    @abc.abstractmethod
    def backward(self, loss_sum: Tensor, denominator: Tensor, *, is_last: bool) -> None:
        """Add the gradient of loss_sum / denominator to the gradients of this step.

        Args:
            loss_sum: this pack's weighted sum of nll, ().
            denominator: the loss's denominator, summed over ranks and micro-batches, ().
            is_last: whether this is the step's last micro-batch, after which gradients are reduced.
        """

    @abc.abstractmethod
    def step(self, lr: float) -> Tensor:
        """Clip, apply AdamW at rate `lr`, clear the gradients; return the gradient norm before clipping, ()."""

    @abc.abstractmethod
    def save(self, folder: Path, name: str) -> None:
        """Write the whole state to folder/name, file by file; `checkpoint.py` makes that atomic. Collective."""

    @abc.abstractmethod
    def load(self, folder: Path, name: str) -> None:
        """Restore the whole state from folder/name. Collective."""

    @abc.abstractmethod
    def gathered(self, name: str) -> AbstractContextManager[Tensor]:
        """In this context, the parameter `name` is whole on every rank; collective under ZeRO-3."""

    @property
    def kernels(self) -> Kernels:
        """Which kernels the model runs."""
        return self._model.kernels

    def loss_sums(self, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Run the forward over one pack; return loss sum (), and nll sum and token count of each role (num_roles,)."""
        sums: tuple[Tensor, Tensor, Tensor] = self._root(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            cu_seqlens=batch.cu_seqlens,
            max_seqlen=batch.max_seqlen,
            labels=batch.labels,
            loss_weights=batch.loss_weights,
            label_span_ids=batch.label_span_ids,
            rows=batch.rows,
        )
        return sums

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """In this context, forwards build no graph and nothing is recomputed."""
        self._root.eval()
        with torch.no_grad():
            yield
        self._root.train()

    def parameter_bytes(self) -> dict[str, int]:
        """Return the unpartitioned size of every parameter by its name in a model folder; a tied head is left out."""
        return {
            name.removeprefix("causal_lm."): math.prod(whole_shape(p)) * p.element_size()
            for name, p in self._model.named_parameters()
        }

    def _parameter(self, name: str) -> nn.Parameter:
        """Return a parameter by its name in a model folder."""
        return self._model.get_parameter(f"causal_lm.{name}")


def load_model(
    config: RunConfig, backbone: Backbone, world: World, construction: AbstractContextManager[Any]
) -> PackedCausalLM:
    """Build the model inside `construction` and fill in its weights; collective over the world.

    Raises:
        ModelError: a weight that was read is NaN or infinite; on every rank.
    """
    dtype = getattr(torch, config.model.dtype)
    model = build_model(config.model, backbone, world.device, construction)
    check = FiniteCheck(world)
    _fill(model, backbone.weights, world.rank, dtype, check)
    unfit = check.found()
    if unfit:
        raise backbone.weights.not_finite(unfit, dtype)
    assert model.causal_lm.model.rotary_emb.inv_freq.dtype == torch.float32
    return model


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's two groups: matrices, which decay, and vectors (norms and biases), which do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if len(whole_shape(p)) >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if len(whole_shape(p)) < 2], "weight_decay": 0.0},
    ]


def whole_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """Return a parameter's unpartitioned shape; under ZeRO-3 `shape` is that of an empty tensor."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


@torch.no_grad()
def _fill(model: nn.Module, source: WeightSource, rank: int, dtype: torch.dtype, check: FiniteCheck) -> None:
    """Set every parameter from `source`, one parameter at a time, and under ZeRO-3 only this rank's partition of it.

    What was set, in the dtype that is trained, is handed to `check`.
    """
    for full_name, parameter in model.named_parameters():
        name = full_name.removeprefix("causal_lm.")
        assert parameter.dtype == dtype, (name, parameter.dtype)
        if not hasattr(parameter, "ds_tensor"):
            values = source.read(name, tuple(parameter.shape), 0, parameter.numel())
            parameter.view(-1).copy_(values)
            check.add(name, parameter)
            continue
        shape, numel = whole_shape(parameter), math.prod(whole_shape(parameter))
        partition = parameter.ds_tensor
        assert partition.dim() == 1, partition.shape
        start = min(rank * partition.numel(), numel)
        stop = min(start + partition.numel(), numel)
        partition[: stop - start].copy_(source.read(name, shape, start, stop))
        partition[stop - start :].zero_()  # the last rank's partition is padded
        check.add(name, partition)
