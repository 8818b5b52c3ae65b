"""Measure the reasoning structure of generated traces; `--help` says what is read and written."""

from alttrain.engine.cli import run_program
from alttrain.engine.evaluate import measure
from alttrain.engine.evaluate.config import MeasureConfig

if __name__ == "__main__":
    run_program(MeasureConfig, measure.measure, measure.__doc__)
