"""Model folders that are incomplete and run folders that belong to something else: refused in a sentence, untouched."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skips import IS_ROOT

Refusal = Callable[..., str]
Edit = Callable[[Path], object]
TEMPLATE_WITHOUT_A_SEAM = "{{ messages[0]['content'] }}{% if add_generation_prompt %}:{% endif %}"


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> Path:
    return write_model(tmp_path_factory.mktemp("bad-folders") / "model")


@pytest.fixture
def flags(tmp_path: Path, whole_model: Path) -> dict[str, Any]:
    """Return the flags of a run that would start, whose model folder is the test's own."""
    span = {"role": "answer", "text": "It is noon."}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "a", "prompt": "What time is it?", "spans": [span]}) + "\n")
    return {
        "model__path": shutil.copytree(whole_model, tmp_path / "model"),
        "model__dtype": "float32",
        "data__train": tmp_path / "rows.jsonl",
        "output": tmp_path / "run",
        "zero__stage": 1,
        "schedule__steps": 1,
    }


def without(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


def holding(name: str, content: bytes | str) -> Edit:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def changed(name: str, **changes: object) -> Edit:
    """Return what changes keys of a JSON file; a value of `...` takes the key out."""

    def edit(folder: Path) -> None:
        values = {**json.loads((folder / name).read_text()), **changes}
        holding(name, json.dumps({key: value for key, value in values.items() if value is not ...}))(folder)

    return edit


def cut(kept: int) -> Edit:
    return lambda folder: holding("model.safetensors", (folder / "model.safetensors").read_bytes()[:kept])(folder)


def config(**changes: object) -> Edit:
    return changed("config.json", **changes)


def layers(count: int) -> Edit:
    return config(num_hidden_layers=count, layer_types=["full_attention"] * count)


def id_beyond(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"][tokenizer["added_tokens"][-1]["content"]] = 300
    holding("tokenizer.json", json.dumps(tokenizer))(folder)


GENERATION = "generation_config.json"
INDEX = "model.safetensors.index.json"
BAD_MODELS: dict[str, tuple[Edit, str]] = {
    "no config": (without("config.json"), ": no config.json. A model folder holds"),
    "no tokenizer": (without("tokenizer.json"), ": no tokenizer.json. A model folder holds"),
    "no tokenizer config": (without("tokenizer_config.json"), ": no tokenizer_config.json. A model folder holds"),
    "config is not JSON": (holding("config.json", "{"), ": transformers cannot read its config ("),
    "config of no model": (holding("config.json", "{}"), ": transformers cannot read its config ("),
    "config of a wrong type": (config(hidden_size="wide"), ": transformers cannot read its config ("),
    "unknown activation": (config(hidden_act="none-such"), ": transformers cannot read its config (KeyError: 'none-"),
    "tokenizer is not JSON": (holding("tokenizer.json", "{"), ": transformers cannot read its tokenizer ("),
    "tokenizer of no kind": (holding("tokenizer.json", "{}"), ": transformers cannot read its tokenizer ("),
    "another family": (config(model_type="gpt2"), ": model_type gpt2 is not supported; it must be one of llama, qwen2"),
    "unknown family": (config(model_type="none-such"), ": transformers cannot read its config ("),
    "quantised": (config(quantization_config={"quant_method": "fp8"}), ": the model is quantised; full fine-tuning"),
    "sliding window": (config(use_sliding_window=True), ": use_sliding_window is true; packed attention"),
    "part of a head": (config(partial_rotary_factor=0.5), ": partial_rotary_factor is 0.5; it must be 1: in this"),
    "dropout": (config(attention_dropout=0.1), ": attention_dropout is 0.1; it must be 0."),
    "too few embeddings": (config(vocab_size=100), ": tokenizer.json holds id 258, and the model has 100 embedding"),
    "id beyond the embeddings": (id_beyond, ": tokenizer.json holds id 300, and the model has 264 embedding rows"),
    "generation config is not JSON": (holding(GENERATION, "{"), f"/{GENERATION}: not a JSON file. Fetch it again, or"),
    "generation config is a list": (holding(GENERATION, "[]"), f"/{GENERATION}: holds a JSON list; it must hold an"),
    "end of generation is a text": (holding(GENERATION, '{"eos_token_id": "x"}'), 'eos_token_id is "x"; it must be a'),
    "no safetensors": (without("model.safetensors"), ": no .safetensors file. Weights are read from safetensors only"),
    "empty file": (cut(0), "/model.safetensors: not a whole safetensors file (0 bytes). Fetch it again."),
    "cut in its header": (cut(99), "/model.safetensors: not a whole safetensors file (99 bytes). Fetch it again."),
    "cut in its data": (cut(-1), " bytes, but its header describes "),
    "broken index": (holding(INDEX, "{}"), f"/{INDEX}: not an index of safetensors files. Fetch it again."),
    "an older index": (
        holding(INDEX, '{"weight_map": {"a": "b.safetensors"}}'),
        f"/model.safetensors: stands beside {INDEX}, which names b.safetensors: some programs load the one",
    ),
    "wider config": (config(hidden_size=96), "calls for (264, 96). Weights and config must be of one model."),
    "other MLP": (config(intermediate_size=81), "has shape (80, 48), config.json calls for (81, 48). Weights and"),
    "more layers": (layers(3), ": no tensor model.layers.2.self_attn.q_proj.weight, which its config.json calls for."),
    "fewer layers": (layers(1), "which config.json does not call for, so it would be lost. Weights and config must be"),
    "no chat template": (without("chat_template.jinja"), "the tokenizer has no chat template"),
    "end token is null": (changed("tokenizer_config.json", eos_token=None), ": the tokenizer has no end-of-sequence"),
    "no end token": (changed("tokenizer_config.json", eos_token=...), ": the tokenizer has no end-of-sequence"),
    "unknown end token": (changed("tokenizer_config.json", eos_token="<|no|>"), "transformers takes '<|no|>' for the"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_model_folder(refused: Refusal, flags: dict[str, Any], case: str) -> None:
    edit, reason = BAD_MODELS[case]
    edit(flags["model__path"])
    sentence = refused(flags)
    assert reason in sentence
    assert sentence.startswith(str(flags["model__path"])) or "the tokenizer has no" in sentence


def test_random_init_needs_no_safetensors_but_the_rest(refused: Refusal, flags: dict[str, Any]) -> None:
    (flags["model__path"] / "model.safetensors").unlink()
    (flags["model__path"] / "tokenizer.json").unlink()
    assert "no tokenizer.json" in refused(flags, "--model.random-init")


@pytest.mark.parametrize("name", ["no/such/folder", "./no-such-folder", "model/config.json"])
def test_no_model_folder(refused: Refusal, flags: dict[str, Any], tmp_path: Path, name: str) -> None:
    path = name if name.startswith(".") else tmp_path / name
    sentence = refused({**flags, "model__path": path})
    assert sentence == f"--model.path {path}: no such folder. Give a model folder, or a hub id as owner/name."


def test_prompt_that_melts_into_the_reasoning(refused: Refusal, flags: dict[str, Any]) -> None:
    folder = flags["model__path"]
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"][":<"] = 260
    tokenizer["model"]["merges"] = [[":", "<"]]  # the colon that ends the opening, and the first letter of <think>
    holding("tokenizer.json", json.dumps(tokenizer))(folder)
    holding("chat_template.jinja", TEMPLATE_WITHOUT_A_SEAM)(folder)
    sentence = refused(flags)
    assert sentence.startswith(f"{flags['data__train']}:1: the prompt's token ids are not a prefix of the row's")


@pytest.mark.parametrize(("context", "pack_tokens"), [(16, 8192), (1024, 16)], ids=["context", "pack"])
def test_the_smaller_of_pack_and_context_counts(
    refused: Refusal, flags: dict[str, Any], context: int, pack_tokens: int
) -> None:
    config(max_position_embeddings=context)(flags["model__path"])
    sentence = refused({**flags, "batch__pack_tokens": pack_tokens})
    assert sentence.startswith(f"{flags['data__train']}:1: the row has ")
    assert "holds 16." in sentence


@pytest.fixture
def earlier_run(begun: Callable[..., None], flags: dict[str, Any]) -> Path:
    """Return the folder of a run of the same flags on 2 ranks, which ended before its first step."""
    begun(flags, world_size=2)
    folder: Path = flags["output"]
    assert (folder / "config.json").is_file()
    return folder


def test_run_folder_of_another_run(refused: Refusal, flags: dict[str, Any], earlier_run: Path) -> None:
    sentence = refused(flags, world_size=2)
    assert sentence == f"--output {earlier_run}: holds another run. Go on with it by --resume, or give a new folder."


def test_resume_with_other_settings(refused: Refusal, flags: dict[str, Any], earlier_run: Path) -> None:
    start = f"--output {earlier_run}: its run has "
    for flag, value, difference in (
        ("optim__lr", "3e-5", "--optim.lr 1e-05, this one 3e-05"),
        ("loss__assessment", 1, "--loss.assessment 2.0, this one 1.0"),
        ("seed", 1, "--seed 0, this one 1"),
    ):
        sentence = refused({**flags, flag: value}, "--resume", world_size=2)
        assert sentence == f"{start}{difference}; --resume needs the same. " + (
            "Restore the setting, or start a new run in another folder."
        )


def test_resume_on_another_number_of_ranks(refused: Refusal, flags: dict[str, Any], earlier_run: Path) -> None:
    sentence = refused(flags, "--resume", world_size=4)
    assert sentence.startswith(
        f"--output {earlier_run}: its run has world size 2, this one 4; --resume needs the same."
    )


def test_resume_with_other_rows(refused: Refusal, flags: dict[str, Any], earlier_run: Path) -> None:
    flags["data__train"].write_text(flags["data__train"].read_text().replace("noon", "dusk"))
    sentence = refused(flags, "--resume", world_size=2)
    found = re.fullmatch(
        r"the rows of --data\.train are others than the run in .* began with \(sha256 (\w{12}) then, (\w{12}) now\); "
        r"--resume needs the same, from whatever place\. Name the same, or start a new run in another folder\.",
        sentence,
    )
    assert found, sentence
    assert found[1] != found[2]


def test_resume_with_another_model_of_the_same_shapes(
    refused: Refusal, flags: dict[str, Any], earlier_run: Path
) -> None:
    file = flags["model__path"] / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-2] ^= 1
    file.write_bytes(raw)
    sentence = refused(flags, "--resume", world_size=2)
    assert sentence.startswith(f"the model of --model.path is another than the run in {earlier_run} began with")


def test_resume_after_data_and_model_were_moved(
    begun: Callable[..., None], flags: dict[str, Any], earlier_run: Path, tmp_path: Path
) -> None:
    """The same rows and the same weights under other paths, the model by a link, are the same run."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    rows = flags["data__train"].rename(elsewhere / flags["data__train"].name)
    model = flags["model__path"].rename(elsewhere / "moved model")
    (tmp_path / "link").symlink_to(model)
    begun({**flags, "data__train": rows, "model__path": tmp_path / "link"}, "--resume", world_size=2)
    record = json.loads((earlier_run / "config.json").read_text())
    assert [start["step"] for start in record["starts"]] == [0, 0]
    assert [change.split(" ")[0] for change in record["starts"][1]["changes"]] == ["--model.path", "--data.train"]


def test_resume_from_a_checkpoint_that_is_gone(refused: Refusal, flags: dict[str, Any], earlier_run: Path) -> None:
    (earlier_run / "checkpoints").mkdir()
    (earlier_run / "checkpoints" / "LATEST").write_text("step-000007\n")
    sentence = refused(flags, "--resume", world_size=2)
    assert sentence.startswith(f"{earlier_run}/checkpoints/LATEST: names step-000007, which is not there or not whole.")


@pytest.mark.parametrize("switches", [(), ("--resume",)], ids=["new", "resumed"])
@pytest.mark.parametrize("name", ["model", "notes"])
def test_output_holds_something_else(
    refused: Refusal, flags: dict[str, Any], tmp_path: Path, name: str, switches: tuple[str, ...]
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "config.json").write_text("[1]")
    sentence = refused({**flags, "output": tmp_path / name}, *switches, world_size=2)
    assert sentence == (
        f"--output {tmp_path / name}: not empty, and without the config.json of a run. Give a new folder."
    )


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl/run", "rows.jsonl/a/b"])
def test_output_is_a_file(refused: Refusal, flags: dict[str, Any], tmp_path: Path, name: str) -> None:
    sentence = refused({**flags, "output": tmp_path / name}, world_size=2)
    assert sentence == f"--output {tmp_path / name}: {tmp_path / 'rows.jsonl'} is a file; give a folder."


@pytest.mark.skipif(os.geteuid() == 0, reason=IS_ROOT)
def test_output_may_not_be_written(refused: Refusal, flags: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    sentence = refused({**flags, "output": tmp_path / "locked" / "run"}, world_size=2)
    assert sentence.endswith("locked may not be written to; give another folder.")
