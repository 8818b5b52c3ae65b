"""The shapes of a model's kernels are those of its config, and only config.json is needed for them."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from alttrain.engine.errors import ConfigError, ModelError
from alttrain.engine.model.kernel_shapes import read_shapes, shapes_of
from alttrain.engine.proof.shapes import DEFAULT_SHAPES, KernelShapes

SIZES = {
    "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "changes", "head_dim", "has_bias", "normalises"),
    [
        ("qwen2", {}, 6, True, False),
        ("qwen3", {"head_dim": 16}, 16, False, True),
        ("llama", {}, 6, False, False),
        ("llama", {"attention_bias": True}, 6, True, False),
    ],
)
def test_shapes_are_those_of_the_config(
    family: str, changes: dict[str, Any], head_dim: int, has_bias: bool, normalises: bool
) -> None:
    config = AutoConfig.for_model(family, **SIZES, **changes)
    assert shapes_of(config, "bfloat16") == KernelShapes(
        hidden_size=24, intermediate_size=40, num_heads=4, num_kv_heads=2, head_dim=head_dim, vocab_size=61,
        dtype="bfloat16", eps=1e-5, has_qkv_bias=has_bias, normalises_heads=normalises,
    )  # fmt: skip


def test_the_model_that_is_named_by_default_has_the_shapes_that_are_given_for_it(tmp_path: Path) -> None:
    """As its config.json on the hub has them."""
    published = {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "rms_norm_eps": 1e-06,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(published))
    assert read_shapes(str(tmp_path), "--model", "bfloat16") == DEFAULT_SHAPES


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--model nowhere: no such folder"):
        read_shapes("nowhere", "--model", "bfloat16")
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_shapes(str(tmp_path), "--model", "bfloat16")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ModelError, match=r"model_type gpt2 has no .*only llama, qwen2 and qwen3"):
        read_shapes(str(tmp_path), "--model", "bfloat16")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError):
        read_shapes(str(tmp_path), "--model", "bfloat16")
