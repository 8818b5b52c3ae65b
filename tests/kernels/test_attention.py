"""Packed attention is each document's own attention: every path against the definition in fp64."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from alttrain.kernels import attention
from alttrain.kernels.attention import packed_attention, packed_attention_reference
from alttrain.kernels.backend import Backend
from skips import NO_GPU

ON_GPU = torch.cuda.is_available()
# Alone; of length 1; equal; many buckets; one far longer than the rest.
PACKS = [[9], [1], [1, 1, 1], [6] * 7, [1, 2, 3, 5, 8, 13, 21, 34, 4, 4, 1], [3, 200, 5, 4]]
# Beside and across the edges of the CUDA kernel's tiles, which are of 64 and 128 rows.
LONG_PACKS = [[1000, 37, 128, 129, 64, 1], [167] * 20]
# Two sums of the same numbers in fp32; SDPA's fp32 products on CUDA are sums of three TF32 ones.
EXACT = 5e-6 if ON_GPU else 1e-6
WAYS = {"by_document": 0, "by_bucket": 1 << 40}


def cu_seqlens(lengths: list[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scaling: float | None = 0.3) -> Tensor:
    out = packed_attention(query, key, value, cu_seqlens(lengths, query.device), max(lengths), scaling)
    assert out.shape == query.shape
    return out


def attend_by_sdpa(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scaling: float = 0.3) -> Tensor:
    return attention._sdpa(query, key, value, lengths, scaling)


def make_inputs(
    num_tokens: int, heads: int, kv_heads: int, dtype: torch.dtype, device: torch.device, width: int = 8
) -> list[Tensor]:
    """Return query, key, value and the gradient of out."""
    generator = torch.Generator().manual_seed(num_tokens)
    shapes = [(num_tokens, count, width) for count in (heads, kv_heads, kv_heads, heads)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def with_gradients(
    function: Callable[..., Tensor], inputs: list[Tensor], dtype: torch.dtype, *args: Any
) -> list[Tensor]:
    *leaves, upstream = (x.detach().to(dtype).requires_grad_() for x in inputs)
    out = function(*leaves, *args)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream.detach())]


def assert_is_the_definition(
    function: Callable[..., Tensor], inputs: list[Tensor], lengths: list[int], floor: float = 1e-6
) -> None:
    """Hold out and all gradients to twice PyTorch's own error in that dtype, against fp64.

    `floor`, times the norm of out's gradient, is allowed beside that: the gradients of the query and key of a document
    of one token are zero, which the definition hits to the bit and a difference of two rounded sums does not.
    """
    dtype, bounds = inputs[0].dtype, cu_seqlens(lengths, torch.device("cpu"))  # the definition reads them there
    truth = with_gradients(packed_attention_reference, inputs, torch.float64, bounds, 0.3)
    own = with_gradients(packed_attention_reference, inputs, dtype, bounds, 0.3)
    result = with_gradients(function, inputs, dtype, lengths)
    for name, value, plain, wanted in zip(("out", "dq", "dk", "dv"), result, own, truth, strict=True):
        assert value.dtype == dtype
        assert value.shape == wanted.shape
        allowed = 2 * (plain - wanted).norm() + EXACT * wanted.norm() + floor * inputs[-1].double().norm()
        assert (value - wanted).norm() <= allowed, name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("lengths", PACKS, ids=str)
def test_sdpa_equals_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    lengths: list[int],
    heads: int,
    kv_heads: int,
    dtype: torch.dtype,
    way: str,
) -> None:
    monkeypatch.setattr(attention, "COPY_BYTES", WAYS[way])
    inputs = make_inputs(sum(lengths), heads, kv_heads, dtype, device)
    assert_is_the_definition(attend_by_sdpa, inputs, lengths)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason=NO_GPU)
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (28, 4)])
@pytest.mark.parametrize("lengths", PACKS + LONG_PACKS, ids=str)
def test_varlen_equals_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    lengths: list[int],
    heads: int,
    kv_heads: int,
    dtype: torch.dtype,
    width: int,
) -> None:
    """With as many key heads as query heads, and with fewer; values by the very path a model takes."""
    monkeypatch.setattr(attention, "_sdpa", lambda *args: pytest.fail("half precision on CUDA takes varlen_attn"))
    inputs = make_inputs(sum(lengths), heads, kv_heads, dtype, device, width)
    assert_is_the_definition(attend, inputs, lengths, floor=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason=NO_GPU)
def test_varlen_takes_views_and_waits_for_nothing(device: torch.device) -> None:
    """Heads as slices of one fused projection, forward and backward, with every wait of the host an error."""
    lengths = [100, 28, 1, 200]
    fused = torch.randn(sum(lengths), 12, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    bounds = cu_seqlens(lengths, device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = packed_attention(*torch.split(fused, [8, 2, 2], dim=1), bounds, max(lengths))
        (gradient,) = torch.autograd.grad(out, fused, torch.ones_like(out))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    parts = [part.detach() for part in torch.split(fused, [8, 2, 2], dim=1)]
    wanted = with_gradients(attend, [*parts, torch.ones_like(out)], torch.bfloat16, lengths, None)
    assert torch.equal(out, wanted[0])
    # The kernel adds up the queries' gradients in no fixed order.
    torch.testing.assert_close(gradient, torch.cat(wanted[1:], dim=1), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("capability", "is_installed", "error", "found"),
    [
        ((9, 0), True, None, "FlashAttention 3"),
        ((9, 0), False, None, ""),
        ((10, 0), True, None, ""),
        (
            (9, 0), True, ImportError("undefined symbol"),
            "FlashAttention 2, as FlashAttention 3 is installed and fails (ImportError: undefined symbol)",
        ),
    ],
)  # fmt: skip
def test_flash_attention_3_is_taken_where_it_is_installed_and_runs(
    monkeypatch: pytest.MonkeyPatch, capability: Any, is_installed: bool, error: Exception | None, found: str
) -> None:
    activated: list[str] = []

    def activate(name: str) -> None:
        activated.append(name)
        if error is not None:
            raise error

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: name if is_installed else None)
    monkeypatch.setattr("torch.nn.attention.activate_flash_attention_impl", activate)
    attention.flash_attention_3.cache_clear()
    try:
        assert [attention.flash_attention_3(torch.device("cuda", 0)) for _ in range(2)] == [found, found]
        assert activated == (["FA3"] if found else [])  # once
        assert attention.flash_attention_3(torch.device("cpu")) == ""
    finally:
        attention.flash_attention_3.cache_clear()


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (4, 4)])
def test_keys_and_values_are_not_repeated_and_announced_where_torch_asks(
    monkeypatch: pytest.MonkeyPatch, heads: int, kv_heads: int, asks: bool
) -> None:
    """torch 2.11 takes fewer key heads without a word; 2.13 asks for `enable_gqa`."""
    given: dict[str, Any] = {}

    def varlen_attn(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
        given.update(
            options, shapes=(query.shape, key.shape, value.shape), is_copy=key.data_ptr() != inputs[1].data_ptr()
        )
        return torch.zeros_like(query)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    monkeypatch.setattr(attention, "_varlen_asks_for_gqa", lambda: asks)
    inputs = make_inputs(5, heads, kv_heads, torch.bfloat16, torch.device("cpu"))
    attention._varlen(*inputs[:3], cu_seqlens([2, 3], torch.device("cpu")), 3, None)
    assert given["shapes"] == tuple(x.shape for x in inputs[:3])
    assert not given["is_copy"]
    assert given.get("enable_gqa", False) == (asks and heads != kv_heads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_varlen_runs_where_it_can_and_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, dtype: torch.dtype, width: int, backend: Backend
) -> None:
    taken: list[str] = []
    for name in ("_varlen", "_sdpa"):
        path = getattr(attention, name)
        monkeypatch.setattr(attention, name, lambda *args, name=name, path=path: taken.append(name) or path(*args))
    inputs = make_inputs(10, 4, 2, dtype, device, width)[:3]
    packed_attention(*inputs, cu_seqlens([4, 6], device), 6, backend=backend)
    fits = device.type == "cuda" and dtype == torch.bfloat16 and width == 8 and backend == "auto"
    assert taken == ["_varlen" if fits else "_sdpa"]


@pytest.mark.parametrize("way", WAYS)
def test_documents_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch, device: torch.device, way: str) -> None:
    monkeypatch.setattr(attention, "COPY_BYTES", WAYS[way])
    lengths = [5, 4, 6, 30]
    query, key, value, upstream = make_inputs(45, 4, 2, torch.float32, device)
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    gradients = torch.autograd.grad(attend(*leaves, lengths)[5:9], leaves, upstream[5:9])
    for gradient in gradients:
        assert gradient[5:9].any()
        assert not gradient[:5].any()
        assert not gradient[9:].any()
    value[:5], value[9:] = torch.nan, torch.inf
    assert attend(query, key, value, lengths)[5:9].isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason=NO_GPU)
def test_documents_do_not_see_each_other_in_varlen(device: torch.device) -> None:
    lengths = [50, 40, 60, 300]
    query, key, value, _ = make_inputs(450, 4, 2, torch.bfloat16, device, width=64)
    alone = attend(query[50:90], key[50:90], value[50:90], [40])
    key[:50], key[90:], value[:50], value[90:] = torch.nan, torch.inf, torch.nan, torch.inf
    torch.testing.assert_close(attend(query, key, value, lengths)[50:90], alone)


def test_a_bucket_wastes_at_most_a_quarter() -> None:
    lengths = [3000, 48, 50, 160, 200, 168, 9, 48, 1]
    buckets = attention._buckets(lengths)
    assert sorted(itertools.chain(*buckets)) == list(range(len(lengths)))
    for bucket in buckets:
        of_bucket = [lengths[document] for document in bucket]
        assert of_bucket[0] == max(of_bucket) <= attention.BUCKET_RATIO * min(of_bucket)
    assert len(buckets) < len(lengths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaling_defaults_to_one_over_the_root_of_the_width(device: torch.device, dtype: torch.dtype) -> None:
    query, key, value, _ = make_inputs(10, 2, 2, dtype, device)
    wanted = attend(query, key, value, [4, 6], scaling=8**-0.5)
    torch.testing.assert_close(attend(query, key, value, [4, 6], scaling=None), wanted)


@pytest.mark.parametrize("bounds", [[0, 9], [0, 4, 4, 10], [1, 10], [0, 12, 10], [0], []], ids=str)
def test_bounds_that_do_not_rise_to_the_number_of_tokens_are_refused(device: torch.device, bounds: list[int]) -> None:
    inputs = make_inputs(10, 2, 2, torch.float32, device)[:3]
    with pytest.raises(ValueError) as raised:
        packed_attention(*inputs, torch.tensor(bounds, dtype=torch.int32, device=device), 10)
    text = f"cu_seqlens is {bounds[:1]} ... {bounds[-1:]}: it must rise from 0 to the number of tokens, 10."
    assert str(raised.value) == text


def test_the_public_function_takes_tensors_alone() -> None:
    names = list(inspect.signature(packed_attention).parameters)
    assert names == ["query", "key", "value", "cu_seqlens", "max_seqlen", "scaling", "backend"]
