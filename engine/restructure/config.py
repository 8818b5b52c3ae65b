"""The settings of a build: the sources, how many rows of each, the structure, and the output file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alttrain.engine.restructure.structures import Structure
from alttrain.engine.thinking import MARKS

Label = Literal["harmful", "benign"]


@dataclass(frozen=True)
class SourceConfig:
    """A file of ordinary traces, and how to read it."""

    path: str = ""
    """A file (.jsonl, .json, .parquet) or hub id; empty for no rows of this label."""
    columns: str = ""
    """The source's names of our columns, as in prompt=question,response=answer."""
    think_open: str = MARKS.open
    """The mark that opens the reasoning in a response; responses may lack it."""
    think_close: str = MARKS.close
    """The mark that closes the reasoning in a response."""
    category_column: str = "category"
    """The column with the row's category or a list of categories; the source may lack it."""
    category: str = ""
    """The category of rows that name none, for example mathematics."""
    name: str = ""
    """The source's name in rows, ids and card; empty for the file's name."""
    licence: str = ""
    """The source's licence, for the card."""

    @property
    def title(self) -> str:
        """The source's name in rows and card."""
        return self.name or Path(self.path).stem

    @property
    def slug(self) -> str:
        """The beginning of its rows' ids: the title's letters and digits in lower case."""
        return "".join(filter(str.isalnum, self.title.lower()))


@dataclass(frozen=True)
class BenignConfig(SourceConfig):
    """A file of ordinary traces whose answers are kept."""

    answer_open: str = ""
    """The mark that opens the answer, as in <answer>; empty where there is none."""
    answer_close: str = ""
    """The mark that closes the answer; empty where there is none."""


@dataclass(frozen=True)
class BuildConfig:
    """The sources, how they are restructured, and the output file."""

    harmful: SourceConfig = field(default_factory=SourceConfig)
    benign: BenignConfig = field(default_factory=BenignConfig)
    num_harmful: int = 900
    """Harmful rows to take; if fewer remain, all of them."""
    num_benign: int = 100
    """Benign rows to take; if fewer remain, all of them."""
    avoid: tuple[str, ...] = ()
    """Evaluation sets (.csv, .tsv, .json, .jsonl): a prompt that equals a text in any of their cells is dropped."""
    structure: Structure = "full"
    """full is AltTrain's own; the others are controls on the same prompts and answers."""
    tokenizer: str = ""
    """Folder or hub id of a tokenizer, to count lengths in tokens; if empty, the card counts characters."""
    seed: int = 0
    """Seed of the choice of rows and of the sentences written."""
    output: str = "runs/alttrain-1k.jsonl"
    """File of the rows; the card goes beside it, with .md in place of .jsonl."""
