"""What a plan reads: shapes from folders or the table, rows from files or assumed, and packs as training makes them."""

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from alttrain.engine.config import BatchConfig, DataConfig, ModelConfig, RunConfig
from alttrain.engine.data.dataset import load_dataset
from alttrain.engine.data.tokenizer import load_tokenizer
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.model.shape import PUBLISHED
from alttrain.engine.train.plan_load import Rows, assumed_rows, load_of, open_model, open_rows, tiles_of

NAME = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
SHAPE = PUBLISHED[NAME]


def run(path: str | Path, *train: str | Path, **batch: int) -> RunConfig:
    return RunConfig(
        model=ModelConfig(path=str(path)), data=DataConfig(train=tuple(map(str, train))), batch=BatchConfig(**batch)
    )


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))


def test_a_folder_comes_before_the_table(tmp_path: Path) -> None:
    values = {
        "model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 32,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(values))
    model = open_model(run(tmp_path))
    assert (model.shape.hidden, model.shape.kv_heads) == (8, 2)
    assert str(tmp_path / "config.json") in model.source
    known = open_model(run(NAME))
    assert known.shape == SHAPE
    assert "published" in known.source


@pytest.mark.parametrize("name", ["owner/unknown", "no/such/folder", "nowhere"])
@pytest.mark.usefixtures("no_cache")
def test_a_model_that_is_neither_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(ConfigError, match="a plan fetches nothing"):
        open_model(run(name))


@pytest.mark.usefixtures("no_cache")
def test_rows_that_are_not_at_hand_are_assumed_and_it_is_said_which(tmp_path: Path, asset_rows: Path) -> None:
    for config, missing in (
        (run(NAME), "--data.train is not given"),
        (run(NAME, asset_rows, tmp_path / "none.jsonl"), f"{tmp_path / 'none.jsonl'} is not at hand"),
        (run(NAME, "owner/rows@train"), "owner/rows@train is not at hand"),
        (run(NAME, asset_rows), f"the tokenizer of {NAME} is not at hand"),
    ):
        rows = open_rows(config)
        assert rows.source == f"{missing}: 1,000 rows of 170 tokens are assumed"
        assert (len(rows.lengths), sum(rows.lengths), rows.share) == (1000, 170_000, 0.75)


def test_rows_at_hand_are_measured_as_training_reads_them(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "qwen2")
    lines = [{"id": str(n), "prompt": "a b", "spans": [{"role": "answer", "text": " word" * n}]} for n in range(1, 6)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    config = run(folder, file, pack_tokens=256)
    rows = open_rows(config)
    dataset = load_dataset(config.data.train, config.data, config.loss, load_tokenizer(folder), 256)
    assert list(rows.lengths) == dataset.lengths
    tokens = dataset.report.tokens
    assert rows.share == pytest.approx(1 - (tokens["prompt"] + tokens.get("opening", 0)) / sum(tokens.values()))
    assert rows.source.startswith("5 of ")
    assert "measured" in rows.source
    with pytest.raises(DataError, match="tokens, and a pack or the model's context holds 4"):
        open_rows(run(folder, file, pack_tokens=4))


def test_assumed_rows_make_the_published_steps() -> None:
    load = load_of(assumed_rows("x"), run(NAME, examples=8), 1, SHAPE)
    assert (load.num_steps, load.tokens_a_step, load.packs, load.fullest_pack) == (1875, 1360, 1, 1360)
    assert load.pack_tiles == pytest.approx(8 * 3)
    assert load.idle_ranks == 0


def test_ranks_without_rows_are_counted() -> None:
    load = load_of(assumed_rows("x"), run(NAME, examples=8), 16, SHAPE)
    assert (load.idle_ranks, load.fullest_pack, load.pack_tokens) == (0.5, 170, 170)


def test_a_step_larger_than_a_pack_has_several() -> None:
    load = load_of(assumed_rows("x"), run(NAME, examples=100, pack_tokens=2048), 2, SHAPE)
    # 17,000 tokens, 12 rows a pack: 9 packs, rounded up to 10, on two ranks.
    assert (load.packs, load.most_packs) == (5, 5)
    assert load.fullest_pack <= 2048
    assert load.tokens_a_step == 17_000


def test_the_fullest_pack_is_that_of_the_largest_step_of_the_first_epoch() -> None:
    draw = random.Random(3)
    rows = Rows([draw.randrange(50, 2000) for _ in range(400)], 0.75, "x")
    config = run(NAME, examples=4, pack_tokens=8192)
    load = load_of(rows, config, 1, SHAPE)
    from alttrain.engine.data.steps import plan_epoch

    steps = plan_epoch(rows.lengths, config.batch, config.seed, 0)
    totals = [sum(rows.lengths[index] for index in step) for step in steps]
    assert load.fullest_pack == max(totals)
    assert load.tokens_a_step == pytest.approx(sum(totals) / len(totals))
    assert load.pack_tokens == pytest.approx(load.tokens_a_step, rel=0.1)


def test_a_row_longer_than_a_pack_or_a_step_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--batch.pack-tokens is 100: a pack must hold the longest example"):
        load_of(assumed_rows("x"), run(NAME, pack_tokens=100), 1, SHAPE)
    with pytest.raises(ConfigError, match=r"--batch.tokens is 100: a step must hold the longest example"):
        load_of(assumed_rows("x"), run(NAME, tokens=100), 1, SHAPE)


def test_steps_by_tokens_and_steps_that_are_fewer_than_an_epoch() -> None:
    config = run(NAME, tokens=8192)
    load = load_of(assumed_rows("x"), config, 1, SHAPE)
    assert (load.fullest_pack, load.num_steps) == (48 * 170, 15 * 21)
    short = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, steps=3))
    assert load_of(assumed_rows("x"), short, 1, SHAPE).num_steps == 3


def test_tiles_stand_on_and_below_the_diagonal() -> None:
    assert [tiles_of(length) for length in (1, 128, 129, 256, 257)] == [1, 1, 3, 3, 6]
