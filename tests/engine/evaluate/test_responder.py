"""A model folder answers as transformers' own generation does, in a batch as alone, and refuses what it cannot read."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from alttrain.engine.errors import ConfigError, DataError, ModelError
from alttrain.engine.evaluate.continuations import OpenedPrompt, Sampling
from alttrain.engine.evaluate.responder import Responder
from alttrain.engine.evaluate.sampling import Speaker
from alttrain.engine.thinking import Thinking
from alttrain.nano.config import EvaluationNumbers, ExampleNumbers, Shape
from alttrain.nano.evaluation import evaluation_items
from alttrain.nano.folder import write_model_folder
from alttrain.nano.jobs import SHIPPED, SHIPPED_SEED
from alttrain.nano.world import World

WORLD = World(SHIPPED_SEED)
MARKS = Thinking()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked") / "model"
    write_model_folder(folder, WORLD, Shape())
    shutil.copyfile(SHIPPED, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def responder(base: Path) -> Responder:
    return Responder(base, MARKS)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    every = evaluation_items(WORLD, EvaluationNumbers(), ExampleNumbers())
    chosen: list[str] = []
    for setting in dict.fromkeys(item.setting for item in every):
        chosen += [item.prompt for item in every if item.setting == setting][:2]
    return chosen


def opened(responder: Responder, texts: list[str]) -> list[OpenedPrompt]:
    return [responder.open_prompt([{"role": "user", "content": text}], str(i)) for i, text in enumerate(texts)]


def test_greedy_responses_are_those_of_generate(base: Path, responder: Responder, texts: list[str]) -> None:
    expected = dict(Speaker(base).respond(texts))
    prompts = opened(responder, texts)
    assert all(prompt.opened for prompt in prompts), "the template writes the opening mark"
    ticks: list[int] = []
    for index, found in enumerate(responder.respond(prompts, Sampling(), ticks.append)):
        think, _, answer = found.text.partition(MARKS.close)
        response = expected[index]
        assert (think.strip(), answer.strip(), found.num_tokens) == (
            response.think,
            response.answer,
            response.num_tokens,
        )
        assert found.finish == "stop"
    assert sum(ticks) == sum(response.num_tokens for response in expected.values())


def test_neither_greedy_nor_drawn_responses_depend_on_the_batch(responder: Responder, texts: list[str]) -> None:
    prompts = opened(responder, texts)
    for sampling in (Sampling(max_think_tokens=6), Sampling(temperature=1.0, top_p=0.9, seed=3)):
        together = responder.respond(prompts, sampling)
        assert [responder.respond([prompt], sampling)[0] for prompt in prompts[::5]] == together[::5]


def test_reasoning_is_closed_at_its_budget_by_the_models_own_mark(responder: Responder, texts: list[str]) -> None:
    prompts = opened(responder, texts[:4])
    for found in responder.respond(prompts, Sampling(max_think_tokens=4)):
        think, close, _ = found.text.partition(MARKS.close)
        assert close
        assert len(think.split()) == 4
        assert found.was_forced


def test_words_that_the_tokenizer_does_not_know_are_refused(responder: Responder) -> None:
    with pytest.raises(DataError, match=r"has 2 words that the model's tokenizer does not know, the first is 'zyzzy'"):
        responder.open_prompt([{"role": "user", "content": "the zyzzy is zyzzy"}], "a")


def test_a_template_may_write_the_token_of_the_unknown_itself(base: Path) -> None:
    """As where one token stands for the start, the end and the unknown."""
    template = "{{ '<unk> ' + messages[0]['content'] + ' <assistant> <think>' }}"
    other = Responder(base, MARKS, chat_template=template)
    assert other.open_prompt([{"role": "user", "content": "the user"}], "a").opened
    with pytest.raises(DataError, match="has 1 words"):
        other.open_prompt([{"role": "user", "content": "the zyzzy"}], "a")


def test_a_prompt_that_fills_the_context_is_refused(responder: Responder, texts: list[str]) -> None:
    with pytest.raises(DataError, match=rf"has \d+ tokens and the model's context holds {responder.context}"):
        responder.open_prompt([{"role": "user", "content": " ".join(texts * 20)}], "a")


def test_generation_stops_at_every_end_of_the_generation_config(base: Path, tmp_path: Path, texts: list[str]) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    tokens = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    ends = [tokens["<end>"], tokens["."]]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    other = Responder(folder, MARKS)
    (found,) = other.respond(opened(other, texts[:1]), Sampling())
    assert found.finish == "stop"
    assert "." not in found.text
    assert MARKS.close not in found.text


def test_a_template_of_ones_own_and_one_that_refuses(base: Path, responder: Responder) -> None:
    template = "{{ '<user> ' + messages[0]['content'] + ' <assistant> ' }}"
    plain = Responder(base, MARKS, chat_template=template, dtype="float32", device="cpu")
    prompt = plain.open_prompt([{"role": "user", "content": "the user"}], "a")
    assert not prompt.opened
    assert len(prompt.ids) == 4
    strict = Responder(base, MARKS, chat_template="{{ raise_exception('no') }}")
    with pytest.raises(DataError, match="the chat template refuses the conversation"):
        strict.open_prompt([{"role": "user", "content": "the user"}], "a")


def test_padding_and_truncation_of_the_tokenizers_training_are_not_applied(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    whole = json.loads((folder / "tokenizer.json").read_text())
    whole["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    prompt = Responder(folder, MARKS).open_prompt([{"role": "user", "content": "the user wants"}], "a")
    assert len(prompt.ids) == 6


def test_folders_that_cannot_be_asked(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="has no chat template"):
        Responder(folder, MARKS)
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Responder(folder, MARKS)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        Responder(folder, MARKS)
    with pytest.raises(ModelError, match=r"does not know the mark '</cogito>'.*--data\.think-close"):
        Responder(base, Thinking("<cogito>", "</cogito>"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="has no GPU"):
            Responder(base, MARKS, device="cuda")
