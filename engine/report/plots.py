"""The figures of every report as inline SVG, legible on light and on dark: mid-grey ink, no background, text as text.

A rate is drawn as a dot. The broad bar is the interval by resampling worlds, the thin line is Wilson's interval, and
each small ring is one world.
"""

import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

INK = "#858585"  # contrast of about 3.7 on white and 4.9 on the dark page
BLUE, ORANGE, GREEN, ROSE, VIOLET = "#3f8fd2", "#d9822b", "#3a9d6e", "#d0567f", "#8f6fd6"
# Series that occur in several figures have the same colour in all of them.
OWN_COLOUR = {
    "AltTrain": BLUE,
    "control": ORANGE,
    "base": INK,
    "harmful requests": ROSE,
    "benign requests": GREEN,
    "harmful refused": ROSE,
    "benign refused": GREEN,
    "benign exact": VIOLET,
    "traces in order": BLUE,
    "understanding": BLUE,
    "assessment": ORANGE,
    "reasoning": GREEN,
    "answer": ROSE,
    "closing": VIOLET,
    "end": "#a5714f",
    "think": INK,
    "unsegmented": "#c2a500",
    "prompt": "#2aa5a5",
    "opening": "#7d9a2e",
    "true assessment": BLUE,
    "flipped assessment": VIOLET,
}
COLOURS = (BLUE, ORANGE, GREEN, ROSE, VIOLET, INK)
FONT_SIZE = 9.5  # of a figure 317 units wide, which a phone shows at 358 pixels


class Bar(NamedTuple):
    """A rate to draw."""

    group: str
    series: str
    rate: Mapping[str, Any]


class Line(NamedTuple):
    """A measure by step."""

    steps: Sequence[float]
    values: Sequence[float]


def rates(title: str, description: str, bars: Sequence[Bar]) -> str:
    """Return a plot of rates: a row for each group, a colour for each series, 0 to 100% from left to right."""
    drawn = [bar for bar in bars if bar.rate["share"] is not None]
    groups = list(dict.fromkeys(bar.group for bar in drawn))
    series = list(dict.fromkeys(bar.series for bar in drawn))
    if not drawn:
        return ""
    pitch = max(0.3, 0.22 * len(series))
    figure, axes = _canvas(title, height=0.85 + pitch * len(groups) + (0.3 if len(series) > 1 else 0))
    for number, name in enumerate(series):
        colour = OWN_COLOUR.get(name, COLOURS[number % len(COLOURS)])
        for bar in (bar for bar in drawn if bar.series == name):
            y = groups.index(bar.group) + (number - (len(series) - 1) / 2) * 0.7 / len(series)
            _draw_rate(axes, y, bar.rate, colour)
        axes.plot([], [], "o", color=colour, label=_literal(name))
    axes.set_yticks(range(len(groups)), [_literal(group) for group in groups])
    axes.set_ylim(len(groups) - 0.45, -0.55)
    axes.set_xlim(-3, 103)
    axes.set_xticks([0, 25, 50, 75, 100], ["0%", "25%", "50%", "75%", "100%"])
    axes.grid(axis="x", color=INK, alpha=0.25, linewidth=0.6)
    for line in range(1, len(groups)):
        axes.axhline(line - 0.5, color=INK, alpha=0.18, linewidth=0.6)
    axes.tick_params(length=0)
    if len(series) > 1:
        _legend(figure, len(series))
    return _svg(figure, title, description)


def differences(title: str, description: str, comparisons: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return a plot of differences in percentage points: a row for each comparison, named as `names` says."""
    if not comparisons:
        return ""
    figure, axes = _canvas(title, height=0.85 + 0.34 * len(comparisons))
    edges = [0.0]
    for y, comparison in enumerate(comparisons):
        low, high = (100 * end for end in comparison["clustered"])
        axes.plot([low, high], [y, y], color=BLUE, alpha=0.35, linewidth=7, solid_capstyle="butt")
        if comparison["t_interval"] is not None:
            ends = [100 * end for end in comparison["t_interval"]]
            axes.plot(ends, [y, y], "|-", color=BLUE, linewidth=1.1, markersize=6)
            edges += ends
        points = [100 * value for value in comparison["worlds"].values()]
        if len(points) > 1:
            axes.plot(points, _spread(y, len(points)), "o", mfc="none", mec=BLUE, markersize=3.2, mew=0.8, alpha=0.8)
        axes.plot([100 * comparison["difference"]], [y], "o", color=BLUE, markersize=5.5)
        edges += [low, high, *points]
    axes.axvline(0, color=INK, linewidth=1.2)
    margin = 0.05 * (max(edges) - min(edges)) or 1.0
    axes.set_xlim(min(edges) - margin, max(edges) + margin)
    axes.set_yticks(range(len(names)), [_literal(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlabel("percentage points")
    axes.grid(axis="x", color=INK, alpha=0.25, linewidth=0.6)
    axes.tick_params(length=0)
    return _svg(figure, title, description)


def curves(title: str, description: str, lines: Mapping[str, Line], unit: str = "", *, is_log: bool = True) -> str:
    """Return a plot of measures by step, a line for each; `is_log` is ignored where a value is not positive."""
    values = [value for line in lines.values() for value in line.values if math.isfinite(value)]
    if not values:
        return ""
    from matplotlib.ticker import LogLocator, MaxNLocator

    figure, axes = _canvas(title, height=2.9)
    for name, line in lines.items():
        colour = OWN_COLOUR.get(name, COLOURS[0] if len(lines) == 1 else COLOURS[-1])
        marker = {"marker": "o", "markersize": 3} if len(line.steps) < 3 else {}
        axes.plot(line.steps, line.values, color=colour, linewidth=1.5, label=_literal(name), **marker)
    if is_log and min(values) > 0:
        axes.set_yscale("log")
        ratio = max(values) / min(values)
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1,) if ratio > 100 else (1, 2, 5)) if ratio > 10 else MaxNLocator(nbins=6)
        )
        axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel(_literal(unit))
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    if len(lines) > 1:
        _legend(figure, len(lines))
    return _svg(figure, title, description)


def weights(title: str, description: str, measures: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]]) -> str:
    """Return a plot of rates by the assessment's weight: a line for each measure, its resampled interval as a band."""
    figure, axes = _canvas(title, height=2.9)
    ticks: set[float] = set()
    for name, line in measures.items():
        known = [(weight, rate) for weight, rate in line if rate["share"] is not None]
        if known:
            x, colour = [weight for weight, _ in known], OWN_COLOUR[name]
            ends = [[100 * rate["clustered"][side] for _, rate in known] for side in (0, 1)]
            axes.plot(x, [100 * rate["share"] for _, rate in known], "o-", color=colour, markersize=4, label=name)
            axes.fill_between(x, *ends, color=colour, alpha=0.18, linewidth=0)
            ticks |= set(x)
    if not ticks:
        return ""
    if min(ticks) > 0:
        axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    axes.minorticks_off()
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100], ["0%", "25%", "50%", "75%", "100%"])
    axes.set_xlabel("weight on the assessment")
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    _legend(figure, 2)
    return _svg(figure, title, description)


def _draw_rate(axes: Any, y: float, rate: Mapping[str, Any], colour: str) -> None:
    low, high = (100 * end for end in rate["clustered"])
    axes.plot([low, high], [y, y], color=colour, alpha=0.32, linewidth=6, solid_capstyle="butt")
    if rate["wilson"] is not None:
        axes.plot([100 * end for end in rate["wilson"]], [y, y], color=colour, linewidth=1)
    points = [100 * value for value in rate["worlds"].values()]
    if len(points) > 1:
        axes.plot(points, _spread(y, len(points)), "o", mfc="none", mec=colour, markersize=2.8, mew=0.7, alpha=0.85)
    axes.plot([100 * rate["share"]], [y], "o", color=colour, markersize=5)


def _literal(text: str) -> str:
    """Return a label with dollars escaped, as matplotlib would read a pair of them as mathematics."""
    return text.replace("$", r"\$")


def _spread(y: float, count: int) -> list[float]:
    """Return heights near y, so that worlds with equal values do not overlap; the first lies highest."""
    return [y + 0.1 * math.copysign(1, index % 2 - 0.5) * (1 + index // 2) / (1 + count // 2) for index in range(count)]


def _canvas(title: str, height: float) -> tuple[Any, Any]:
    """Return a figure of a width that a phone shows without shrinking its letters, and the axes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": "DejaVu Sans", "font.size": FONT_SIZE}):
        figure = Figure(figsize=(4.4, height), layout="constrained")
        axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(INK)
    axes.tick_params(colors=INK, labelsize=FONT_SIZE)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def _legend(figure: Any, columns: int) -> None:
    figure.legend(
        loc="outside upper left",
        ncols=min(columns, 3),
        frameon=False,
        fontsize=FONT_SIZE,
        labelcolor=INK,
        handletextpad=0.4,
        columnspacing=1.2,
        borderaxespad=0.1,
    )


def _svg(figure: Any, title: str, description: str) -> str:
    """Return the figure as an SVG element with title and description for screen readers; the same bytes each time."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    head, _, body = svg[svg.index("<svg") :].partition(">")
    head = " ".join(part for part in head.split() if not part.startswith(("xmlns", "version")))
    names = f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>"
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # a page has several figures, and ids are unique in a page
    body = re.sub(r"\n +", "\n", body)
    return f'{head} role="img" aria-label="{html.escape(title)}">{names}{body}'
