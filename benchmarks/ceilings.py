"""The best rates of this machine: an 8,192-cubed bf16 product of random numbers, and a copy within the device.

    python benchmarks/ceilings.py --out benchmarks/results/h200

All inputs are random, because products of zeros take less power and run faster than real ones. The copy's rate counts
bytes read and bytes written.
"""

import argparse
from pathlib import Path

import torch

from harness.measuring import Case, Yardstick, measure
from harness.record import write_json


def make_case(side: int, num_bytes: int, device: str) -> Case:
    """Return the case of one product and one copy; the product is checked against fp64 on a few rows."""
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(side, side, generator=generator, device=device).bfloat16() for _ in range(2))
    source = torch.randn(num_bytes // 4, generator=generator, device=device)
    target = torch.empty_like(source)
    product = torch.empty_like(left)

    def multiply() -> list[torch.Tensor]:
        return [torch.mm(left, right, out=product)[:64]]

    return Case(
        "ceilings",
        {"side": side, "copied_bytes": 4 * source.numel()},
        {"product": multiply},
        lambda: [left[:64].double() @ right.double()],
        max_error=1e-2,
        flops=2.0 * side**3,
        yardsticks={"copy": Yardstick(lambda: target.copy_(source), num_bytes=8.0 * source.numel())},
    )


def main() -> None:
    """Measure both and write ceilings.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--tiny", action="store_true", help="a dry run: shows that it runs, measures nothing")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available() and not options.tiny
    case = make_case(8192 if on_gpu else 256, (4 << 30) if on_gpu else (8 << 20), "cuda" if on_gpu else "cpu")
    result = measure(case, seconds=options.seconds, min_samples=20)
    product, copy = (next(row for row in result.rows if row.implementation == name) for name in ("product", "copy"))
    reached = {"tflops_per_second": product.tflops_per_second, "gigabytes_per_second": copy.gigabytes_per_second}
    write_json(options.out, "ceilings", result.rows, dry_run=options.tiny, ceilings=reached)


if __name__ == "__main__":
    main()
