r"""Ordinary reasoning traces, harmful and benign, become AltTrain-1K or one of its controls, with a data card.

    python recipes/build_dataset.py --harmful.path STAR-1.json --benign.path traces.jsonl --avoid evaluation/*.csv \
        --benign.columns prompt=question --benign.answer-open "<answer>" --benign.answer-close "</answer>"

Rows whose prompt has occurred before, or stands in a file given by --avoid, are dropped and counted.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alttrain.engine.data.dataset import tokenize_rows
from alttrain.engine.data.render import Renderer, Tokenizer
from alttrain.engine.errors import ConfigError, DataError, ModelError
from alttrain.engine.files import write_output
from alttrain.engine.restructure.card import DataFacts, Lengths, Taken, data_card, summary
from alttrain.engine.restructure.config import BuildConfig
from alttrain.engine.restructure.curate import choose, curate, read_texts
from alttrain.engine.restructure.structures import ORDER, TemplateAssessor, restructure
from alttrain.engine.restructure.traces import Dropped, read_ordinary, sha256_of
from alttrain.engine.trace.roles import ROLES, Row


def build(config: BuildConfig) -> str:
    """Write the rows and the data card, each whole or not at all, and return a summary for the user.

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
    dropped = [row for source in sources for row in source.unusable] + dropped
    if not rows:
        raise DataError(
            f"none of {len(usable) + len(dropped)} rows read remains; nothing is written.", where=config.output
        )
    return write(config, rows, taken, dropped, avoid)


def check(config: BuildConfig) -> None:
    """Check everything about the settings that needs nothing but their values.

    Raises:
        ConfigError: a setting is missing, out of range or contradicts another.
    """
    if not config.harmful.path and not config.benign.path:
        raise ConfigError("--harmful.path and --benign.path are both missing: give at least one file of traces.")
    for flag, count in (("--num-harmful", config.num_harmful), ("--num-benign", config.num_benign)):
        if count < 0:
            raise ConfigError(f"is {count}: it must be 0 or more.", flag=flag)
    if not config.output.endswith(".jsonl"):
        raise ConfigError(f"is '{config.output}': it must end in .jsonl.", flag="--output")
    if config.harmful.slug == config.benign.slug:
        raise ConfigError(
            f"both sources are called '{config.harmful.slug}', and ids are made of it: give --benign.name another."
        )


def short_names(files: Sequence[str]) -> dict[str, str]:
    """Return {name: file}: names without folders if these differ, else whole paths; a file given twice counts once."""
    paths = list(dict.fromkeys(files))
    names = [Path(path).name for path in paths]
    return dict(zip(names if len(set(names)) == len(names) else paths, paths, strict=True))


def write(
    config: BuildConfig, rows: list[Row], taken: list[Taken], dropped: list[Dropped], avoid: Mapping[str, str]
) -> str:
    """Write the rows and the data card, and return a summary for the user."""
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
    write_output(output, text)
    write_output(output.with_suffix(".md"), data_card(facts))
    return summary(facts)


def as_record(row: Row) -> dict[str, Any]:
    """Return `row` in the project's own format, one line of JSONL."""
    is_plain = len(row.messages) == 1 and row.messages[0].role == "user"
    prompt = {"prompt": row.messages[0].content} if is_plain else {"messages": list(map(asdict, row.messages))}
    return {"id": row.id, "label": row.label} | prompt | {"spans": list(map(asdict, row.spans)), "source": row.source}


def measure(rows: Sequence[Row], tokenizer: str) -> Lengths:
    """Return the lengths of the rows: in tokens, as training renders them, or in characters if `tokenizer` is empty."""
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
        ModelError: there is no tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name}: transformers finds no tokenizer there; give its folder.", flag="--tokenizer"
        ) from error
    return tokenizer
