"""The command line of recipes and programs: flags from the dataclasses, checks, then the run.

torch is imported only after the flags have been read, so that `--help` answers at once.
"""

import dataclasses
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any, NoReturn, TypeVar

from alttrain.engine.config import RunConfig
from alttrain.engine.config_checks import validate
from alttrain.engine.console import outlive_readers
from alttrain.engine.errors import AlttrainError, ConfigError

Settings = TypeVar("Settings")


def main(recipe: RunConfig) -> None:
    """Run `recipe` with the command line's changes and end the process: exit code 0, or 2 after an `AlttrainError`.

    With --plan.gpu nothing is run: the plan is printed, and the exit code is 1 where no setting fits.
    """
    outlive_readers()
    config = expand_home(_read_flags(recipe))
    with exit_on_user_error(), exit_on_interrupt(config.output):
        if config.plan != recipe.plan and not config.plan.gpu:
            raise ConfigError(
                "is not given, and other --plan flags are. Name the GPU, or leave them out to train.", flag="--plan.gpu"
            )
        validate(config)
        if config.plan.gpu:
            _print_plan(config)
        from alttrain.engine.train.loop import train

        train(config)
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is on disk. When the interpreter shut down in order while gloo's threads still ran, about one rank in a
    # hundred aborted ("terminate called without an active exception"), and a finished run would count as failed.
    os._exit(0)


def _print_plan(config: RunConfig) -> NoReturn:
    """Print the plan of a run, once where a launcher started several processes, and end the process."""
    from alttrain.engine.train.plan import make_plan
    from alttrain.engine.train.plan_text import written

    plan = make_plan(config)
    if int(os.environ.get("RANK", "0")) == 0:
        sys.stdout.write(written(plan))
        sys.stdout.flush()
    sys.exit(0 if plan.best else 1)


def run_program(
    settings: Settings | type[Settings], program: Callable[[Settings], str], description: str | None
) -> None:
    """Run a program that is one process: read its flags, call it, print what it returns, if anything.

    Args:
        settings: the default values of the flags; or the dataclass itself, where a flag has no default.
        program: the function to run; an `AlttrainError` that it raises is printed, with exit code 2.
        description: the text that --help prints above the flags.
    """
    import tyro

    if isinstance(settings, type):
        config = tyro.cli(settings, description=description)
    else:
        config = tyro.cli(type(settings), default=settings, description=description)
    with exit_on_user_error(), exit_on_interrupt(""):
        text = program(expand_home(config))
    if text:
        sys.stdout.write(f"{text}\n")


def _read_flags(recipe: RunConfig) -> RunConfig:
    """Return the recipe with the command line's values; --help and invalid flags end the process here."""
    import tyro

    error_output = io.StringIO()
    # The deepspeed launcher tells each process its local rank by a flag, and by the environment too.
    words = [word for word in sys.argv[1:] if not re.fullmatch(r"--local[-_]rank=\d+", word)]
    try:
        with redirect_stderr(error_output):
            return tyro.cli(RunConfig, args=words, default=recipe, description=sys.modules["__main__"].__doc__)
    except SystemExit as exit_request:
        if exit_request.code:
            _wait_for_local_rank_0()
        sys.stderr.write(error_output.getvalue())
        raise


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print the message of an `AlttrainError` to stderr, without a traceback, and exit with code 2.

    All ranks of a node usually raise the same error at the same time, and the launcher ends them all when the first
    exits. So the other ranks wait before they print: the node's first process prints the message once and ends them.
    They print it themselves only if the first process did not raise the error.
    """
    try:
        yield
    except AlttrainError as error:
        _wait_for_local_rank_0()
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        # sys.exit would hang: interpreter shutdown waits for collectives that other ranks will never join.
        os._exit(2)


@contextmanager
def exit_on_interrupt(output: str) -> Iterator[None]:
    """End with one sentence and exit code 130 on Ctrl-C; `output` is the folder of the run that may go on, if any."""
    try:
        yield
    except KeyboardInterrupt:
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:
            way_on = f" What {output} holds can be gone on with by --resume." if output else ""
            sys.stderr.write(f"\nstopped by Ctrl-C.{way_on}\n")
            sys.stderr.flush()
        os._exit(130)


def expand_home(settings: Settings) -> Settings:
    """Return the settings with the home folder in the place of each `~/`, which shells leave in --output=~/run."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = expand_home(value)
        elif isinstance(value, str):
            changes[field.name] = os.path.expanduser(value) if value.startswith("~") else value
        elif isinstance(value, tuple) and all(isinstance(item, str) for item in value):
            changes[field.name] = tuple(os.path.expanduser(item) if item.startswith("~") else item for item in value)
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]


def _wait_for_local_rank_0() -> None:
    """On the other ranks of a node, wait: rank 0 prints the error and exits, and the launcher then ends this rank."""
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        # The launcher sends SIGTERM to this rank once the first has exited: exit with the same code as the first.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(2))
        # torchrun looks at its workers many times a second; srun leaves the others of a failed task alone.
        time.sleep(15.0 if "TORCHELASTIC_RUN_ID" in os.environ else 3.0)
