"""Ordinary reasoning traces, harmful and benign, become AltTrain-1K or one of its controls, with a data card beside it.

    python recipes/build_dataset.py --harmful.path STAR-1.json --benign.path traces.jsonl --avoid evaluation/*.csv

Prompts that come twice, or that stand in a file given by --avoid, are dropped and counted.
"""

import hashlib
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alttrain.engine.cli import exit_on_user_error
from alttrain.engine.curate import Dropped, choose, curate, read_texts
from alttrain.engine.data_card import DataFacts, Lengths, SourceFacts, data_card
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.restructure import (
    ORDER,
    Structure,
    TemplateAssessor,
    Trace,
    restructure,
    split_understanding,
)
from alttrain.engine.run_folder import write_whole
from alttrain.engine.trace import Message, Row, split_response


@dataclass(frozen=True)
class BuildConfig:
    """What is read, what is made of it, and where it goes."""

    harmful: SourceConfig = field(default_factory=SourceConfig)
    benign: SourceConfig = field(default_factory=SourceConfig)
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
    avoid = dict(zip(short_names(config.avoid), map(read_texts, config.avoid), strict=True))
    sources = [read_source(config.harmful, "harmful"), read_source(config.benign, "benign")]
    usable, dropped = curate([trace for source in sources for trace in source.traces], avoid)
    rows: list[Row] = []
    facts, notes = [], []
    for source, wanted in zip(sources, (config.num_harmful, config.num_benign), strict=True):
        candidates = [trace for trace in usable if trace.label == source.facts.label]
        chosen = choose(candidates, wanted, config.seed)
        facts.append(replace(source.facts, num_usable=len(candidates), num_taken=len(chosen)))
        if len(chosen) < wanted:
            notes.append(f"Of {wanted} {source.facts.label} rows asked for, {len(chosen)} remain: all are taken.")
        assess = TemplateAssessor(config.seed)
        rows += [restructure(trace, config.structure, assess, config.seed) for trace in chosen]
    if not rows:
        raise DataError(f"{config.output}: no row remains of {len(usable) + len(dropped)}; nothing is written.")
    random.Random(config.seed).shuffle(rows)
    dropped = [one for source in sources for one in source.unusable] + dropped
    return write(config, rows, facts, dropped, notes)


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
    if slug(config.harmful) == slug(config.benign):
        raise ConfigError(f"both sources are called '{slug(config.harmful)}': give them a --harmful.name and --benign.name, from which ids are made.")


def short_names(files: Sequence[str]) -> list[str]:
    """Return the files' names, without their folders where that leaves them apart."""
    names = [Path(file).name for file in files]
    return names if len(set(names)) == len(names) else list(files)
