"""The settings of a study: what cannot be is refused by the name of its flag, and what can be becomes a run."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.config import BatchConfig, ScheduleConfig
from alttrain.engine.config_checks import validate
from alttrain.engine.errors import ConfigError
from alttrain.nano.arms import ARMS
from alttrain.nano.config import StudyConfig, Training, WorldNumbers, check, run_config


def test_arms_and_weights_are_taken_once_each() -> None:
    config = StudyConfig(arms=("full", "placebo", "full"), assessment_weights=(2.0, 1.0, 2.0))
    assert (config.chosen_arms, config.weights) == (("full", "placebo"), (2.0, 1.0))
    assert StudyConfig(arms=("placebo", "all")).chosen_arms == ARMS


def test_a_run_has_the_study_s_numbers() -> None:
    training = Training(BatchConfig(examples=4, pack_tokens=64), schedule=ScheduleConfig(epochs=0, steps=3))
    places = (Path("start"), Path("rows.jsonl"), Path("out"))
    run = run_config(training, *places, 5, is_base=False, assessment_weight=4.0)
    validate(run)
    assert (run.model.path, run.data.train, run.output, run.seed) == ("start", ("rows.jsonl",), "out", 5)
    assert (run.batch, run.schedule) == (training.batch, training.schedule)
    assert (run.loss.assessment, run.model.random_init, run.model.dtype) == (4.0, False, "float32")
    assert run_config(training, *places, 5, is_base=True).model.random_init


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "--seeds is 0: it must be at least 1."),
        ({"first_seed": -1}, "--first-seed is -1: it must be 0 or more."),
        ({"arms": ()}, "--arms and --assessment-weights must not be empty: name at least one of each."),
        ({"assessment_weights": (-1.0,)}, "--assessment-weights is -1.0: a weight must be a number, 0 or more."),
        ({"world": WorldNumbers(components=7)}, "--world.components is 7 and --world.aligned-components 4: half of an"),
        ({"world": WorldNumbers(hops=3)}, "--world.hops is 3: harm is 1 or 2 facts away from a thing."),
        ({"world": WorldNumbers(things=0)}, "--world.things is 0: it must be at least 1."),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(StudyConfig(output=str(tmp_path / "study"), **changes))
    assert str(error.value).startswith(message)


def test_settings_of_a_run_are_named_by_their_flags(tmp_path: Path) -> None:
    config = StudyConfig(output=str(tmp_path / "study"))
    optim = dataclasses.replace(config.alignment.optim, lr=0.0)
    config = dataclasses.replace(config, alignment=dataclasses.replace(config.alignment, optim=optim))
    with pytest.raises(ConfigError, match=r"^--alignment\.optim\.lr is 0\.0: it must be a positive number\.$"):
        check(config)


def test_arms_are_compared_at_equal_examples(tmp_path: Path) -> None:
    alignment = Training(BatchConfig(examples=0, tokens=512))
    with pytest.raises(ConfigError, match=r"^--alignment\.batch\.tokens must be 0"):
        check(StudyConfig(output=str(tmp_path / "study"), alignment=alignment))
