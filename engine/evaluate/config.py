"""The settings of an evaluation: what it reads, and where its report goes."""

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from alttrain.engine.thinking import MARKS


@dataclass(frozen=True)
class ReadConfig:
    """How the files of traces write their rows."""

    columns: str = ""
    """The source's names of our columns, as in prompt=question,response=answer."""
    think_open: str = MARKS.open
    think_close: str = MARKS.close
    on_bad_row: Literal["error", "skip"] = "error"
    """A row that breaks a rule of the format. error: stop; skip: leave it out and count it."""


@dataclass(frozen=True)
class GeneratedConfig(ReadConfig):
    """How the files of generated responses write their rows."""

    opened: Literal["auto", "yes", "no"] = "auto"
    """Whether the prompts ended inside the reasoning, where rows do not say so; auto: as the responses' marks show."""


@dataclass(frozen=True)
class MeasureConfig:
    """What is measured, by which rules, and where the report goes."""

    after: Positional[str]
    """Traces: .jsonl, .json, .parquet or a hub id."""
    before: str = ""
    """Traces of another model on the same prompts, paired by prompt."""
    rules: str = ""
    """JSON file of rules; if empty, the rules for English and Chinese."""
    output: str = ""
    """JSON file for the figures and, by id, the labels of every trace."""
    data: GeneratedConfig = field(default_factory=GeneratedConfig)
