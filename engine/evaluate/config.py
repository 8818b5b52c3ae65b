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
class AskConfig:
    """Which model is asked what, how its tokens are chosen, and where its responses go."""

    model: Positional[str]
    """Model folder, or hub id as owner/name."""
    prompt: str = ""
    """One prompt, answered on standard output; where neither it nor --prompts is given, it is read from stdin."""
    prompts: str = ""
    """File of prompts, of any kind that training reads, or a hub id."""
    output: str = ""
    """The .jsonl file for the responses to --prompts; rows that it holds already are kept, and the rest is asked."""
    overwrite: bool = False
    """Ask all prompts anew, although --output holds responses."""
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this probability."""
    seed: int = 0
    """Seed of the draws; a row's draws depend on it and on the row's id alone."""
    max_think_tokens: int = 4096
    """At so many tokens the reasoning is closed by its closing mark and the answer follows: outcome forced."""
    max_answer_tokens: int = 2048
    """At so many tokens the answer is cut: finish length."""
    batch: int = 16
    """Prompts that are answered at a time."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """auto: bfloat16 on a GPU, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU if there is one."""
    chat_template: str = ""
    """A Jinja file in place of the model's own chat template."""
    date: str = "2026-01-01"
    """The date that a chat template is given that reads the clock."""
    data: ReadConfig = field(default_factory=ReadConfig)


@dataclass(frozen=True)
class GeneratedConfig(ReadConfig):
    """How the files of generated responses write their rows."""

    opened: Literal["auto", "yes", "no"] = "auto"
    """Whether the prompts ended inside the reasoning, where rows do not say so; auto: as the responses' marks show."""


@dataclass(frozen=True)
class MeasureConfig:
    """What is measured, by which rules, and where the report goes."""

    after: Positional[str]
    """Traces, in a file that training reads too, or a hub id."""
    before: str = ""
    """Traces of another model on the same prompts, paired by prompt."""
    rules: str = ""
    """JSON file of rules; if empty, the rules for English and Chinese."""
    output: str = ""
    """JSON file for the figures and, by id, the labels of every trace."""
    data: GeneratedConfig = field(default_factory=GeneratedConfig)
