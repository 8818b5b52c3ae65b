"""DeepSpeed ZeRO around the model; all of its pitfalls are handled here and in `zero_settings.py`.

Within a step only DeepSpeed waits for the device: at the end of each backward with overlapped communication, and to
check the gradient norm.
Private attributes of deepspeed used here: `ds_tensor` and `ds_shape` of a partitioned parameter, as they are in the
version in constraints.txt. `zero_settings.py` imports and configures deepspeed.
"""

import contextlib
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # loaded now: deepspeed.zero.Init would import it while constructors are patched, which fails
from torch import Tensor, nn

from alttrain.engine.config import RunConfig
from alttrain.engine.distributed.engine import Engine, load_model, parameter_groups
from alttrain.engine.distributed.optimizer import FlatAdamW
from alttrain.engine.distributed.world import World
from alttrain.engine.distributed.zero_settings import deepspeed_settings, import_deepspeed, limit_waiting
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.model.packed_lm import PackedCausalLM


class ZeroEngine(Engine):
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
        model = load_model(config, backbone, world, construction)
        if config.zero.stage == 3:
            # Gathered as one, a layer may compute with weights of its submodules outside of their own forwards
            # (model/joint_linear.py), and is waited for once.
            for layer in model.causal_lm.model.layers:
                deepspeed.utils.set_z3_leaf_module(layer, True)
        self.world = world
        self.stage = config.zero.stage
        self.layout = f"on {world.size} ranks, ZeRO stage {self.stage}"
        optimizer = _adamw(model, config, world)
        with contextlib.redirect_stdout(io.StringIO()):  # stage 1 prints pages of memory figures
            self.deepspeed_engine, *_ = deepspeed.initialize(
                model=model, optimizer=optimizer, config=settings, dist_init_required=False
            )
        limit_waiting(self.deepspeed_engine)
        self._gathering = deepspeed.zero.GatheredParameters

    @property
    def _model(self) -> PackedCausalLM:
        model = self.deepspeed_engine.module
        assert isinstance(model, PackedCausalLM)
        return model

    @property
    def _root(self) -> nn.Module:
        root: nn.Module = self.deepspeed_engine
        return root

    def backward(self, loss_sum: Tensor, denominator: Tensor, *, is_last: bool) -> None:
        """Add the gradient of loss_sum / denominator to the gradients of this step.

        ZeRO averages gradients over the world and DeepSpeed would divide by a number of micro-batches: the world size
        here and `scale_wrt_gas=False` cancel both, which leaves the plain sum over ranks and micro-batches.
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

    def save(self, folder: Path, name: str) -> None:
        """Write the whole state to folder/name, file by file; `checkpoint.py` makes that atomic. Collective."""
        self.deepspeed_engine.save_checkpoint(str(folder), tag=name, save_latest=False)

    def load(self, folder: Path, name: str) -> None:
        """Restore the whole state from folder/name. Collective."""
        loaded, _ = self.deepspeed_engine.load_checkpoint(str(folder), tag=name)
        assert loaded is not None, folder / name

    @contextlib.contextmanager
    def gathered(self, name: str) -> Iterator[Tensor]:
        """In this context, the parameter `name` is whole on every rank; collective under ZeRO-3."""
        parameter = self._parameter(name)
        with self._gathering([parameter], enabled=self.stage == 3):
            yield parameter.detach()


def _adamw(model: PackedCausalLM, config: RunConfig, world: World) -> torch.optim.Optimizer:
    """Return AdamW: ours where its kernel runs, and where the moments are not torch's; on the CPU its PyTorch path."""
    groups = parameter_groups(model, config.optim.weight_decay)
    moments = getattr(torch, config.optim.moments)
    runs_kernel = model.kernels.paths.adamw == "triton" and config.zero.offload == "none"
    if not runs_kernel and moments == torch.float32:
        return torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas, fused=True)
    return FlatAdamW(
        groups,
        lr=config.optim.lr,
        betas=config.optim.betas,
        moments=moments,
        seed=config.seed,
        rank=world.rank,
        num_ranks=world.size,
        backend="triton" if runs_kernel else "torch",
    )
