"""What OUT/model gets of the tokenizer: byte for byte, or changed so far that AutoTokenizer reads what was trained."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers, processors
from transformers import AutoTokenizer

from alttrain.engine.data.template_text import THINKING
from alttrain.engine.data.tokenizer import differing_probe, load_raw, load_tokenizer
from alttrain.engine.errors import ModelError
from alttrain.engine.model import tokenizer_files as module
from alttrain.engine.model.tokenizer_files import TokenizerFiles, tokenizer_files, write_contents

Folder = Callable[[str], Path]
TURN = [{"role": "user", "content": "good day"}]
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), BYTES])
ALIKE = "PreTrainedTokenizerFast"


@pytest.fixture
def folder(tmp_path: Path, small_tokenizer_folder: Folder) -> Path:
    """A byte-level tokenizer, whose class 4.57 knows too."""
    made = shutil.copytree(small_tokenizer_folder("bytes"), tmp_path / "model")
    settings(made, tokenizer_class="Qwen2Tokenizer")
    return made


def settings(folder: Path, **changes: object) -> dict[str, Any]:
    """Set keys of tokenizer_config.json, whose text is then no other's, and return it; a value of `...` goes out."""
    file = folder / "tokenizer_config.json"
    values = {**json.loads(file.read_text()), **changes}
    values = {key: value for key, value in values.items() if value is not ...}
    file.write_text(json.dumps(values, indent=7))
    return values


def config(folder: Path, family: str = "qwen3", rows: int | None = None) -> str:
    return json.dumps({"model_type": family, "vocab_size": rows or max(load_raw(folder).get_vocab().values()) + 9})


def put_together(folder: Path, family: str = "qwen3", *, template: str = "", **more: Any) -> TokenizerFiles:
    tokenizer = load_tokenizer(folder)
    if template:
        tokenizer.chat_template = template
    return tokenizer_files(folder, tokenizer, config=config(folder, family, **more), asked_template=bool(template))


def written(contents: Mapping[str, bytes], folder: Path, family: str = "qwen3") -> Path:
    """Write the contents beside the folder, as an export would, and return where."""
    out = folder.with_name("out")
    write_contents(out, {})
    out.mkdir()
    write_contents(out, {**contents, "config.json": config(folder, family).encode()})
    return out


def exported_settings(files: TokenizerFiles) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(files.contents["tokenizer_config.json"])
    return values


def test_files_that_need_no_change_are_copied_byte_for_byte(folder: Path) -> None:
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer.model").write_bytes(b"\x00\xff")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("RAG")
    (folder / "notes.md").write_text("not the tokenizer's")
    settings(folder, add_bos_token=True, my_own=[1])
    files = put_together(folder)
    source = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del source["notes.md"]
    assert files == TokenizerFiles(source, ())
    out = written(files.contents, folder)
    assert (out / "additional_chat_templates" / "rag.jinja").read_text() == "RAG"


def test_what_4_57_cannot_read_is_written_as_both_can(folder: Path) -> None:
    special = {"__type": "AddedToken", "content": "</think>", "lstrip": False, "rstrip": False}
    settings(
        folder,
        tokenizer_class="TokenizersBackend",
        additional_special_tokens=["<think>"],
        extra_special_tokens=["<think>", special],
    )
    values = exported_settings(put_together(folder))
    assert values["tokenizer_class"] == ALIKE
    assert "extra_special_tokens" not in values
    assert values["additional_special_tokens"] == ["<think>", special]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Qwen2Tokenizer", True),
        ("Qwen2TokenizerFast", True),
        (ALIKE, True),
        ("PreTrainedTokenizer", False),
        ("TokenizersBackend", False),
        ("NoSuchTokenizer", False),
        ("LlamaTokenizer", False),  # has no <unk> here, and would add one
    ],
)
def test_classes_that_both_versions_know_stay(folder: Path, name: str, kept: bool) -> None:
    settings(folder, tokenizer_class=name, unk_token=...)
    assert exported_settings(put_together(folder))["tokenizer_class"] == (name if kept else ALIKE)


def test_a_class_of_the_models_stays_unnamed(folder: Path) -> None:
    settings(folder, tokenizer_class=...)
    assert "tokenizer_class" not in exported_settings(put_together(folder))
    # 4.57 takes LlamaTokenizer for this one, which would add <unk>.
    assert exported_settings(put_together(folder, "llama"))["tokenizer_class"] == ALIKE


@pytest.mark.parametrize("name", ["LlamaTokenizer", "LlamaTokenizerFast"])
def test_a_llama_class_stays_only_over_pieces(
    folder: Path, small_tokenizer_folder: Folder, tmp_path: Path, name: str
) -> None:
    """The first versions of 5 cut every LlamaTokenizer's texts into pieces, also those of a file that cuts into bytes.

    No unk_token and a beginning of its own: so DeepSeek's tokenizer of the Llama 3 models is published.
    """
    settings(folder, tokenizer_class=name, unk_token=None, bos_token="<|im_start|>")
    assert exported_settings(put_together(folder, "llama"))["tokenizer_class"] == ALIKE
    pieces = shutil.copytree(small_tokenizer_folder("pieces-half-opened"), tmp_path / "pieces")
    settings(pieces, tokenizer_class=name)
    assert exported_settings(put_together(pieces, "llama"))["tokenizer_class"] == name


def test_the_space_before_a_text_is_the_files(folder: Path) -> None:
    raw = load_raw(folder)
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.save(str(folder / "tokenizer.json"))
    settings(folder, tokenizer_class=ALIKE)
    assert exported_settings(put_together(folder, "llama"))["add_prefix_space"] is True


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_the_export_has_the_files_ids_whatever_its_class(folder: Path, family: str) -> None:
    raw = load_raw(folder)
    raw.pre_tokenizer = DIGITS
    raw.save(str(folder / "tokenizer.json"))
    files = put_together(folder, family)
    assert files.contents["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()
    assert len(files.notes) == 1
    assert "AutoTokenizer gives other token ids than this folder's tokenizer.json (for one, of " in files.notes[0]
    out = written(files.contents, folder, family)
    (folder / "config.json").write_text(config(folder, family))
    assert differing_probe(raw, AutoTokenizer.from_pretrained(folder)) is not None
    assert differing_probe(raw, AutoTokenizer.from_pretrained(out)) is None
    trusting = AutoTokenizer.from_pretrained(out, trust_remote_code=True)
    assert differing_probe(raw, trusting) is None
    assert trusting.eos_token == "<|im_end|>"
    # Only a Qwen 2 model's class is replaced whatever the settings say.
    assert ("auto_map" in exported_settings(files)) == (family == "qwen2")
    assert ("tokenizer_of_file.py" in files.contents) == (family == "qwen2")


@pytest.mark.parametrize("name", ["split_special_tokens", "fast_tokenizer_files", "added_tokens_decoder"])
def test_settings_that_change_the_ids_are_left_out(folder: Path, small_tokenizer_folder: Folder, name: str) -> None:
    shutil.copyfile(small_tokenizer_folder("pieces-plain-tags") / "tokenizer.json", folder / "tokenizer.4.0.0.json")
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    flags = {str(token.pop("id")): {**token, "lstrip": True} for token in added}
    values = {
        "split_special_tokens": True,
        "fast_tokenizer_files": ["tokenizer.4.0.0.json"],
        "added_tokens_decoder": flags,
    }
    settings(folder, **{name: values[name]})
    files = put_together(folder)
    assert name not in exported_settings(files)
    assert exported_settings(files)["eos_token"] == "<|im_end|>"
    assert files.notes
    assert differing_probe(load_raw(folder), AutoTokenizer.from_pretrained(written(files.contents, folder))) is None


def test_ids_beyond_the_rows_are_not_added_by_a_class(folder: Path) -> None:
    """A padding token that the file does not hold gets the next free id, for which the model has no row."""
    rows = max(load_raw(folder).get_vocab().values()) + 1
    settings(folder, pad_token="[PAD]")
    assert exported_settings(put_together(folder, rows=rows + 1))["pad_token"] == "[PAD]"
    files = put_together(folder, rows=rows)
    assert f"it adds the id {rows} to a model of {rows} embedding rows" in files.notes[0]
    assert "pad_token" not in exported_settings(files)


def test_names_of_the_older_files_move_into_the_settings(folder: Path) -> None:
    settings(folder, eos_token=..., split_special_tokens=True)
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|im_end|>"}}))
    (folder / "added_tokens.json").write_text(json.dumps({"<think>": 3}))
    files = put_together(folder)
    assert not {"special_tokens_map.json", "added_tokens.json"} & set(files.contents)
    assert exported_settings(files)["eos_token"] == "<|im_end|>"


def test_code_of_the_folders_own_is_left_out_with_a_word(folder: Path) -> None:
    settings(folder, auto_map={"AutoTokenizer": ["own.Slow", "own.Fast"]})
    files = put_together(folder)
    assert "auto_map" not in exported_settings(files)
    assert "tokenizer_config.json names code of its own (auto_map), which is not run" in files.notes[0]


def test_what_is_added_before_a_text_is_the_files(folder: Path) -> None:
    """Whether BOS is written before a text that no template wrote: the file's post-processor says so."""
    raw = load_raw(folder)
    start = ("<|im_start|>", raw.token_to_id("<|im_start|>"))
    raw.post_processor = processors.TemplateProcessing(single="<|im_start|> $A", pair="$A $B", special_tokens=[start])
    raw.save(str(folder / "tokenizer.json"))
    out = written(put_together(folder, "llama").contents, folder, "llama")
    assert AutoTokenizer.from_pretrained(out)("good day")["input_ids"] == raw.encode("good day").ids
    assert raw.encode("good day").ids[0] == start[1]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_beginning_of_the_class_alone_is_named(small_tokenizer_folder: Folder, tmp_path: Path, family: str) -> None:
    """Every class has another default; a template writes the one that was trained with, whatever reads it."""
    made = shutil.copytree(small_tokenizer_folder("pieces-half-opened"), tmp_path / "model")
    settings(made, bos_token=..., tokenizer_class="LlamaTokenizer")
    (made / "config.json").write_text(config(made, family))
    files = put_together(made, family)
    loaded = AutoTokenizer.from_pretrained(written(files.contents, made, family))
    right = load_tokenizer(made).apply_chat_template(TURN, tokenize=False)
    assert loaded.apply_chat_template(TURN, tokenize=False) == right
    # transformers 5 takes Qwen2Tokenizer, which has no beginning, for a Qwen 2 model.
    assert right.startswith("<s>") == (family != "qwen2")
    assert exported_settings(files).get("bos_token") == ("<s>" if family != "qwen2" else None)


def test_ids_that_no_settings_bring_about_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "differing_probe", lambda raw, other: "in no way")
    with pytest.raises(
        ModelError, match=r"no tokenizer_config\.json makes transformers read .* \(for one, of 'in no way'"
    ):
        put_together(folder)


def test_a_template_that_was_asked_for_stands_in_both_places(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("RAG")
    settings(folder, chat_template="OLD")
    files = put_together(folder, template="{{ messages[0].content }} Ω")
    assert files.notes == ()
    assert files.contents["chat_template.jinja"].decode() == "{{ messages[0].content }} Ω"
    assert exported_settings(files)["chat_template"] == "{{ messages[0].content }} Ω"
    assert not any(name.startswith("additional_chat_templates") for name in files.contents)
    loaded = AutoTokenizer.from_pretrained(written(files.contents, folder))
    assert loaded.apply_chat_template(TURN, tokenize=False) == "good day Ω"


@pytest.mark.parametrize("in_file", [True, False])
def test_a_byte_order_mark_is_left_out(folder: Path, in_file: bool) -> None:
    (folder / "chat_template.jinja").unlink()
    if in_file:
        (folder / "chat_template.jinja").write_text("\ufeff{{ messages[0].content }}", encoding="utf-8")
    else:
        settings(folder, chat_template="\ufeff{{ messages[0].content }}")
    files = put_together(folder)
    assert files.contents["chat_template.jinja"] == b"{{ messages[0].content }}"
    assert exported_settings(files)["chat_template"] == "{{ messages[0].content }}"


CLOSED = (
    "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% if open_thinking %}<think>\n{% else %}<think></think>{% endif %}"
    "{% endif %}"
)


def test_the_export_thinks_by_default_where_it_was_trained_to(folder: Path) -> None:
    named = [{"name": "default", "template": CLOSED}, {"name": "rag", "template": "RAG"}]
    (folder / "chat_template.jinja").unlink()
    settings(folder, chat_template=named)
    files = put_together(folder)
    assert files.notes == (
        "OUT/model reasons by default: the chat template 'default' is trained with open_thinking = true, and now sets "
        "that itself.",
    )
    loaded = AutoTokenizer.from_pretrained(written(files.contents, folder))
    trained = load_tokenizer(folder).apply_chat_template(TURN, tokenize=False, add_generation_prompt=True, **THINKING)
    assert trained.endswith("<|im_start|><think>\n")
    assert loaded.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True) == trained
    assert loaded.chat_template["rag"] == "RAG"
    # Servers that know no template files read the same in the settings.
    in_settings = {entry["name"]: entry["template"] for entry in exported_settings(files)["chat_template"]}
    assert in_settings == loaded.chat_template


def test_a_template_that_must_be_asked_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "think_by_default", lambda tokenizer, template, variables: (template, {}))
    (folder / "chat_template.jinja").write_text(CLOSED)
    files = put_together(folder)
    assert files.notes == (
        "the chat template writes other prompts without the switches it is trained with; a server that uses OUT/model "
        'must give them: {"enable_thinking": true, "open_thinking": true, "thinking": true}.',
    )
    assert files.contents["chat_template.jinja"].decode() == CLOSED


def test_settings_that_are_no_object_are_refused(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: holds a JSON list; it must hold an object"):
        tokenizer_files(folder, tokenizer, config=config(folder), asked_template=False)
