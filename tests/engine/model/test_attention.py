"""Packed attention inside the models that use it, and what transformers' interface may not ask of it."""

import itertools
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from alttrain.engine.model.attention import packed_attention_forward
from alttrain.kernels.attention import packed_attention

ON_GPU = torch.cuda.is_available()
LENGTHS = [1, 17, 5, 40, 6]


def describe(lengths: list[int], device: torch.device) -> dict[str, Any]:
    """Return the four arguments that say where documents lie, as the backbone gives them."""
    bounds = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
    longest = max(lengths)
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def make_inputs(num_tokens: int, heads: int, kv_heads: int, device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, count, num_tokens, 8) for count in (heads, kv_heads, kv_heads)]
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def test_it_is_the_kernel_in_the_shapes_of_the_interface(device: torch.device) -> None:
    described = describe([4, 6], device)
    query, key, value = make_inputs(10, 4, 2, device)
    out, weights = packed_attention_forward(nn.Module(), query, key, value, None, scaling=0.3, **described)
    assert weights is None
    flat = (x[0].transpose(0, 1) for x in (query, key, value))
    wanted = packed_attention(*flat, described["cu_seq_lens_q"], 6, 0.3)
    assert torch.equal(out, wanted[None])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 0.1}, "dropout = 0.1: packed attention has none; set the model's attention_dropout to 0."),
        ({"sliding_window": 64}, "sliding_window = 64: packed attention spans whole documents; turn it off."),
        ({"cu_seq_lens_q": None}, "cu_seq_lens_q, cu_seq_lens_k, max_length_q or max_length_k is missing: without"),
        ({"max_length_k": None}, "cu_seq_lens_q, cu_seq_lens_k, max_length_q or max_length_k is missing: without"),
        ({"cu_seq_lens_k": [0, 5, 10]}, "cu_seq_lens_q and cu_seq_lens_k differ: the queries and keys of a pack are"),
        ({"cu_seq_lens_k": [0, 10]}, "cu_seq_lens_q and cu_seq_lens_k differ: the queries and keys of a pack are"),
    ],
)
def test_error_texts(device: torch.device, options: dict[str, Any], message: str) -> None:
    if isinstance(bounds := options.get("cu_seq_lens_k"), list):
        options = {"cu_seq_lens_k": torch.tensor(bounds, dtype=torch.int32, device=device)}
    with pytest.raises(ValueError) as raised:
        packed_attention_forward(
            nn.Module(), *make_inputs(10, 2, 2, device), None, **(describe([4, 6], device) | options)
        )
    assert str(raised.value).startswith(message)


def test_refuses_a_mask_and_a_batch(device: torch.device) -> None:
    x = torch.zeros(2, 2, 10, 8, device=device)
    with pytest.raises(ValueError, match=r"^attention_mask is given: packed attention takes its documents from"):
        packed_attention_forward(nn.Module(), x, x, x, torch.ones(10, 10))
    with pytest.raises(ValueError, match=r"^query has batch 2: a pack is one row"):
        packed_attention_forward(nn.Module(), x, x, x, None, **describe([10], device))


def make_model(family: str, head_dim: int) -> Any:
    """Return a model in fp64 whose parameters are bf16 numbers, so that every dtype below holds them exactly."""
    config = getattr(transformers, f"{family}Config")(
        vocab_size=97,
        hidden_size=4 * head_dim,
        intermediate_size=6 * head_dim,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        use_cache=False,
    )
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForCausalLM")(config).train().bfloat16().double()


def logits_and_gradients(model: Any, logits: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(logits, parameters, upstream.to(logits))
    return {"logits": logits.detach().double()} | {n: g.double() for n, g in zip(names, gradients, strict=True)}


def apart(model: Any, documents: list[Tensor], upstream: Tensor) -> dict[str, Tensor]:
    """Run one document at a time, by transformers alone; gradients are added up in fp64."""
    model.set_attn_implementation("eager")
    total: dict[str, Tensor] = {}
    for document, part in zip(documents, upstream.split(LENGTHS, dim=1), strict=True):
        found = logits_and_gradients(model, model(input_ids=document, use_cache=False).logits, part)
        logits = torch.cat([total.pop("logits"), found["logits"]], dim=1) if total else found["logits"]
        total = {n: total[n] + g if total else g for n, g in found.items() if n != "logits"} | {"logits": logits}
    return total


def packed(model: Any, documents: list[Tensor], upstream: Tensor) -> dict[str, Tensor]:
    model.set_attn_implementation("alttrain_packed")
    logits = model(
        input_ids=torch.cat(documents, dim=1),
        position_ids=torch.cat([torch.arange(length) for length in LENGTHS])[None].to(upstream.device),
        attention_mask=None,
        use_cache=False,
        **describe(LENGTHS, upstream.device),
    ).logits
    return logits_and_gradients(model, logits, upstream)


@pytest.mark.parametrize(("dtype", "head_dim"), [(torch.float32, 8), (torch.bfloat16, 64)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Llama"])
def test_a_pack_through_a_model_equals_its_documents_apart(
    device: torch.device, family: str, dtype: torch.dtype, head_dim: int
) -> None:
    """Within twice what transformers alone is off by in that dtype, against fp64; heads are grouped."""
    transformers.AttentionInterface.register("alttrain_packed", packed_attention_forward)
    model = make_model(family, head_dim).to(device)
    documents = [torch.randint(97, (1, length)).to(device) for length in LENGTHS]
    upstream = torch.randn(1, sum(LENGTHS), 97).bfloat16().double().to(device)
    truth = apart(model, documents, upstream)
    model = model.to(dtype)
    own, found = apart(model, documents, upstream), packed(model, documents, upstream)
    for name, wanted in truth.items():
        error, allowed = (found[name] - wanted).norm(), 2 * (own[name] - wanted).norm() + 1e-6 * wanted.norm()
        assert error <= allowed, f"{name}: {float(error / wanted.norm())}, {float(allowed / wanted.norm())}"
