"""Batched greedy answers are those that one prompt alone would get, from the base that is shipped."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alttrain.engine.evaluate.sampling import MAX_NEW_TOKENS, Speaker
from alttrain.nano.config import EvaluationNumbers, ExampleNumbers, Shape
from alttrain.nano.evaluation import Item, evaluation_items
from alttrain.nano.folder import write_model_folder
from alttrain.nano.jobs import SHIPPED, SHIPPED_SEED
from alttrain.nano.world import World

WORLD = World(SHIPPED_SEED)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    write_model_folder(folder, WORLD, Shape())
    shutil.copyfile(SHIPPED, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """A few of every setting, so that prompts differ in length."""
    every = evaluation_items(WORLD, EvaluationNumbers(), ExampleNumbers())
    chosen: list[Item] = []
    for setting in dict.fromkeys(item.setting for item in every):
        chosen += [item for item in every if item.setting == setting][:4]
    return chosen


def test_padding_changes_no_answer(base: Path, items: list[Item]) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    found = dict(Speaker(base).respond([item.prompt for item in items]))
    assert sorted(found) == list(range(len(items)))
    for index, item in enumerate(items):
        messages = [{"role": "user", "content": item.prompt}]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            whole = model.generate(**prompt, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        new = whole[0, prompt["input_ids"].shape[1] :].tolist()
        think, answer = tokenizer.decode(new).removesuffix("<end>").split("</think>")
        response = found[index]
        assert (response.think, response.answer, response.num_tokens) == (think.strip(), answer.strip(), len(new))


def test_a_written_beginning_is_gone_on_from(base: Path, items: list[Item]) -> None:
    """The base says what it was about to say, as it was only made to begin as it would have."""
    prompts = [item.prompt for item in items]
    speaker = Speaker(base)
    alone = dict(speaker.respond(prompts))
    begun = [" ".join(alone[index].think.split()[:3]) for index in range(len(items))]
    for index, response in speaker.respond(prompts, begun):
        assert (response.think, response.answer) == (alone[index].think, alone[index].answer)
        assert response.num_tokens == alone[index].num_tokens - 3


def test_no_prompts_no_answers(base: Path) -> None:
    assert list(Speaker(base).respond([])) == []
