"""What the command line does around a program: flags over settings, one sentence for a user's error, who says it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import pytest

from alttrain.command.__main__ import PROGRAMS
from alttrain.engine import cli
from alttrain.engine.config import DataConfig, ModelConfig, OptimConfig, RunConfig
from alttrain.engine.errors import DataError
from alttrain.engine.train import loop

RECIPE = RunConfig(model=ModelConfig(path="m"), data=DataConfig(train=("t",)), optim=OptimConfig(lr=3e-5), output="o")


@dataclass(frozen=True)
class Greeting:
    """A greeting."""

    name: str
    """Who is greeted."""
    loud: bool = False
    """Whether it is shouted."""


def greet(greeting: Greeting) -> str:
    """Return the greeting."""
    if not greeting.name.isalpha():
        raise DataError(f"name is {greeting.name}: it must be letters.")
    return f"good day, {greeting.name.upper() if greeting.loud else greeting.name}"


class Exited(BaseException):
    """Stands for the end of the process, with its exit code."""


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the end of the process an exception, and this process no launcher's."""

    def leave(code: int) -> NoReturn:
        raise Exited(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the words of the command line."""
    return lambda *given: monkeypatch.setattr(sys, "argv", ["program", *given])


@pytest.mark.parametrize("settings", [Greeting("Ada"), Greeting])
def test_a_program_prints_what_it_returns(
    words: Callable[..., None], capsys: pytest.CaptureFixture[str], settings: Greeting | type[Greeting]
) -> None:
    words("--name", "Grace", "--loud")
    cli.run_program(settings, greet, "Greets.")
    assert capsys.readouterr() == ("good day, GRACE\n", "")


def test_settings_are_the_flags_defaults_and_a_class_has_none(
    words: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    words()
    cli.run_program(Greeting("Ada"), greet, None)
    assert capsys.readouterr().out == "good day, Ada\n"
    with pytest.raises(SystemExit) as left:
        cli.run_program(Greeting, greet, None)
    assert left.value.code == 2
    assert "--name" in capsys.readouterr().err


def test_help_shows_what_the_program_is_for(words: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    words("--help")
    with pytest.raises(SystemExit) as left:
        cli.run_program(Greeting("Ada"), greet, "Greets whom you like.")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "Greets whom you like." in shown
    assert "Who is greeted." in shown


def test_a_users_error_is_its_sentence_and_2(words: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    words("--name", "R2D2")
    with pytest.raises(Exited) as left:
        cli.run_program(Greeting, greet, None)
    assert left.value.args == (2,)
    assert capsys.readouterr() == ("", "name is R2D2: it must be letters.\n")


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), cli.exit_on_user_error():
        raise ZeroDivisionError


def test_the_first_process_of_a_node_speaks_at_once_and_the_others_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(time, "sleep", lambda _: heard.append(capsys.readouterr().err))
    for local_rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        with pytest.raises(Exited), cli.exit_on_user_error():
            raise DataError(f"rank {local_rank} speaks.")
    # The second said nothing before its time was up; nobody had ended it, so it spoke then.
    assert heard == ["rank 0 speaks.\n"]
    assert capsys.readouterr().err == "rank 1 speaks.\n"


def test_a_process_that_is_ended_while_it_waits_stays_silent_and_leaves_with_2() -> None:
    program = (
        "import os, signal, time\n"
        "from alttrain.engine.cli import exit_on_user_error\n"
        "from alttrain.engine.errors import DataError\n"
        "time.sleep = lambda _: os.kill(os.getpid(), signal.SIGTERM)\n"  # as the launcher does
        "with exit_on_user_error():\n"
        "    raise DataError('the same sentence.')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**os.environ, "LOCAL_RANK": "1"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_run_gets_the_recipe_with_the_flags_over_it_and_ends_the_process(
    words: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[RunConfig] = []
    monkeypatch.setattr(loop, "train", trained.append)
    words("--seed", "7", "--optim.weight-decay", "0.5")
    with pytest.raises(Exited) as left:
        cli.main(RECIPE)
    assert left.value.args == (0,)
    (config,) = trained
    assert (config.seed, config.optim) == (7, OptimConfig(lr=3e-5, weight_decay=0.5))
    assert (config.model, config.data, config.output) == (RECIPE.model, RECIPE.data, RECIPE.output)


def test_what_a_run_has_said_is_not_lost_when_it_ends() -> None:
    program = (
        "import sys, types\n"
        "from alttrain.engine.cli import main\n"
        "from alttrain.engine.config import DataConfig, ModelConfig, RunConfig\n"
        "def train(config):\n    print('to stdout')\n    print('to stderr', end='', file=sys.stderr)\n"
        "sys.modules['alttrain.engine.train.loop'] = types.SimpleNamespace(train=train)\n"
        "main(RunConfig(model=ModelConfig(path='m'), data=DataConfig(train=('t',)), output='o'))\n"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=buffered, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "to stdout\n", "to stderr")


def test_settings_are_refused_before_torch_is_loaded() -> None:
    program = (
        "import os, sys\n"
        "from alttrain.engine.cli import main\n"
        "from alttrain.engine.config import RunConfig\n"
        "leave = os._exit\n"
        "os._exit = lambda code: leave(10 * code + ('torch' in sys.modules))\n"
        "main(RunConfig())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (20, "--model.path is missing: give a model folder or hub id.\n")


PLANNED = RunConfig(model=ModelConfig(path="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"), output="o")


@pytest.mark.parametrize(("gpu", "code"), [("h200", 0), ("rtx4090", 1)])
def test_a_plan_is_printed_in_the_place_of_a_run(
    words: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gpu: str,
    code: int,
) -> None:
    monkeypatch.setattr(loop, "train", lambda _: pytest.fail("it was trained"))
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        words("--plan.gpu", gpu)
        with pytest.raises(SystemExit) as left:
            cli.main(PLANNED)
        assert left.value.code == code
        shown = capsys.readouterr()
        assert ("memory of each GPU" in shown.out) == (rank == "0")
        assert shown.err == ""


@pytest.mark.parametrize("flags", [("--plan.gpus", "8"), ("--plan.nodes", "2"), ("--plan.price", "3.5")])
def test_a_plans_flags_without_a_gpu_start_no_run(
    words: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
) -> None:
    monkeypatch.setattr(loop, "train", lambda _: pytest.fail("it was trained"))
    words(*flags)
    with pytest.raises(Exited) as left:
        cli.main(PLANNED)
    assert left.value.args == (2,)
    assert capsys.readouterr().err.startswith("--plan.gpu is not given, and other --plan flags are.")


def test_a_plan_without_rows_at_hand_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from alttrain.engine import cli\n"
        "from alttrain.engine.config import ModelConfig, RunConfig\n"
        "sys.argv = ['alttrain', '--plan.gpu', 'h200', '--plan.gpus', '8', '--plan.nodes', '2']\n"
        f"try:\n    cli.main(RunConfig(model=ModelConfig(path={PLANNED.model.path!r})))\n"
        "except SystemExit as left:\n    assert left.code == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'datasets', 'deepspeed'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 nodes of 8 x H200" in done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_of_every_program_loads_no_torch(program: str) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['alttrain', {program!r}, '--help']\n"
        "try:\n    runpy.run_module('alttrain.command', run_name='__main__')\n"
        "except SystemExit as left:\n    assert left.code == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
