"""The exported config says the same to every version of transformers, and generation stops at the trained end."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, GenerationConfig

from alttrain.engine.errors import ModelError
from alttrain.engine.model.config_files import (
    check_end_ids,
    exported_config,
    exported_generation_config,
    read_generation_config,
    read_object,
    with_end,
)

FACTS = {"architecture": "LlamaForCausalLM", "dtype": "float32", "end_id": 7}
SHAPE = {
    "model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}


def exported(tmp_path: Path, **source: Any) -> dict[str, Any]:
    """Return the exported config of a folder whose config.json holds SHAPE and `source`."""
    values = {**SHAPE, **source}
    (tmp_path / "config.json").write_text(json.dumps(values))
    return exported_config(values, AutoConfig.from_pretrained(tmp_path), **FACTS)


ROPES: dict[str, tuple[dict[str, Any], Any, Any]] = {
    # what the source holds; theta and scaling as transformers 4 is to read them
    "older": ({"rope_theta": 500000, "rope_scaling": None}, 500000, None),
    "older, llama3": (
        {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        500000.0,
        {"rope_type": "llama3", **LLAMA3},
    ),
    "oldest": (
        {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}},
        1e4,
        {"type": "linear", "factor": 2.0},
    ),
    "newer": ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 1e6, None),
    "newer, yarn": (
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 2e4, **YARN}},
        2e4,
        {"rope_type": "yarn", **YARN},
    ),
    "newer, theta outside": ({"rope_theta": 3e4, "rope_parameters": {"rope_type": "default"}}, 3e4, None),
    "both, of which the newer counts": ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}, 1e6, None),
    "both, of which the older counts": (
        {"rope_theta": 1e4, "rope_scaling": {"rope_type": "llama3", **LLAMA3}, "rope_parameters": {"rope_theta": 5e4}},
        1e4,
        {"rope_type": "llama3", **LLAMA3},
    ),
    "none": ({}, 10000.0, None),
}


@pytest.mark.parametrize("name", ROPES)
def test_both_spellings_of_the_rotary_embedding(tmp_path: Path, name: str) -> None:
    source, theta, scaling = ROPES[name]
    config = exported(tmp_path, **source)
    before = AutoConfig.from_pretrained(tmp_path).rope_parameters
    assert (config["rope_theta"], config["rope_scaling"]) == (theta, scaling)
    assert isinstance(config["rope_parameters"], dict)

    def read(*left_out: str) -> Any:
        kept = {key: value for key, value in config.items() if key not in left_out}
        (tmp_path / "config.json").write_text(json.dumps(kept))
        return AutoConfig.from_pretrained(tmp_path).rope_parameters

    assert read() == before
    without_type = {key: value for key, value in before.items() if key != "type"}
    assert {key: value for key, value in read("rope_parameters").items() if key != "type"} == without_type
    newer = read("rope_theta", "rope_scaling")
    assert {key: value for key, value in newer.items() if key != "type"} == without_type


def test_keys_and_values_of_the_source_stay(tmp_path: Path) -> None:
    source = {
        "rms_norm_eps": 1e-5, "pretraining_tp": 1, "transformers_version": "4.43.1", "something_new": {"a": [1]},
        "bos_token_id": 3, "pad_token_id": None, "tie_word_embeddings": True,
    }  # fmt: skip
    config = exported(tmp_path, **source, architectures=["Other"], torch_dtype="bfloat16", auto_map={"AutoModel": "x"})
    assert {key: config[key] for key in source} == source
    assert {key: config[key] for key in SHAPE} == SHAPE
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == config["torch_dtype"] == "float32"
    assert "auto_map" not in config
    assert list(config)[: len(SHAPE)] == list(SHAPE)


def test_what_the_logits_depend_on_is_written_out(tmp_path: Path) -> None:
    config = exported(tmp_path)
    assert config["tie_word_embeddings"] is False
    assert config["num_key_value_heads"] == 2
    assert config["rms_norm_eps"] == 1e-6
    assert config["hidden_act"] == "silu"


@pytest.mark.parametrize(
    ("ids", "right"),
    [(None, 7), (7, 7), ([7], [7]), (3, [3, 7]), ([3, 5], [3, 5, 7]), ([3, 7], [3, 7]), (0, [0, 7]), ([], [7])],
)
def test_generation_stops_at_the_trained_end_and_where_it_did(tmp_path: Path, ids: Any, right: Any) -> None:
    assert with_end(ids, 7) == right
    assert exported(tmp_path, eos_token_id=ids)["eos_token_id"] == right
    source = {"eos_token_id": ids, "temperature": 0.6, "do_sample": True, "my_own": 1}
    assert exported_generation_config(source, {}, 7) == {**source, "eos_token_id": right}


def test_a_source_without_a_generation_config_gets_one_of_its_config() -> None:
    config = {"bos_token_id": 1, "pad_token_id": None, "eos_token_id": [3, 7], "vocab_size": 40}
    assert exported_generation_config(None, config, 7) == {"bos_token_id": 1, "eos_token_id": [3, 7]}


@pytest.mark.parametrize(
    "values",
    [
        {"do_sample": False, "temperature": 0.6, "bad_words_ids": [[1, 7]]},
        {"pad_token_id": -1, "suppress_tokens": None},
    ],
)
def test_settings_that_transformers_would_not_save_are_kept(tmp_path: Path, values: dict[str, Any]) -> None:
    """`GenerationConfig.save_pretrained` refuses them, which was found out after the last step."""
    (tmp_path / "generation_config.json").write_text(json.dumps(values))
    generation = exported_generation_config(read_generation_config(tmp_path, 7), {}, 7)
    assert generation == {**values, "eos_token_id": 7}
    with pytest.raises(ValueError):
        GenerationConfig.from_dict(generation).save_pretrained(tmp_path / "out")


def test_no_file_is_no_generation_config(tmp_path: Path) -> None:
    assert read_generation_config(tmp_path, 7) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "generation_config.json: not a JSON file. Fetch it again, or mend it."),
        ("\ufeff{}", "generation_config.json: not a JSON file. Fetch it again, or mend it."),
        ("[1]", "generation_config.json: holds a JSON list; it must hold an object. Fetch it again."),
        (
            '{"eos_token_id": "</s>"}',
            'eos_token_id is "</s>"; it must be a token id, a list of them, or null. Mend it.',
        ),
        ('{"eos_token_id": [1, null]}', "eos_token_id is [1, null]; it must be"),
        ('{"eos_token_id": true}', "eos_token_id is true; it must be"),
        ('{"eos_token_id": -1}', "eos_token_id is -1; it must be"),
        (
            '{"suppress_tokens": [1, 7]}',
            "suppress_tokens holds 7, the token that is trained as the end of a row: it would",
        ),
        ('{"bad_words_ids": [[1, 7], [7]]}', "bad_words_ids holds 7, the token that is trained as the end of a row"),
        ('{"eos_token_id": 1.5}', "eos_token_id is 1.5; it must be"),
    ],
)
def test_what_cannot_be_a_generation_config_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "generation_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError) as refused:
        read_generation_config(tmp_path, 7)
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "generation_config.json"))


def test_end_tokens_of_the_config_are_checked_too(tmp_path: Path) -> None:
    check_end_ids(tmp_path, {"eos_token_id": [1, 2]})
    check_end_ids(tmp_path, {})
    with pytest.raises(ModelError, match=r'config\.json: eos_token_id is \{"a": 1\}; it must be a token id'):
        check_end_ids(tmp_path, {"eos_token_id": {"a": 1}})


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a JSON file"):
        read_object(tmp_path / "none.json")
