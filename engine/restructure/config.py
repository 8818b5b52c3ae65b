"""The settings of a build: the sources, how many rows of each, the structure, and the output file."""

from dataclasses import dataclass, field
from pathlib import Path

from alttrain.engine.data.content import COMPRESSIONS
from alttrain.engine.restructure.structures import Structure
from alttrain.engine.thinking import MARKS


@dataclass(frozen=True)
class SourceConfig:
    """A file of ordinary traces, and how to read it."""

    path: str = ""
    """A file of rows (.jsonl, .json, .parquet) or hub id; empty for no rows of this label."""
    columns: str = ""
    """The source's names of our columns, as in prompt=question,response=answer. label=NAME is the column that says
    whether the prompt is harmful; without it, `label` and the usual others (is_safe, data_type) are read."""
    where: str = ""
    """The rows to take, by the source's own columns, as in label=vanilla_harmful,adversarial_harmful;split=train.
    Values are separated by commas, and a row must have one of each column's. Empty for all rows."""
    think_open: str = MARKS.open
    """The mark that opens the reasoning in a response; responses may lack it."""
    think_close: str = MARKS.close
    """The mark that closes the reasoning in a response."""
    category_column: str = ""
    """The column with the row's category, a list of categories, or {category: true or false}; empty for `category`,
    which the source may lack."""
    category: str = ""
    """The category of rows that name none, for example mathematics."""
    name: str = ""
    """The source's name in rows, ids and card; empty for the file's name."""
    licence: str = ""
    """The source's licence, for the card."""

    @property
    def title(self) -> str:
        """The source's name in rows and card."""
        path = Path(self.path)
        return self.name or (path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).stem

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
class AssessConfig:
    """How assessments, decisions and refusals are worded."""

    phrases: str = ""
    """A file of your own wording, in the form that --assess.write-phrases writes; empty for the built-in wording."""
    write_phrases: str = ""
    """Write the built-in wording to this file (.json) to start from, and nothing else."""


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
    """Evaluation sets (.csv, .tsv, .txt, or any file of rows): a prompt that equals a text in their cells is dropped,
    but for differences of case, white space, quotes and dashes."""
    assess: AssessConfig = field(default_factory=AssessConfig)
    structure: Structure = "full"
    """full is AltTrain's own; the others are controls on the same prompts and answers."""
    tokenizer: str = ""
    """Folder or hub id of a tokenizer, to count lengths in tokens; if empty, the card counts characters."""
    seed: int = 0
    """Seed of the choice of rows and of the sentences written."""
    output: str = "runs/alttrain-1k.jsonl"
    """File of the rows; the card goes beside it, with .md in place of .jsonl."""
    overwrite: bool = False
    """Replace rows and card of an earlier build."""
