"""The time of a training step on one GPU of a world, predicted from counts: no GPU has confirmed it.

A step takes the longer of what the device does and what Python needs to launch it, and then what the ranks wait for
each other's gradients and weights. On the device:

    products       in whole tiles on all multiprocessors, at the rate of a large product
    attention      in whole tiles of 128 x 128 of each document, at FlashAttention 2's share of the peak
    passes         bytes that norms, activation, rotary embedding, sums and the loss read and write
    again          what checkpointing computes a second time
    optimizer      bytes of weights, states and gradients
    launches       2 us each

Bytes move at OURS of a copy's rate. Counts of launches and of collectives' bytes are those of the null device.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from alttrain.engine.model.shape import ModelShape
from alttrain.engine.train.gpus import Gpu
from alttrain.engine.train.memory_model import BYTES, Layout

# Our kernels' share of a copy's rate; FlashAttention 2's share of the peak, forward and backward.
OURS, ATTENTION_FORWARD, ATTENTION_BACKWARD = 0.9, 0.33, 0.28
LAUNCH_SECONDS, COLLECTIVE_SECONDS = 2e-6, 25e-6
# Assumed: communication beside products takes multiprocessors and bandwidth from them, so much of its time; and every
# doubling of the nodes leaves so much of the links' rate.
SHARED, DOUBLED = 0.2, 0.95
# Tiles of a product, and the share of the rate that each reaches; the sum over k may be split.
TILES = (
    (128, 256, 1.0), (256, 128, 1.0), (192, 128, 0.95), (128, 192, 0.95), (128, 128, 0.88), (64, 256, 0.85),
    (64, 128, 0.7), (64, 64, 0.5),
)  # fmt: skip
SPLITS = (1, 2, 4, 8)
# Launches of a layer, forward and backward, by checkpointing, and under ZeRO; milliseconds of Python for them.
LAUNCHES = {"off": 78, "selective": 85, "full": 93}
HOST_MS = {"off": 1.7, "selective": 2.2, "full": 2.4}
ZERO_LAUNCHES = {1: 28, 2: 30, 3: 145}
ZERO_HOST_MS = {1: 0.4, 2: 1.8, 3: 10.3}
# Full checkpointing runs ZeRO 3's hooks once more.
ZERO_3_FULL_MS = 10.0
UNFUSED_PASSES, UNFUSED_LAUNCHES = 2.2, 250


class Machine(NamedTuple):
    """GPUs of one kind, equally many on every node."""

    gpu: Gpu
    gpus: int = 1
    nodes: int = 1

    @property
    def world_size(self) -> int:
        """Ranks, one on each GPU."""
        return self.gpus * self.nodes

    @property
    def bus(self) -> float:
        """Bytes a second that a rank sends in a collective of all ranks."""
        alone = self.gpu.link if self.nodes == 1 else min(self.gpu.link, self.gpu.network * self.gpus)
        left: float = DOUBLED ** math.log2(self.nodes)
        return alone * left


class Batch(NamedTuple):
    """What a rank has in a step; the fullest rank of each micro-batch, on average."""

    tokens: float
    """Of a pack."""
    rows: float
    """Tokens of a pack whose label has weight."""
    packs: float
    """Of a step."""
    tiles: float
    """Attention's tiles of 128 x 128 on and below the diagonals of the documents of a pack."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step."""

    device: dict[str, float]
    host: float
    waiting: float
    """What communication adds: the time that nothing hides, and what it takes from products beside it."""

    @property
    def seconds(self) -> float:
        """The whole step."""
        return max(sum(self.device.values()), self.host) + self.waiting


def step_time(shape: ModelShape, layout: Layout, batch: Batch, machine: Machine) -> StepTime:
    """Return the time of a step."""
    gpu, packs = machine.gpu, batch.packs
    products = packs * (
        layer_products(shape, batch.tokens, gpu) * shape.layers + _head_products(shape, batch.rows, gpu)
    )
    forward, backward = _attention(shape, batch, gpu)
    passes = packs * _passes(shape, layout, batch) / (OURS * gpu.bandwidth)
    again = packs * _again(shape, layout, batch, gpu, forward)
    launches = packs * _launches(shape, layout)
    device = {
        "products": products,
        "attention": packs * (forward + backward),
        "passes": passes,
        "again": again,
        "optimizer": optimizer_bytes(shape, layout) / (OURS * gpu.bandwidth),
        "launches": launches * LAUNCH_SECONDS,
    }
    forward_seconds = (products + passes) / 3 + packs * forward
    backward_seconds = 2 * (products + passes) / 3 + packs * backward + again
    host = packs * _host_ms(shape, layout) * 1e-3
    stretched = max(
        1.0, host / (forward_seconds + backward_seconds)
    )  # waiting for Python leaves communication more time
    waiting = waiting_seconds(shape, layout, packs, machine, stretched * forward_seconds, stretched * backward_seconds)
    return StepTime(device, host, waiting)


@functools.lru_cache(maxsize=4096)
def product_seconds(m: int, n: int, k: int, gpu: Gpu, out_bytes: int = 2) -> float:
    """Return the time of a product (m, k) by (k, n) of bfloat16: the best tile and split, or the time of its bytes."""
    best = math.inf
    for tile_m, tile_n, share in TILES:
        tiles = math.ceil(m / tile_m) * math.ceil(n / tile_n)
        for split in SPLITS:
            if split > 1 and k / split < 512:
                continue
            waves = math.ceil(tiles * split / gpu.multiprocessors)
            flops = waves * gpu.multiprocessors * tile_m * tile_n * 2 * k / split
            sums = 0 if split == 1 else 2 * split * m * n * 4 / gpu.bandwidth
            best = min(best, flops / (gpu.product_flops * share) + sums)
    return max(best, (2 * (m * k + k * n) + out_bytes * m * n) / gpu.bandwidth)


def layer_products(shape: ModelShape, tokens: float, gpu: Gpu, *, only_forward: bool = False) -> float:
    """Return the time of a layer's products: of the forward, and of both in the backward of each."""
    rows = max(1, math.ceil(tokens))
    total = 0.0
    for out, into in shape.products:
        total += product_seconds(rows, out, into, gpu)
        if not only_forward:
            total += product_seconds(rows, into, out, gpu) + product_seconds(out, into, rows, gpu)
    return total


def optimizer_bytes(shape: ModelShape, layout: Layout) -> float:
    """Return the bytes that the optimizer, the norm and ZeRO's copies of gradients move in a step."""
    count, moments = shape.num_parameters, 4 * BYTES[layout.moments]
    if layout.is_one_process:
        low = 4 if layout.master == "float32" else 0
        return count * (4 + low + moments + 2 * BYTES[layout.gradients])
    part = count / layout.world_size
    adamw = 8 + moments + 4
    if layout.stage == 1:  # every gradient into float32 and to 0; norm, clipping and the copy to bfloat16 of a part
        return 22 * count + (adamw + 18) * part
    # Gradients into float32 buckets; of a part, the norm in float64, its check, copies and clipping.
    return 14 * count + (adamw + 88) * part


def waiting_seconds(
    shape: ModelShape, layout: Layout, packs: float, machine: Machine, forward: float, backward: float
) -> float:
    """Return the time that collectives add; `forward` and `backward` are seconds of a step."""
    world = machine.world_size
    if world == 1:
        return 0.0
    gather = (world - 1) / world * 2 * shape.num_parameters / machine.bus
    reduce = 2 * (world - 1) / world * 4 * shape.num_parameters / machine.bus
    late = COLLECTIVE_SECONDS * (1 + math.log2(machine.nodes))
    if layout.stage == 1:
        return reduce + gather + 8 * late
    if layout.stage == 2:
        return beside(packs * (reduce + 4 * shape.layers * late), backward) + gather
    # Stage 3 gathers every weight in the forward and again in the backward, and each rank keeps its part of the sum.
    gather, reduce = gather + 7 * shape.layers * late, reduce / 2 + 7 * shape.layers * late
    return beside(packs * gather, forward) + beside(packs * (gather + reduce), backward)


def beside(communication: float, computation: float) -> float:
    """Return the time that communication adds to a computation beside which it runs."""
    return max(0.0, communication - computation) + SHARED * min(communication, computation)


def _head_products(shape: ModelShape, rows: float, gpu: Gpu) -> float:
    count = math.ceil(rows)
    if count == 0:
        return 0.0
    return (
        product_seconds(count, shape.vocabulary, shape.hidden, gpu)
        + product_seconds(count, shape.hidden, shape.vocabulary, gpu)
        + product_seconds(shape.vocabulary, shape.hidden, count, gpu, 4)
    )


def _attention(shape: ModelShape, batch: Batch, gpu: Gpu) -> tuple[float, float]:
    """Return the time of all layers' attention, forward and backward."""
    flops = shape.layers * batch.tiles * 128 * 128 * 4 * shape.query_width
    # q, out and k, v; the backward reads these and the gradient of out, and writes three gradients.
    width = shape.layers * batch.tokens * 2 * (2 * shape.query_width + 2 * shape.kv_width)
    forward = max(flops / (ATTENTION_FORWARD * gpu.peak_flops), width / gpu.bandwidth)
    backward = max(2.5 * flops / (ATTENTION_BACKWARD * gpu.peak_flops), 2 * width / gpu.bandwidth)
    return forward, backward


def _passes(shape: ModelShape, layout: Layout, batch: Batch) -> float:
    """Return the bytes that everything but products, attention and optimizer moves in one pack."""
    rotated = shape.query_width + shape.kv_width
    # Activation 8 times the inner width; norms, with the sums of the stream and of its gradients, 17 times the hidden
    # one, and 4 more for outputs computed again in layers that are not recomputed as a whole; rotary 4; biases.
    layer = 2 * (8 * shape.inner + 17 * shape.hidden + (4 + 4 * shape.qkv_bias) * rotated)
    again = 2 * 4 * shape.hidden * (shape.layers - layout.num_recomputed(shape))
    if not layout.fuses_layers:
        layer, again = int(UNFUSED_PASSES * (layer + 2 * 15 * shape.hidden)), 0  # 32 times, and more for all
    ends = 2 * 2 * batch.rows * shape.vocabulary + (4 + 4 + 2) * shape.head_parameters
    return batch.tokens * (shape.layers * layer + again) + ends


def _again(shape: ModelShape, layout: Layout, batch: Batch, gpu: Gpu, attention: float) -> float:
    """Return the time of what the backward of one pack computes a second time; `attention` is all layers' forward."""
    layers = layout.num_recomputed(shape)
    rotated = shape.query_width + shape.kv_width
    passes = 2 * (3 * shape.inner + (8 + 3) * shape.hidden + (2 + 2 * shape.qkv_bias) * rotated)
    seconds = batch.tokens * layers * passes / (OURS * gpu.bandwidth)
    if layout.checkpointing == "full":
        seconds += layers / shape.layers * attention
        seconds += layers * layer_products(shape, batch.tokens, gpu, only_forward=True)
    return seconds


def _launches(shape: ModelShape, layout: Layout) -> int:
    count = _by_layer(shape, layout, LAUNCHES) if layout.fuses_layers else UNFUSED_LAUNCHES * shape.layers
    return round(count) + (0 if layout.is_one_process else shape.layers * ZERO_LAUNCHES[layout.stage])


def _host_ms(shape: ModelShape, layout: Layout) -> float:
    alone = _by_layer(shape, layout, HOST_MS) * (1.0 if layout.fuses_layers else UNFUSED_LAUNCHES / LAUNCHES["off"])
    if layout.is_one_process:
        return alone
    again = ZERO_3_FULL_MS if layout.stage == 3 and layout.checkpointing == "full" else 0.0
    return alone + shape.layers * ZERO_HOST_MS[layout.stage] + layout.num_recomputed(shape) * again


def _by_layer(shape: ModelShape, layout: Layout, each: Mapping[str, float]) -> float:
    """Return the sum over all layers of what `each` says of one by its checkpointing."""
    recomputed = layout.num_recomputed(shape)
    return recomputed * each[layout.checkpointing] + (shape.layers - recomputed) * each["off"]
