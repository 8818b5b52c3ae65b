"""The card beside a built data set: where its rows come from, what was left out and why, and what they hold.

Numbers and names only: no text of a row ever enters a card.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alttrain.engine.curate import Dropped


@dataclass(frozen=True)
class SourceFacts:
    """A source as the card states it."""

    name: str
    label: str
    file: str
    sha256: str
    licence: str
    num_read: int
    num_usable: int
    num_taken: int


@dataclass(frozen=True)
class Lengths:
    """How long the rows are, by role."""

    unit: str
    """`tokens` or `characters`."""
    by_role: Mapping[str, int]
    rows_with_role: Mapping[str, int]
    longest_row: int


@dataclass(frozen=True)
class DataFacts:
    """All that a card states."""

    file: str
    sha256: str
    structure: str
    order: Sequence[str]
    seed: int
    sources: Sequence[SourceFacts]
    dropped: Sequence[Dropped]
    avoid: Mapping[str, str]
    """sha256 of each file."""
    lengths: Lengths
    notes: Sequence[str]


def data_card(facts: DataFacts) -> str:
    """Return the card as Markdown; the same facts give the same text."""
    num_rows = sum(source.num_taken for source in facts.sources)
    sections = [
        f"# {facts.file}",
        f"{num_rows} rows for supervised fine-tuning of a reasoning model, made by `recipes/build_dataset.py`: structure "
        f"`{facts.structure}` ({', '.join(facts.order)}), seed {facts.seed}, sha256 `{facts.sha256}`.",
        *facts.notes,
        "## Sources",
        _sources(facts.sources),
        "## Left out",
        _dropped(facts),
        "## Lengths",
        _lengths(facts.lengths, num_rows),
        "## How it was made",
        "The understanding is the first real sentence of the source's trace. The assessment is one sentence put together "
        "from templates by the row's label and category; no model and no person looked at the row. A harmful row's "
        "reasoning and answer are template refusals (in `no-conditional` its reasoning is the source's own), a benign "
        "row's are the source's. Two prompts count as the same when they are equal in NFKC, without regard to case, "
        "runs of white space and punctuation at the end: paraphrases are not found. Rows of a label are a simple random "
        "sample of those that remain, without balancing categories.",
        "The prompts of harmful rows describe harmful acts. They are meant for teaching a model to refuse.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _sources(sources: Sequence[SourceFacts]) -> str:
    return _table(
        ("source", "label", "licence", "file", "sha256", "read", "remain", "taken"),
        [
            (s.name, s.label, s.licence or "not stated", s.file, f"`{s.sha256}`", s.num_read, s.num_usable, s.num_taken)
            for s in sources
        ],
    )


def _dropped(facts: DataFacts) -> str:
    counts = Counter((one.source, one.reason) for one in facts.dropped)
    lines = [_table(("source", "reason", "rows"), [(*key, count) for key, count in sorted(counts.items())])]
    if not counts:
        lines = ["Nothing was left out."]
    if facts.avoid:
        lines.append("Prompts were compared with every text in these files; a row counts at the first that holds it:")
        by_file = Counter(one.avoided_in for one in facts.dropped)
        lines.append(
            _table(
                ("file", "sha256", "rows"),
                [(name, f"`{sha256}`", by_file[name]) for name, sha256 in facts.avoid.items()],
            )
        )
    return "\n\n".join(lines)


def _lengths(lengths: Lengths, num_rows: int) -> str:
    total = sum(lengths.by_role.values())
    rows = [
        (role, lengths.rows_with_role[role], count, f"{count / num_rows:.1f}")
        for role, count in lengths.by_role.items()
    ]
    table = _table(("role", "rows", lengths.unit, f"{lengths.unit} a row"), [*rows, ("all", num_rows, total, f"{total / num_rows:.1f}")])
    return f"{table}\n\nThe longest row has {lengths.longest_row} {lengths.unit}."


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
