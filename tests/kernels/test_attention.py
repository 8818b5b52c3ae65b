"""Packed attention is each document's own attention: against the definition, and inside the models that use it."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alttrain.kernels import attention
from alttrain.kernels.attention import packed_attention, packed_attention_reference

# Alone; of length 1; equal; many buckets; one far longer than the rest.
PACKS = [[9], [1], [1, 1, 1], [6] * 7, [1, 2, 3, 5, 8, 13, 21, 34, 4, 4, 1], [3, 200, 5, 4]]
WAYS = {"by_document": 0, "by_bucket": 1 << 40}


def cu_seqlens(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


def attend(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scaling: float = 0.3, **options: Any
) -> Tensor:
    """Call the interface with (N, heads, D) and return (N, Hq, D)."""
    described = {
        "cu_seq_lens_q": cu_seqlens(lengths),
        "cu_seq_lens_k": cu_seqlens(lengths),
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
    interface = [x.transpose(0, 1).unsqueeze(0) for x in (query, key, value)]
    out, weights = packed_attention(nn.Module(), *interface, None, scaling=scaling, **(described | options))
    assert weights is None
    assert out.shape == (1, *query.shape)
    return out[0]


def make_inputs(num_tokens: int, heads: int, kv_heads: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(num_tokens)
    shapes = [(num_tokens, count, 8) for count in (heads, kv_heads, kv_heads, heads)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def with_gradients(function: Any, inputs: list[Tensor], dtype: torch.dtype, *args: Any) -> list[Tensor]:
    *leaves, upstream = (x.detach().to(dtype).requires_grad_() for x in inputs)
    out = function(*leaves, *args)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream.detach())]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("lengths", PACKS, ids=str)
def test_equals_the_definition(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], heads: int, kv_heads: int, dtype: torch.dtype, way: str
) -> None:
    monkeypatch.setattr(attention, "COPY_BYTES", WAYS[way])
    inputs = make_inputs(sum(lengths), heads, kv_heads, dtype)
    truth = with_gradients(packed_attention_reference, inputs, torch.float64, cu_seqlens(lengths), 0.3)
    own = with_gradients(packed_attention_reference, inputs, dtype, cu_seqlens(lengths), 0.3)
    result = with_gradients(attend, inputs, dtype, lengths)
    for value, plain, wanted in zip(result, own, truth, strict=True):
        assert value.dtype == dtype
        assert (value - wanted).norm() <= 2 * (plain - wanted).norm() + 1e-6 * wanted.norm()


@pytest.mark.parametrize("way", WAYS)
def test_documents_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(attention, "COPY_BYTES", WAYS[way])
    lengths = [5, 4, 6, 30]
    query, key, value, upstream = make_inputs(45, 4, 2, torch.float32)
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    gradients = torch.autograd.grad(attend(*leaves, lengths)[5:9], leaves, upstream[5:9])
    for gradient in gradients:
        assert gradient[5:9].any()
        assert not gradient[:5].any()
        assert not gradient[9:].any()
    value[:5], value[9:] = torch.nan, torch.inf
    assert attend(query, key, value, lengths)[5:9].isfinite().all()


def test_a_bucket_wastes_at_most_a_quarter() -> None:
    lengths = [3000, 48, 50, 160, 200, 168, 9, 48, 1]
    buckets = attention._buckets(lengths)
    assert sorted(itertools.chain(*buckets)) == list(range(len(lengths)))
    for bucket in buckets:
        of_bucket = [lengths[document] for document in bucket]
        assert of_bucket[0] == max(of_bucket) <= attention.BUCKET_RATIO * min(of_bucket)
    assert len(buckets) < len(lengths)


def test_scaling_defaults_to_one_over_the_root_of_the_width() -> None:
    query, key, value, _ = make_inputs(10, 2, 2, torch.float32)
    wanted = attend(query, key, value, [4, 6], scaling=8**-0.5)
    torch.testing.assert_close(attend(query, key, value, [4, 6], scaling=None), wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 0.1}, "dropout = 0.1: packed attention has none; set the model's attention_dropout to 0."),
        ({"sliding_window": 64}, "sliding_window = 64: packed attention spans whole documents; turn it off."),
        ({"cu_seq_lens_q": None}, "cu_seq_lens_q, cu_seq_lens_k, max_length_q or max_length_k is missing: without"),
        ({"cu_seq_lens_q": torch.tensor([0, 9])}, "cu_seq_lens is [0] ... [9]: it must rise from 0 to the number of"),
        ({"cu_seq_lens_q": torch.tensor([0, 4, 4, 10])}, "cu_seq_lens is [0] ... [10]: it must rise from 0"),
        ({"cu_seq_lens_k": torch.tensor([0, 5, 10])}, "cu_seq_lens is [0] ... [10]: it must rise from 0"),
    ],
)
def test_error_texts(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        attend(*make_inputs(10, 2, 2, torch.float32)[:3], [4, 6], **options)
    assert str(raised.value).startswith(message)


def test_refuses_a_mask_and_a_batch() -> None:
    x = torch.zeros(2, 2, 10, 8)
    with pytest.raises(ValueError, match=r"^attention_mask is given: packed attention takes its documents from"):
        packed_attention(nn.Module(), x, x, x, torch.ones(10, 10))
    described: dict[str, Any] = {"cu_seq_lens_q": cu_seqlens([10]), "cu_seq_lens_k": cu_seqlens([10])}
    with pytest.raises(ValueError, match=r"^query has batch 2: a pack is one row"):
        packed_attention(nn.Module(), x, x, x, None, **described, max_length_q=10, max_length_k=10)


@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Llama"])
def test_a_pack_through_a_model_equals_its_documents_apart(family: str) -> None:
    import transformers

    transformers.AttentionInterface.register("alttrain_packed", packed_attention)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        use_cache=False,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).train()
    lengths = [1, 17, 5, 40, 6]
    documents = [torch.randint(97, (1, length)) for length in lengths]
    upstream = torch.randn(1, sum(lengths), 97)

    model.set_attn_implementation("sdpa")
    apart = torch.cat([model(input_ids=document, use_cache=False).logits for document in documents], dim=1)
    apart_gradients = torch.autograd.grad(apart, list(model.parameters()), upstream)

    model.set_attn_implementation("alttrain_packed")
    packed = model(
        input_ids=torch.cat(documents, dim=1),
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
        attention_mask=None,
        use_cache=False,
        cu_seq_lens_q=cu_seqlens(lengths),
        cu_seq_lens_k=cu_seqlens(lengths),
        max_length_q=max(lengths),
        max_length_k=max(lengths),
    ).logits
    packed_gradients = torch.autograd.grad(packed, list(model.parameters()), upstream)

    torch.testing.assert_close(packed, apart, rtol=1e-5, atol=1e-6)
    for ours, wanted in zip(packed_gradients, apart_gradients, strict=True):
        assert (ours - wanted).norm() <= 1e-5 * wanted.norm()
