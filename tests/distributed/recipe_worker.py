"""Runs programs one after another on the ranks of one launch: starting ranks costs more time than a small run.

usage: recipe_worker.py RUNS_JSON, a list of command lines, each a list of words that begins with the program

Every run goes through the program's own command line, finds the process group of the launch, and must end with 0.
"""

import contextlib
import json
import os
import runpy
import sys

from alttrain.engine.distributed.world import World


class Ended(BaseException):
    """Stands for the end of a program, with its exit code."""


def main(runs: list[list[str]]) -> None:
    leave = os._exit
    with World.from_environment() as world:
        # A program asks for the process group when it begins and leaves it when it ends: here it is given this one.
        World.from_environment = staticmethod(lambda: contextlib.nullcontext(world))  # type: ignore[method-assign,assignment]
        os._exit = _end  # type: ignore[assignment]
        for program, *words in runs:
            sys.argv = [program, *words]
            try:
                runpy.run_path(program, run_name="__main__")
            except Ended as ended:
                if ended.args != (0,):
                    leave(*ended.args)
    sys.stderr.flush()
    leave(0)  # as the command line does


def _end(code: int) -> None:
    raise Ended(code)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
