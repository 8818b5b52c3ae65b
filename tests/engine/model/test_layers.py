"""Our layers are transformers' own: same parameters in, same loss and gradients out, in fp32 and bf16."""

import contextlib
import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from alttrain.engine.config import ModelConfig
from alttrain.engine.model.kernel_choice import TRITON, KernelPaths, Kernels
from alttrain.engine.model.layers import PATCHES, FusedAttention, FusedDown, FusedLayer, FusedNorm, fuse
from alttrain.engine.model.packed_lm import ATTENTION, PackedCausalLM, build_model
from alttrain.engine.trace.roles import ROLES
from skips import NO_GPU

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

FAMILIES = ["qwen2", "qwen3", "llama"]
# On CUDA `auto` is triton or torch; on CPU Triton's interpreter does not round bf16 as a GPU does, PyTorch's path does.
CASES = (
    [("triton", "float32", 8), ("triton", "bfloat16", 64)]
    if torch.cuda.is_available()
    else [("triton", "float32", 8), ("auto", "float32", 8), ("auto", "bfloat16", 64)]
)
CPU = torch.device("cpu")
LENGTHS = (5, 1, 9)
ROLE = ROLES.index("assessment")


def make_config(family: str, head_dim: int = 8, **changes: Any) -> Any:
    sizes = {
        "vocab_size": 61, "hidden_size": 3 * head_dim, "intermediate_size": 5 * head_dim, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": head_dim, "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }  # fmt: skip
    return AutoConfig.for_model(family, **(sizes | changes))


def make_model(
    config: Any,
    kernels: str,
    checkpointing: str = "off",
    *,
    dtype: str = "float32",
    device: torch.device = CPU,
    chosen: Kernels | None = None,
) -> PackedCausalLM:
    """Return a model whose parameters are bf16 numbers, the same in every dtype and on every device."""
    model = build_model(
        ModelConfig(path="-", dtype=dtype, kernels=kernels, checkpointing=checkpointing),  # type: ignore[arg-type]
        SimpleNamespace(config=config),  # type: ignore[arg-type]
        device,
        contextlib.nullcontext(),
        chosen,
    )
    generator = torch.Generator().manual_seed(0)
    spread = 0.2 if config.hidden_size < 64 else 0.07  # logits of like size at every width
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.empty(parameter.shape).normal_(1.0 if "norm" in name else 0.0, spread, generator=generator)
            parameter.copy_(values.bfloat16())
    return model


def make_pack(device: torch.device) -> dict[str, Any]:
    """Return the arguments of the model's forward for one pack."""
    num_tokens = sum(LENGTHS)
    generator = torch.Generator().manual_seed(1)
    pack = {
        "input_ids": torch.randint(61, (1, num_tokens), generator=generator),
        "position_ids": torch.cat([torch.arange(length) for length in LENGTHS])[None],
        "cu_seqlens": torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32),
        "labels": torch.randint(61, (num_tokens,), generator=generator),
        "loss_weights": torch.rand(num_tokens, generator=generator),
        "label_span_ids": torch.full((num_tokens,), ROLE, dtype=torch.uint8),
        "rows": torch.arange(num_tokens),
    }
    return {name: tensor.to(device) for name, tensor in pack.items()} | {"max_seqlen": max(LENGTHS)}


def differentiate(model: PackedCausalLM) -> dict[str, torch.Tensor]:
    """Return loss, nll sums and every gradient of one pack."""
    loss_sum, nll_sums, _ = model(**make_pack(next(model.parameters()).device))
    loss_sum.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    return {"loss": loss_sum.detach(), "nll": nll_sums, **gradients}  # type: ignore[dict-item]


@functools.cache
def by_definition(family: str, head_dim: int) -> dict[str, torch.Tensor]:
    """Return the same of transformers alone, one document at a time, in fp64 on the CPU."""
    config = make_config(family, head_dim)
    causal_lm = AutoModelForCausalLM.from_config(config, dtype=torch.float64, attn_implementation="eager")
    values = make_model(config, "torch").causal_lm.state_dict()
    causal_lm.load_state_dict({name: value.double() for name, value in values.items()})
    pack = make_pack(CPU)
    documents = (pack[name].split(LENGTHS, dim=-1) for name in ("input_ids", "labels", "loss_weights"))
    loss = nll_sum = torch.zeros((), dtype=torch.float64)
    for input_ids, labels, weights in zip(*documents, strict=True):
        logits = causal_lm(input_ids=input_ids, use_cache=False).logits[0]
        nll = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        loss, nll_sum = loss + (weights.double() * nll).sum(), nll_sum + nll.detach().sum()
    loss.backward()
    nll_sums = torch.zeros(len(ROLES), dtype=torch.float64)
    nll_sums[ROLE] = nll_sum
    gradients = {f"causal_lm.{name}": parameter.grad for name, parameter in causal_lm.named_parameters()}
    return {"loss": loss.detach(), "nll": nll_sums, **gradients}  # type: ignore[dict-item]


def relative_errors(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> dict[str, float]:
    assert found.keys() == wanted.keys()
    return {name: float((found[name].to(value) - value).norm() / value.norm()) for name, value in wanted.items()}


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name, error in relative_errors(found, wanted).items():
        assert error < 5e-6, f"{name}: {error}"


@pytest.mark.parametrize(("kernels", "dtype", "head_dim"), CASES)
@pytest.mark.parametrize("checkpointing", ["off", "selective", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_definition(
    device: torch.device, family: str, checkpointing: str, kernels: str, dtype: str, head_dim: int
) -> None:
    """Within twice what transformers' own layers are off by in that dtype, against fp64."""
    config = make_config(family, head_dim)
    plain = make_model(config, "torch", dtype=dtype, device=device)
    fused = make_model(config, kernels, checkpointing, dtype=dtype, device=device)
    assert not plain.kernels.fuses_layers
    assert not any(isinstance(module, FusedNorm) for module in plain.modules())
    assert fused.kernels.fuses_layers
    truth = by_definition(family, head_dim)
    own, found = (relative_errors(differentiate(model), truth) for model in (plain, fused))
    for name, error in found.items():
        assert error <= 2 * own[name] + 5e-6, f"{name}: {error}, transformers' own is {own[name]}"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("kernels", ["torch", "triton"])
@pytest.mark.parametrize("checkpointing", ["off", "selective", "full"])
def test_forward_and_backward_wait_for_nothing(device: torch.device, checkpointing: str, kernels: str) -> None:
    model = make_model(make_config("qwen3", 64), kernels, checkpointing, dtype="bfloat16", device=device)
    pack = make_pack(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(**pack)[0].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("left", ["rms_norm", "rope", "swiglu", "linear_cross_entropy", "attention"])
def test_each_kernel_may_be_left_to_pytorch_by_itself(device: torch.device, left: str) -> None:
    config = make_config("qwen3")
    paths = dataclasses.replace(TRITON, **{left: "torch"})
    mixed = make_model(config, "auto", device=device, chosen=Kernels(paths, True, "mixed"))
    kinds = {FusedNorm: "rms_norm", FusedAttention: "rope", FusedDown: "swiglu"}
    found = {
        name: getattr(m.paths, name) for m in mixed.modules() for kind, name in kinds.items() if isinstance(m, kind)
    }
    assert found == {name: "torch" if name == left else "triton" for name in kinds.values()}
    assert mixed.causal_lm.lm_head.backend == paths.linear_cross_entropy
    assert mixed.causal_lm.config._attn_implementation == ATTENTION[paths.attention]
    truth = by_definition("qwen3", 8)
    own, errors = (
        relative_errors(differentiate(m), truth) for m in (make_model(config, "torch", device=device), mixed)
    )
    for name, error in errors.items():
        assert error <= 2 * own[name] + 5e-6, f"{name}: {error}, transformers' own is {own[name]}"


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


def test_of_width_h_a_layer_keeps_the_stream_before_and_after_its_attention_alone() -> None:
    """Norm outputs are of that width too: the backward computes them again, unless it does so with the whole layer."""

    def kept(num_layers: int, family: str) -> int:
        model = make_model(make_config(family, num_hidden_layers=num_layers), "auto")
        storages: dict[int, torch.Tensor] = {}
        size = sum(LENGTHS) * model.causal_lm.config.hidden_size

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.numel() == size:
                storages[tensor.data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(**make_pack(CPU))[0].backward()
        return len(storages)

    for family in FAMILIES:
        assert kept(3, family) - kept(2, family) == 2, family


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
    assert fuse(model, KernelPaths(), keeps_products=False) == "Qwen3RMSNorm.forward takes (self, hidden_states, gate)"
    assert type(model.model.norm) is norm
