"""The file tokenises, whatever class transformers prefers; special tokens and templates are those that it reads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from alttrain.engine.data.tokenizer import differing_probe, fetch_tokenizer, load_raw, load_tokenizer, probes
from alttrain.engine.errors import ModelError

Folder = Callable[[str], Path]
TURN = [{"role": "user", "content": "good day"}]


@pytest.fixture
def folder(tmp_path: Path, small_tokenizer_folder: Folder) -> Path:
    """A byte-level tokenizer of the test's own, with the config of a Qwen 2 model."""
    made = shutil.copytree(small_tokenizer_folder("bytes"), tmp_path / "model")
    (made / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    return made


def change(file: Path, **changes: object) -> None:
    """Set keys of a JSON file; a value of `...` takes the key out."""
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def give(folder: Path, **parts: Any) -> Tokenizer:
    """Give the folder's tokenizer.json other parts, and return what the tokenizers library reads then."""
    raw = load_raw(folder)
    for name, part in parts.items():
        setattr(raw, name, part)
    raw.save(str(folder / "tokenizer.json"))
    return load_raw(folder)


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
FOREIGN: dict[str, dict[str, Any]] = {
    "digits in threes": {
        "pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), BYTES])
    },
    "space before": {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
    "no normalizer": {"normalizer": None},
    "lower case": {"normalizer": normalizers.Lowercase()},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_the_file_tokenises_and_not_a_class(folder: Path, name: str) -> None:
    raw = give(folder, **FOREIGN[name])
    assert differing_probe(raw, AutoTokenizer.from_pretrained(folder)) is not None  # transformers' class is another
    assert differing_probe(raw, load_tokenizer(folder)) is None


def test_offsets_are_of_the_file_too(folder: Path) -> None:
    raw = give(folder, **FOREIGN["digits in threes"])
    text = "In 1999 <think> it was 20.5"
    ours = load_tokenizer(folder)([text], return_offsets_mapping=True, add_special_tokens=False)
    encoded = raw.encode(text, add_special_tokens=False)
    assert ours["input_ids"] == [encoded.ids]
    assert list(map(tuple, ours["offset_mapping"][0])) == encoded.offsets


@pytest.mark.parametrize("key", ["split_special_tokens", "do_lower_case", "add_prefix_space"])
def test_no_setting_changes_the_ids(folder: Path, key: str) -> None:
    change(folder / "tokenizer_config.json", **{key: True})
    assert differing_probe(load_raw(folder), load_tokenizer(folder)) is None


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word", "normalized"])
def test_added_tokens_are_as_the_file_describes_them(folder: Path, flag: str) -> None:
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    others = {str(token.pop("id")): {**token, flag: not token[flag]} for token in added}
    change(folder / "tokenizer_config.json", added_tokens_decoder=others)
    assert differing_probe(load_raw(folder), load_tokenizer(folder)) is None


def test_truncation_and_padding_of_the_file_are_left_out(folder: Path) -> None:
    raw = load_raw(folder)
    raw.enable_truncation(3)
    raw.enable_padding(length=5)
    raw.save(str(folder / "tokenizer.json"))
    texts = ["a b c d e f g h", "a"]
    ids = load_tokenizer(folder)(texts, add_special_tokens=False)["input_ids"]
    assert ids == [encoding.ids for encoding in load_raw(folder).encode_batch(texts, add_special_tokens=False)]
    assert len(ids[0]) > 5
    assert len(ids[1]) == 1


def test_names_of_special_tokens_are_those_that_transformers_reads(folder: Path) -> None:
    change(folder / "tokenizer_config.json", eos_token=..., pad_token=...)
    named = {"eos_token": {"content": "<|im_end|>", "lstrip": False}, "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.eos_token_id == load_raw(folder).token_to_id("<|im_end|>")


def test_templates_are_those_that_transformers_reads(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("FILE {{ messages[0].content }}")
    change(folder / "tokenizer_config.json", chat_template="CONFIG")
    assert load_tokenizer(folder).apply_chat_template(TURN, tokenize=False) == "FILE good day"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("TOOLS")
    tools = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]
    assert load_tokenizer(folder).apply_chat_template(TURN, tools=tools, tokenize=False) == "TOOLS"
    (folder / "chat_template.jinja").unlink()
    shutil.rmtree(folder / "additional_chat_templates")
    named = [{"name": "default", "template": "LIST {{ messages[0].content }}"}, {"name": "rag", "template": "RAG"}]
    change(folder / "tokenizer_config.json", chat_template=named)
    assert load_tokenizer(folder).apply_chat_template(TURN, tokenize=False) == "LIST good day"


@pytest.mark.parametrize("place", ["file", "config", "named"])
def test_a_byte_order_mark_is_no_part_of_a_template(folder: Path, place: str) -> None:
    text = "\ufeff{{ messages[0].content }}\ufeff"
    (folder / "chat_template.jinja").unlink()
    if place == "file":
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    else:
        template = text if place == "config" else [{"name": "default", "template": text}]
        change(folder / "tokenizer_config.json", chat_template=template)
    assert load_tokenizer(folder).apply_chat_template(TURN, tokenize=False) == "good day\ufeff"


def test_every_added_token_is_probed(folder: Path) -> None:
    raw = load_raw(folder)
    for token in raw.get_added_tokens_decoder().values():
        assert any(token.content in text for text in probes(raw))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_broken_file_is_named_as_the_tokenizers(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    with pytest.raises(ModelError, match=r"model: transformers cannot read its tokenizer \(\w+"):
        load_tokenizer(folder)


def test_fetching_takes_a_folder_or_a_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch_tokenizer(str(folder), "--tokenizer").eos_token == "<|im_end|>"
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: str(folder))
    assert fetch_tokenizer("somebody/something", "--tokenizer").eos_token == "<|im_end|>"


def test_fetching_says_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"^--tokenizer .*model: no tokenizer\.json there, .* give a folder with one"):
        fetch_tokenizer(str(folder), "--tokenizer")

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ModelError, match=r"^--tokenizer somebody/something: .* give its folder\.$"):
        fetch_tokenizer("somebody/something", "--tokenizer")


def test_a_beginning_that_only_the_class_names_is_the_models(small_tokenizer_folder: Folder, tmp_path: Path) -> None:
    """Else a template that writes `bos_token` would train without it, while a server writes it."""
    folder = shutil.copytree(small_tokenizer_folder("pieces-plain-tags"), tmp_path / "model")
    change(folder / "tokenizer_config.json", bos_token=..., eos_token=..., tokenizer_class="LlamaTokenizer")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert tokenizer.apply_chat_template(TURN, tokenize=False).startswith("<s>")
    change(folder / "tokenizer_config.json", bos_token=None, eos_token=None)
    assert load_tokenizer(folder).bos_token is None


def test_a_default_that_the_file_does_not_hold_is_none(folder: Path) -> None:
    change(folder / "tokenizer_config.json", bos_token=..., eos_token=..., tokenizer_class="LlamaTokenizer")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.bos_token is None
    assert tokenizer.eos_token is None
