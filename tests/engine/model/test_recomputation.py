"""Which layers a backward computes again, and that it comes to the same gradients, to the bit."""

import contextlib
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from alttrain.engine.config import ModelConfig
from alttrain.engine.model.packed_lm import PackedCausalLM, build_model
from alttrain.engine.trace.roles import ROLES

VOCABULARY, LAYERS = 53, 5
ANSWER = ROLES.index("answer")


def make_model(checkpointing: Any, count: int = 0, kernels: Any = "auto", family: str = "qwen2") -> PackedCausalLM:
    config = AutoConfig.for_model(
        family, vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    settings = ModelConfig(dtype="float32", kernels=kernels, checkpointing=checkpointing, recomputed_layers=count)
    backbone: Any = SimpleNamespace(config=config)
    model = build_model(settings, backbone, torch.device("cpu"), contextlib.nullcontext())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.3, generator=generator)
    return model


def pack(*lengths: int) -> dict[str, Any]:
    """Return the model's arguments for documents of these lengths in one pack."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(VOCABULARY, (sum(lengths),), generator=generator)
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    labels = tokens.roll(-1)
    labels[bounds[1:] - 1] = -100
    return {
        "input_ids": tokens[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seqlens": bounds.to(torch.int32),
        "max_seqlen": max(lengths),
        "labels": labels,
        "loss_weights": torch.where(labels < 0, 0.0, 0.5 + labels / VOCABULARY),
        "label_span_ids": torch.where(labels < 0, 0, ANSWER).to(torch.uint8),
        "rows": (labels >= 0).nonzero()[:, 0],
    }


def step(model: PackedCausalLM) -> tuple[list[int], list[Tensor]]:
    """Return in which order the backward enters layers again, and the loss and every gradient."""
    entered: list[int] = []
    for index, layer in enumerate(model.causal_lm.model.layers):
        # The attention inside: the layer's own hooks stand around the checkpoint in some versions.
        layer.self_attn.register_forward_pre_hook(lambda *_, index=index: entered.append(index))
    loss = model(**pack(9, 4, 6))[0]
    assert entered == list(range(LAYERS))
    loss.backward()
    return entered[LAYERS:], [loss.detach(), *(p.grad for p in model.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("checkpointing", ["full", "selective"])
@pytest.mark.parametrize("count", [0, 1, 3, LAYERS])
def test_the_first_layers_are_computed_again_in_the_order_of_the_backward(checkpointing: str, count: int) -> None:
    again, _ = step(make_model(checkpointing, count))
    assert again == list(reversed(range(count or LAYERS)))


@pytest.mark.parametrize("checkpointing", ["full", "selective"])
@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_gradients_are_those_of_no_recomputation_to_the_bit(checkpointing: str, kernels: str, family: str) -> None:
    again, kept = step(make_model("off", 0, kernels, family))
    assert again == []
    for count in (1, 2, LAYERS - 1, LAYERS, 0):
        _, recomputed = step(make_model(checkpointing, count, kernels, family))
        assert all(torch.equal(a, b) for a, b in zip(kept, recomputed, strict=True)), count


def saved_bytes(model: PackedCausalLM) -> int:
    """Return the bytes of distinct tensors, but parameters, that a forward keeps for its backward."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = model(**pack(9, 4, 6))
    assert result[0].requires_grad
    return sum(kept.values())


def test_each_recomputed_layer_keeps_as_much_less() -> None:
    kept = [saved_bytes(make_model("full" if count else "off", count)) for count in range(LAYERS + 1)]
    steps = [more - less for more, less in itertools.pairwise(kept)]
    assert min(steps) > 0
    # The first gives up the embedding's output too, or the like: the others are alike.
    assert max(steps[1:]) - min(steps[1:]) <= 0.05 * max(steps)


def test_nothing_is_computed_again_in_an_evaluation() -> None:
    model = make_model("full", 2).eval()
    entered: list[nn.Module] = []
    for layer in model.causal_lm.model.layers:
        layer.self_attn.register_forward_pre_hook(lambda module, _: entered.append(module))
    with torch.no_grad():
        model(**pack(9, 4))
    assert len(entered) == LAYERS


def test_what_is_not_settled_or_not_there_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="settled before"):
        make_model("auto")
    with pytest.raises(AssertionError):
        make_model("full", LAYERS + 1)


def test_transformers_gives_each_layer_a_switch() -> None:
    """What the helper stands on, in every supported version: the class's own is off."""
    assert GradientCheckpointingLayer.gradient_checkpointing is False
    layers = make_model("full", 2).causal_lm.model.layers
    assert [layer.gradient_checkpointing for layer in layers] == [True, True, False, False, False]
    assert all(isinstance(layer, GradientCheckpointingLayer) for layer in layers)
