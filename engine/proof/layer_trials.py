"""Trials of the kernels inside a layer: norm, rotary embedding, SwiGLU, attention, float8; forward and backward.

Every kernel is asked at the model's own widths for a number of tokens that is no multiple of 4 or of a block, so that
the last rows are masked ones; for a single token; and for none. The truth is the kernel file's own reference in fp64.
The documents have lengths that differ much, and three of them are of one or two tokens.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn.functional import linear

from alttrain.engine.proof.judge import Results
from alttrain.engine.proof.shapes import KernelShapes
from alttrain.engine.proof.trial import Trial
from alttrain.kernels.attention import packed_attention, packed_attention_reference
from alttrain.kernels.backend import Backend
from alttrain.kernels.float8 import E4M3, E5M2, Scaling, quantise, quantise_reference, quantise_transposed
from alttrain.kernels.rms_norm import add_rms_norm, add_rms_norm_reference, rms_norm, rms_norm_reference
from alttrain.kernels.rope import rope, rope_, rope_reference, rotary_tables
from alttrain.kernels.swiglu import swiglu_linear, swiglu_reference

# Of the documents of a trial: 1,037 tokens on a GPU, 75 where an interpreter runs them. They are more rows than the
# norm's programs of one wave, so that each of these adds up several tiles.
LENGTHS = {"cuda": (1, 2, 1, 61, 130, 842), "cpu": (1, 2, 1, 9, 62)}
# The projections before the rotation are of this width, whatever the model's is: it is the rotation that is asked.
NARROW = 48
Inputs = dict[str, Tensor]
Tables = tuple[Tensor, Tensor]


class Draw:
    """Random tensors of one trial, on its device; the same numbers each time."""

    def __init__(self, shapes: KernelShapes, device: torch.device) -> None:
        """Seed the generator of `device`."""
        self.device, self.dtype = device, getattr(torch, shapes.dtype)
        self._generator = torch.Generator(device).manual_seed(0)

    def normal(self, *size: int, scale: float = 1.0, mean: float = 0.0, dtype: torch.dtype | None = None) -> Tensor:
        """Return normal numbers of the model's dtype, or of `dtype`."""
        drawn = torch.randn(size, generator=self._generator, device=self.device)
        return drawn.mul_(scale).add_(mean).to(dtype or self.dtype)

    def integers(self, below: int, *size: int) -> Tensor:
        """Return integers in [0, below), int64."""
        return torch.randint(below, size, generator=self._generator, device=self.device)


def differentiate(
    function: Callable[..., Any], inputs: Inputs, upstream: tuple[Tensor, ...], dtype: torch.dtype | None = None
) -> Results:
    """Return what `function` of the inputs gives, as out_0 ..., and each input's gradient, as d_NAME, in `dtype`."""
    leaves = {name: x.detach().to(dtype or x.dtype, copy=True).requires_grad_() for name, x in inputs.items()}
    outputs = function(**leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    directions = [direction.to(dtype or direction.dtype) for direction in upstream]
    gradients = torch.autograd.grad(outputs, list(leaves.values()), directions)
    named = {f"d_{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    return {f"out_{index}": output.detach() for index, output in enumerate(outputs)} | named


def _trial(
    what: str, function: Callable[..., Any], reference: Callable[..., Any], inputs: Inputs, upstream: tuple[Tensor, ...]
) -> Trial:
    def run(backend: Backend) -> Results:
        return differentiate(lambda **given: function(**given, backend=backend), inputs, upstream)

    return Trial(what, run, lambda: differentiate(reference, inputs, upstream, torch.float64))


def lengths_on(device: torch.device) -> tuple[int, ...]:
    """Return the documents' lengths of a trial on `device`."""
    return LENGTHS[device.type]


def rms_norm_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """Norms of x and of x + residual: y, the sum, and the gradients of x, residual and weight."""
    num_tokens = sum(lengths_on(device))
    widths = {shapes.hidden_size: num_tokens}
    if shapes.normalises_heads:
        widths[shapes.head_dim] = num_tokens * shapes.num_heads
    for width, most_rows in widths.items():
        for num_rows in (most_rows, 1, 0):
            draw = Draw(shapes, device)
            x, residual = (draw.normal(num_rows, width, scale=scale) for scale in (0.5, 3.0))
            inputs = {"x": x, "weight": draw.normal(width, scale=0.3, mean=1.0)}
            upstream = (draw.normal(num_rows, width), draw.normal(num_rows, width))
            yield _trial(
                f"{num_rows} rows of {width}",
                lambda x, weight, backend: rms_norm(x, weight, shapes.eps, backend=backend),
                lambda x, weight: rms_norm_reference(x, weight, shapes.eps),
                inputs, upstream[:1],
            )  # fmt: skip
            yield _trial(
                f"{num_rows} rows of {width} and a residual",
                lambda x, residual, weight, backend: add_rms_norm(x, residual, weight, shapes.eps, backend=backend),
                lambda x, residual, weight: add_rms_norm_reference(x, residual, weight, shapes.eps),
                inputs | {"residual": residual}, upstream,
            )  # fmt: skip


def rope_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """The rotation into new tensors, and in place of what projections have written, with their bias where it is one."""
    for lengths in (lengths_on(device), (1,), ()):
        draw, num_tokens = Draw(shapes, device), sum(lengths)
        tables = _tables(shapes, device, lengths)
        heads = {"query": shapes.num_heads, "key": shapes.num_kv_heads}
        inputs = {name: draw.normal(1, count, num_tokens, shapes.head_dim) for name, count in heads.items()}
        upstream = tuple(draw.normal(*x.shape) for x in inputs.values())
        yield _rope_trial(f"{num_tokens} tokens", tables, inputs, upstream)
        inputs = {"x": draw.normal(1, num_tokens, NARROW)}
        for name, count in heads.items():
            inputs[f"{name}_weight"] = draw.normal(count * shapes.head_dim, NARROW, scale=NARROW**-0.5)
            if shapes.has_qkv_bias:
                inputs[f"{name}_bias"] = draw.normal(count * shapes.head_dim)
        yield _rope_in_place_trial(f"{num_tokens} tokens in place", shapes.head_dim, tables, inputs, upstream)


def _rope_trial(what: str, tables: Tables, inputs: Inputs, upstream: tuple[Tensor, ...]) -> Trial:
    return _trial(
        what,
        lambda query, key, backend: rope(query, key, *tables, backend=backend),
        lambda query, key: rope_reference(query, key, *tables),
        inputs, upstream,
    )  # fmt: skip


def _rope_in_place_trial(
    what: str, head_dim: int, tables: Tables, inputs: Inputs, upstream: tuple[Tensor, ...]
) -> Trial:
    def heads(x: Tensor, projections: Inputs) -> tuple[Tensor, Tensor]:
        made = []
        for name in ("query", "key"):
            y = linear(x, projections[f"{name}_weight"], projections.get(f"{name}_bias"))
            made.append(y.view(*y.shape[:-1], y.shape[-1] // head_dim, head_dim).transpose(1, 2))
        return made[0], made[1]

    return _trial(
        what,
        lambda x, backend, **projections: rope_(*heads(x, projections), *tables, backend=backend),
        lambda x, **projections: rope_reference(*heads(x, projections), *tables),
        inputs, upstream,
    )  # fmt: skip


def _tables(shapes: KernelShapes, device: torch.device, lengths: tuple[int, ...]) -> Tables:
    positions = torch.cat([torch.arange(length) for length in lengths] or [torch.arange(0)]).to(device)
    exponents = torch.arange(0, shapes.head_dim, 2, dtype=torch.float32, device=device) / shapes.head_dim
    return rotary_tables(positions[None], 10_000.0**-exponents)


def swiglu_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """SwiGLU with the projection after it, whose backward overwrites gate and up or not; a gate of -90 overflows."""
    for rows in (sum(lengths_on(device)) // 5, 1, 0):
        draw, width = Draw(shapes, device), shapes.intermediate_size
        gate, up = draw.normal(rows, width, scale=2.0), draw.normal(rows, width)
        gate[:, ::31], gate[:, 1::37] = 90.0, -90.0
        inputs = {"gate": gate, "up": up, "weight": draw.normal(shapes.hidden_size, width, scale=width**-0.5)}
        upstream = (draw.normal(rows, shapes.hidden_size),)
        for in_place in (False, True):
            yield _swiglu_trial(f"{rows} rows of {width}{', in place' if in_place else ''}", in_place, inputs, upstream)


def _swiglu_trial(what: str, in_place: bool, inputs: Inputs, upstream: tuple[Tensor, ...]) -> Trial:
    def ours(gate: Tensor, up: Tensor, weight: Tensor, backend: Backend) -> Tensor:
        # Of clones, as a backward in place may not overwrite leaves.
        return swiglu_linear(gate.clone(), up.clone(), weight, in_place_backward=in_place, backend=backend)

    return _trial(what, ours, lambda gate, up, weight: swiglu_reference(gate, up) @ weight.t(), inputs, upstream)


def attention_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """Causal attention within documents, some of one token, by the call that a GPU would take and by SDPA."""
    for lengths in (lengths_on(device), (1, 3)):
        draw, num_tokens = Draw(shapes, device), sum(lengths)
        bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
        heads = {"query": shapes.num_heads, "key": shapes.num_kv_heads, "value": shapes.num_kv_heads}
        inputs = {name: draw.normal(num_tokens, count, shapes.head_dim) for name, count in heads.items()}
        upstream = (draw.normal(num_tokens, shapes.num_heads, shapes.head_dim),)
        yield _attention_trial(f"{num_tokens} tokens", bounds, max(lengths), inputs, upstream)


def _attention_trial(what: str, bounds: Tensor, longest: int, inputs: Inputs, upstream: tuple[Tensor, ...]) -> Trial:
    scaling = inputs["query"].shape[-1] ** -0.5

    def ours(query: Tensor, key: Tensor, value: Tensor, backend: Backend) -> Tensor:
        path: Backend = "auto" if backend == "triton" else backend
        return packed_attention(query, key, value, bounds, longest, scaling, backend=path)

    def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return packed_attention_reference(query, key, value, bounds, scaling)

    return replace(_trial(what, ours, reference, inputs, upstream), cancels=True)


def float8_trials(shapes: KernelShapes, device: torch.device) -> Iterator[Trial]:
    """Activations, gradients, a transposed weight in float8: a row is zeros, one has an outlier, halves are met."""
    for rows, scaling in itertools.product((sum(lengths_on(device)), 1, 0), get_args(Scaling)):
        draw = Draw(shapes, device)
        x, dy = draw.normal(rows, shapes.intermediate_size), draw.normal(rows, shapes.hidden_size, scale=1e-6)
        x = x.bfloat16().to(x.dtype)  # of few bits, so that many lie between two float8 numbers
        weight = draw.normal(shapes.num_kv_heads * shapes.head_dim, shapes.hidden_size, scale=0.02)
        x[1:2], x[2:3, 5], weight[3, 7] = 0, 1e4, 30.0
        yield _float8_trial(f"{rows} rows, {scaling}", scaling, x, dy, weight)


def _float8_trial(what: str, scaling: Scaling, x: Tensor, dy: Tensor, weight: Tensor) -> Trial:
    factors = torch.exp2(torch.arange(dy.shape[1], device=dy.device) % 7 - 3) if scaling == "rowwise" else None
    dtype = E4M3 if scaling == "rowwise" else E5M2

    def run(backend: Backend) -> Results:
        found = {
            "x": quantise(x, scaling, backend=backend),
            "dy": quantise(dy, scaling, dtype, factors=factors, backend=backend),
            "w": quantise_transposed(weight, scaling, backend=backend),
        }
        # The weight's scales stand at its own rows, which are columns of the transpose.
        scales = {name: part.scale.reshape(1, -1) if name == "w" else part.scale for name, part in found.items()}
        numbers = {name: part.values.float() * scales[name] for name, part in found.items()}
        return numbers | {f"{name}_scale": scale for name, scale in scales.items()}

    def truth() -> Results:
        scaled = dy.double() if factors is None else dy.double() * factors
        found = {"x": quantise_reference(x, scaling), "dy": quantise_reference(scaled, scaling, dtype)}
        numbers, scale = quantise_reference(weight, scaling)
        found["w"] = (numbers.t(), scale.reshape(1, -1))
        return {name: part[0] for name, part in found.items()} | {
            f"{name}_scale": part[1] for name, part in found.items()
        }

    return Trial(what, run, truth)
