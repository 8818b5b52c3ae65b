"""The command line is a promise: the flags of every program are written down, so that renaming one is a decision.

    python tests/engine/test_config.py --write

writes them anew, to tests/assets/flags.txt; what then differs in git is what people's scripts will meet.
"""

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import tyro
from tyro.conf import Positional

from alttrain.engine.config import DataConfig, RunConfig
from alttrain.engine.doctor.config import DoctorConfig
from alttrain.engine.evaluate.config import AskConfig, MeasureConfig
from alttrain.engine.restructure.config import BuildConfig
from alttrain.nano.config import StudyConfig

FLAGS = Path(__file__).resolve().parents[1] / "assets" / "flags.txt"
PROGRAMS: dict[str, type] = {
    "ask": AskConfig,
    "build": BuildConfig,
    "doctor": DoctorConfig,
    "measure": MeasureConfig,
    "nano": StudyConfig,
    "train": RunConfig,
}


def flags_of(settings: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return the name of every flag that the command line makes of a dataclass, and its type and default."""
    hints = typing.get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        name = f"{prefix}{field.name}".replace("_", "-")
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from flags_of(typing.cast(type, kind), f"{name}.")
        elif field.default is dataclasses.MISSING:
            yield (name if _is_positional(kind) else f"--{name}"), f"{written(kind)}, required"
        else:
            yield f"--{name}", f"{written(kind)} = {json.dumps(field.default)}"


def _is_positional(kind: Any) -> bool:
    return typing.get_args(kind)[1:] == typing.get_args(Positional[str])[1:]


def written(kind: Any) -> str:
    """Return a type as a user writes its values: FLOAT, {off,full}, STR ... for any number of them."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return written(arguments[0])
    if origin is Literal:
        return "{" + ",".join(map(str, arguments)) + "}"
    if origin is typing.Union or origin is types.UnionType:
        return "|".join(map(written, arguments))
    if origin is tuple:
        return " ".join("..." if argument is ... else written(argument) for argument in arguments)
    assert kind in (bool, int, float, str), kind
    return str(kind.__name__).upper()


def lines() -> list[str]:
    """Return a line for each flag of each program."""
    return [f"{program} {flag} {rest}" for program, settings in PROGRAMS.items() for flag, rest in flags_of(settings)]


def test_no_flag_appears_vanishes_or_changes_unnoticed() -> None:
    known, now = FLAGS.read_text(encoding="utf-8").splitlines(), lines()
    vanished, appeared = ([line for line in a if line not in b] for a, b in ((known, now), (now, known)))
    assert not vanished and not appeared, (  # noqa: PT018
        f"vanished: {vanished}; appeared: {appeared}. People's scripts use these flags. Where that is meant: "
        "python tests/engine/test_config.py --write"
    )
    assert known == now


@pytest.mark.filterwarnings("ignore:get_parser:DeprecationWarning")
@pytest.mark.parametrize("program", PROGRAMS)
def test_these_are_the_flags_that_the_command_line_takes(program: str) -> None:
    parser: Any = tyro.extras.get_parser(PROGRAMS[program])
    taken = [action.option_strings[0] if action.option_strings else action.dest for action in parser._actions]
    assert sorted(taken) == sorted(["-h", *(flag for flag, _ in flags_of(PROGRAMS[program]))])


@pytest.mark.filterwarnings("ignore:get_parser:DeprecationWarning")
def test_help_explains_every_flag_of_a_run() -> None:
    parser: Any = tyro.extras.get_parser(RunConfig)
    unexplained = [
        action.option_strings[0] for action in parser._actions if not str(action.help).partition("(default")[0].strip()
    ]
    assert unexplained == []


def test_values_are_read_into_their_section() -> None:
    words = "--optim.betas 0.8 0.99 --data.train a.jsonl owner/name --zero.offload all --loss.assessment 2 --resume"
    config = tyro.cli(RunConfig, args=words.split())
    assert config.optim.betas == (0.8, 0.99)
    assert config.data == DataConfig(train=("a.jsonl", "owner/name"))
    assert (config.zero.offload, config.loss.assessment, config.resume) == ("all", 2.0, True)


def test_a_run_is_written_down_whole() -> None:
    """What config.json holds makes the same run again."""
    record = json.loads(json.dumps(RunConfig(data=DataConfig(train=("a", "b"))).as_dict()))
    names = {field.name for field in dataclasses.fields(RunConfig)}
    assert record.keys() == names - {"plan"}  # which says what a run takes, and nothing about the run
    assert record["data"]["train"] == ["a", "b"]
    assert record["loss"] == {**RunConfig().loss.weights(), "per": "weight"}


@pytest.mark.parametrize("settings", PROGRAMS.values())
def test_settings_cannot_be_changed_once_made(settings: type) -> None:
    """A run that has been checked stays what was checked."""
    classes: list[Any] = [settings]
    for kind in classes:
        assert kind.__dataclass_params__.frozen, kind
        hints = typing.get_type_hints(kind)
        classes += [hint for hint in hints.values() if dataclasses.is_dataclass(hint)]
    assert len(classes) > 1 or settings is DoctorConfig, "the others have sections"


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    FLAGS.write_text("".join(f"{line}\n" for line in lines()), encoding="utf-8")
