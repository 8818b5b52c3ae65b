"""Our layers against transformers' own: same parameters in, same hidden states and gradients out, for every family."""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from alttrain.engine.config import ModelConfig
from alttrain.engine.errors import ConfigError
from alttrain.engine.model.layers import PATCHES, FusedAttention, FusedDown, FusedLayer, FusedNorm, fuse
from alttrain.engine.model.packed_lm import PROVEN_GPUS, PackedCausalLM, build_model, choose_kernels
from skips import NO_PROVEN_GPU

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

ROOT = Path(__file__).resolve().parents[3]
FAMILIES = ["qwen2", "qwen3", "llama"]
LENGTHS = (5, 1, 9)


def make_config(family: str, **changes: Any) -> Any:
    sizes = {
        "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "initializer_range": 0.2,
    }  # fmt: skip
    return AutoConfig.for_model(family, **(sizes | changes))


def make_model(config: Any, kernels: str, checkpointing: str = "off") -> PackedCausalLM:
    model = build_model(
        ModelConfig(path="-", dtype="float32", kernels=kernels, checkpointing=checkpointing),  # type: ignore[arg-type]
        SimpleNamespace(config=config),  # type: ignore[arg-type]
        torch.device("cpu"),
        contextlib.nullcontext(),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2, generator=generator)
    return model


def differentiate(model: PackedCausalLM) -> dict[str, torch.Tensor]:
    """Return loss, nll sums and every gradient of one pack."""
    num_tokens = sum(LENGTHS)
    generator = torch.Generator().manual_seed(1)
    bounds = torch.tensor([0, *LENGTHS]).cumsum(0)
    loss_sum, nll_sums, _ = model(
        input_ids=torch.randint(61, (1, num_tokens), generator=generator),
        position_ids=torch.cat([torch.arange(length) for length in LENGTHS])[None],
        cu_seqlens=bounds.to(torch.int32),
        max_seqlen=max(LENGTHS),
        labels=torch.randint(61, (num_tokens,), generator=generator),
        loss_weights=torch.rand(num_tokens, generator=generator),
        label_span_ids=torch.full((num_tokens,), 4, dtype=torch.uint8),
        rows=torch.arange(num_tokens),
    )
    loss_sum.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    return {"loss": loss_sum.detach(), "nll": nll_sums, **gradients}  # type: ignore[dict-item]


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        error = float((found[name] - value).norm() / value.norm())
        assert error < 5e-6, f"{name}: {error}"


@pytest.mark.parametrize("kernels", ["auto", "triton"])
@pytest.mark.parametrize("checkpointing", ["off", "selective", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_transformers(family: str, checkpointing: str, kernels: str) -> None:
    plain = make_model(make_config(family), "torch")
    fused = make_model(make_config(family), kernels, checkpointing)
    assert not plain.kernels.fuses_layers
    assert not any(isinstance(module, FusedNorm) for module in plain.modules())
    assert fused.kernels.fuses_layers
    assert_equal(differentiate(fused), differentiate(plain))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_ours_and_still_theirs(family: str) -> None:
    plain, fused = (make_model(make_config(family), kernels) for kernels in ("torch", "auto"))
    assert {name for name, _ in fused.named_parameters()} == {name for name, _ in plain.named_parameters()}
    for module, original in zip(fused.modules(), plain.modules(), strict=True):
        is_patched = any(type(original).__name__.endswith(patch.suffix) for patch in PATCHES)
        assert (type(module) is not type(original)) == (is_patched or isinstance(module, FusedDown))
        assert isinstance(module, type(original))
    counts = [sum(isinstance(m, kind) for m in fused.modules()) for kind in (FusedLayer, FusedAttention, FusedDown)]
    assert counts == [2, 2, 2]


def test_frequencies_scaled_as_llama3_scales_them() -> None:
    rope = {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }  # fmt: skip
    plain, fused = (make_model(make_config("llama", rope_parameters=rope), kernels) for kernels in ("torch", "auto"))
    assert fused.kernels.fuses_layers
    assert_equal(differentiate(fused), differentiate(plain))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_act": "gelu"}, "LlamaMLP is of another kind"),
        ({"mlp_bias": True}, "LlamaMLP is of another kind"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}},
            "LlamaRotaryEmbedding is of another kind",
        ),
    ],
)
def test_what_does_not_fit_is_left_alone_and_said(changes: dict[str, Any], reason: str) -> None:
    fused = make_model(make_config("llama", **changes), "auto")
    assert not fused.kernels.fuses_layers
    assert fused.kernels.reason.endswith(reason)
    assert not any(isinstance(module, FusedNorm) for module in fused.modules())
    assert_equal(differentiate(fused), differentiate(make_model(make_config("llama", **changes), "torch")))


def test_a_forward_that_takes_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(make_config("qwen3"), "torch").causal_lm
    norm = type(model.model.norm)
    monkeypatch.setattr(norm, "forward", lambda self, hidden_states, gate=None: hidden_states)
    assert fuse(model, "torch", keeps_products=False) == "Qwen3RMSNorm.forward takes (self, hidden_states, gate)"
    assert type(model.model.norm) is norm


def test_triton_without_cuda_or_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from alttrain.engine.model import packed_lm as model

    monkeypatch.setattr(model, "INTERPRETED", False)
    with pytest.raises(ConfigError, match=r"--model.kernels triton: this machine has no CUDA device"):
        choose_kernels("triton", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU nobody has tried")
    unproven = choose_kernels("auto", torch.device("cuda"))
    assert (unproven.backend, unproven.fuses_layers) == ("torch", False)
    assert "not proven on a GPU nobody has tried" in unproven.reason


@pytest.mark.skipif(not PROVEN_GPUS, reason=NO_PROVEN_GPU)
def test_a_proven_gpu_has_its_proof() -> None:
    """Whoever enters a GPU must commit what its native tests gave."""
    for gpu, folder in PROVEN_GPUS.items():
        proof = json.loads((ROOT / "benchmarks" / "results" / folder / "tests.json").read_text())
        assert proof["environment"]["gpu"] == gpu
        assert not proof["dry_run"]
        assert proof["cut"] == []
        assert proof["tests"]
        assert all(test["outcome"] != "failed" for test in proof["tests"])
