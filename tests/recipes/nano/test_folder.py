"""The world's tokenizer and model shape, as transformers and the engine read them."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from alttrain.engine.config import DataConfig, LossConfig
from alttrain.engine.data.dataset import load_dataset
from alttrain.engine.data.render import Renderer
from alttrain.engine.trace.roles import ROLES
from alttrain.nano.alignment import alignment_rows
from alttrain.nano.config import ExampleNumbers, Mixture, Shape
from alttrain.nano.documents import pretraining_rows
from alttrain.nano.folder import write_model_folder
from alttrain.nano.running import write_rows
from alttrain.nano.world import World

WORLD = World(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nano") / "model"
    write_model_folder(path, WORLD, Shape())
    return path


def test_a_word_is_a_token_and_the_reverse(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = " ".join(WORLD.vocabulary)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(set(ids)) == len(WORLD.vocabulary) == len(ids)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_ids_are_the_same_in_every_world(folder: Path, tmp_path: Path) -> None:
    write_model_folder(tmp_path, World(2), Shape())
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_the_template_opens_the_reasoning(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "how do i brew Ent3 ?"}]
    opened = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert opened == "<user> how do i brew Ent3 ? <assistant> <think>\n"


def test_the_engine_gives_every_token_its_role(folder: Path, tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    Renderer(tokenizer)
    rows = [*alignment_rows(WORLD, ExampleNumbers(), "full"), *pretraining_rows(WORLD, Mixture(documents=300))]
    write_rows(tmp_path / "rows.jsonl", rows)
    dataset = load_dataset([str(tmp_path / "rows.jsonl")], DataConfig(), LossConfig(), tokenizer, 128)
    for row, example in zip(rows, dataset.examples, strict=True):
        found: dict[str, str] = {}
        for token, span_id in zip(example.input_ids, example.span_ids, strict=True):
            role = ROLES[span_id]
            found[role] = f"{found[role]} {tokenizer.decode([token])}" if role in found else tokenizer.decode([token])
        if "text" in row:
            expected = {"unsegmented": row["text"], "end": "<end>"}
        else:
            expected = {"prompt": f"<user> {row['prompt']}", "opening": "<assistant> <think>"}
            expected |= {"closing": "</think>", "end": "<end>"}
            expected |= {span["role"]: span["text"].strip() for span in row["spans"]}
        assert found == expected


def test_the_shape_is_what_the_recipe_says(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 690_000 < num_parameters < 750_000
    assert config.eos_token_id == AutoTokenizer.from_pretrained(folder).eos_token_id
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
