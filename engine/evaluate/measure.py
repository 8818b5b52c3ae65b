"""Measure the reasoning structure of generated traces, and what changed between two models.

    python recipes/measure_structure.py AFTER.jsonl --before BEFORE.jsonl --output report.json

Rows are read as training reads them: a prompt with a response, or with spans; rows with a label (harmful, benign) allow
more measures. Texts are never shown. The rules by which sentences are labelled, and how to extend them, are in
engine/trace/rules.py.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alttrain.engine.data.columns import Format, parse_columns
from alttrain.engine.data.rows import read_rows
from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.evaluate.config import MeasureConfig, ReadConfig
from alttrain.engine.evaluate.structure_sets import (
    YES_OR_NO,
    Comparison,
    SetStructure,
    answers,
    compare,
    measures,
    summarise,
)
from alttrain.engine.files import write_output
from alttrain.engine.thinking import Thinking
from alttrain.engine.trace.roles import Row
from alttrain.engine.trace.rule import VERDICTS
from alttrain.engine.trace.rules import Rules, read_rules
from alttrain.engine.trace.structure import TraceStructure, analyse


def measure(config: MeasureConfig) -> str:
    """Write the report if `config.output` names one, and return a summary for the user.

    Raises:
        AlttrainError: a file cannot be read or written, or the two files have no id in common.
    """
    if config.output and not config.output.endswith(".json"):
        raise ConfigError(f"is '{config.output}': it must end in .json.", flag="--output")
    rules = read_rules(Path(config.rules)) if config.rules else Rules.default()
    after, lines = read_traces(config.after, config.data, rules)
    summary, comparison = summarise(list(after.values())), None
    report: dict[str, Any] = {"after": as_record(summary)}
    if config.before:
        before, more = read_traces(config.before, config.data, rules)
        lines += more
        if not before.keys() & after.keys():
            raise DataError(
                f"no id of it stands in {config.after} too, and traces pair by id. "
                "Give the rows of one prompt the same id in both.",
                where=config.before,
            )
        comparison = compare(before, after, clusters="independent")
        report |= {"before": as_record(summarise(list(before.values()))), "comparison": as_record(comparison)}
    report["traces"] = {id_: trace_record(trace) for id_, trace in after.items()}
    if config.output:
        text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
        write_output(Path(config.output), f"{text}\n")
        lines.append(f"The figures, and the labels of each trace by id: {config.output}")
    table = set_table(summary) if comparison is None else comparison_table(comparison)
    return "\n".join([*table, "", *lines])


def read_traces(name: str, data: ReadConfig, rules: Rules) -> tuple[dict[str, TraceStructure], list[str]]:
    """Return the structure of every trace of a file by id, and a line about the rows read.

    Raises:
        AlttrainError: the file, or a row of it, cannot be read.
    """
    read = read_rows(
        [name], Format(parse_columns(data.columns), Thinking(data.think_open, data.think_close)), data.on_bad_row
    )
    traces = {row.id: read_structure(row, rules) for row in read.rows}
    lines = [f"{name}: {len(traces)} traces, {sum(not trace.sentences for trace in traces.values())} without reasoning"]
    if read.skipped:
        lines[0] += f", {len(read.skipped)} of {read.num_read} rows skipped; the first: {read.skipped[0]}"
    return traces, lines


def read_structure(row: Row, rules: Rules) -> TraceStructure:
    """Return the structure of a row; the spans before the answer are its reasoning."""
    roles = [span.role for span in row.spans]
    end = roles.index("answer") if "answer" in roles else len(roles)
    think, answer = ("".join(span.text for span in spans) for spans in (row.spans[:end], row.spans[end:]))
    return analyse(think, answer, rules, prompt_label=row.label if row.label in VERDICTS else "")


def set_table(summary: SetStructure) -> list[str]:
    """Return the lines of a table of one set."""
    lines = [f"{'of ' + str(summary.num_traces) + ' traces':<30}{'rate':>8}  {'95% interval':<16}{'count':>12}"]
    for name, rate in summary.rates.items():
        if rate.total:
            interval = f"[{rate.low:.1%}, {rate.high:.1%}]"
            lines.append(f"{name:<30}{rate.share:>8.1%}  {interval:<16}{f'{rate.count}/{rate.total}':>12}")
    lines += ["", f"{'mean':<30}"]
    lines += [f"{name:<30}{mean:>8.2f}" for name, mean in summary.means.items() if not math.isnan(mean)]
    return [*lines, f"{'transition entropy (bits)':<30}{summary.transition_entropy:>8.2f}"]


def comparison_table(comparison: Comparison) -> list[str]:
    """Return the lines of a table that compares two sets over their pairs."""
    lines = [f"{'of ' + str(comparison.num_pairs) + ' pairs':<30}{'before':>9}{'after':>9}"]
    lines[0] += f"{'change':>9}  {'95% interval':<18}{'p (Holm)':>9}{'pairs':>7}"
    for name, change in comparison.changes.items():
        if change.num_pairs:
            style = ".1%" if name in YES_OR_NO else ".2f"
            values = [change.before, change.after, change.difference]
            interval = f"[{change.low:{style}}, {change.high:{style}}]"
            p = "" if change.p is None else f"{change.p:.2g}"
            lines.append(
                f"{name:<30}{''.join(f'{v:>9{style}}' for v in values)}  {interval:<18}{p:>9}{change.num_pairs:>7}"
            )
    if comparison.are_independent:
        lines.append("Intervals and p take the pairs as independent of each other, one per prompt id.")
    unpaired = comparison.unpaired_before + comparison.unpaired_after
    return [*lines, *([f"{unpaired} traces stand in one file alone and are left out."] if unpaired else [])]


def trace_record(trace: TraceStructure) -> dict[str, Any]:
    """Return the labels and measures of a trace, without its texts."""
    facts = {"labels": list(trace.labels), "verdict": trace.verdict}
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
