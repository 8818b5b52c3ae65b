"""Ask a model one prompt, or a file of prompts; `--help` says what is read and written."""

from alttrain.engine.cli import run_program
from alttrain.engine.evaluate import ask
from alttrain.engine.evaluate.config import AskConfig

if __name__ == "__main__":
    run_program(AskConfig, ask.ask, ask.__doc__)
