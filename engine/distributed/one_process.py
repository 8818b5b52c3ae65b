"""Training in one process: nothing is partitioned or reduced, so nothing stands between autograd and the optimizer.

Weights and gradients of each of AdamW's groups are views of one flat tensor, and the optimizer steps the flat tensors.
Bytes that are held per bfloat16 parameter, with the defaults of --optim first:

    weights 2, low bits of the float32 master 2 (--optim.master bfloat16: 0), moments 2 + 2 (--optim.moments float32:
    4 + 4), gradient 2 (--optim.gradients float32: 4)

A product adds its weight's gradient to the flat gradient by itself (`model/weight_gradients.py`), and autograd adds the
others to theirs in place. The norm copies nothing, and the clip factor is a number on the device: no step waits.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from alttrain.engine.config import RunConfig
from alttrain.engine.distributed.engine import Engine, load_model, parameter_groups
from alttrain.engine.distributed.optimizer import FlatAdamW
from alttrain.engine.distributed.world import World
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.model.layers import FusedDown
from alttrain.engine.model.packed_lm import LossHead, PackedCausalLM
from alttrain.engine.model.weight_gradients import DirectLinear, WeightGradient

# Every parameter begins at a multiple of this many elements: products write whole sectors of memory.
ALIGNMENT = 16
STATE_FILE = "state.pt"
# As torch and DeepSpeed clip: a norm of 0 is divided by, too.
NORM_EPS = 1e-6
# Squares that are summed in a row in float32; the norms of such rows are joined in float64, which are a few thousandths
# of the gradient. A single sum of a small model's gradient was off by 8e-5 on CPU.
NORM_ROW = 4096


class OneProcessEngine(Engine):
    """The model and its optimizer, whole, in one process; the stage of ZeRO makes no difference."""

    def __init__(self, config: RunConfig, backbone: Backbone, world: World) -> None:
        """Build the model, fill in its weights and lay them out flat; all memory but activations is taken here.

        Args:
            config: the run, settled for one process.
            backbone: the model folder, opened.
            world: must be of size 1.

        Raises:
            ModelError: a weight that was read is NaN or infinite.
        """
        assert world.size == 1, world.size
        self.world = world
        self.max_grad_norm = config.optim.max_grad_norm
        self._causal_lm = load_model(config, backbone, world, contextlib.nullcontext())
        gradient_dtype = getattr(torch, config.optim.gradients)
        groups = parameter_groups(self._causal_lm, config.optim.weight_decay)
        self._flat = [_flatten(group["params"], gradient_dtype) for group in groups]
        for group, flat in zip(groups, self._flat, strict=True):
            group["params"] = [flat.weights]
        if world.device.type == "cuda":
            torch.cuda.empty_cache()  # what the weights were read into
        self.optimizer = FlatAdamW(
            groups,
            lr=config.optim.lr,
            betas=config.optim.betas,
            moments=getattr(torch, config.optim.moments),
            keeps_master=config.optim.master == "float32",
            seed=config.seed,
            backend=self.kernels.backend,
        )
        self.optimizer.allocate()
        self._products = _write_directly(self._causal_lm)
        homes = {home.view.data_ptr() for home in self._products}
        self._summed = [
            p.grad for p in self._model.parameters() if p.grad is not None and p.grad.data_ptr() not in homes
        ]
        self.layout = f"in one process, {self._bytes_per_parameter()} bytes a parameter"
        self._clear()

    @property
    def _model(self) -> PackedCausalLM:
        return self._causal_lm

    @property
    def _root(self) -> nn.Module:
        return self._causal_lm

    def backward(self, loss_sum: Tensor, denominator: Tensor, *, is_last: bool) -> None:
        """Add the gradient of loss_sum / denominator to the gradients of this step; `is_last` makes no difference."""
        torch.autograd.backward(loss_sum * (1 / denominator).float())

    @torch.no_grad()
    def step(self, lr: float) -> Tensor:
        """Clip, apply AdamW at rate `lr`, clear the gradients; return the gradient norm before clipping, ()."""
        for product in self._products:
            product.finish()
        norm = _norm([flat.gradients for flat in self._flat])
        clip = None
        if self.max_grad_norm > 0:
            clip = (self.max_grad_norm / (norm + NORM_EPS)).clamp(max=1.0).float()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step(clip=clip)
        self._clear()
        return norm

    def save(self, folder: Path, name: str) -> None:
        """Write the whole state to folder/name: weights, low bits and moments by the names of the parameters."""
        steps = [int(self.optimizer.state[flat.weights]["step"]) for flat in self._flat]
        torch.save({"step": steps[0], **self._tensors()}, folder / name / STATE_FILE)

    def load(self, folder: Path, name: str) -> None:
        """Restore the whole state from folder/name."""
        saved = torch.load(folder / name / STATE_FILE, map_location="cpu", mmap=True, weights_only=True)
        for kind, tensors in self._tensors().items():
            for parameter, tensor in tensors.items():
                tensor.copy_(saved[kind][parameter])
        for flat in self._flat:
            self.optimizer.state[flat.weights]["step"].fill_(saved["step"])

    @contextlib.contextmanager
    def gathered(self, name: str) -> Iterator[Tensor]:
        """In this context, the parameter `name` is at hand, as it always is."""
        yield self._parameter(name).detach()

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return what a checkpoint holds of every parameter, by kind and then by the parameter's name: views."""
        found: dict[str, dict[str, Tensor]] = {}
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        for flat in self._flat:
            kinds = {"weight": flat.weights.detach(), **_streams(self.optimizer.state[flat.weights])}
            for kind, tensor in kinds.items():
                views = {names[id(p)]: tensor[part].view(p.shape) for p, part in flat.parts}
                found.setdefault(kind, {}).update(views)
        return found

    def _clear(self) -> None:
        """Make every gradient 0, or ready to be overwritten."""
        for product in self._products:
            product.is_stale = True
        if self._summed:
            torch._foreach_zero_(self._summed)

    def _bytes_per_parameter(self) -> int:
        flat = self._flat[0]
        streams = [flat.weights, flat.gradients, *_streams(self.optimizer.state[flat.weights]).values()]
        return sum(tensor.element_size() for tensor in streams)


class _Flat(NamedTuple):
    """The parameters of one group in one piece; between parameters may be elements that stay 0."""

    weights: Tensor
    gradients: Tensor
    parts: list[tuple[nn.Parameter, slice]]


def _flatten(parameters: list[nn.Parameter], gradient_dtype: torch.dtype) -> _Flat:
    """Make parameters, and gradients for them, views of two flat tensors; the values of the parameters stay."""
    parts, size = [], 0
    for parameter in parameters:
        parts.append((parameter, slice(size, size + parameter.numel())))
        size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
    weights = torch.zeros(size, dtype=parameters[0].dtype, device=parameters[0].device)
    gradients = torch.zeros(size, dtype=gradient_dtype, device=parameters[0].device)
    weights.grad_dtype = gradient_dtype
    weights.grad = gradients
    for parameter, part in parts:
        view = weights[part].view(parameter.shape)
        view.copy_(parameter.detach())
        parameter.data = view
        parameter.grad_dtype = gradient_dtype
        parameter.grad = gradients[part].view(parameter.shape)
    return _Flat(weights, gradients, parts)


def _norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of flat gradients together, (), float64; every element is read once, and nothing is copied."""
    rows = []
    for flat in gradients:
        whole = flat.numel() // NORM_ROW * NORM_ROW
        rows.append(torch.linalg.vector_norm(flat[:whole].view(-1, NORM_ROW), dim=1, dtype=torch.float32))
        rows.append(torch.linalg.vector_norm(flat[whole:], dtype=torch.float32).view(1))
    return torch.linalg.vector_norm(torch.cat(rows), dtype=torch.float64)


def _write_directly(model: nn.Module) -> list[WeightGradient]:
    """Let the products of every linear layer and of the loss add to their weights' gradients; return these."""
    found = []
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = DirectLinear
        if isinstance(module, DirectLinear | FusedDown | LossHead):
            assert isinstance(module.weight.grad, Tensor)
            module.weight_gradient = WeightGradient(module.weight.grad)
            found.append(module.weight_gradient)
    return found


def _streams(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of an optimizer's state that have an element for each of the parameter's."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and value.dim() == 1}
