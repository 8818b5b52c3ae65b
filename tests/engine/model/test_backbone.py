"""What a model folder that is whole turns into; folders that are not are in tests/recipes/test_bad_folders.py."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from alttrain.engine.config import DataConfig, ModelConfig, RunConfig
from alttrain.engine.model.backbone import Backbone, open_backbone
from alttrain.engine.model.weights import RandomWeights, SafetensorsWeights

FAMILIES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("backbones")
    return {family: write_model(made / family, family) for family in FAMILIES}


def opened(folder: Path, **settings: Any) -> Backbone:
    return open_backbone(RunConfig(model=ModelConfig(path=str(folder), **settings), seed=7))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_in_the_folder(folders: dict[str, Path], family: str) -> None:
    backbone = opened(folders[family])
    assert backbone.folder == folders[family]
    assert backbone.architecture == FAMILIES[family]
    assert backbone.max_tokens == 1024
    assert backbone.weights == SafetensorsWeights(folders[family])
    assert backbone.tokenizer.eos_token == "<|end|>"
    # --model.dtype is how it is trained; what the folder says is what the export goes by.
    assert backbone.config.dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_work_is_six_flops_a_weight_and_the_triangle_of_attention(folders: dict[str, Path], family: str) -> None:
    """Counted over the real model: every matrix but the embedding, which is a lookup; and 12 * heads * width / 2."""
    backbone = opened(folders[family])
    causal_lm = AutoModelForCausalLM.from_pretrained(folders[family])
    products = [module.weight.numel() for module in causal_lm.modules() if isinstance(module, torch.nn.Linear)]
    assert len(products) == 2 * 7 + 1
    query = causal_lm.model.layers[0].self_attn.q_proj.weight.shape[0]
    assert backbone.work.per_token == 6 * sum(products)
    assert backbone.work.per_token_squared == 2 * 12 * query / 2


@pytest.mark.parametrize("written", [None, 8])
def test_heads_share_the_width_where_the_config_says_no_other(folders: dict[str, Path], written: int | None) -> None:
    backbone = opened(folders["qwen2"])
    backbone.config.head_dim = written
    assert backbone.work.per_token_squared == 6 * 2 * 4 * (written or 48 // 4)


def test_random_weights_are_of_the_seed_and_the_configs_spread(folders: dict[str, Path]) -> None:
    assert opened(folders["qwen2"], random_init=True).weights == RandomWeights(7, 0.2)


def test_a_tied_head_is_not_asked_of_the_files(tmp_path: Path, write_model: Callable[..., Path]) -> None:
    folder = write_model(tmp_path / "tied", tied=True)
    assert "lm_head.weight" not in SafetensorsWeights(folder).entries
    assert opened(folder).config.tie_word_embeddings


def test_a_template_of_ones_own_takes_the_place_of_the_tokenizers(folders: dict[str, Path], tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0]['content'] }} Ω", encoding="utf-8")
    config = RunConfig(model=ModelConfig(path=str(folders["llama"])))
    with_ours = open_backbone(dataclasses.replace(config, data=DataConfig(chat_template=str(template))))
    turn = [{"role": "user", "content": "good day"}]
    assert with_ours.tokenizer.apply_chat_template(turn, tokenize=False) == "good day Ω"
    assert open_backbone(config).tokenizer.apply_chat_template(turn, tokenize=False) == "<|user|>good day"


def test_no_weight_is_read_before_training(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank reads its own part, once the model is built: opening a 32B must cost nothing."""

    def read(*_: object) -> torch.Tensor:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(SafetensorsWeights, "read", read)
    opened(folders["qwen3"])
