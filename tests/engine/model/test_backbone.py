"""What a model folder that is whole turns into; folders that are not are in tests/recipes/test_bad_folders.py."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from alttrain.engine.config import DataConfig, ModelConfig, RunConfig
from alttrain.engine.errors import ModelError
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


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
def test_a_spread_that_draws_no_weights_is_refused(
    write_model: Callable[..., Path], tmp_path: Path, value: float
) -> None:
    folder = write_model(tmp_path / "flat", save_weights=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "initializer_range": value}))
    with pytest.raises(ModelError, match=rf"config\.json: initializer_range is {value}; to draw weights"):
        opened(folder, random_init=True)


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


def test_a_byte_order_mark_is_no_part_of_a_template_file(folders: dict[str, Path], tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("\ufeff{{ messages[0]['content'] }}", encoding="utf-8")
    config = RunConfig(model=ModelConfig(path=str(folders["llama"])), data=DataConfig(chat_template=str(template)))
    backbone = open_backbone(config)
    turn = [{"role": "user", "content": "good day"}]
    assert backbone.tokenizer.apply_chat_template(turn, tokenize=False) == "good day"
    assert backbone.companions["chat_template.jinja"] == b"{{ messages[0]['content'] }}"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_an_export_gets_beside_its_weights(folders: dict[str, Path], family: str) -> None:
    backbone = opened(folders[family], dtype="bfloat16")
    source = json.loads((folders[family] / "config.json").read_text())
    config = json.loads(backbone.companions["config.json"])
    assert config == source | {key: config[key] for key in ("rope_theta", "rope_scaling", "torch_dtype", "dtype")} | {
        key: value for key, value in config.items() if key not in source
    }
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"
    assert config["rope_theta"] == source["rope_parameters"]["rope_theta"]
    assert config["architectures"] == [FAMILIES[family]]
    assert json.loads(backbone.companions["generation_config.json"])["eos_token_id"] == 256
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert backbone.companions[name] == (folders[family] / name).read_bytes()
    opened_again = opened(folders[family], random_init=True, dtype="bfloat16")
    assert opened_again.companions == backbone.companions


def test_generation_stops_at_what_was_trained_too(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "elsewhere")
    (folder / "generation_config.json").write_text('{"eos_token_id": 258, "do_sample": false, "temperature": 0.6}')
    generation = json.loads(opened(folder).companions["generation_config.json"])
    assert generation == {"eos_token_id": [258, 256], "do_sample": False, "temperature": 0.6}


def test_an_end_that_is_cut_up_in_a_text_is_refused(write_model: Callable[..., Path], tmp_path: Path) -> None:
    """It has an id, but no text is ever given it: neither training nor a server would see it."""
    folder = write_model(tmp_path / "cut-up")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "<|end|>"]
    tokenizer["model"]["vocab"]["<|end|>"] = 256
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(
        ModelError, match=r"the end-of-sequence token '<\|end\|>' is id 256, but tokenizer\.json cuts it up"
    ):
        opened(folder)


def test_an_end_that_stands_alone_only_is_refused(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "alone")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["single_word"] = True
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="cuts it up in a text"):
        opened(folder)


def test_a_beginning_that_is_no_token_is_refused(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "begun")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": "<|begin|>"}))
    opened(folder)  # no template writes it
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + template)
    with pytest.raises(ModelError, match=r"its bos_token '<\|begin\|>', which the chat template writes, is no token"):
        opened(folder)


def test_ids_count_and_not_how_many_there_are(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "gap")  # 259 ids and 264 rows or more
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"][tokenizer["added_tokens"][-1]["content"]] = 300
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"holds id 300, and the model has 26\d embedding rows"):
        opened(folder)


def test_what_differs_from_the_folder_is_told(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "told", "llama")
    assert opened(folder).notes == ()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "own.Config"}}))
    backbone = opened(folder)
    assert backbone.notes == (
        "config.json names code of its own (auto_map), which is not run: OUT/model is without it.",
    )
    assert "auto_map" not in json.loads(backbone.companions["config.json"])


def test_no_weight_is_read_before_training(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank reads its own part, once the model is built: opening a 32B must cost nothing."""

    def read(*_: object) -> torch.Tensor:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(SafetensorsWeights, "read", read)
    opened(folders["qwen3"])
