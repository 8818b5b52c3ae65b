"""The command line of recipes and programs: flags from the dataclasses, checks, then the run.

torch is imported only after the flags have been read, so that `--help` answers at once.
"""

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TypeVar

from alttrain.engine.config import RunConfig
from alttrain.engine.config_checks import validate
from alttrain.engine.errors import AlttrainError

Settings = TypeVar("Settings")


def main(recipe: RunConfig) -> None:
    """Read the command line over `recipe`'s values, run it and end the process: with 0, or with 2 on a user's error."""
    config = _read_flags(recipe)
    with exit_on_user_error():
        validate(config)
        from alttrain.engine.train.loop import train

        train(config)
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is on disk. An orderly shutdown of the interpreter with gloo's threads about was seen to abort one rank
    # in about a hundred ("terminate called without an active exception"), which would make a finished run a failed one.
    os._exit(0)


def run_program(
    settings: Settings | type[Settings], program: Callable[[Settings], str], description: str | None
) -> None:
    """Run a program that is one process: read its flags, call it, print what it returns.

    Args:
        settings: the values that the flags change; or their dataclass, where a value must be given.
        program: what is run; an `AlttrainError` that it raises is printed as its sentence, with exit code 2.
        description: what --help says above the flags.
    """
    import tyro

    if isinstance(settings, type):
        config = tyro.cli(settings, description=description)
    else:
        config = tyro.cli(type(settings), default=settings, description=description)
    with exit_on_user_error():
        sys.stdout.write(program(config) + "\n")


def _read_flags(recipe: RunConfig) -> RunConfig:
    """Return the recipe with the command line's values; --help and flags that cannot be read end the process here."""
    import tyro

    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            return tyro.cli(RunConfig, default=recipe, description=sys.modules["__main__"].__doc__)
    except SystemExit as left:
        if left.code:
            _let_the_first_speak()
        sys.stderr.write(printed.getvalue())
        raise


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn an `AlttrainError` into its sentence on stderr and exit code 2, without a traceback.

    All ranks of a node meet the same error at the same time, and the launcher ends them all at the first that exits:
    the others give the node's first process time to speak, and speak themselves only if it had nothing to say.
    """
    try:
        yield
    except AlttrainError as error:
        _let_the_first_speak()
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        # Not sys.exit: interpreter shutdown waits for collectives that other ranks will never join.
        os._exit(2)


def _let_the_first_speak() -> None:
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        # The launcher ends the others once the first has left: they leave as it did.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(2))
        time.sleep(15.0)
