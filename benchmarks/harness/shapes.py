"""The models whose shapes are measured: the published R1-Distill models, and Qwen3."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Model:
    """Widths of one model."""

    hidden: int  # H
    inner: int  # I, of the MLP
    heads: int
    kv_heads: int
    vocabulary: int  # V
    layers: int
    head_width: int = 128
    family: str = "qwen2"


# The most important first: claims are about the 7B.
R1_DISTILL = {
    "R1-7B": Model(3584, 18_944, 28, 4, 152_064, 28),
    "R1-1.5B": Model(1536, 8960, 12, 2, 151_936, 28),
    "R1-8B": Model(4096, 14_336, 32, 8, 128_256, 32, family="llama"),
    "R1-14B": Model(5120, 13_824, 40, 8, 152_064, 48),
    "R1-32B": Model(5120, 27_648, 40, 8, 152_064, 64),
}
QWEN3 = {
    "Qwen3-8B": Model(4096, 12_288, 32, 8, 151_936, 36, family="qwen3"),
    "Qwen3-4B": Model(2560, 9728, 32, 8, 151_936, 36, family="qwen3"),
    "Qwen3-14B": Model(5120, 17_408, 40, 8, 151_936, 40, family="qwen3"),
    "Qwen3-32B": Model(5120, 25_600, 64, 8, 151_936, 64, family="qwen3"),
}
MODELS = R1_DISTILL | QWEN3
# The shape of a dry run, which only shows that everything runs.
TINY = {"tiny": Model(64, 160, 4, 2, 512, 2, 16)}

# What a family's published config.json says beside the widths.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "qwen2": {"rms_norm_eps": 1e-6, "use_sliding_window": False},
    "llama": {"rms_norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False, "rope_theta": 500_000.0},
    "qwen3": {"rms_norm_eps": 1e-6, "use_sliding_window": False, "attention_bias": False},
}

HEADLINE_TOKENS = 8192
PUBLISHED_TOKENS = 1340  # of 8 examples of AltTrain: the published batch
TOKENS = (1024, 4096, 16_384, 32_768)  # in addition to HEADLINE_TOKENS
WEIGHTLESS = (0.0, 0.3, 0.6, 0.9)  # share of rows with weight 0


def models_and_tokens(device: str, *, tiny: bool, cpu_tokens: int) -> list[tuple[str, Model, int]]:
    """Return name, shape and number of tokens of each case, the most important first."""
    if tiny:
        return [(name, model, 48) for name, model in TINY.items()]
    if device == "cpu":
        return [(name, model, cpu_tokens) for name, model in R1_DISTILL.items()]
    at_headline = [(name, model, HEADLINE_TOKENS) for name, model in MODELS.items()]
    return at_headline[:1] + [("R1-7B", MODELS["R1-7B"], tokens) for tokens in TOKENS] + at_headline[1:]


def transformers_config(model: Model, layers: int = 0) -> Any:
    """Return transformers' config of a model in that shape, with another number of layers where one is given."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        model.family,
        vocab_size=model.vocabulary,
        hidden_size=model.hidden,
        intermediate_size=model.inner,
        num_hidden_layers=layers or model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        head_dim=model.head_width,
        max_position_embeddings=131_072,
        tie_word_embeddings=False,
        **FAMILIES[model.family],
    )
