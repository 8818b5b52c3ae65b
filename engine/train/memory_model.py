"""The memory that a training step takes on one GPU, from the model's widths and the settings alone.

Held from step to step are weights, optimizer states and, but for ZeRO 2, gradients. The peak is that of one of three
moments, beside what is held:

    at the loss           all activations that are kept, the head's gradient and a chunk of logits
    in a layer's backward the same activations, and what the last layer computes again and passes on
    at the step           gradients, and what ZeRO copies of them

The formulas count the tensors that the layers save (`layers.py`, and the kernels' docstrings), and were compared with
torch's allocator on the null device: tests/engine/train/test_memory_model.py holds both.
"""

from dataclasses import dataclass
from typing import NamedTuple

from alttrain.engine.model.shape import ModelShape

# Rows of a chunk of the loss: those of kernels/linear_cross_entropy.py, which a test compares.
SLAB_BYTES = 1280 << 20
PAD, ROW_TILE = 16, 128
# What the libraries of matrix products set aside, and the tensors of a batch.
FIXED = 72 << 20
# Parameters that ZeRO 3 has whole at a time: DeepSpeed's default for stage3_max_live_parameters.
LIVE_PARAMETERS = 1_000_000_000
# The bucket in which ZeRO 3 sums gradients in float32 (distributed/zero_settings.py).
BUCKET_ELEMENTS = 50_000_000
# While ZeRO 2 lays its part of the gradients into one piece, it has it twice, but for about so much of it divided by
# the number of ranks: fitted to counts on 2, 4 and 8 ranks.
LAID_OUT = 0.85
BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Layout:
    """The settings on which memory depends."""

    stage: int = 1
    world_size: int = 1
    checkpointing: str = "off"
    recomputed_layers: int = 0
    """Of the layers, so many from the first on are recomputed, where `checkpointing` recomputes; 0 for all."""
    moments: str = "bfloat16"
    master: str = "float32"
    gradients: str = "bfloat16"
    fuses_layers: bool = True
    """Whether our kernels compute the layers (--model.kernels)."""

    @property
    def is_one_process(self) -> bool:
        """Whether this project's own optimizer holds the states, and not DeepSpeed."""
        return self.world_size == 1

    def num_recomputed(self, shape: ModelShape) -> int:
        """Return how many of a model's layers are recomputed."""
        return 0 if self.checkpointing == "off" else self.recomputed_layers or shape.layers


class Pack(NamedTuple):
    """The fullest pack of a rank."""

    tokens: int
    rows: int
    """Tokens whose label has weight."""
    micro_batches: int = 1
    """Packs of a rank in a step."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, by part."""

    held: dict[str, int]
    """From step to step."""
    passing: dict[str, dict[str, int]]
    """At each moment of a step that may be its peak, beside what is held."""

    @property
    def peak_moment(self) -> str:
        """The moment at which most is taken."""
        return max(self.passing, key=lambda moment: sum(self.passing[moment].values()))

    @property
    def peak(self) -> int:
        """The most that torch's allocator has given out, in bytes."""
        return sum(self.held.values()) + sum(self.passing[self.peak_moment].values())


def memory_of(shape: ModelShape, layout: Layout, pack: Pack) -> Memory:
    """Return what a step of that pack takes."""
    recomputed = layout.num_recomputed(shape)
    a_token = recomputed * kept_of_layer(shape, layout) + (shape.layers - recomputed) * kept_of_layer(
        shape, layout, "off"
    )
    kept = a_token * pack.tokens
    gradients = _gradients_between_packs(shape, layout, pack)
    gathered = gathered_weights(shape) if layout.stage == 3 and not layout.is_one_process else 0
    common = {"activations": kept, "gradients of earlier packs": gradients, "gathered weights": gathered}
    moments = {
        "at the loss": common | {"loss": loss_bytes(shape, pack, copies_gradient=not layout.is_one_process)},
        "in a layer's backward": common | {"one layer": backward_of_layer(shape, layout) * pack.tokens},
        "at the step": _at_the_step(shape, layout),
    }
    passing = {name: {part: count for part, count in parts.items() if count} for name, parts in moments.items()}
    return Memory({part: count for part, count in _held(shape, layout).items() if count}, passing)


def kept_of_layer(shape: ModelShape, layout: Layout, checkpointing: str = "") -> int:
    """Return the bytes of a token that a layer keeps for the backward; `checkpointing` in the place of the layout's."""
    checkpointing = checkpointing or layout.checkpointing
    hidden, inner, query, kv = shape.hidden, shape.inner, shape.query_width, shape.kv_width
    if checkpointing == "full":
        return 2 * hidden
    sums = 4 * shape.heads  # log-sum-exp of attention
    if checkpointing == "selective":  # inputs, and outputs of every product and of attention
        return 2 * (3 * hidden + 2 * query + 2 * kv + 2 * inner) + sums
    attention = 2 * (2 * query + 2 * kv) + sums
    norms = 8  # two roots of mean squares
    if shape.family == "qwen3":  # the norms of queries and keys keep their inputs
        norms += 2 * (query + shape.kv_width) + 4 * (shape.heads + shape.kv_heads)
    if not layout.fuses_layers:  # norms keep their input in float32 and normalised, the MLP keeps what it can compute
        return 2 * 4 * inner + 2 * 8 * hidden + attention + norms
    return 2 * 2 * inner + 2 * 2 * hidden + attention + norms  # norm outputs are computed again (joint_linear.py)


def backward_of_layer(shape: ModelShape, layout: Layout) -> int:
    """Return the bytes of a token that one layer's backward takes: what is computed again, and gradients.

    The layer is the last, whose backward comes first, while everything is still kept. It is recomputed where all are:
    of fewer, the first ones (`model/recomputation.py`), in whose turn what the others kept has made room.
    """
    again = 0
    if layout.num_recomputed(shape) == shape.layers:
        again = kept_of_layer(shape, layout, "off") - 2 * shape.hidden
        if layout.fuses_layers:  # a layer that is computed again keeps its norms' outputs for that while
            again += 2 * 2 * shape.hidden
        if layout.checkpointing == "selective":
            again = 2 * (2 * shape.hidden + shape.query_width + shape.kv_width)
    return again + 2 * shape.inner + 2 * 3 * shape.hidden


def loss_bytes(shape: ModelShape, pack: Pack, *, copies_gradient: bool) -> int:
    """Return the bytes of the loss: the head's gradient in float32, a chunk of logits, and the last hidden states.

    Args:
        shape: the model.
        pack: what is projected.
        copies_gradient: whether autograd is handed the head's gradient, rounded to a tensor of its own.
    """
    padded = -(-shape.vocabulary // PAD) * PAD
    most = max(1, SLAB_BYTES // (2 * padded))
    equal = -(-pack.rows // max(1, -(-pack.rows // most)))
    chunk = min(most, -(-equal // ROW_TILE) * ROW_TILE, max(1, pack.rows))
    states = 3 * 2 * shape.hidden * pack.tokens  # before and after the last norm, and the gradient
    logits = chunk * 2 * padded + 2 * chunk * 2 * shape.hidden
    return 4 * shape.head_parameters + max(logits, 2 * shape.head_parameters * copies_gradient) + states


def gathered_weights(shape: ModelShape) -> int:
    """Return the bytes of weights that ZeRO 3 has whole at a time."""
    return 2 * min(shape.num_parameters, max(LIVE_PARAMETERS, shape.head_parameters))


def _held(shape: ModelShape, layout: Layout) -> dict[str, int]:
    count, world = shape.num_parameters, layout.world_size
    moments = 2 * BYTES[layout.moments]
    if layout.is_one_process:
        return {
            "weights": 2 * count,
            "low halves of the master": 2 * count if layout.master == "float32" else 0,
            "moments": moments * count,
            "gradients": BYTES[layout.gradients] * count,
            "libraries": FIXED,
        }
    return {
        "weights": 2 * count // (world if layout.stage == 3 else 1),
        "master": 4 * count // world,
        "moments": moments * count // world,
        "gradients": {1: 4 * count, 2: 0, 3: 4 * count // world}[layout.stage],
        "bucket": 4 * BUCKET_ELEMENTS if layout.stage == 3 else 0,
        "libraries": FIXED,
    }


def _gradients_between_packs(shape: ModelShape, layout: Layout, pack: Pack) -> int:
    """ZeRO 2 makes its part of the gradients in the first backward, and has it from the second pack on."""
    is_new = layout.stage == 2 and not layout.is_one_process and pack.micro_batches > 1
    return 4 * shape.num_parameters // layout.world_size if is_new else 0


def _at_the_step(shape: ModelShape, layout: Layout) -> dict[str, int]:
    """ZeRO 2 has its part of the gradients then, and lays it into one piece or has a tensor of it in float64."""
    if layout.is_one_process or layout.stage != 2:
        return {}
    part = shape.num_parameters // layout.world_size
    twice = max(round(4 * part * (1 - LAID_OUT / layout.world_size)), 8 * min(part, shape.head_parameters))
    return {"gradients of the step": 4 * part, "copies of them": twice}
