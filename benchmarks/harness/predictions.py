"""What a step should take, by the engine's own model of a GPU: predicted beside measured, for ours and for others.

Ours is `engine/train/time_model.py` and `memory_model.py` as a plan uses them, for the very documents of the step. Of
another trainer the same model takes what it shares with ours (products of the layers, recomputation, passes with or
without fused kernels, launches) and, by its own way, its loss, its attention and its optimizer. Nothing is fitted to a
measurement of it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import torch

from alttrain.engine.model.shape import ModelShape
from alttrain.engine.trace.roles import Example
from alttrain.engine.train.gpus import GIB, GPUS, Gpu
from alttrain.engine.train.memory_model import Layout, Pack, memory_of
from alttrain.engine.train.plan_load import tiles_of
from alttrain.engine.train.time_model import (
    HOST_MS,
    LAUNCH_SECONDS,
    OURS,
    Batch,
    Machine,
    StepTime,
    product_seconds,
    step_time,
)
from harness.documents import PROMPT
from harness.shapes import Model

# A part of CUDA's name for a GPU, and its entry among GPUS.
NAMES = {"H200": "h200", "H100": "h100-80", "A100": "a100-80", "L40S": "l40s", "4090": "rtx4090", "B200": "b200"}
# torch's fused AdamW on bfloat16: weight, gradient and both moments read, three written; and clipping, which reads
# every gradient for its norm and always multiplies it.
RIVAL_OPTIMIZER_BYTES = 4 * 2 + 3 * 2 + 2 + 4
# Passes over the hidden width of a layer: of autograd's sums, which the engine's products and norms make by themselves;
# and of norm outputs that the engine computes again, and others keep (engine/train/time_model.py).
RIVAL_SUMS, NORMS_AGAIN = 15, 4
# Launches of their step for each layer, counted on the null device for the 7B: with Liger's kernels, without, and by
# checkpointing. Python is to take as long for each as for one of ours, of which there are OUR_LAUNCHES for each layer.
RIVAL_LAUNCHES = {(True, "off"): 102, (True, "full"): 117, (False, "off"): 166, (False, "full"): 206}
OUR_LAUNCHES = 62
# Attention with a mask over the whole pack computes all of it; its share of the peak, forward and backward, is assumed.
DENSE_FORWARD, DENSE_BACKWARD = 0.25, 0.2
# Bytes moved for every logit beside the products: TRL projects again in its backward; Liger reads a row twice and
# writes the gradient over it; transformers has logits in float32, their log-softmax and its gradient.
LOGIT_BYTES = {"trl": 2 + 2 + 2 + 2 + 2, "liger": 2 + 2 + 2 + 2, "logits": 34}
TRL_ROWS, TRL_COLUMNS = 4096, 32_768


class Work(NamedTuple):
    """The documents of a step."""

    lengths: tuple[int, ...]
    labelled: int
    """Tokens whose label has a loss."""

    @classmethod
    def of_examples(cls, examples: Sequence[Example]) -> Self:
        """Return the work of documents, whose prompts have no loss."""
        lengths = tuple(len(example.input_ids) for example in examples)
        return cls(lengths, sum(lengths) - sum(example.span_ids.count(PROMPT) for example in examples))

    @property
    def tokens(self) -> int:
        """Of all documents."""
        return sum(self.lengths)


def shape_of(model: Model) -> ModelShape:
    """Return a benchmark's model as the engine's plan describes it."""
    return ModelShape(
        family=model.family,
        hidden=model.hidden,
        inner=model.inner,
        layers=model.layers,
        heads=model.heads,
        kv_heads=model.kv_heads,
        head_dim=model.head_width,
        vocabulary=model.vocabulary,
        qkv_bias=model.family == "qwen2",
    )


def predict(model: Model, layout: Layout, work: Work, *, loss: str = "", is_dense: bool = False) -> dict[str, Any]:
    """Return the columns that stand beside a row's measured ones; none where the GPU is not known, or there is none.

    Args:
        model: its shape.
        layout: of ours, or what `rival_layout` returns.
        work: the documents of a step, one pack.
        loss: of another trainer, a key of LOGIT_BYTES; ours if empty.
        is_dense: whether attention computes all documents of the pack against each other.
    """
    gpu = _this_gpu()
    if gpu is None:
        return {}
    shape = shape_of(model)
    batch = Batch(work.tokens, work.labelled, 1, sum(map(tiles_of, work.lengths)))
    time = step_time(shape, layout, batch, Machine(gpu))
    if loss:
        time = rival_time(time, shape, layout, work, gpu, loss, is_dense=is_dense)
    columns: dict[str, Any] = {
        "predicted_ms": 1e3 * time.seconds,
        "predicted_mfu": shape.work.flops(work.lengths) / time.seconds / gpu.peak_flops,
        "predicted_parts_ms": {part: round(1e3 * seconds, 1) for part, seconds in time.device.items() if seconds}
        | {"host, beside them": round(1e3 * time.host, 1)},
    }
    if not loss:
        columns["predicted_gib"] = memory_of(shape, layout, Pack(work.tokens, work.labelled)).peak / GIB
    return columns


def rival_layout(*, checkpointing: bool, fuses_layers: bool) -> Layout:
    """Return another trainer's setting as far as it is one of ours."""
    return Layout(checkpointing="full" if checkpointing else "off", master="bfloat16", fuses_layers=fuses_layers)


def rival_time(
    ours: StepTime, shape: ModelShape, layout: Layout, work: Work, gpu: Gpu, loss: str, *, is_dense: bool
) -> StepTime:
    """Return the time of a step of another trainer; `ours` is that of the engine in the same setting."""
    device, bandwidth = dict(ours.device), OURS * gpu.bandwidth
    rows = work.labelled if loss == "trl" else work.tokens
    device["products"] += head_seconds(shape, rows, gpu, loss) - head_seconds(shape, work.labelled, gpu, "")
    device["passes"] += (loss_bytes(shape, rows, loss) - loss_bytes(shape, work.labelled, "")) / bandwidth
    if layout.fuses_layers:  # Liger's kernels: norms like ours, but autograd adds up the gradients of what layers share
        kept = shape.layers - layout.num_recomputed(shape)
        sums = RIVAL_SUMS * shape.layers - NORMS_AGAIN * kept
        device["passes"] += 2 * shape.hidden * sums * work.tokens / bandwidth
    launches = RIVAL_LAUNCHES[layout.fuses_layers, layout.checkpointing] * shape.layers
    device["launches"] = launches * LAUNCH_SECONDS
    host = launches * HOST_MS["off"] / OUR_LAUNCHES * 1e-3
    device["optimizer"] = RIVAL_OPTIMIZER_BYTES * shape.num_parameters / bandwidth
    if is_dense:
        flops = shape.layers * work.tokens**2 * 4 * shape.query_width
        again = 1 + (layout.checkpointing == "full")
        dense = flops / gpu.peak_flops * (again / DENSE_FORWARD + 2.5 / DENSE_BACKWARD)
        device["attention"] = max(device["attention"], dense)
    return replace(ours, device=device, host=host)


def head_seconds(shape: ModelShape, rows: int, gpu: Gpu, loss: str, dw_bytes: int = 2) -> float:
    """Return the time of the head's products by the way of a loss: chunks of rows and columns, and how often.

    `dw_bytes` is of Liger's and of plain sums of dW an element; ours and TRL's are float32.
    """
    row_chunk, columns, times = max(1, rows), shape.vocabulary, (1, 1, 1)
    out_bytes = dw_bytes if loss in ("liger", "logits") else 4
    if loss == "trl":
        row_chunk, columns, times = TRL_ROWS, TRL_COLUMNS, (2, 1, 1)
    elif loss == "liger":
        parts = math.ceil(shape.vocabulary / shape.hidden)
        row_chunk = 1 << (math.ceil(rows / parts) - 1).bit_length()
    seconds = 0.0
    for m in _chunks(rows, row_chunk):
        for n in _chunks(shape.vocabulary, columns):
            seconds += times[0] * product_seconds(m, n, shape.hidden, gpu)
            seconds += times[1] * product_seconds(m, shape.hidden, n, gpu)
            seconds += times[2] * product_seconds(n, shape.hidden, m, gpu, out_bytes)
    if loss == "liger":  # every chunk but the first adds to dW, which it reads as well
        seconds += dw_bytes * shape.head_parameters * max(0, math.ceil(rows / row_chunk) - 1) / gpu.bandwidth
    return seconds


def loss_bytes(shape: ModelShape, rows: int, loss: str) -> float:
    """Return the bytes that a loss moves beside its products; ours if `loss` is empty."""
    if loss == "":  # a pass over the logits reads and writes; dW in float32 is written, read and cast
        return 4 * rows * shape.vocabulary + 10 * shape.head_parameters
    moved = LOGIT_BYTES[loss] * rows * shape.vocabulary
    if loss == "trl":  # dW in float32: zeroed, read and written for every chunk of rows, and cast
        moved += (4 + 8 * math.ceil(rows / TRL_ROWS) + 6) * shape.head_parameters
    return moved


def loss_ms(model: Model, rows: int, loss: str, *, projects_again: bool = False) -> float | None:
    """Return the milliseconds of a loss and its gradients alone; None where the GPU is not known, or there is none.

    Liger's adds dW up in float32 here. `projects_again` is of its loss by token, which has the logits computed twice.
    """
    gpu = _this_gpu()
    if gpu is None:
        return None
    shape = shape_of(model)
    products = head_seconds(shape, rows, gpu, loss, 4 if loss == "liger" else 2)
    seconds = products + loss_bytes(shape, rows, loss) / (OURS * gpu.bandwidth)
    if projects_again:
        seconds += head_seconds(shape, rows, gpu, "") / 3 + 4 * rows * shape.vocabulary / (OURS * gpu.bandwidth)
    return 1e3 * seconds


def _chunks(whole: int, most: int) -> list[int]:
    full, rest = divmod(whole, most)
    return [most] * full + [rest] * (rest > 0)


def _this_gpu() -> Gpu | None:
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((GPUS[key] for part, key in NAMES.items() if part in name), None)
