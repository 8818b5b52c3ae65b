"""report.html: what happened in a run, in plots, from the files of its folder; one page that opens offline."""

import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from alttrain.engine.files import read_lines, write_whole
from alttrain.engine.report.model_card import cell_text
from alttrain.engine.run.folder import RunFolder

# Mid grey reads on light and on dark; the page follows the reader's colour scheme, the plots are transparent.
INK = "#808080"
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } small { font-weight: 400; } svg { width: 100%; height: auto; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
th { white-space: nowrap; } td { overflow-wrap: anywhere; }
pre { overflow-x: auto; font-size: 12px; }
"""

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def write_report(folder: RunFolder) -> None:
    """Write report.html from metrics.jsonl, eval.jsonl and config.json."""
    steps, evaluations = read_lines(folder.metrics), read_lines(folder.evaluations)
    record = json.loads((folder.path / "config.json").read_text(encoding="utf-8"))
    figures = [
        ("Loss", "weighted, over the step's denominator", _series(steps, "loss"), "log"),
        ("Training nll by role", "mean over the step's tokens", _by_role(steps), "log"),
        ("Held-out nll by role", "before, during and after", _by_role(evaluations), "log"),
        ("Gradient norm", "before clipping", _series(steps, "grad_norm"), "log"),
        ("Learning rate", "", _series(steps, "lr"), "linear"),
        ("Throughput", "real tokens per second, whole world", _series(steps, "tokens_per_second"), "linear"),
        ("Model FLOPs utilisation", "share of the devices' peak", _series(steps, "mfu"), "linear"),
        ("Peak memory", "GiB, largest rank", _series(steps, "peak_memory_gib"), "linear"),
        ("Pack fill", "real tokens over capacity of the packs used", _series(steps, "pack_fill"), "linear"),
    ]
    plots = [_figure(title, caption, series, scale) for title, caption, series, scale in figures if series]
    write_whole(folder.report, _page(record, steps, plots))


def _page(record: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], plots: Sequence[str]) -> str:
    title = f"alttrain: {html.escape(record['run']['model']['path'])}"
    seconds = sum(line["seconds"] for line in steps)
    tokens = sum(line["num_tokens"] for line in steps)
    rows = {
        "steps": f"{len(steps)} of {record['num_steps']}",
        "ranks": record["world_size"],
        "ZeRO stage": record["run"]["zero"]["stage"],
        "tokens": f"{tokens:,}",
        "seconds in steps": f"{seconds:,.1f}",
        "tokens per second": f"{tokens / seconds:,.0f}" if seconds else "",
        "loss": f"{steps[0]['loss']:.4f} at step 1, {steps[-1]['loss']:.4f} at the last" if steps else "",
        **{f"data: {name}": cell_text(value) for name, value in record["data"]["train"].items()},
    }
    table = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items()
    )
    settings = html.escape(json.dumps(record["run"], indent=2))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{STYLE}</style>\n<h1>{title}</h1>\n<table>{table}</table>\n"
        f'<div class="plots">{"".join(plots)}</div>\n<h2>Settings</h2>\n<pre>{settings}</pre>\n</html>\n'
    )


def _figure(title: str, caption: str, series: Series, scale: str) -> str:
    """Return one line plot as inline SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink = {"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK}
    with rc_context({**ink, "svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.add_subplot()
        for name, (x, y) in series.items():
            axes.plot(x, y, label=name, linewidth=1.3, marker="o" if len(x) < 3 else None, markersize=3)
        axes.set_xlabel("step")
        axes.set_yscale(scale)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=7, labelcolor=INK)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    note = f" <small>{html.escape(caption)}</small>" if caption else ""
    return f"<figure><figcaption>{html.escape(title)}{note}</figcaption>{svg[svg.index('<svg') :]}</figure>\n"


def _series(lines: Sequence[Mapping[str, Any]], field: str) -> Series:
    points = [(line["step"], line[field]) for line in lines if line[field] is not None]
    return {field: ([x for x, _ in points], [y for _, y in points])} if points else {}


def _by_role(lines: Sequence[Mapping[str, Any]]) -> Series:
    roles = dict.fromkeys(role for line in lines for role in line["nll"])
    found: dict[str, tuple[list[float], list[float]]] = {}
    for role in roles:
        points = [(line["step"], line["nll"][role]) for line in lines if role in line["nll"]]
        found[role] = ([x for x, _ in points], [y for _, y in points])
    return found
