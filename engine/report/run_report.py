"""report.html: the course of a run in plots, made from the files of its folder; one page that opens offline."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alttrain.engine.files import read_lines, write_whole
from alttrain.engine.report import page
from alttrain.engine.report.plots import Line, curves
from alttrain.engine.report.public import without_folders
from alttrain.engine.report.tables import cell_text

Records = Sequence[Mapping[str, Any]]


class Plot(NamedTuple):
    """A figure of the report: a field of metrics.jsonl by step."""

    title: str
    note: str
    field: str
    is_log: bool = False


LOSS = Plot("Loss", "weighted, over the step's denominator", "loss", is_log=True)
PLOTS = (
    Plot("Gradient norm", "before clipping", "grad_norm", is_log=True),
    Plot("Learning rate", "", "lr"),
    Plot("Throughput", "real tokens per second, whole world", "tokens_per_second"),
    Plot("Model FLOPs utilisation", "share of the devices' peak", "mfu"),
    Plot("Peak memory", "GiB, largest rank", "peak_memory_gib"),
    Plot("Pack fill", "real tokens over capacity of the packs used", "pack_fill"),
)


def write_report(folder: Path) -> None:
    """Write report.html into a run folder, from its config.json, metrics.jsonl and eval.jsonl."""
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    steps, evaluations = read_lines(folder / "metrics.jsonl"), read_lines(folder / "eval.jsonl")
    write_whole(folder / "report.html", render(record, steps, evaluations))


def render(record: Mapping[str, Any], steps: Records, evaluations: Records) -> str:
    """Return the page of a config.json (`record`), the lines of metrics.jsonl, and those of eval.jsonl."""
    figures = [
        _figure(LOSS, steps),
        _figure_by_role("Training nll by role", "mean over the step's tokens", steps),
        _figure_by_role("Held-out nll by role", "before, during and after", evaluations),
        *(_figure(plot, steps) for plot in PLOTS),
    ]
    run = without_folders(json.dumps(record["run"], indent=2, ensure_ascii=False), record)
    settings = page.Preformatted("Settings", run)
    sections = [page.Section("Step by step", "", [page.Figures(figures)]), page.Section("Settings", "", [settings])]
    title = without_folders(f"alttrain: {record['run']['model']['path']}", record)
    return page.render(title, [_facts(record, steps)], sections)


def _facts(record: Mapping[str, Any], steps: Records) -> page.Definitions:
    seconds = sum(line["seconds"] for line in steps)
    tokens = sum(line["num_tokens"] for line in steps)
    facts = {
        "steps": f"{len(steps)} of {record['num_steps']}",
        "ranks": record["world_size"],
        "ZeRO stage": record["run"]["zero"]["stage"],
        "tokens": f"{tokens:,}",
        "seconds in steps": f"{seconds:,.1f}",
        "tokens per second": f"{tokens / seconds:,.0f}" if seconds else "",
        "loss": f"{steps[0]['loss']:.4f} at step 1, {steps[-1]['loss']:.4f} at the last" if steps else "",
    }
    return page.Definitions(
        facts | {f"data: {name}": cell_text(value) for name, value in record["data"]["train"].items()}
    )


def _figure(plot: Plot, steps: Records) -> page.Figure:
    points = [(line["step"], line[plot.field]) for line in steps if line[plot.field] is not None]
    return _drawn(plot.title, plot.note, {plot.field: _line(points)}, is_log=plot.is_log)


def _figure_by_role(title: str, note: str, lines: Records) -> page.Figure:
    roles = dict.fromkeys(role for line in lines for role in line["nll"])
    by_role = {
        role: _line([(line["step"], line["nll"][role]) for line in lines if role in line["nll"]]) for role in roles
    }
    return _drawn(title, note, by_role, is_log=True)


def _line(points: Sequence[tuple[int, float]]) -> Line:
    return Line([step for step, _ in points], [value for _, value in points])


def _drawn(title: str, note: str, lines: Mapping[str, Line], *, is_log: bool) -> page.Figure:
    ends = [
        f"{name}: {line.values[0]:.6g} at step {line.steps[0]}, {line.values[-1]:.6g} at step {line.steps[-1]}"
        for name, line in lines.items()
        if line.values
    ]
    return page.Figure(title, note, curves(title, f"{'; '.join(ends)}.", lines, is_log=is_log))
