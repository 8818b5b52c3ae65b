r"""Ordinary reasoning traces, harmful and benign, become AltTrain-1K or one of its controls, with a data card.

    python recipes/build_dataset.py --harmful.path STAR-1.json --benign.path traces.jsonl --avoid evaluation/*.csv \
        --benign.columns prompt=question --benign.answer-open "<answer>" --benign.answer-close "</answer>"

A row whose own label contradicts the section it is given in, whose prompt has occurred before, or stands in a file
given by --avoid, or that cannot be used, is left out; all are counted by reason.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from alttrain.engine.data.dataset import tokenize_rows
from alttrain.engine.data.render import Renderer
from alttrain.engine.data.tokenizer import fetch_tokenizer
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.files import write_output
from alttrain.engine.restructure.avoid import Avoided, read_avoided
from alttrain.engine.restructure.card import Compared, DataFacts, Lengths, Taken, data_card, summary
from alttrain.engine.restructure.config import BuildConfig
from alttrain.engine.restructure.curate import choose, curate
from alttrain.engine.restructure.leaks import find_leaks
from alttrain.engine.restructure.record import as_record
from alttrain.engine.restructure.structures import ORDER, TemplateAssessor, restructure
from alttrain.engine.restructure.traces import Dropped, Ordinary, read_ordinary, sha256_of
from alttrain.engine.restructure.wording import as_json, built_in, read_wording
from alttrain.engine.trace.roles import ROLES, Row

MOST_REASONS = 6
"""How many reasons an error lists, the most frequent first."""


def build(config: BuildConfig) -> str:
    """Write the rows and the data card, each whole or not at all, and return a summary for the user.

    Raises:
        AlttrainError: a setting is out of range, a file cannot be read, a source has no row that can be used, or a file
            to write is there already.
    """
    if config.assess.write_phrases:
        return write_phrases(Path(config.assess.write_phrases), overwrite=config.overwrite)
    check(config)
    wording = read_wording(Path(config.assess.phrases)) if config.assess.phrases else built_in()
    sources = [read_ordinary(config.harmful), read_ordinary(config.benign)]
    avoided = {name: read_avoided(file) for name, file in short_names(config.avoid).items()}
    usable, dropped = curate(
        [trace for source in sources for trace in source.traces],
        {name: file.texts for name, file in avoided.items()},
    )
    dropped = [row for source in sources for row in source.unusable] + dropped
    rows: list[Row] = []
    taken: list[Taken] = []
    for source, wanted in zip(sources, (config.num_harmful, config.num_benign), strict=True):
        candidates = [trace for trace in usable if trace.label == source.label]
        if source.config.path and wanted and not candidates:
            raise none_remains(source, [row for row in dropped if row.label == source.label])
        chosen = choose(candidates, wanted, config.seed)
        assess = TemplateAssessor(config.seed, wording)
        rows += [restructure(trace, config.structure, assess, config.seed, wording) for trace in chosen]
        if source.config.path:
            taken.append(Taken(source, len(candidates), len(chosen), wanted))
    random.Random(config.seed).shuffle(rows)
    if not rows:
        raise DataError("no rows are asked for: give --num-harmful or --num-benign a number.", where=config.output)
    return write(config, rows, taken, dropped, avoided)


def check(config: BuildConfig) -> None:
    """Check everything about the settings that needs no row.

    Raises:
        ConfigError: a setting is missing, out of range or contradicts another, or a file to write is there already.
    """
    if not config.harmful.path and not config.benign.path:
        raise ConfigError("--harmful.path and --benign.path are both missing: give at least one file of traces.")
    for flag, count in (("--num-harmful", config.num_harmful), ("--num-benign", config.num_benign)):
        if count < 0:
            raise ConfigError(f"is {count}: it must be 0 or more.", flag=flag)
    if not config.output.endswith(".jsonl"):
        raise ConfigError(f"is '{config.output}': it must end in .jsonl.", flag="--output")
    for section, source in (("harmful", config.harmful), ("benign", config.benign)):
        if source.path and not source.slug:
            raise ConfigError(
                f"is {source.title!r}: ids are made of its letters and digits, and it has none.",
                flag=f"--{section}.name",
            )
    # One file may be both sources, as its rows have one number each.
    if config.harmful.slug == config.benign.slug and not is_same_file(config.harmful.path, config.benign.path):
        raise ConfigError(
            f"both sources are called '{config.harmful.slug}', and ids are made of it: give --benign.name another."
        )
    output = Path(config.output)
    for file in (output, output.with_suffix(".md")):
        inputs = (config.harmful.path, config.benign.path, config.assess.phrases, *config.avoid)
        if any(is_same_file(str(file), name) for name in inputs):
            raise ConfigError(f"would write over {file}, which this build reads: name another place.", flag="--output")
        if file.is_dir() or (file.exists() and not config.overwrite):
            way_out = "name another place" if file.is_dir() else "name another place, or give --overwrite"
            raise ConfigError(f"would write over {file}, which is there already: {way_out}.", flag="--output")


def is_same_file(first: str, second: str) -> bool:
    """Return whether both names lead to one file, or are one name of a hub's data set."""
    return bool(first and second) and (first == second or Path(first).resolve() == Path(second).resolve())


def none_remains(source: Ordinary, dropped: Sequence[Dropped]) -> DataError:
    """Return the error that says why no row of a source can be used, with the number of rows for each reason."""
    reasons = Counter(row.reason for row in dropped).most_common()
    listed = "; ".join(f"{count_rows(count)}: {reason.rstrip('.')}" for reason, count in reasons[:MOST_REASONS])
    if len(reasons) > MOST_REASONS:
        others = sum(count for _, count in reasons[MOST_REASONS:])
        listed += f"; {count_rows(others)}: {len(reasons) - MOST_REASONS} other reasons"
    return DataError(
        f"none of its {count_rows(len(dropped))} remains as {source.label}, and nothing is written. {listed}.",
        where=source.config.path,
    )


def count_rows(count: int) -> str:
    """Return the number with its noun."""
    return f"{count} {'row' if count == 1 else 'rows'}"


def short_names(files: Sequence[str]) -> dict[str, str]:
    """Return {name: file}: names without folders if these differ, else whole paths; a file given twice counts once."""
    paths = list(dict.fromkeys(files))
    names = [Path(path).name for path in paths]
    return dict(zip(names if len(set(names)) == len(names) else paths, paths, strict=True))


def write_phrases(file: Path, *, overwrite: bool) -> str:
    """Write the built-in wording to a file to start from, and return what to do with it.

    Raises:
        ConfigError: the file is there already, or cannot be written.
    """
    flag = "--assess.write-phrases"
    if file.exists() and not overwrite:
        raise ConfigError(f"would write over {file}: name another place, or give --overwrite.", flag=flag)
    try:
        write_output(file, as_json(built_in()))
    except ConfigError as error:
        error.flag = flag
        raise
    return f"{file}: the built-in wording. Change what you like, and give the file to --assess.phrases."


def write(
    config: BuildConfig, rows: list[Row], taken: list[Taken], dropped: list[Dropped], avoided: Mapping[str, Avoided]
) -> str:
    """Write the rows and the data card, and return a summary for the user."""
    output = Path(config.output)
    lengths = measure(rows, config.tokenizer)
    text = "".join(json.dumps(as_record(row), ensure_ascii=False) + "\n" for row in rows)
    files = short_names(config.avoid)
    facts = DataFacts(
        file=output.name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        structure=config.structure,
        order=ORDER[config.structure],
        seed=config.seed,
        sources=taken,
        dropped=dropped,
        avoid=[
            Compared(name, sha256_of(files[name]), file.num_cells, file.num_short) for name, file in avoided.items()
        ],
        lengths=lengths,
        leaks=find_leaks(rows, config.seed),
        wording=(Path(config.assess.phrases).name, sha256_of(config.assess.phrases)) if config.assess.phrases else None,
    )
    write_output(output, text)
    write_output(output.with_suffix(".md"), data_card(facts))
    return summary(facts)


def measure(rows: Sequence[Row], tokenizer: str) -> Lengths:
    """Return the lengths of the rows: in tokens, as training renders them, or in characters if `tokenizer` is empty."""
    if tokenizer:
        examples = tokenize_rows(rows, Renderer(fetch_tokenizer(tokenizer, "--tokenizer")), skipped=None)
        return Lengths("tokens", [Counter(ROLES[span_id] for span_id in example.span_ids) for example in examples])
    sizes = []
    for row in rows:
        size = Counter({"prompt": sum(len(message.content) for message in row.messages)})
        for span in row.spans:
            size[span.role] += len(span.text)
        sizes.append(size)
    return Lengths("characters", sizes)
