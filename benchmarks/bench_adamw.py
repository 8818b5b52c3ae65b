"""Time of one AdamW step on a flat tensor: our four layouts and torch's AdamW, with the bytes that each has to move.

    python benchmarks/bench_adamw.py --out benchmarks/results/h200

The first step of every implementation is checked against the fp64 definition: to fp32 rounding where there is an fp32
master, to a step of bf16 with stochastic rounding. The implementations move different numbers of bytes by design:
`gigabytes_per_second` is bytes read and written over the median time; compare it with `copy`, a plain copy of as many
bytes as the leanest layout moves.
"""

import functools
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alttrain.kernels.adamw import adamw_reference, adamw_step, join_master, split_master
from harness.measuring import Case, Run, Yardstick
from harness.running import Plan, run_plans

RATES: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1}
# Name: dtype of the parameters, low bits kept, dtype of the moments. Gradients have the dtype of the parameters.
LAYOUTS = {
    "ours, split": (torch.bfloat16, True, torch.bfloat16),
    "ours, split, fp32 moments": (torch.bfloat16, True, torch.float32),
    "ours, fp32": (torch.float32, False, torch.float32),
    "ours, stochastic": (torch.bfloat16, False, torch.bfloat16),
}
# Allowed relative error of the first step: a rounding error of fp32, or one step of bf16.
ERROR_FP32, ERROR_BF16 = 2.0**-23, 2.0**-8
# Number of elements that are checked: fp64 copies of all elements of a large tensor would not fit.
CHECKED = 1 << 20


def make_inputs(num_elements: int, device: str) -> tuple[Tensor, Tensor]:
    """Return fp32 parameters and gradients whose values bf16 holds exactly, so that all layouts start alike."""
    generator = torch.Generator(device).manual_seed(0)
    draws = (torch.randn(num_elements, generator=generator, device=device) * scale for scale in (0.02, 1e-3))
    param, grad = (tensor.bfloat16().float() for tensor in draws)
    return param, grad


def ours(param: Tensor, grad: Tensor, layout: str) -> tuple[Run, int]:
    """Return a function that takes the next step in `layout`, and the bytes that a step moves."""
    dtype, has_low_bits, moments = LAYOUTS[layout]
    tensors: dict[str, Any] = {
        "exp_avg": torch.zeros_like(param, dtype=moments),
        "exp_avg_sq": torch.zeros_like(param, dtype=moments),
    }
    if has_low_bits:
        tensors["param"], tensors["low_bits"] = split_master(param)
    else:
        tensors["param"] = param.to(dtype, copy=True)
    grads = grad.to(dtype)
    clip = torch.ones((), device=param.device)
    step = 0

    def run() -> Sequence[Tensor]:
        nonlocal step
        step += 1
        adamw_step(**tensors, grad=grads, step=step, clip=clip, **RATES)
        if step == 1 and has_low_bits:
            return [join_master(tensors["param"][:CHECKED], tensors["low_bits"][:CHECKED])]
        return [tensors["param"][:CHECKED]]

    kept = sum(tensor.nbytes for tensor in tensors.values())
    return run, 2 * kept + grads.nbytes


def torch_adamw(param: Tensor, grad: Tensor, **options: Any) -> tuple[Run, int]:
    """Return a function that takes the next step of torch's AdamW in fp32, and the bytes that a step has to move."""
    parameter = torch.nn.Parameter(param.clone())
    parameter.grad = grad.clone()
    optimizer = torch.optim.AdamW([parameter], **RATES, **options)

    def run() -> Sequence[Tensor]:
        optimizer.step()
        return [parameter.detach()[:CHECKED]]

    return run, 7 * param.nbytes


def make_case(kind: str, num_elements: int, device: str) -> Case:
    """Return the case of one kind, `master` (layouts with an fp32 master) or `stochastic`, with a copy as yardstick."""
    param, grad = make_inputs(num_elements, device)
    zeros = torch.zeros_like(param[:CHECKED], dtype=torch.float64)
    truth = adamw_reference(param[:CHECKED].double(), grad[:CHECKED], zeros, zeros, step=1, **RATES)[0]
    names = [name for name in LAYOUTS if (name == "ours, stochastic") == (kind == "stochastic")]
    implementations = {name: ours(param, grad, name) for name in names}
    if kind == "master":
        implementations |= {
            "torch fused": torch_adamw(param, grad, fused=True),
            "torch foreach": torch_adamw(param, grad, foreach=True),
        }
    source = torch.randint(256, (7 * num_elements,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Case(
        f"adamw, {kind}",
        {"elements": num_elements},
        {name: run for name, (run, _) in implementations.items()},
        lambda: [truth],
        ERROR_BF16 if kind == "stochastic" else ERROR_FP32,
        own_bytes={name: size for name, (_, size) in implementations.items()},
        yardsticks={"copy": Yardstick(lambda: target.copy_(source), num_bytes=2.0 * source.nbytes)},
        notes={"torch fused": "fp32 master, no bf16 parameters", "torch foreach": "fp32 master, no bf16 parameters"},
    )


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return both kinds at one size: on a GPU a rank's possible share of the 7B under ZeRO, on a CPU a few million."""
    elements = 1 << 12 if tiny else 1 << 22 if device == "cpu" else 1 << 29
    return [
        Plan(f"{kind} {elements}", functools.partial(make_case, kind, elements, device))
        for kind in ("master", "stochastic")
    ]


if __name__ == "__main__":
    sys.exit(run_plans("adamw", __doc__, plans, seconds=4.0))
