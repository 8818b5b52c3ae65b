"""Both paths of the rotation against fp64, never further from it than twice transformers' own in the same dtype."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, Qwen2Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding, apply_rotary_pos_emb

from alttrain.kernels.backend import Backend
from alttrain.kernels.rope import rope, rope_, rope_reference, rotary_tables
from skips import NO_GPU

DTYPES = [torch.float32, torch.bfloat16]
PATHS = pytest.mark.parametrize("backend", ["triton", "torch"])
FUNCTIONS = pytest.mark.parametrize("function", [rope, rope_])
SCALING = 1.13
# B, Hq, Hkv, N, D: one token; heads and widths that are no powers of two; a batch; more rows than one program's.
SHAPES = [(1, 2, 1, 1, 2), (1, 3, 1, 5, 12), (1, 14, 2, 7, 64), (2, 5, 5, 3, 10), (1, 12, 2, 9, 128), (3, 4, 2, 11, 96)]

Pair = tuple[Tensor, Tensor]


class Inputs(NamedTuple):
    query: Tensor
    key: Tensor
    dquery: Tensor
    dkey: Tensor
    position_ids: Tensor
    inv_freq: Tensor

    @property
    def tables(self) -> Pair:
        return rotary_tables(self.position_ids, self.inv_freq, SCALING)


def make_inputs(shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device) -> Inputs:
    """Queries and keys as transformers passes them: transposed views of (B, N, H, D)."""
    batch, query_heads, key_heads, num_tokens, width = shape
    generator = torch.Generator().manual_seed(sum(shape))
    heads = [query_heads, key_heads] * 2
    tensors = (torch.randn(batch, num_tokens, count, width, generator=generator) for count in heads)
    position_ids = torch.randint(130_000, (batch, num_tokens), generator=generator)  # documents restart, so any order
    inv_freq = 1.0 / (1e6 ** (torch.arange(0, width, 2).float() / width))
    rotated = (tensor.to(device, dtype).transpose(1, 2) for tensor in tensors)
    return Inputs(*rotated, position_ids.to(device), inv_freq.to(device))


def differentiate(function: Callable[[Tensor, Tensor], Pair], inputs: Inputs, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return both results and both gradients; what `function` gets is a copy in the same order, and not a leaf."""
    leaves = [x.detach().to(dtype).clone().requires_grad_() for x in inputs[:2]]
    outputs = function(*(leaf * 1 for leaf in leaves))
    upstream = [x.to(dtype) for x in inputs[2:4]]
    return *(x.detach() for x in outputs), *torch.autograd.grad(outputs, leaves, upstream)


def exact(inputs: Inputs) -> tuple[Tensor, ...]:
    # The angle itself is rounded to fp32 by definition: position * inv_freq in transformers.
    angles = (inputs.position_ids[..., None].float() * inputs.inv_freq).double()
    cos, sin = angles.cos() * SCALING, angles.sin() * SCALING
    return differentiate(lambda q, k: rope_reference(q, k, cos, sin), inputs, torch.float64)


def transformers_tables(inputs: Inputs) -> Pair:
    emb = (inputs.position_ids[..., None].float() * inputs.inv_freq).repeat(1, 1, 2)
    return (emb.cos() * SCALING).to(inputs.query.dtype), (emb.sin() * SCALING).to(inputs.query.dtype)


def error(result: Tensor, truth: Tensor) -> float:
    return float((result.detach().double() - truth).norm() / truth.norm())


@pytest.mark.usefixtures("poison")
@PATHS
@FUNCTIONS
@pytest.mark.parametrize("whole_tables", [False, True], ids=["ours", "theirs"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(
    shape: tuple[int, int, int, int, int],
    dtype: torch.dtype,
    whole_tables: bool,
    function: Callable[..., Pair],
    backend: Backend,
    device: torch.device,
) -> None:
    inputs = make_inputs(shape, dtype, device)
    cos, sin = transformers_tables(inputs) if whole_tables else inputs.tables
    ours = differentiate(lambda q, k: function(q, k, cos, sin, backend=backend), inputs, dtype)
    own = differentiate(lambda q, k: apply_rotary_pos_emb(q, k, *transformers_tables(inputs)), inputs, dtype)
    truncated = backend == "triton" and device.type == "cpu" and dtype == torch.bfloat16
    for index, (value, theirs, wanted) in enumerate(zip(ours, own, exact(inputs), strict=True)):
        assert value.dtype == dtype
        if truncated:  # the interpreter cuts off where a GPU rounds
            assert error(value, wanted) <= torch.finfo(dtype).eps, index
        else:
            assert error(value, wanted) <= 2 * error(theirs, wanted) + 4 * torch.finfo(torch.float32).eps, index


@PATHS
def test_an_element_of_bf16_is_within_its_rounding(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs((1, 12, 2, 9, 128), torch.bfloat16, device)
    rotated = rope(inputs.query, inputs.key, *inputs.tables, backend=backend)
    for value, wanted in zip(rotated, exact(inputs), strict=False):
        # Where both terms cancel, what is left of fp32's own rounding is below the ulp of the inputs' size.
        bound = torch.finfo(torch.bfloat16).eps * wanted.abs() + 1e-6
        assert ((value.double() - wanted).abs() <= bound).all()


@PATHS
@pytest.mark.parametrize("llama3", [False, True], ids=["qwen2", "llama3 scaling"])
def test_the_tables_and_the_function_of_transformers(llama3: bool, backend: Backend, device: torch.device) -> None:
    scaled = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    shape = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    if llama3:
        scaled["original_max_position_embeddings"] = 512
        rotary: torch.nn.Module = LlamaRotaryEmbedding(LlamaConfig(**shape, rope_parameters=scaled))
    else:
        rotary = Qwen2RotaryEmbedding(Qwen2Config(**shape))
    rotary = rotary.to(device)
    inputs = make_inputs((1, 4, 2, 9, 16), torch.float32, device)
    wanted = rotary(inputs.query, inputs.position_ids)
    tables = rotary_tables(inputs.position_ids, rotary.inv_freq, rotary.attention_scaling)
    for ours, theirs in zip(tables, wanted, strict=True):
        assert ours.shape == (1, 9, 8)
        assert torch.equal(ours, theirs[..., :8])
    ours = rope(inputs.query, inputs.key, *tables, backend=backend)
    for value, theirs in zip(ours, apply_rotary_pos_emb(inputs.query, inputs.key, *wanted), strict=True):
        assert error(value, theirs.double()) < 1e-7
    with_theirs = rope(inputs.query, inputs.key, *wanted, backend=backend)
    assert all(torch.equal(a, b) for a, b in zip(ours, with_theirs, strict=True))


@PATHS
def test_the_rotation_keeps_lengths_and_knows_only_distances(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs((1, 4, 4, 9, 64), torch.float32, device)
    scores = []
    for shift in (0, 1000):
        tables = rotary_tables(torch.arange(9, device=device)[None] + shift, inputs.inv_freq)
        query, key = rope(inputs.query, inputs.key, *tables, backend=backend)
        torch.testing.assert_close(query.norm(dim=-1), inputs.query.norm(dim=-1), rtol=1e-6, atol=0)
        scores.append(query @ key.transpose(2, 3))
    torch.testing.assert_close(*scores, rtol=0, atol=2e-3)  # fp32 angles at 1,000 are off by 3e-5


@PATHS
@FUNCTIONS
def test_strides(function: Callable[..., Pair], backend: Backend, device: torch.device) -> None:
    inputs = make_inputs((2, 4, 2, 7, 16), torch.float32, device)
    wanted = differentiate(lambda q, k: rope(q, k, *inputs.tables, backend=backend), inputs, torch.float32)

    def of_one_projection(query: Tensor, key: Tensor) -> Pair:
        fused = torch.cat([query, key], dim=1).transpose(1, 2).contiguous()  # (B, N, Hq + Hkv, D)
        query, key = fused.transpose(1, 2).split([4, 2], dim=1)
        assert not query.transpose(1, 2).is_contiguous()
        return function(query, key, *inputs.tables, backend=backend)

    def by_heads(query: Tensor, key: Tensor) -> Pair:
        return function(query.clone(memory_format=torch.contiguous_format), key, *inputs.tables, backend=backend)

    for layout in (of_one_projection, by_heads):
        found = differentiate(layout, inputs, torch.float32)
        assert all(error(value, tensor.double()) < 1e-7 for value, tensor in zip(found, wanted, strict=True))
    one_row = rotary_tables(inputs.position_ids[:1], inputs.inv_freq)
    shared = rope(inputs.query, inputs.key, *one_row, backend=backend)
    each = rope(inputs.query, inputs.key, *(x.expand(2, 7, 8) for x in one_row), backend=backend)
    assert all(torch.equal(a, b) for a, b in zip(shared, each, strict=True))
    ones = torch.ones((), device=device)
    expanded = inputs._replace(dquery=ones.expand(2, 4, 7, 16), dkey=ones.expand(2, 2, 7, 16))
    found = differentiate(lambda q, k: function(q, k, *inputs.tables, backend=backend), expanded, torch.float32)
    assert all(error(value, tensor) < 1e-6 for value, tensor in zip(found, exact(expanded), strict=True))


@PATHS
@FUNCTIONS
@pytest.mark.parametrize("shape", [(1, 4, 2, 0, 16), (0, 4, 2, 3, 16)])
def test_no_tokens(
    shape: tuple[int, int, int, int, int], function: Callable[..., Pair], backend: Backend, device: torch.device
) -> None:
    inputs = make_inputs(shape, torch.float32, device)
    found = differentiate(lambda q, k: function(q, k, *inputs.tables, backend=backend), inputs, torch.float32)
    assert [x.shape for x in found] == [inputs.query.shape, inputs.key.shape] * 2


@PATHS
@FUNCTIONS
@pytest.mark.parametrize("dtype", DTYPES)
def test_bitwise_repeatable(
    dtype: torch.dtype, function: Callable[..., Pair], backend: Backend, device: torch.device
) -> None:
    inputs = make_inputs((1, 5, 2, 30, 64), dtype, device)
    first, second, other = (
        differentiate(lambda q, k, f=f: f(q, k, *inputs.tables, backend=backend), inputs, dtype)
        for f in (function, function, rope)
    )
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, other, strict=True))


@PATHS
def test_only_the_tables_are_kept(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs((1, 4, 2, 9, 16), torch.bfloat16, device)
    cos, sin = inputs.tables
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        query, key = rope(inputs.query.requires_grad_(), inputs.key.requires_grad_(), cos, sin, backend=backend)
    assert [tensor.data_ptr() for tensor in kept] == [cos.data_ptr(), sin.data_ptr()]
    assert query.stride() == inputs.query.stride(), "as a varlen attention wants them: (N, H, D) in memory"
    assert key.stride() == inputs.key.stride()


@PATHS
def test_in_place_means_in_place(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs((1, 4, 2, 9, 16), torch.float32, device)
    wanted = rope(inputs.query, inputs.key, *inputs.tables, backend=backend)
    dquery = inputs.dquery.clone()
    leaves = [x.detach().clone().requires_grad_() for x in inputs[:2]]
    query, key = (leaf * 1 for leaf in leaves)
    rotated = rope_(query, key, *inputs.tables, backend=backend)
    assert [x.data_ptr() for x in rotated] == [query.data_ptr(), key.data_ptr()]
    assert all(torch.equal(a, b) for a, b in zip(rotated, wanted, strict=True))
    torch.autograd.backward(rotated, (inputs.dquery, inputs.dkey))
    assert torch.equal(inputs.dquery, dquery), "a gradient belongs to whoever made it"


@PATHS
def test_whoever_kept_the_old_values_is_told(backend: Backend, device: torch.device) -> None:
    inputs = make_inputs((1, 4, 2, 9, 16), torch.float32, device)
    leaf = inputs.query.clone().requires_grad_()
    query = leaf.exp()  # keeps its result for its backward
    rotated, _ = rope_(query, inputs.key.clone(), *inputs.tables, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rotated.sum().backward()
    with pytest.raises(ValueError, match="query is a leaf that requires a gradient: it cannot be overwritten"):
        rope_(leaf, inputs.key, *inputs.tables, backend=backend)


@PATHS
@FUNCTIONS
def test_frozen_keys(function: Callable[..., Pair], backend: Backend, device: torch.device) -> None:
    inputs = make_inputs((1, 4, 2, 9, 16), torch.float32, device)
    leaf = inputs.query.clone().requires_grad_()
    query, key = function(leaf * 1, inputs.key.clone(), *inputs.tables, backend=backend)
    (query * inputs.dquery).sum().backward()
    assert leaf.grad is not None
    assert error(leaf.grad, exact(inputs)[2]) < 1e-6
    assert error(key, exact(inputs)[1]) < 1e-6


def test_gradcheck_of_the_reference() -> None:
    inputs = make_inputs((2, 3, 1, 2, 6), torch.float64, torch.device("cpu"))
    cos, sin = (table.double() for table in inputs.tables)
    leaves = (inputs.query.requires_grad_(), inputs.key.requires_grad_())
    assert torch.autograd.gradcheck(lambda q, k: rope_reference(q, k, cos, sin), leaves)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": torch.ones(4, 5, 8)}, "query has shape (4, 5, 8) and strides (40, 8, 1): it must be (B, H, N, D)"),
        ({"query": torch.ones(1, 4, 5, 7)}, "query has shape (1, 4, 5, 7) and strides (140, 35, 7, 1): it must be"),
        (
            {"key": torch.ones(1, 2, 8, 5).transpose(2, 3)},
            "key has shape (1, 2, 5, 8) and strides (80, 40, 1, 5): it must be (B, H, N, D), D even and its elements",
        ),
        ({"key": torch.ones(1, 2, 6, 8)}, "query has shape (1, 4, 5, 8), key (1, 2, 6, 8): they may differ in their"),
        (
            {"cos": torch.ones(1, 5, 3)},
            "cos has shape (1, 5, 3), sin (1, 5, 4): both must be (1, 5, 4), or with 1 for 1 or 8 for 4, contiguous.",
        ),
        (
            {"key": torch.ones(1, 2, 5, 8).bfloat16()},
            "query is torch.float32, key is torch.bfloat16: both must be float32, or both bfloat16.",
        ),
        (
            {"cos": torch.ones(1, 5, 4).bfloat16()},
            "cos is torch.bfloat16, sin is torch.float32: both must be float32.",
        ),
        ({"key": torch.ones(1, 2, 5, 8, device="meta")}, "inputs are on cpu, meta: they must be on one device."),
    ],
)
@FUNCTIONS
def test_error_texts(function: Callable[..., Pair], changes: dict[str, Tensor], message: str) -> None:
    tables = {"cos": torch.ones(1, 5, 4), "sin": torch.ones(1, 5, 4)}
    given = {"query": torch.ones(1, 4, 5, 8), "key": torch.ones(1, 2, 5, 8)} | tables | changes
    with pytest.raises(ValueError) as raised:
        function(**given)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("position_ids", "inv_freq", "message"),
    [
        (torch.arange(5), torch.ones(4), "position_ids is (5,) torch.int64: it must be (B, N) integers."),
        (torch.ones(1, 5), torch.ones(4), "position_ids is (1, 5) torch.float32: it must be (B, N) integers."),
        (torch.arange(5)[None], torch.ones(4).bfloat16(), "inv_freq is (4,) torch.bfloat16: it must be (D / 2,) torch"),
        (torch.arange(5)[None], torch.ones(4, device="meta"), "inv_freq is on meta, position_ids on cpu: use one"),
    ],
)
def test_error_texts_of_the_tables(position_ids: Tensor, inv_freq: Tensor, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        rotary_tables(position_ids, inv_freq)
    assert str(raised.value).startswith(message)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_offsets_beyond_32_bits() -> None:
    # 2^31 elements and a little before the last token: an int32 offset would wrap.
    num_tokens, heads, width = (1 << 18) + 8, 64, 128
    query = torch.zeros(1, num_tokens, heads, width, dtype=torch.bfloat16, device="cuda")
    query[:, -4:] = torch.randn(4, heads, width, device="cuda")
    position_ids = torch.arange(num_tokens, device="cuda")[None]
    cos, sin = rotary_tables(position_ids, torch.rand(width // 2, device="cuda"))
    query = query.transpose(1, 2)
    rotated, _ = rope(query, query[:, :2], cos, sin)
    last = query[:, :, -4:].clone()
    wanted, _ = rope(last, last[:, :2], cos[:, -4:], sin[:, -4:])
    assert torch.equal(rotated[:, :, -4:], wanted)
    assert not rotated[:, :, :-4].any()
