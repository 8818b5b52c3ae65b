"""The matrix products of the 7B's layers and head at the rows of real steps: what a training step can reach at most.

    python benchmarks/bench_products.py --out benchmarks/results/h200

X is (rows, in), W (out, in), dY (rows, out). Each product of a training step by itself: Y = X W', dX = dY W, and
dW = dY' X into bf16, into fp32, and added to fp32. Then the products of a whole layer in turn for a while, as a step
runs them, so that the limit of power shows. Random numbers: products of zeros run faster than any real one.
"""

import functools
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from harness.measuring import Case
from harness.running import Plan, run_plans
from harness.shapes import HEADLINE_TOKENS, R1_DISTILL, TINY, Model

# A step of one pack, one of two packs, and the published batch of 8 examples.
ROWS = (HEADLINE_TOKENS, 2 * HEADLINE_TOKENS, 1340)
# How long a layer's products run in turn.
SUSTAINED_SECONDS = 15.0
# Of the result, how many rows are checked against fp64.
CHECKED_ROWS = 64
DIRECTIONS = ("Y", "dX", "dW", "dW fp32", "dW fp32 added")


def projections(model: Model) -> dict[str, tuple[int, int, int]]:
    """Return inputs, outputs and how many of its kind a layer holds, for each product of a layer."""
    heads, kv_heads = model.heads * model.head_width, model.kv_heads * model.head_width
    return {
        "gate, up": (model.hidden, model.inner, 2),
        "down": (model.inner, model.hidden, 1),
        "q, o": (model.hidden, heads, 2),
        "k, v": (model.hidden, kv_heads, 2),
    }


def shapes(model: Model) -> dict[str, tuple[int, int]]:
    """Return inputs and outputs of every product: a layer's, these fused, and the head's."""
    alone = {name: shape[:2] for name, shape in projections(model).items()}
    heads, kv_heads = model.heads * model.head_width, model.kv_heads * model.head_width
    fused = {"gate+up": (model.hidden, 2 * model.inner), "q+k+v": (model.hidden, heads + 2 * kv_heads)}
    return alone | fused | {"head": (model.hidden, model.vocabulary)}


def make_case(name: str, inputs: int, outputs: int, rows: int, direction: str, device: str) -> Case:
    """Return the case of one product; a few of its rows are checked against fp64."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(generator=generator)

    if direction == "Y":
        left, right = draw(rows, inputs), draw(outputs, inputs).t()
    elif direction == "dX":
        left, right = draw(rows, outputs), draw(outputs, inputs)
    else:
        left, right = draw(rows, outputs).t(), draw(rows, inputs)
    dtype = torch.float32 if "fp32" in direction else torch.bfloat16
    out = torch.zeros(left.shape[0], right.shape[1], dtype=dtype, device=device)

    def multiply() -> list[Tensor]:
        if direction == "dW fp32 added":
            torch.addmm(out, left, right, out=out, out_dtype=torch.float32)  # type: ignore[call-overload]
        elif direction == "dW fp32":
            torch.mm(left, right, out=out, out_dtype=torch.float32)  # type: ignore[call-overload]
        else:
            torch.mm(left, right, out=out)
        return [out[:CHECKED_ROWS]]

    return Case(
        "product",
        {"product": name, "direction": direction, "rows": rows, "inputs": inputs, "outputs": outputs},
        {"torch": multiply},
        lambda: [left[:CHECKED_ROWS].double() @ right.double()],
        max_error=1e-2,
        flops=2.0 * rows * inputs * outputs,
        num_bytes=2.0 * (left.numel() + right.numel())
        + out.numel() * out.element_size() * (2 if direction == "dW fp32 added" else 1),
    )


def sustained(model: Model, rows: int, seconds: float, device: str) -> list[dict[str, Any]]:
    """Return the rate of a layer's products in turn, forward and backward, at first and after `seconds`."""
    products: list[Callable[[], object]] = []
    flops = 0.0
    for inputs, outputs, count in projections(model).values():
        x, dy, weight = (
            torch.empty(shape, dtype=torch.bfloat16, device=device).normal_()
            for shape in ((rows, inputs), (rows, outputs), (outputs, inputs))
        )
        y, dx, dw = torch.empty_like(dy), torch.empty_like(x), torch.empty_like(weight)
        products += count * [
            functools.partial(torch.mm, x, weight.t(), out=y),
            functools.partial(torch.mm, dy, weight, out=dx),
            functools.partial(torch.mm, dy.t(), x, out=dw),
        ]
        flops += count * 6.0 * rows * inputs * outputs
    rates: list[float] = []
    state: str | None = None
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for product in products:
            product()
        if state is None and device == "cuda" and time.perf_counter() > end - seconds / 3:
            state = _device_state()  # while the products run
        if device == "cuda":
            torch.cuda.synchronize()
        rates.append(flops / (time.perf_counter() - start) / 1e12)
    tenth = max(1, len(rates) // 10)
    row = {"case": "sustained", "sizes": {"rows": rows, "seconds": seconds}, "implementation": "a layer's products"}
    figures = {
        "tflops_per_second": median(rates),
        "tflops_at_first": median(rates[:tenth]),
        "tflops_at_last": median(rates[-tenth:]),
    }
    print(f"sustained, {rows} rows: {figures}, {state}", flush=True)
    return [row | figures | {"device_state": state}]


def _device_state() -> str | None:
    query = "--query-gpu=clocks.sm,power.draw,temperature.gpu,clocks_event_reasons.active"
    try:
        done = subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return a layer's products in turn, then every product by itself, a whole step's rows first."""
    model = TINY["tiny"] if tiny or device == "cpu" else R1_DISTILL["R1-7B"]
    all_rows = (48,) if tiny or device == "cpu" else ROWS
    directions = DIRECTIONS[:3] if tiny or device == "cpu" else DIRECTIONS  # out_dtype is for CUDA alone
    seconds = 0.05 if tiny or device == "cpu" else SUSTAINED_SECONDS
    made = [
        Plan(f"{name} {direction} {rows}", functools.partial(make_case, name, *shape, rows, direction, device))
        for rows in all_rows
        for name, shape in shapes(model).items()
        for direction in directions
    ]
    return [*made, Plan("sustained", functools.partial(sustained, model, all_rows[0], seconds, device))]


if __name__ == "__main__":
    sys.exit(run_plans("products", __doc__, plans, seconds=0.15))
