"""Time of one AdamW step on a flat tensor: our four layouts beside torch's AdamW, with the bytes each has to move.

    python benchmarks/bench_adamw.py [--elements 1000000000] [--seconds 10] [--out benchmarks/results/h200]

The first step of every implementation is checked against the fp64 definition: to fp32 rounding where there is an fp32
master, to a step of bf16 with stochastic rounding. They move different bytes by design: `gigabytes_per_second` is bytes
read and written over the median time, to be read beside `copy`, a plain copy that moves what the leanest layout moves.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import Case, measure, write_json
from torch import Tensor

from alttrain.kernels.adamw import adamw_reference, adamw_step, join_master, split_master

RATES: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1}
# Name: dtype of the parameters, low bits kept, dtype of the moments. Gradients have the dtype of the parameters.
LAYOUTS = {
    "fp32": (torch.float32, False, torch.float32),
    "split_fp32_moments": (torch.bfloat16, True, torch.float32),
    "split": (torch.bfloat16, True, torch.bfloat16),
    "stochastic": (torch.bfloat16, False, torch.bfloat16),
}
# Relative error of the first step: what fp32 rounds, or one step of bf16.
ERROR_FP32, ERROR_BF16 = 2.0**-23, 2.0**-8
# Elements that are checked, so that large tensors leave room for their fp64.
CHECKED = 1 << 20

Run = Callable[[], Sequence[Tensor]]


def make_inputs(num_elements: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return fp32 parameters and gradients whose values bf16 holds exactly, so that every layout starts alike."""
    generator = torch.Generator(device).manual_seed(0)
    made = (torch.randn(num_elements, generator=generator, device=device) * scale for scale in (0.02, 1e-3))
    param, grad = (tensor.bfloat16().float() for tensor in made)
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


def torchs(param: Tensor, grad: Tensor, **options: Any) -> tuple[Run, int]:
    """Return a function that takes the next step of torch's AdamW in fp32, and the bytes that a step has to move."""
    parameter = torch.nn.Parameter(param.clone())
    parameter.grad = grad.clone()
    optimizer = torch.optim.AdamW([parameter], **RATES, **options)

    def run() -> Sequence[Tensor]:
        optimizer.step()
        return [parameter.detach()[:CHECKED]]

    return run, 7 * param.nbytes


def bench(num_elements: int, device: torch.device, seconds: float) -> list[dict[str, Any]]:
    """Check and time every implementation; return a row for each."""
    param, grad = make_inputs(num_elements, device)
    zeros = torch.zeros_like(param[:CHECKED], dtype=torch.float64)
    truth = adamw_reference(param[:CHECKED].double(), grad[:CHECKED], zeros, zeros, step=1, **RATES)[0]
    exact = {
        "torch fused": torchs(param, grad, fused=True),
        "torch foreach": torchs(param, grad, foreach=True),
        "fp32": ours(param, grad, "fp32"),
        "split, fp32 moments": ours(param, grad, "split_fp32_moments"),
        "split": ours(param, grad, "split"),
    }
    rounded = {"stochastic": ours(param, grad, "stochastic")}
    source = torch.randint(256, (7 * num_elements,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> Sequence[Tensor]:
        return [target.copy_(source)[:CHECKED]]

    copied: dict[str, tuple[Run, int]] = {"copy": (copy, 2 * source.nbytes)}
    rows = []
    for implementations, wanted, limit in (
        (copied, source[:CHECKED], 0.0),
        (rounded, truth, ERROR_BF16),
        (exact, truth, ERROR_FP32),
    ):
        runs = {name: run for name, (run, _) in implementations.items()}
        case = Case("adamw", {"elements": num_elements}, runs, partial(list, [wanted]), max_error=limit)
        for row in measure(case, seconds=seconds):
            size = implementations[row.implementation][1]
            rate = size / row.median_ms / 1e6
            rows.append(asdict(row) | {"bytes_per_parameter": size / num_elements, "gigabytes_per_second": rate})
            print(f"{row.implementation:20} {size / num_elements:5.1f} bytes a parameter, {rate:8.1f} GB/s")
    return rows


def main() -> None:
    """Check, time, print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, help="parameters of the flat tensor; a billion on CUDA by default")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = bench(args.elements or (10**9 if device.type == "cuda" else 1 << 22), device, args.seconds)
    if args.out:
        write_json(args.out, "adamw", rows)


if __name__ == "__main__":
    main()
