"""Products of float8 operands with the passes that make them, beside bfloat16's: forward, and the input's gradient.

    python benchmarks/bench_float8.py --out benchmarks/results/h200

Each implementation does what a linear layer asks of its products (engine/model/products.py): Y = X W' quantises X and
W, dX = dY W quantises dY and turns W. "passes alone" is the quantising without the product, by Triton where it runs.
"""

import functools
import sys
from typing import get_args

import torch
from bench_products import ROWS, projections
from torch import Tensor

from alttrain.engine.model.products import PLAIN, Float8Products, Products
from alttrain.kernels.float8 import Scaling, quantise, quantise_transposed
from harness.measuring import Case, Run, Yardstick
from harness.running import Plan, run_plans
from harness.shapes import R1_DISTILL, TINY

# Of the result, how many rows are checked against fp64: float8 is off by some 4%, or 6 with e5m2.
CHECKED_ROWS, MAX_ERROR = 64, 0.09


def make_case(name: str, inputs: int, outputs: int, rows: int, direction: str, device: str) -> Case:
    """Return the case of one product; a few of its rows are checked against fp64."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.empty(shape, dtype=torch.bfloat16, device=device)
        return drawn.normal_(std=scale, generator=generator)

    weight = draw(outputs, inputs, scale=0.02)
    left = draw(rows, inputs) if direction == "Y" else draw(rows, outputs, scale=1e-5)
    backend = "triton" if device == "cuda" else "torch"
    all_products: dict[str, Products] = {"torch": PLAIN}
    all_products |= {f"ours, {scaling}": Float8Products(scaling, backend) for scaling in get_args(Scaling)}

    def multiply(products: Products) -> list[Tensor]:
        ask = products.forward if direction == "Y" else products.input_gradient
        return [ask(left, weight)[:CHECKED_ROWS]]

    def passes(scaling: Scaling) -> object:
        turn = quantise if direction == "Y" else quantise_transposed
        return quantise(left, scaling, backend=backend), turn(weight, scaling, backend=backend)

    right = weight.double().t() if direction == "Y" else weight.double()
    runs: dict[str, Run] = {way: functools.partial(multiply, products) for way, products in all_products.items()}
    read = 2.0 * (left.numel() + weight.numel())
    return Case(
        "float8",
        {"product": name, "direction": direction, "rows": rows, "inputs": inputs, "outputs": outputs},
        runs,
        lambda: [left[:CHECKED_ROWS].double() @ right],
        max_error=MAX_ERROR,
        flops=2.0 * rows * inputs * outputs,
        num_bytes=read + 2.0 * rows * right.shape[1],
        yardsticks={
            f"passes alone, {scaling}": Yardstick(functools.partial(passes, scaling), num_bytes=1.5 * read)
            for scaling in get_args(Scaling)
        },
    )


def plans(device: str, tiny: bool) -> list[Plan]:
    """Return every product of a layer, a whole step's rows first."""
    is_small = tiny or device == "cpu"
    model = TINY["tiny"] if is_small else R1_DISTILL["R1-7B"]
    return [
        Plan(f"{name} {direction} {rows}", functools.partial(make_case, name, *shape[:2], rows, direction, device))
        for rows in ((48,) if is_small else ROWS)
        for name, shape in projections(model).items()
        for direction in ("Y", "dX")
    ]


if __name__ == "__main__":
    sys.exit(run_plans("float8", __doc__, plans, seconds=0.5))
