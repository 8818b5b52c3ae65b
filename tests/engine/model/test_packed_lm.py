"""The model around the layers: what the head computes, what checkpointing recomputes, and what is built as what."""

import contextlib
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig

from alttrain.engine.config import ModelConfig
from alttrain.engine.model.packed_lm import ATTENTION, LossHead, PackedCausalLM, build_model
from alttrain.engine.trace.roles import ROLES

VOCABULARY, HIDDEN = 61, 24
ANSWER, ASSESSMENT = ROLES.index("answer"), ROLES.index("assessment")


def make_config(family: str = "qwen3", *, tied: bool = False) -> Any:
    return AutoConfig.for_model(
        family, vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64, tie_word_embeddings=tied,
    )  # fmt: skip


def make_model(config: Any, **changes: Any) -> PackedCausalLM:
    settings: dict[str, Any] = {"dtype": "float32", "kernels": "torch", "checkpointing": "off"} | changes
    backbone: Any = SimpleNamespace(config=config)
    model = build_model(ModelConfig(**settings), backbone, torch.device("cpu"), contextlib.nullcontext())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2, generator=generator)
    return model


def pack(documents: list[list[int]]) -> dict[str, Any]:
    """Return the model's arguments for these documents in one pack, every token but the last of each with a label."""
    bounds = torch.tensor([0, *map(len, documents)]).cumsum(0)
    labels = torch.cat([torch.tensor([*document[1:], -100]) for document in documents])
    return {
        "input_ids": torch.cat(list(map(torch.tensor, documents)))[None],
        "position_ids": torch.cat([torch.arange(len(document)) for document in documents])[None],
        "cu_seqlens": bounds.to(torch.int32),
        "max_seqlen": max(map(len, documents)),
        "labels": labels,
        "loss_weights": torch.where(labels < 0, 0.0, 1.0 + labels / VOCABULARY),
        "label_span_ids": torch.where(labels < 0, 0, ANSWER).to(torch.uint8),
        "rows": (labels >= 0).nonzero()[:, 0],
    }


def documents(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def test_the_head_returns_the_loss_and_what_each_role_has_of_it() -> None:
    torch.manual_seed(0)
    head = LossHead(HIDDEN, VOCABULARY, bias=False)
    head.backend = "torch"
    hidden, labels = torch.randn(6, HIDDEN), torch.tensor([3, 60, 0, -100, 7, 7])
    weights = torch.tensor([1.0, 2.5, 0.0, 0.0, 0.5, 9.0])
    roles = torch.tensor([ANSWER, ASSESSMENT, ASSESSMENT, 0, ANSWER, ANSWER], dtype=torch.uint8)
    rows = torch.tensor([0, 1, 2, 4])  # row 2 is measured without weight; row 5 is nobody's
    loss_sum, nll_sums, token_counts = head(hidden, labels, weights, roles, rows)

    logits = hidden.double() @ head.weight.detach().double().T
    nll = nn.functional.cross_entropy(logits, labels, reduction="none", ignore_index=-100)
    assert float(loss_sum.detach()) == pytest.approx(float(nll[0] + 2.5 * nll[1] + 0.5 * nll[4]), rel=1e-6)
    wanted = torch.zeros(len(ROLES)).double()
    wanted[ANSWER], wanted[ASSESSMENT] = nll[0] + nll[4], nll[1] + nll[2]
    torch.testing.assert_close(nll_sums.double(), wanted, rtol=1e-6, atol=1e-9)
    assert token_counts.tolist() == [2.0 if role in (ANSWER, ASSESSMENT) else 0.0 for role in range(len(ROLES))]


@pytest.mark.parametrize(("family", "kernels"), [("qwen2", "auto"), ("qwen3", "torch"), ("llama", "auto")])
def test_a_pack_is_its_documents(family: str, kernels: str) -> None:
    """No document sees another: loss and gradient of a pack are the sums of theirs."""
    together, alone = (make_model(make_config(family), kernels=kernels) for _ in range(2))
    texts = documents(5, 1, 9)
    packed = together(**pack(texts))[0]
    packed.backward()
    separate = sum(alone(**pack([text]))[0] for text in texts if len(text) > 1)
    separate.backward()
    torch.testing.assert_close(packed, separate, rtol=1e-5, atol=0)
    for (name, parameter), other in zip(together.named_parameters(), alone.parameters(), strict=True):
        error = (parameter.grad - other.grad).norm() / other.grad.norm()  # type: ignore[operator, union-attr]
        assert float(error) < 1e-5, name


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts matrix products, attentions and activations that are computed within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        if name in ("aten.mm.default", "aten.addmm.default", "aten.bmm.default"):
            self.counts["products"] += 1
        if "attention" in name and "backward" not in name:
            self.counts["attentions"] += 1
        if name == "aten.silu.default":
            self.counts["activations"] += 1
        return function(*args, **(kwargs or {}))


def computed(checkpointing: str) -> Counter[str]:
    """Return what forward and backward of one pack compute."""
    model = make_model(make_config(), checkpointing=checkpointing)
    calls = Calls()
    with calls:
        model(**pack(documents(7, 4)))[0].backward()
    return calls.counts


def test_checkpointing_recomputes_what_it_says() -> None:
    nothing, cheap, layers = (computed(checkpointing) for checkpointing in ("off", "selective", "full"))
    assert nothing["activations"] == 2
    # Everything but matrix products and attention.
    assert cheap == {**nothing, "activations": 4}
    # One attention a layer and six of its seven products: nothing needs what the last one returns. Not the head.
    assert layers["activations"] == 4
    assert layers["attentions"] == 2 * nothing["attentions"]
    assert layers["products"] == nothing["products"] + 2 * 6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_have_the_dtype_and_rotary_angles_stay_in_float32(dtype: str) -> None:
    model = make_model(make_config(), dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert model.causal_lm.model.rotary_emb.inv_freq.dtype == torch.float32
    assert model.training
    sums: tuple[Tensor, ...] = model(**pack(documents(3)))
    assert sums[0].dtype == torch.float32


def test_the_head_is_ours_and_a_tied_one_is_the_embedding() -> None:
    untied, tied = (make_model(make_config(tied=tied)).causal_lm for tied in (False, True))
    for causal_lm in (untied, tied):
        assert type(causal_lm.lm_head) is LossHead
        assert causal_lm.lm_head.backend == "torch"
        assert causal_lm.config._attn_implementation == ATTENTION["auto"]
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight


def test_the_config_that_will_be_exported_is_left_as_it_is() -> None:
    config = make_config()
    before = config.to_dict()
    model = make_model(config, checkpointing="full", dtype="bfloat16")
    assert config.to_dict() == before
    assert config._attn_implementation not in ATTENTION.values()
    assert model.causal_lm.config is not config
