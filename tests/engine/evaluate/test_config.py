"""The settings of a measurement: which are needed, and that rows are read as training reads them."""

import dataclasses

import pytest
import tyro

from alttrain.engine.config import DataConfig
from alttrain.engine.evaluate.config import GeneratedConfig, MeasureConfig, ReadConfig


def test_the_traces_come_first_without_a_flag() -> None:
    config = tyro.cli(MeasureConfig, args=["after.jsonl", "--before", "before.jsonl", "--data.columns", "prompt=q"])
    assert config == MeasureConfig("after.jsonl", "before.jsonl", data=GeneratedConfig(columns="prompt=q"))


def test_there_is_nothing_to_measure_without_traces(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        tyro.cli(MeasureConfig, args=["--before", "before.jsonl"])
    assert left.value.code == 2
    assert "Traces, in a file that training reads too, or a hub id. (required)" in capsys.readouterr().err


def test_rows_are_read_as_training_reads_them() -> None:
    """A file that trains can be measured by the same flags: names, types and defaults are those of --data."""
    training = {field.name: (field.type, field.default) for field in dataclasses.fields(DataConfig)}
    for field in dataclasses.fields(ReadConfig):
        assert (field.type, field.default) == training[field.name], field.name
