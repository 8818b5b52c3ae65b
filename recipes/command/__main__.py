"""The command `alttrain`: the programs of the project, for installations without the folder recipes/.

    alttrain nano      a test of the paper's claim in a small invented world
    alttrain build     ordinary reasoning traces -> AltTrain-1K, or one of its controls
    alttrain ask       a model's responses to one prompt, or to a file of prompts
    alttrain measure   the reasoning structure of generated traces
    alttrain doctor    this machine, its rates, and which kernels are right on it
    alttrain train     one fine-tuning run in this process; for several GPUs: torchrun --no-python alttrain train ...

`alttrain PROGRAM --help` lists a program's flags, and `alttrain --version` prints the version.
"""

import sys
from collections.abc import Callable

from alttrain.engine.cli import main as run_training
from alttrain.engine.cli import run_program
from alttrain.engine.config import RunConfig
from alttrain.engine.version import __version__


def nano() -> None:
    """Test the paper's claim in a small invented world."""
    from alttrain.nano.recipe import main as run_nano

    run_nano()


def build() -> None:
    """Build a data set."""
    from alttrain.engine.restructure import build as program
    from alttrain.engine.restructure.config import BuildConfig

    run_program(BuildConfig(), program.build, program.__doc__)


def ask() -> None:
    """Ask a model."""
    from alttrain.engine.evaluate import ask as program
    from alttrain.engine.evaluate.config import AskConfig

    run_program(AskConfig, program.ask, program.__doc__)


def measure() -> None:
    """Measure the structure of traces."""
    from alttrain.engine.evaluate import measure as program
    from alttrain.engine.evaluate.config import MeasureConfig

    run_program(MeasureConfig, program.measure, program.__doc__)


def doctor() -> None:
    """Ask what is wrong with this machine."""
    from alttrain.engine.doctor import doctor as program
    from alttrain.engine.doctor.config import DoctorConfig

    run_program(DoctorConfig(), program.doctor, program.__doc__)


def train() -> None:
    """Fine-tune as the flags say, over the defaults of `RunConfig`."""
    run_training(RunConfig())


PROGRAMS: dict[str, Callable[[], None]] = {
    "nano": nano,
    "build": build,
    "ask": ask,
    "measure": measure,
    "doctor": doctor,
    "train": train,
}


def main() -> None:
    """Run the program that the first word of the command line names; exit with 2 where it names none."""
    words = sys.argv[1:]
    if words == ["--version"]:
        sys.stdout.write(f"alttrain {__version__}\n")
    elif words[:1] == ["--help"] or words[:1] == ["-h"]:
        sys.stdout.write(f"{__doc__}\n")
    elif words and words[0] in PROGRAMS:
        sys.argv = [f"alttrain {words[0]}", *words[1:]]
        PROGRAMS[words[0]]()
    else:
        problem = f"there is no program {words[0]!r}" if words else "no program is named"
        sys.stderr.write(f"alttrain: {problem}; name one of {', '.join(PROGRAMS)}, or ask for --help.\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
