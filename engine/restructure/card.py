"""The card beside a built data set: where its rows come from, what was left out and why, and what they hold.

Numbers and names only: no text of a row ever enters a card.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alttrain.engine.report.tables import Table, markdown_table, markdown_text
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
class DataFacts:
    """All facts that a card states."""

    file: str
    sha256: str
    structure: str
    order: Sequence[str]
    seed: int
    sources: Sequence[Taken]
    dropped: Sequence[Dropped]
    avoid: Mapping[str, str]
    """Name of each file to avoid -> its sha256."""
    lengths: Lengths

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
        """(source, reason, number of rows left out for that reason), sorted."""
        counts = Counter((row.source, row.reason) for row in self.dropped)
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
            *(f"Left out: {count} of {source}: {reason}" for source, reason, count in facts.reasons),
        ]
    )


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
        "## Left out",
        _dropped(facts),
        "## Lengths",
        _lengths(facts.lengths),
        "## How it was made",
        "The understanding is the first real sentence of the source's trace. The assessment is one sentence put "
        "together from templates by the row's label and category; no model and no person looked at the row. A harmful "
        "row's reasoning and answer are template refusals (in `no-conditional` its reasoning is the source's own), a "
        "benign row's are the source's. Two prompts count as the same when they are equal in NFKC, without regard to "
        "case, runs of white space and punctuation at the end: paraphrases are not found. The rows of a label are a "
        "simple random sample of those that remain; categories are not balanced.",
        "The prompts of harmful rows describe harmful acts. They are meant for teaching a model to refuse.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


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
        rows = [(name, sha256, by_file[name]) for name, sha256 in facts.avoid.items()]
        parts.append("Prompts were compared with every text in these files; a row counts at the first that holds it:")
        parts.append(markdown_table(Table(("file", "sha256", "rows"), rows)))
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
