r"""Ordinary reasoning traces, harmful and benign, become AltTrain-1K or one of its controls, with a data card.

    python recipes/build_dataset.py --harmful.path STAR-1.json --benign.path traces.jsonl --avoid evaluation/*.csv \
        --benign.columns prompt=question --benign.answer-open "<answer>" --benign.answer-close "</answer>"

Prompts that come twice, or that stand in a file given by --avoid, are dropped and counted.
"""

import hashlib
import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alttrain.engine.cli import exit_on_user_error
from alttrain.engine.data.dataset import tokenize_rows
from alttrain.engine.data.render import Renderer, Tokenizer
from alttrain.engine.errors import ConfigError, DataError, ModelError
from alttrain.engine.files import write_whole
from alttrain.engine.restructure.card import DataFacts, Lengths, Taken, data_card, summary
from alttrain.engine.restructure.curate import choose, curate, read_texts
from alttrain.engine.restructure.structures import ORDER, Structure, TemplateAssessor, restructure
from alttrain.engine.restructure.traces import BenignConfig, Dropped, SourceConfig, read_ordinary, sha256_of
from alttrain.engine.trace.roles import ROLES, Row


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


CONFIG = BuildConfig()


def build(config: BuildConfig) -> str:
    """Write the rows and the card, each whole or not at all, and return what to tell the user.

    Raises:
        AlttrainError: a setting is out of range, a file cannot be read, or no row remains.
    """
    check(config)
    avoid = short_names(config.avoid)
    sources = [read_ordinary(config.harmful), read_ordinary(config.benign)]
    usable, dropped = curate(
        [trace for source in sources for trace in source.traces],
        {name: read_texts(file) for name, file in avoid.items()},
    )
    rows: list[Row] = []
    taken: list[Taken] = []
    for source, wanted in zip(sources, (config.num_harmful, config.num_benign), strict=True):
        candidates = [trace for trace in usable if trace.label == source.label]
        chosen = choose(candidates, wanted, config.seed)
        assess = TemplateAssessor(config.seed)
        rows += [restructure(trace, config.structure, assess, config.seed) for trace in chosen]
        if source.config.path:
            taken.append(Taken(source, len(candidates), len(chosen), wanted))
    random.Random(config.seed).shuffle(rows)
    dropped = [one for source in sources for one in source.unusable] + dropped
    if not rows:
        raise DataError(f"{config.output}: none of {len(usable) + len(dropped)} rows read remains; nothing is written.")
    return write(config, rows, taken, dropped, avoid)


def check(config: BuildConfig) -> None:
    """Check what the settings alone can tell.

    Raises:
        ConfigError: a setting is missing, out of range or contradicts another.
    """
    if not config.harmful.path and not config.benign.path:
        raise ConfigError("--harmful.path and --benign.path are both missing: give at least one file of traces.")
    for flag, count in (("--num-harmful", config.num_harmful), ("--num-benign", config.num_benign)):
        if count < 0:
            raise ConfigError(f"{flag} is {count}: it must be 0 or more.")
    if not config.output.endswith(".jsonl"):
        raise ConfigError(f"--output is '{config.output}': it must end in .jsonl.")
    if config.harmful.slug == config.benign.slug:
        raise ConfigError(
            f"both sources are called '{config.harmful.slug}', and ids are made of it: give --benign.name another."
        )


def short_names(files: Sequence[str]) -> dict[str, str]:
    """Return {name: file}, the names without folders where that leaves them apart; a file given twice counts once."""
    paths = list(dict.fromkeys(files))
    names = [Path(path).name for path in paths]
    return dict(zip(names if len(set(names)) == len(names) else paths, paths, strict=True))


def write(
    config: BuildConfig, rows: list[Row], taken: list[Taken], dropped: list[Dropped], avoid: Mapping[str, str]
) -> str:
    """Write the rows and the card; return what to tell the user."""
    output = Path(config.output)
    lengths = measure(rows, config.tokenizer)
    text = "".join(json.dumps(as_record(row), ensure_ascii=False) + "\n" for row in rows)
    facts = DataFacts(
        file=output.name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        structure=config.structure,
        order=ORDER[config.structure],
        seed=config.seed,
        sources=taken,
        dropped=dropped,
        avoid={name: sha256_of(file) for name, file in avoid.items()},
        lengths=lengths,
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, text)
        write_whole(output.with_suffix(".md"), data_card(facts))
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror}); name another place.") from error
    return summary(facts)


def as_record(row: Row) -> dict[str, Any]:
    """Return `row` in the project's own format, one line of JSONL."""
    is_plain = len(row.messages) == 1 and row.messages[0].role == "user"
    prompt = {"prompt": row.messages[0].content} if is_plain else {"messages": list(map(asdict, row.messages))}
    return {"id": row.id, "label": row.label} | prompt | {"spans": list(map(asdict, row.spans)), "source": row.source}


def measure(rows: Sequence[Row], tokenizer: str) -> Lengths:
    """Return how long the rows are: in tokens, as training would render them, or without a tokenizer in characters."""
    if tokenizer:
        examples = tokenize_rows(rows, Renderer(load_tokenizer(tokenizer)), skipped=None)
        return Lengths("tokens", [Counter(ROLES[span_id] for span_id in example.span_ids) for example in examples])
    sizes = []
    for row in rows:
        size = Counter({"prompt": sum(len(message.content) for message in row.messages)})
        for span in row.spans:
            size[span.role] += len(span.text)
        sizes.append(size)
    return Lengths("characters", sizes)


def load_tokenizer(name: str) -> Tokenizer:
    """Return the tokenizer of a folder or hub id.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"--tokenizer {name}: transformers finds no tokenizer there; give its folder.") from error
    return tokenizer


if __name__ == "__main__":
    import tyro

    config = tyro.cli(BuildConfig, default=CONFIG, description=__doc__)
    with exit_on_user_error():
        sys.stdout.write(build(config) + "\n")
