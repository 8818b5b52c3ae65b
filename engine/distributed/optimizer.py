"""AdamW over whatever tensors ZeRO hands out, by our kernel: the flat fp32 partitions of stages 1 to 3, or parameters.

Its state is torch's, name by name, so that a checkpoint does not say which of the two made it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from alttrain.kernels.adamw import adamw_step
from alttrain.kernels.backend import Backend


class FlatAdamW(torch.optim.Optimizer):
    """AdamW with decoupled weight decay; one launch a tensor, every stream read and written once."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
        backend: Backend = "auto",
    ) -> None:
        """Take parameter groups, each with a `weight_decay` of its own."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._backend = backend

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply one step to every tensor that has a gradient; moments are fp32 zeros before the first."""
        assert closure is None, "DeepSpeed gives none"
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32)  # on the CPU, where it is read
                    state["exp_avg"] = torch.zeros_like(param, dtype=torch.float32)
                    state["exp_avg_sq"] = torch.zeros_like(param, dtype=torch.float32)
                state["step"] += 1
                streams = (param, param.grad, state["exp_avg"], state["exp_avg_sq"])
                adamw_step(
                    *(stream.view(-1) for stream in streams),
                    step=int(state["step"]),
                    lr=group["lr"],
                    betas=group["betas"],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    backend=self._backend,
                )
