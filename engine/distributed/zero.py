"""DeepSpeed ZeRO around the model; all of its pitfalls are handled here and in `zero_settings.py`.

The rest of the code uses a `ZeroEngine`: loss_sums, backward, step; evaluating; gathered; save and load.
Within a step only DeepSpeed waits for the device: at the end of each backward with overlapped communication, and to
check the gradient norm.
Private attributes of deepspeed used here: `ds_tensor` and `ds_shape` of a partitioned parameter, as they are in the
version in constraints.txt. `zero_settings.py` imports and configures deepspeed.
"""

import contextlib
import io
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # loaded now: deepspeed.zero.Init would import it while constructors are patched, which fails
from torch import Tensor, nn

from alttrain.engine.config import RunConfig
from alttrain.engine.data.batch import PackedBatch
from alttrain.engine.distributed.finite import FiniteCheck
from alttrain.engine.distributed.kernel_agreement import agreed_kernels
from alttrain.engine.distributed.optimizer import FlatAdamW
from alttrain.engine.distributed.world import World
from alttrain.engine.distributed.zero_settings import deepspeed_settings, import_deepspeed, limit_waiting
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.model.kernel_choice import Kernels
from alttrain.engine.model.packed_lm import PackedCausalLM, build_model
from alttrain.engine.model.weights import WeightSource


class ZeroEngine:
    """The model and its optimizer, partitioned over the world as --zero.stage says."""

    def __init__(self, config: RunConfig, backbone: Backbone, world: World) -> None:
        """Build the model, fill in its weights and hand it to DeepSpeed; collective over the world.

        Raises:
            ModelError: a weight that was read is NaN or infinite; on every rank.
        """
        deepspeed = import_deepspeed(world)
        settings = deepspeed_settings(config, backbone)
        construction: AbstractContextManager[Any] = contextlib.nullcontext()
        if config.zero.stage == 3:
            # The dtype comes from `settings`: given one here, DeepSpeed takes bfloat16 wherever float16 is unsupported.
            construction = deepspeed.zero.Init(config_dict_or_path=settings)
        kernels = agreed_kernels(config.model, backbone, world)  # before the model, whose memory the trials may need
        model = build_model(config.model, backbone, world.device, construction, kernels)
        check = FiniteCheck(world)
        _fill(model, backbone.weights, world.rank, getattr(torch, config.model.dtype), check)
        unfit = check.found()
        if unfit:
            raise backbone.weights.not_finite(unfit, getattr(torch, config.model.dtype))
        self.world = world
        self.stage = config.zero.stage
        optimizer = _adamw(model, config)
        with contextlib.redirect_stdout(io.StringIO()):  # stage 1 prints pages of memory figures
            self.deepspeed_engine, *_ = deepspeed.initialize(
                model=model, optimizer=optimizer, config=settings, dist_init_required=False
            )
        limit_waiting(self.deepspeed_engine)
        self._gathering = deepspeed.zero.GatheredParameters
        assert self._model.causal_lm.model.rotary_emb.inv_freq.dtype == torch.float32

    @property
    def kernels(self) -> Kernels:
        """Which kernels the model runs."""
        return self._model.kernels

    @property
    def _model(self) -> PackedCausalLM:
        model = self.deepspeed_engine.module
        assert isinstance(model, PackedCausalLM)
        return model

    def loss_sums(self, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Run the forward over one pack; return loss sum (), and nll sum and token count of each role (num_roles,)."""
        sums: tuple[Tensor, Tensor, Tensor] = self.deepspeed_engine(
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

    def backward(self, loss_sum: Tensor, denominator: Tensor, *, is_last: bool) -> None:
        """Add the gradient of loss_sum / denominator to the gradients of this step.

        ZeRO averages gradients over the world and DeepSpeed would divide by a number of micro-batches: the world size
        here and `scale_wrt_gas=False` cancel both, which leaves the plain sum over ranks and micro-batches.

        Args:
            loss_sum: this pack's weighted sum of nll, ().
            denominator: the loss's denominator, summed over ranks and micro-batches, ().
            is_last: whether this is the step's last micro-batch, after which gradients are reduced.
        """
        self.deepspeed_engine.set_gradient_accumulation_boundary(is_last)
        self.deepspeed_engine.backward(loss_sum * (self.world.size / denominator).float(), scale_wrt_gas=False)

    def step(self, lr: float) -> Tensor:
        """Clip, apply AdamW at rate `lr`, clear the gradients; return the gradient norm before clipping, ()."""
        for group in self.deepspeed_engine.optimizer.param_groups:
            group["lr"] = lr
        norm: Any = None
        if self.stage == 0:  # at stage 0 DeepSpeed keeps no norm
            norm = nn.utils.get_total_norm([p.grad for p in self._model.parameters() if p.grad is not None])
        self.deepspeed_engine.step()
        if norm is None:
            norm = self.deepspeed_engine.get_global_grad_norm()
        return torch.as_tensor(norm, dtype=torch.float64, device=self.world.device)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """In this context, forwards build no graph and nothing is recomputed."""
        self.deepspeed_engine.eval()
        with torch.no_grad():
            yield
        self.deepspeed_engine.train()

    def save(self, folder: Path, name: str) -> None:
        """Write the whole state to folder/name, file by file; `checkpoint.py` makes that atomic. Collective."""
        self.deepspeed_engine.save_checkpoint(str(folder), tag=name, save_latest=False)

    def load(self, folder: Path, name: str) -> None:
        """Restore the whole state from folder/name. Collective."""
        loaded, _ = self.deepspeed_engine.load_checkpoint(str(folder), tag=name)
        assert loaded is not None, folder / name

    def parameter_bytes(self) -> dict[str, int]:
        """Return the unpartitioned size of every parameter by its name in a model folder; a tied head is left out."""
        return {
            name.removeprefix("causal_lm."): math.prod(_whole_shape(p)) * p.element_size()
            for name, p in self._model.named_parameters()
        }

    @contextlib.contextmanager
    def gathered(self, name: str) -> Iterator[Tensor]:
        """In this context, the parameter `name` is whole on every rank; collective under ZeRO-3."""
        parameter = self._model.get_parameter(f"causal_lm.{name}")
        with self._gathering([parameter], enabled=self.stage == 3):
            yield parameter.detach()


def _adamw(model: PackedCausalLM, config: RunConfig) -> torch.optim.Optimizer:
    def is_matrix(parameter: nn.Parameter) -> bool:
        return len(_whole_shape(parameter)) >= 2

    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if is_matrix(p)], "weight_decay": config.optim.weight_decay},
        {"params": [p for p in parameters if not is_matrix(p)], "weight_decay": 0.0},
    ]
    if model.kernels.paths.adamw == "triton" and config.zero.offload == "none":
        return FlatAdamW(groups, lr=config.optim.lr, betas=config.optim.betas, backend="triton")
    return torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas, fused=True)


def _whole_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """Return a parameter's unpartitioned shape; under ZeRO-3 `shape` is that of an empty tensor."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


@torch.no_grad()
def _fill(model: PackedCausalLM, source: WeightSource, rank: int, dtype: torch.dtype, check: FiniteCheck) -> None:
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
        shape, numel = _whole_shape(parameter), math.prod(_whole_shape(parameter))
        partition = parameter.ds_tensor
        assert partition.dim() == 1, partition.shape
        start = min(rank * partition.numel(), numel)
        stop = min(start + partition.numel(), numel)
        partition[: stop - start].copy_(source.read(name, shape, start, stop))
        partition[stop - start :].zero_()  # the last rank's partition is padded
        check.add(name, partition)
