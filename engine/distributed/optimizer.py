"""AdamW by our kernel over the tensors that it is given: flat partitions, or parameters.

The moments have the same names as torch.optim.AdamW's, so that a checkpoint of one can be loaded by the other.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from alttrain.kernels.adamw import adamw_step
from alttrain.kernels.backend import Backend

# Every tensor's random bits begin at a multiple of this, so that no two tensors or ranks share any.
QUAD = 4


class FlatAdamW(torch.optim.Optimizer):
    """AdamW with decoupled weight decay; one kernel launch a tensor, which reads and writes every element once.

    A bfloat16 tensor is half of a float32 master, whose other half is in the state as `low_bits`, or, where no master
    is kept, is rounded stochastically. So are moments that are bfloat16; the random bits follow from the seed, the step
    and the place of an element among all tensors of all ranks.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
        moments: torch.dtype = torch.float32,
        keeps_master: bool = True,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        backend: Backend = "auto",
    ) -> None:
        """Set up the optimizer for parameter groups, each with its own `weight_decay`.

        Args:
            params: the groups. DeepSpeed later puts this rank's partition in the place of a group's parameters.
            lr: learning rate of the first step.
            betas: decay rates of the two moments.
            eps: added to the root of the second moment.
            moments: dtype of both moments, float32 or bfloat16.
            keeps_master: whether bfloat16 tensors have their low bits in the state.
            seed: of the random bits of stochastic rounding.
            rank: whose partitions these are.
            num_ranks: how many ranks hold partitions of the same sizes.
            backend: the path of the kernel.
        """
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._moments, self._keeps_master = moments, keeps_master
        self._seed, self._rank, self._num_ranks = seed, rank, num_ranks
        self._backend = backend
        self._rounds_at_random = moments == torch.bfloat16 or not keeps_master
        self._num_placed = 0  # elements, over all ranks, whose random bits are spoken for

    def allocate(self) -> None:
        """Make the state of every tensor, which the first step would make."""
        for _, param in self._tensors():
            self._state_of(param)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None, *, clip: Tensor | None = None
    ) -> None:
        """Apply one step to every tensor that has a gradient; before the first step the moments are zeros.

        Args:
            closure: must be None.
            clip: factor on every gradient, (), fp32, on the device of the tensors; 1 where None.
        """
        assert closure is None, "DeepSpeed gives none"
        for group, param in self._tensors():
            if param.grad is None:
                continue
            state = self._state_of(param)
            state["step"] += 1
            low_bits = state.get("low_bits")
            adamw_step(
                param.view(-1),
                param.grad.view(-1),
                state["exp_avg"].view(-1),
                state["exp_avg_sq"].view(-1),
                None if low_bits is None else low_bits.view(-1),
                step=int(state["step"]),
                lr=group["lr"],
                betas=group["betas"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                clip=clip,
                seed=self._seed,
                offset=state.get("first_place", 0) + self._rank * _in_quads(param),
                backend=self._backend,
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state in its own dtypes: torch's would make every tensor of it one of the parameter's dtype."""
        super().load_state_dict(state_dict)
        places = [place for group in state_dict["param_groups"] for place in group["params"]]
        self._num_placed = 0
        for place, (_, param) in zip(places, self._tensors(), strict=True):
            state = self.state[param]
            for name, value in state_dict["state"].get(place, {}).items():
                if isinstance(value, Tensor) and name != "step":
                    dtype = torch.int16 if name == "low_bits" else self._moments
                    state[name] = value.detach().to(device=param.device, dtype=dtype, copy=True)
            if state:
                self._place(param, state)

    def _tensors(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for group in self.param_groups:
            for param in group["params"]:
                yield group, param

    def _state_of(self, param: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[param]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)  # on the CPU, where it is read
            state["exp_avg"] = torch.zeros_like(param, dtype=self._moments, requires_grad=False)
            state["exp_avg_sq"] = torch.zeros_like(param, dtype=self._moments, requires_grad=False)
            if param.dtype == torch.bfloat16 and self._keeps_master:
                state["low_bits"] = torch.zeros_like(param, dtype=torch.int16, requires_grad=False)
            self._place(param, state)
        return state

    def _place(self, param: Tensor, state: dict[str, Any]) -> None:
        """Give a tensor the next random bits. ZeRO-3 shows its tensors one at a time: their state tells them apart."""
        if not self._rounds_at_random:
            return
        first = state.setdefault("first_place", self._num_placed)
        self._num_placed = max(self._num_placed, first + self._num_ranks * _in_quads(param))


def _in_quads(param: Tensor) -> int:
    """Return the number of elements, rounded up to whole draws of random bits."""
    return -(-param.numel() // QUAD) * QUAD
