"""What a data set is built from: the sources, how many rows of each, the structure, and where it goes."""

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
    """Names in the source, as in prompt=question,response=answer."""
    think_open: str = MARKS.open
    """What opens the reasoning in a response; it may be missing there."""
    think_close: str = MARKS.close
    """What closes the reasoning in a response."""
    category_column: str = "category"
    """The column with the row's category, or with a list of them; it may be missing."""
    category: str = ""
    """The category of rows that name none, as in mathematics."""
    name: str = ""
    """What the rows, their ids and the card call the source; empty for the file's name."""
    licence: str = ""
    """The source's licence, for the card."""

    @property
    def title(self) -> str:
        """What to call the source."""
        return self.name or Path(self.path).stem

    @property
    def slug(self) -> str:
        """The beginning of its rows' ids: the title's letters and digits in lower case."""
        return "".join(filter(str.isalnum, self.title.lower()))


@dataclass(frozen=True)
class BenignConfig(SourceConfig):
    """A file of ordinary traces whose answers are kept."""

    answer_open: str = ""
    """What opens the answer, as in <answer>; empty where nothing does."""
    answer_close: str = ""
    """What closes the answer."""


@dataclass(frozen=True)
class BuildConfig:
    """What is read, what is made of it, and where it goes."""

    harmful: SourceConfig = field(default_factory=SourceConfig)
    benign: BenignConfig = field(default_factory=BenignConfig)
    num_harmful: int = 900
    """Harmful rows; all that remain, where they are fewer."""
    num_benign: int = 100
    """Benign rows; all that remain, where they are fewer."""
    avoid: tuple[str, ...] = ()
    """Evaluation sets (.csv, .tsv, .json, .jsonl): a prompt that equals a text in any of their cells is dropped."""
    structure: Structure = "full"
    """AltTrain's own, or a control on the same prompts and answers."""
    tokenizer: str = ""
    """Folder or hub id of a tokenizer; with one, the card counts tokens, without, characters."""
    seed: int = 0
    """Seed of the choice of rows and of the sentences written."""
    output: str = "runs/alttrain-1k.jsonl"
    """The rows; the card goes to the same name with .md."""
