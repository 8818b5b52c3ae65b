"""Measure the reasoning structure of generated traces, and what changed between two models.

    python recipes/measure_structure.py AFTER.jsonl --before BEFORE.jsonl --output report.json

A row is a prompt with a response, or with spans, as recipes/ask.py writes and training reads it; rows with a label
(harmful, benign) allow more measures. The two files are paired by prompt. A response counts as an answer only where
its reasoning is closed once and an answer follows; the others are counted by outcome: unfinished, doubled, no
reasoning, empty. Texts are never shown. The rules by which sentences are labelled, and how to extend them, are in
engine/trace/rules.py.
"""

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.evaluate.config import GeneratedConfig, MeasureConfig
from alttrain.engine.evaluate.generated import GeneratedRow, pair, read_generated
from alttrain.engine.evaluate.structure_sets import (
    YES_OR_NO,
    Comparison,
    Rate,
    SetStructure,
    answers,
    compare,
    measures,
    summarise,
)
from alttrain.engine.files import write_output
from alttrain.engine.trace.outcomes import OUTCOMES
from alttrain.engine.trace.rules import Rules, read_rules
from alttrain.engine.trace.structure import TraceStructure, analyse

MOST_NAMES = 12
"""How many labels or columns a line lists, the most frequent first."""


@dataclass(frozen=True)
class TraceFile:
    """The rows of a file and, in the same order, the structure of each."""

    rows: list[GeneratedRow]
    traces: list[TraceStructure]
    lines: list[str]
    """Say what was read, and what was not."""


def measure(config: MeasureConfig) -> str:
    """Write the report if `config.output` names one, and return a summary for the user.

    Raises:
        AlttrainError: a file cannot be read or written, or the two files have no prompt in common.
    """
    if config.output and not config.output.endswith(".json"):
        raise ConfigError(f"is '{config.output}': it must end in .json.", flag="--output")
    rules = read_rules(Path(config.rules)) if config.rules else Rules.default()
    after = read_traces(config.after, config.data, rules)
    lines, summary, comparison = [*after.lines], summarise(after.traces), None
    report: dict[str, Any] = {"after": as_record(summary)}
    if config.before:
        before = read_traces(config.before, config.data, rules)
        comparison, more = compare_files(before, after, config)
        lines += [*before.lines, *more]
        report |= {"before": as_record(summarise(before.traces)), "comparison": as_record(comparison)}
    names = trace_names(after.rows)
    report["traces"] = {name: trace_record(trace) for name, trace in zip(names, after.traces, strict=True)}
    if config.output:
        text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
        write_output(Path(config.output), f"{text}\n")
        lines.append(f"The figures, and the labels of each trace by id: {config.output}")
    table = set_table(summary) if comparison is None else comparison_table(comparison)
    return "\n".join([*table, "", *lines])


def read_traces(name: str, data: GeneratedConfig, rules: Rules) -> TraceFile:
    """Return the structure of every trace of a file, and lines about what was read and what was not.

    Raises:
        AlttrainError: the file, or a row of it, cannot be read.
    """
    read = read_generated(name, data)
    traces = [read_structure(row, rules) for row in read.rows]
    outcomes = Counter(trace.outcome for trace in traces)
    line = f"{name}: {len(traces)} traces: {', '.join(f'{outcomes[o]} {o}' for o in OUTCOMES if outcomes[o])}"
    if read.skipped:
        line += f"; {len(read.skipped)} of {read.num_read} rows skipped; the first: {read.skipped[0]}"
    lines = [line]
    if read.unknown_labels:
        known = "harmful and benign, safe, vanilla_harmful and the like"
        lines.append(
            f"{name}: labels that are not understood, whose rows count as without one: "
            f"{list_counts(read.unknown_labels)}. Labels are {known}; another column of "
            "them is named with --data.columns label=NAME."
        )
    if read.unread:
        lines.append(f"{name}: not read: {list_counts(read.unread)}.")
    return TraceFile(read.rows, traces, lines)


def list_counts(counts: Counter[str]) -> str:
    """Return the most frequent names with the number of rows of each, and how many other names there are."""
    shown = [f"{each} ({count})" for each, count in counts.most_common(MOST_NAMES)]
    more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more else [])])


def read_structure(row: GeneratedRow, rules: Rules) -> TraceStructure:
    """Return the structure of a row."""
    return analyse(row.generated.think, row.answer, rules, prompt_label=row.label, outcome=row.generated.outcome)


def compare_files(before: TraceFile, after: TraceFile, config: MeasureConfig) -> tuple[Comparison, list[str]]:
    """Return the comparison of two files over their pairs, and lines about the pairs.

    Raises:
        DataError: no row of one file belongs to a row of the other.
    """
    pairs = pair(before.rows, after.rows)
    if not pairs.indices:
        raise DataError(
            f"no prompt of it stands in {config.after} too, and traces pair by prompt, those of plain text by id. "
            "Ask both models the same prompts.",
            where=config.before,
        )
    sides: list[dict[str, TraceStructure]] = []
    for side, file in enumerate((before, after)):
        paired = {indices[side]: f"pair {number}" for number, indices in enumerate(pairs.indices)}
        names = (paired.get(index, f"alone {side} {index}") for index in range(len(file.traces)))
        sides.append(dict(zip(names, file.traces, strict=True)))
    numbers = {key: f"prompt {number}" for number, key in enumerate(dict.fromkeys(pairs.keys))}
    clusters = {f"pair {number}": numbers[key] for number, key in enumerate(pairs.keys)}
    comparison = compare(sides[0], sides[1], "independent" if len(numbers) == len(clusters) else clusters)
    lines = [f"{len(clusters)} pairs of {len(numbers)} prompts"]
    rows = [(before.rows[old], after.rows[new]) for old, new in pairs.indices]
    if ids := sum(old.id != new.id for old, new in rows):
        lines[0] += f"; in {ids} of them the two rows have different ids: it is the prompt that pairs"
    if labels := sum(old.label != new.label for old, new in rows):
        lines.append(f"In {labels} pairs the two rows have different labels; each row is measured by its own.")
    return comparison, lines


def trace_names(rows: list[GeneratedRow]) -> list[str]:
    """Return the name of each row in the report: its id, with #2 and so on after it for further responses."""
    seen: Counter[str] = Counter()
    names = []
    for row in rows:
        seen[row.id] += 1
        names.append(row.id if seen[row.id] == 1 else f"{row.id}#{seen[row.id]}")
    return names


def set_table(summary: SetStructure) -> list[str]:
    """Return the lines of a table of one set."""
    lines = [f"{'of ' + str(summary.num_traces) + ' traces':<30}{'rate':>8}  {'95% interval':<16}{'count':>12}"]
    lines += [rate_line(name, rate) for name, rate in summary.outcomes.items() if rate.count]
    lines += ["", *(rate_line(name, rate) for name, rate in summary.rates.items() if rate.total)]
    lines += ["", f"{'mean':<30}"]
    lines += [f"{name:<30}{mean:>8.2f}" for name, mean in summary.means.items() if not math.isnan(mean)]
    return [*lines, f"{'transition entropy (bits)':<30}{summary.transition_entropy:>8.2f}"]


def rate_line(name: str, rate: Rate) -> str:
    """Return the line of one rate."""
    interval = f"[{rate.low:.1%}, {rate.high:.1%}]"
    return f"{name:<30}{rate.share:>8.1%}  {interval:<16}{f'{rate.count}/{rate.total}':>12}"


def comparison_table(comparison: Comparison) -> list[str]:
    """Return the lines of a table that compares two sets over their pairs."""
    lines = [f"{'of ' + str(comparison.num_pairs) + ' pairs':<30}{'before':>9}{'after':>9}"]
    lines[0] += f"{'change':>9}  {'95% interval':<18}{'p (Holm)':>9}{'pairs':>7}"
    for name, change in comparison.changes.items():
        is_absent = name in OUTCOMES and change.before == change.after == 0
        if change.num_pairs and not is_absent:
            style = ".1%" if name in (*YES_OR_NO, *OUTCOMES) else ".2f"
            values = [change.before, change.after, change.difference]
            interval = f"[{change.low:{style}}, {change.high:{style}}]"
            p = "" if change.p is None else f"{change.p:.2g}"
            lines.append(
                f"{name:<30}{''.join(f'{v:>9{style}}' for v in values)}  {interval:<18}{p:>9}{change.num_pairs:>7}"
            )
    if comparison.are_independent:
        lines.append("Intervals and p take the pairs as independent of each other, one per prompt.")
    else:
        lines.append("Intervals keep the pairs of one prompt together; p takes all pairs as independent.")
    unpaired = comparison.unpaired_before + comparison.unpaired_after
    return [*lines, *([f"{unpaired} traces stand in one file alone and are left out."] if unpaired else [])]


def trace_record(trace: TraceStructure) -> dict[str, Any]:
    """Return the labels and measures of a trace, without its texts."""
    facts = {"outcome": trace.outcome, "labels": list(trace.labels), "verdict": trace.verdict}
    return facts | without_nan({name: answers(trace)[name] for name in YES_OR_NO} | measures(trace))


def as_record(summary: SetStructure | Comparison) -> dict[str, Any]:
    """Return `summary` as plain values for JSON, with null for nan."""
    return without_nan(asdict(summary))


def without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with None in place of nan."""
    return {
        key: without_nan(value) if isinstance(value, dict) else None if value != value else value
        for key, value in values.items()
    }
