"""GPUs that a run can be planned for: memory, rates and links.

Data sheets give the peaks. Of them an H200 was measured to reach 790 of 989 TFLOP/s in one product of 8,192 cubed, and
4.3 of 4.8 TB/s in a copy; in a layer's products 715 are expected. For all other GPUs like shares are assumed,
lower ones where the limit of power is known to bind. Links are assumptions too: NVLink as NCCL reaches it, or PCIe 4.0,
and between nodes a network card of 400 Gbit/s for each GPU, or what is usual beside that GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU; rates in units a second."""

    title: str
    memory: float
    """Bytes that a process can have, CUDA's own context taken off."""
    peak_flops: float
    """Dense bfloat16 with sums in float32, by the data sheet."""
    product_flops: float
    """What a layer's matrix products reach in whole tiles."""
    bandwidth: float
    """What a copy reaches, bytes read and written."""
    multiprocessors: int
    link: float
    """Bytes that a rank sends in a collective within its node."""
    network: float
    """Bytes that each GPU's share of the network sends between nodes."""


GPUS: Mapping[str, Gpu] = {
    "h200": Gpu("H200", 139.2 * GIB, 989e12, 715e12, 4.3e12, 132, 370e9, 42e9),
    "h100-80": Gpu("H100 SXM, 80 GB", 78.6 * GIB, 989e12, 700e12, 3.0e12, 132, 370e9, 42e9),
    "a100-80": Gpu("A100 SXM, 80 GB", 78.6 * GIB, 312e12, 235e12, 1.8e12, 108, 230e9, 21e9),
    "a100-40": Gpu("A100 SXM, 40 GB", 38.9 * GIB, 312e12, 235e12, 1.4e12, 108, 230e9, 21e9),
    "l40s": Gpu("L40S, 48 GB", 44.0 * GIB, 362e12, 215e12, 0.77e12, 142, 20e9, 10e9),
    "rtx4090": Gpu("RTX 4090, 24 GB", 23.1 * GIB, 165e12, 145e12, 0.9e12, 128, 12e9, 2.5e9),
    "b200": Gpu("B200", 177.8 * GIB, 2250e12, 1550e12, 7.1e12, 148, 740e9, 42e9),
}
