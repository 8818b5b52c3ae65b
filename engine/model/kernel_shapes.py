"""The shapes at which a model's kernels run, from its config."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alttrain.engine.data.model_folder import fetch_folder
from alttrain.engine.data.tokenizer import reading
from alttrain.engine.errors import ModelError
from alttrain.engine.proof.shapes import KernelShapes

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FAMILIES_WITH_BIAS, FAMILIES_WITH_HEAD_NORMS = ("qwen2",), ("qwen3",)


def shapes_of(config: "PretrainedConfig", dtype: str) -> KernelShapes:
    """Return the shapes of a model of the families that are trained, whose weights are of `dtype`."""
    of: Any = config
    return KernelShapes(
        hidden_size=of.hidden_size,
        intermediate_size=of.intermediate_size,
        num_heads=of.num_attention_heads,
        num_kv_heads=of.num_key_value_heads,
        head_dim=getattr(of, "head_dim", None) or of.hidden_size // of.num_attention_heads,
        vocab_size=of.vocab_size,
        dtype=dtype,
        eps=of.rms_norm_eps,
        has_qkv_bias=of.model_type in FAMILIES_WITH_BIAS or bool(getattr(of, "attention_bias", False)),
        normalises_heads=of.model_type in FAMILIES_WITH_HEAD_NORMS,
    )


def read_shapes(model: str, flag: str, dtype: str) -> KernelShapes:
    """Return the shapes of the model in a folder, or of a hub id, of which config.json alone is read.

    Raises:
        ConfigError: there is no such folder, and the hub does not have it or cannot be reached.
        ModelError: it has no config.json, or one of another kind of model.
    """
    from transformers import AutoConfig

    folder: Path = fetch_folder(model, flag, with_weights=False)
    if not (folder / "config.json").is_file():
        raise ModelError("no config.json, which holds the shapes of the model. Name a model folder.", where=folder)
    with reading(folder, "config"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    try:
        return shapes_of(config, dtype)
    except AttributeError as error:
        raise ModelError(
            f"model_type {config.model_type} has no {error.name}: only llama, qwen2 and qwen3 are trained.",
            where=folder / "config.json",
        ) from error
