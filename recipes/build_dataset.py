"""Build AltTrain-1K, or one of its controls, from ordinary reasoning traces; `--help` says what is read and written."""

from alttrain.engine.cli import run_program
from alttrain.engine.restructure import build
from alttrain.engine.restructure.config import BuildConfig

CONFIG = BuildConfig()

if __name__ == "__main__":
    run_program(CONFIG, build.build, build.__doc__)
