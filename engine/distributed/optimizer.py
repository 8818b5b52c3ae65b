"""AdamW by our kernel over the tensors that ZeRO passes: flat fp32 partitions (stages 1 to 3), or parameters (stage 0).

The state has the same names as torch.optim.AdamW's, so that a checkpoint of one can be loaded by the other.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from alttrain.kernels.adamw import adamw_step
from alttrain.kernels.backend import Backend


class FlatAdamW(torch.optim.Optimizer):
    """AdamW with decoupled weight decay; one kernel launch a tensor, which reads and writes every element once."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
        backend: Backend = "auto",
    ) -> None:
        """Set up the optimizer for parameter groups, each with its own `weight_decay`."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._backend = backend

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply one step to every tensor that has a gradient; before the first step the moments are fp32 zeros."""
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
