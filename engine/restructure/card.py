"""The card beside a built data set: where its rows come from, what was left out and why, and what they hold.

Numbers and names only: no text of a row ever enters a card.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alttrain.engine.data.columns import parse_columns
from alttrain.engine.data.labels import VERDICTS, may_speak_of_response
from alttrain.engine.report.tables import Table, markdown_table, markdown_text
from alttrain.engine.restructure.leaks import FEWEST_ROWS, Leak
from alttrain.engine.restructure.traces import Dropped, Ordinary
from alttrain.engine.trace.roles import ROLES


@dataclass(frozen=True)
class Taken:
    """A source, with how many of its rows could be taken, were taken and were asked for."""

    source: Ordinary
    num_usable: int
    num_taken: int
    num_wanted: int


@dataclass(frozen=True)
class Lengths:
    """How long the rows are."""

    unit: str
    """`tokens` or `characters`."""
    rows: Sequence[Counter[str]]
    """For every row, how many units each role has."""

    @property
    def totals(self) -> list[int]:
        """The length of every row."""
        return [row.total() for row in self.rows]


@dataclass(frozen=True)
class Compared:
    """A file of texts with which prompts were compared."""

    name: str
    sha256: str
    num_cells: int
    num_short: int
    """Short texts of columns of labels, with which they were not."""


@dataclass(frozen=True)
class DataFacts:
    """All facts that a card states."""

    file: str
    sha256: str
    structure: str
    order: Sequence[str]
    seed: int
    sources: Sequence[Taken]
    dropped: Sequence[Dropped]
    avoid: Sequence[Compared]
    lengths: Lengths
    leaks: Sequence[Leak] = ()
    """How well parts of the rows tell the label by themselves; none where rows of a label are few."""
    wording: tuple[str, str] | None = None
    """Name and sha256 of the file of phrases; None for the built-in ones."""

    @property
    def shortages(self) -> list[str]:
        """A sentence for each label of which fewer rows remain than were asked for."""
        return [
            f"Of {taken.num_wanted} {taken.source.label} rows asked for, {taken.num_taken} remain: all are taken."
            for taken in self.sources
            if taken.num_taken < taken.num_wanted
        ]

    @property
    def reasons(self) -> list[tuple[str, str, int]]:
        """(source, reason, number of rows left out for that reason), sorted; a source of both labels with its label."""
        titles = [taken.source.config.title for taken in self.sources]
        both = {title for title in titles if titles.count(title) > 1}
        counts = Counter(
            (f"{row.source} ({row.label})" if row.source in both else row.source, row.reason) for row in self.dropped
        )
        return [(*key, count) for key, count in sorted(counts.items())]


def summary(facts: DataFacts) -> str:
    """Return in a few lines how many rows were made, and how many were left out and why."""
    counts = ", ".join(f"{t.num_taken} {t.source.label} of {t.num_usable}" for t in facts.sources)
    totals = facts.lengths.totals
    return "\n".join(
        [
            f"{facts.file}: {len(totals)} rows ({counts}), structure {facts.structure}; "
            f"{facts.lengths.unit} a row: {sum(totals) / len(totals):.1f} on average, {max(totals)} at most.",
            *facts.shortages,
            *(_labels_sentence(taken.source) for taken in facts.sources),
            *(f"Compared with {file.name}: {_cells(file)}." for file in facts.avoid),
            *(f"Left out: {count} of {source}: {reason}" for source, reason, count in facts.reasons),
            *(f"Warning: {leak.warning}" for leak in facts.leaks if leak.warning),
        ]
    )


def _labels_sentence(source: Ordinary) -> str:
    """Return how many of a source's rows say themselves what they are."""
    counts, name = source.labels, f"Labels of {source.config.title} ({source.label})"
    if not source.label_columns:
        return f"{name}: {counts['none']} rows, none has one; the flag alone says that they are {source.label}."
    columns = ", ".join(source.label_columns)
    said = {verdict: f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict != "unclear" or counts[verdict]}
    if source.unknown_labels:
        said["not understood"] += f" ({', '.join(source.unknown_labels)})"
    if source.unclear_labels:
        said["unclear"] += f" and left out ({', '.join(source.unclear_labels)})"
    end = "."
    if counts["not understood"] or counts["none"]:
        end = f"; the last two are taken as {source.label}, and --{source.label}.where chooses among them."
    if "label" not in parse_columns(source.config.columns):
        about = list(filter(may_speak_of_response, source.label_columns))
        if about:
            end += (
                f" {', '.join(about)} may speak of the response, as BeaverTails' is_safe does; name the prompt's own "
                f"with --{source.label}.columns label=NAME."
            )
    return f"{name}, in {columns}: {', '.join(said.values())}{end}"


def _cells(file: Compared) -> str:
    short = f" ({file.num_short} short ones in columns of labels left aside)" if file.num_short else ""
    return f"{file.num_cells} cells{short}"


def data_card(facts: DataFacts) -> str:
    """Return the card as Markdown; the same facts give the same text."""
    num_rows = len(facts.lengths.rows)
    sections = [
        f"# {markdown_text(facts.file)}",
        f"{num_rows} rows for supervised fine-tuning of a reasoning model, made by `recipes/build_dataset.py`: "
        f"structure `{facts.structure}` ({', '.join(facts.order)}), seed {facts.seed}, sha256 `{facts.sha256}`.",
        *facts.shortages,
        "## Sources",
        _sources(facts.sources),
        "\n".join(f"- {markdown_text(_labels_sentence(taken.source))}" for taken in facts.sources),
        "## Left out",
        _dropped(facts),
        "## Lengths",
        _lengths(facts.lengths),
        "## What tells the label by itself",
        _leaks(facts.leaks),
        "## How it was made",
        "The understanding is the first real sentence of the source's trace. The assessment is one sentence put "
        "together from templates by the section in which a row was given and its category, and a row whose own "
        "label contradicts the section, or may do so, is left out; no model and no person looked at the row. A harmful "
        "row's reasoning and answer are template refusals (in `no-conditional` its reasoning is the source's own), a "
        f"benign row's are the source's. {_wording(facts)} Two prompts count as the same when they are equal in NFKC, "
        "without regard to case, runs of white space, characters of no width, the shape of quotes and dashes, and "
        "punctuation at the end: paraphrases are not found. A prompt given with both labels is kept with neither. The "
        "rows of a label are a simple random sample of those that remain; categories are not balanced.",
        "The prompts of harmful rows describe harmful acts. They are meant for teaching a model to refuse.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _leaks(leaks: Sequence[Leak]) -> str:
    if not leaks:
        return f"Not measured: it takes {FEWEST_ROWS} rows of each label."
    table = Table(("part", "balanced accuracy"), [(leak.part, f"{leak.balanced_accuracy:.2f}") for leak in leaks])
    parts = [
        "A logistic regression predicts harmful or benign from one part of the rows at a time, on rows that it has not "
        "seen (five folds). 0.5 is chance. Of a set that teaches to assess, no part that stands before the verdict "
        "should come near 1, but for the words of the prompt, which are what is to be assessed.",
        markdown_table(table),
        *(leak.warning for leak in leaks if leak.warning),
    ]
    return "\n\n".join(parts)


def _wording(facts: DataFacts) -> str:
    if facts.wording is None:
        return "The templates are the built-in ones of `engine/restructure/phrases.py`."
    name, sha256 = facts.wording
    return f"The templates are those of the file {markdown_text(name)}, sha256 `{sha256}`."


def _sources(sources: Sequence[Taken]) -> str:
    rows = []
    for taken in sources:
        source, config = taken.source, taken.source.config
        num_read = len(source.traces) + len(source.unusable)
        names = (config.title, source.label, config.licence or "not stated", Path(config.path).name, source.sha256)
        rows.append((*names, num_read, taken.num_usable, taken.num_taken))
    return markdown_table(Table(("source", "label", "licence", "file", "sha256", "read", "remain", "taken"), rows))


def _dropped(facts: DataFacts) -> str:
    reasons = Table(("source", "reason", "rows"), facts.reasons)
    parts = [markdown_table(reasons) if reasons else "Nothing was left out."]
    if facts.avoid:
        by_file = Counter(row.avoided_in for row in facts.dropped)
        rows = [(file.name, file.sha256, file.num_cells, file.num_short, by_file[file.name]) for file in facts.avoid]
        parts.append(
            "Every user turn, and every whole prompt, was compared with the cells of these files; short texts in "
            "columns of labels, and numbers, were left aside. A row counts at the first file that holds its prompt:"
        )
        parts.append(markdown_table(Table(("file", "sha256", "cells compared", "left aside", "rows"), rows)))
    return "\n\n".join(parts)


def _lengths(lengths: Lengths) -> str:
    totals, num_rows = lengths.totals, len(lengths.rows)
    rows: list[tuple[str, int, int, str]] = []
    for role in ROLES:
        units = [row[role] for row in lengths.rows if row[role]]
        if units:
            rows.append((role, len(units), sum(units), f"{sum(units) / num_rows:.1f}"))
    rows.append(("all", num_rows, sum(totals), f"{sum(totals) / num_rows:.1f}"))
    table = Table(("role", "rows", lengths.unit, f"{lengths.unit} / all rows"), rows)
    return f"{markdown_table(table)}\n\nThe longest row has {max(totals)} {lengths.unit}."
