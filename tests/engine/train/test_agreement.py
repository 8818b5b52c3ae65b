"""Ranks that differ are named with the flag that differs; where files lie does not matter, what they hold does."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from alttrain.engine.config import DataConfig, ModelConfig, OptimConfig, RunConfig
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import ConfigError
from alttrain.engine.train.agreement import check_agreement, fingerprint

CONFIG = RunConfig(model=ModelConfig(path="m"), data=DataConfig(train=("a.jsonl",)), output="o")
FACTS: dict[str, Any] = {
    "data": {"train": {"sha256": "1" * 64}, "eval": {}},
    "model": {"sha256": "2" * 64, "chat_template_sha256": "3" * 64},
}


def check(config: RunConfig, facts: dict[str, Any]) -> None:
    """Compare with a second rank, which has `config` and `facts`."""
    everyone = [("rank 0 on a", fingerprint(CONFIG, FACTS)), ("rank 1 on b", fingerprint(config, facts))]
    check_agreement(CONFIG, FACTS, cast(World, SimpleNamespace(rank=0, gather=lambda _: everyone)))


def test_paths_may_differ() -> None:
    check(CONFIG, FACTS)
    elsewhere = replace(CONFIG, model=ModelConfig(path="n"), data=DataConfig(train=("/x/b.jsonl", "c.jsonl")))
    check(elsewhere, FACTS)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"optim": OptimConfig(lr=1.0)}, "--optim.lr is 1.0 on rank 1 on b and 1e-05 on rank 0 on a: every rank needs"),
        ({"seed": 7}, "--seed is 7 on rank 1 on b and 0 on rank 0 on a: every rank needs the same."),
        ({"output": "p"}, "--output is p on rank 1 on b and o on rank 0 on a"),
        ({"resume": True}, "--resume is True on rank 1 on b and False on rank 0 on a"),
    ],
)
def test_a_setting_that_differs_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(replace(CONFIG, **changed), FACTS)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("data", "train", "sha256"), "--data.train holds other rows on rank 1 on b than on rank 0 on a (sha256 9"),
        (("data", "eval", "sha256"), "--data.eval holds other rows on rank 1 on b than on rank 0 on a"),
        (("model", "sha256"), "--model.path holds other files of the model on rank 1 on b than on rank 0 on a"),
        (("model", "chat_template_sha256"), "--data.chat-template holds other files of the chat template on"),
    ],
)
def test_files_that_hold_something_else_are_named(keys: tuple[str, ...], said: str) -> None:
    facts = {
        name: {k: dict(v) if isinstance(v, dict) else v for k, v in value.items()} for name, value in FACTS.items()
    }
    inner: Any = facts
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = "9" * 64
    with pytest.raises(ConfigError) as error:
        check(CONFIG, facts)
    assert str(error.value).startswith(said)
