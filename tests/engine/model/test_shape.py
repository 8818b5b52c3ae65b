"""Shapes are those of transformers' models, counted parameter by parameter, and of the published checkpoints."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from alttrain.engine.errors import ModelError
from alttrain.engine.model.shape import PUBLISHED, ModelShape

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "qwen2"},
        {"model_type": "qwen2", "tie_word_embeddings": True},
        {"model_type": "qwen3"},
        {"model_type": "qwen3", "head_dim": 16, "attention_bias": True},
        {"model_type": "llama"},
        {"model_type": "llama", "head_dim": 16, "attention_bias": True, "mlp_bias": True},
    ],
)
def test_parameters_are_those_that_transformers_builds(values: dict[str, Any]) -> None:
    values = SMALL | values
    config = AutoConfig.for_model(**values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    shape = ModelShape.from_config(values, Path("config.json"))
    assert shape.num_parameters == sum(math.prod(parameter.shape) for parameter in model.parameters())
    layers = sum(math.prod(p.shape) for name, p in model.named_parameters() if ".layers.0." in name)
    assert shape.layer_parameters == layers
    assert (shape.layers, shape.context) == (3, 512)


def test_the_recipes_backbones_have_the_parameters_of_their_checkpoints() -> None:
    counts = {name.rsplit("-", 1)[1]: shape.num_parameters for name, shape in PUBLISHED.items()}
    assert counts == {
        "1.5B": 1_777_088_000,
        "7B": 7_615_616_512,
        "8B": 8_030_261_248,
        "14B": 14_770_033_664,
        "32B": 32_763_876_352,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "model_type gpt2 is not supported; it must be one of llama, qwen2, qwen3."),
        ({"hidden_size": None}, "hidden_size is None; it must be a whole number, 1 or more."),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; it must be a whole number"),
        ({"vocab_size": "96"}, "vocab_size is 96; it must be a whole number"),
        ({"head_dim": True}, "head_dim is True; it must be a whole number"),
    ],
)
def test_a_config_that_says_no_shape_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError) as error:
        ModelShape.from_config(SMALL | {"model_type": "llama"} | change, Path("m/config.json"))
    assert str(error.value).startswith(f"m/config.json: {said}")


def test_the_work_is_six_flops_a_weight_and_causal_attention() -> None:
    shape = ModelShape.from_config(SMALL | {"model_type": "llama"}, Path("config.json"))
    weights = 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 80) + 96 * 32
    assert shape.work.per_token == 6 * weights
    assert shape.work.per_token_squared == 6 * 3 * 32
