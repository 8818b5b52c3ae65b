"""Draw JSON results: bars of every case, and a line where one size was varied. Nothing is measured here.

    python benchmarks/plot.py benchmarks/results/h200/*.json --out benchmarks/results/h200/plots

Any file with rows of `case`, `sizes`, `implementation` and a figure can be drawn. Backgrounds are transparent and text
is grey, for light and dark pages alike; a dry run says so in its title.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Row = dict[str, Any]
# Field of a row: label of its axis. The first field that a row has is drawn.
FIGURES = {"median_ms": "ms, median and 5th to 95th percentile", "added_gib": "GiB beyond inputs and gradients"}
GREY = "#808080"
COLOURS = ("#2a8fbd", "#e08a1e", "#4ca64c", "#c95d5d", "#9673c4", "#a5795f", "#d678b8", "#8a8f2a", "#3fb3a7", "#777777")
STYLE = {
    "svg.hashsalt": "alttrain",  # the same rows give the same file
    "axes.edgecolor": GREY, "axes.labelcolor": GREY, "text.color": GREY, "xtick.color": GREY, "ytick.color": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "font.size": 9,
}  # fmt: skip


def plot_file(path: Path, out: Path, suffix: str) -> list[Path]:
    """Draw every case of one JSON file and return the pictures' paths."""
    document = json.loads(path.read_text(encoding="utf-8"))
    cases: dict[str, list[Row]] = defaultdict(list)
    for row in document.get("rows", []):
        if {"case", "sizes", "implementation"} <= row.keys() and _field(row):
            cases[row["case"]].append(row)
    facts = document.get("environment", {})
    where = f"{facts.get('gpu') or facts.get('processor')}, torch {facts.get('torch')}, {facts.get('commit')}"
    where += ", DRY RUN: these figures mean nothing" if document.get("dry_run") else ""
    written = []
    for case, rows in cases.items():
        keys = distinguishing(rows)
        pictures = {"": _bars(rows, keys)} | _lines(rows, keys)
        for name, figure in pictures.items():
            figure.suptitle(f"{case}{name}\n{where}", fontsize=9)
            target = out / f"{path.stem}-{_slug(case + name)}.{suffix}"
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(target, transparent=True, bbox_inches="tight", metadata=metadata)
            plt.close(figure)
            written.append(target)
    return written


def distinguishing(rows: list[Row]) -> list[str]:
    """Return the fewest sizes, in order, that tell the rows of an implementation apart."""
    keys: list[str] = []
    for key in dict.fromkeys(key for row in rows for key in row["sizes"]):
        if len({_values(row, [*keys, key]) for row in rows}) > len({_values(row, keys) for row in rows}):
            keys.append(key)
    return keys


def _bars(rows: list[Row], keys: list[str]) -> Figure:
    """Draw a group of bars for every size."""
    groups = list(dict.fromkeys(_values(row, keys) for row in rows))
    colours = _colours(rows)
    figure: Figure
    figure, axes = plt.subplots(figsize=(8, 1 + 0.25 * len(rows)))
    place, ticks = 0.0, []
    for group in groups:
        members = [row for row in rows if _values(row, keys) == group]
        ticks.append(place + (len(members) - 1) / 2)
        for row in members:
            value, low, high = _band(row)
            error = None if low is None else [[value - low], [high - value]]
            axes.barh(place, value, 0.9, xerr=error, color=colours[row["implementation"]], ecolor=GREY)
            share = row.get("share_of_limit")
            text = row["implementation"] + ("" if share is None else f", {share:.0%} of the limit")
            axes.annotate(
                text, (value if low is None else high, place), (4, 0), textcoords="offset points", va="center"
            )
            place += 1
        place += 0.7
    labels = [", ".join(f"{key} {_short(value)}" for key, value in zip(keys, group, strict=True)) for group in groups]
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.set_xlabel(FIGURES[_field(rows[0])])
    return figure


def _lines(rows: list[Row], keys: list[str]) -> dict[str, Figure]:
    """Draw a figure for every number that was varied, three values or more, while the other sizes stayed."""
    pictures = {}
    for key in keys:
        others = [other for other in keys if other != key]
        for group in dict.fromkeys(_values(row, others) for row in rows):
            members = [row for row in rows if _values(row, others) == group]
            values = {row["sizes"].get(key) for row in members}
            if len(values) < 3 or not all(isinstance(value, int | float) for value in values):
                continue
            figure, axes = plt.subplots(figsize=(6, 4))
            for name, colour in _colours(members).items():
                line = sorted((row["sizes"][key], *_band(row)) for row in members if row["implementation"] == name)
                x, middle, low, high = zip(*line, strict=True)
                axes.plot(x, middle, "o-", color=colour, label=name)
                if None not in low:
                    axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
            axes.set_xlabel(key)
            axes.set_ylabel(FIGURES[_field(members[0])])
            axes.set_ylim(bottom=0)
            axes.legend()
            pictures[f", by {key}" + "".join(f", {_short(value)}" for value in group)] = figure
    return pictures


def _field(row: Row) -> str:
    return next((field for field in FIGURES if field in row), "")


def _band(row: Row) -> tuple[float, Any, Any]:
    return row[_field(row)], row.get("low_ms"), row.get("high_ms")


def _values(row: Row, keys: list[str]) -> tuple[Any, ...]:
    return tuple(row["sizes"].get(key) for key in keys)


def _colours(rows: list[Row]) -> dict[str, str]:
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def _short(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def main() -> None:
    """Draw all files that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="JSON results")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for path in options.files:
            for written in plot_file(path, options.out, options.format):
                print(written)


if __name__ == "__main__":
    main()
