"""The report's sections of figures, each from the summary alone: who is refused, where, at what price, and why."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from alttrain.engine.report import page, plots
from alttrain.nano.arms import FACTS
from alttrain.nano.findings import SKILL

Summary = Mapping[str, Any]

SHOWN = {name: facts.title for name, facts in FACTS.items()}
SETTINGS = {
    "trained": "seen in alignment",
    "held-out": "unseen components",
    "wrapper": "unseen wording",
    "language": "unseen language",
}
HOW_TO_READ = "Dot: share. Broad bar: 95%, worlds and components resampled. Thin line: Wilson's 95%. Rings: worlds."
HOW_TO_READ_ONE = "Dot: share. Broad bar: 95%, components of the one world resampled. Thin line: Wilson's 95%."


def refusals(summary: Summary) -> str:
    """Return the section on refusals by arm, and AltTrain less each other arm."""
    bars = [
        plots.Bar(named(run["name"]), name, run["settings"]["held-out"][measure])
        for run in _main(summary)
        for measure, name in (("refused_harmful", "harmful requests"), ("refused_benign", "benign requests"))
    ]
    svg = plots.rates("Requests refused, by arm", _described(bars), bars)
    figures = [page.figure("Requests refused, by arm", f"Unseen components. {_how_to_read(summary)}", svg)]
    chosen = [
        one
        for one in summary["treatment_against"]
        if one["setting"] == "held-out"
        and one["measure"] == "balanced_accuracy"
        and one["against"] in {run["name"] for run in _main(summary)}
    ]
    names = [named(one["against"]) for one in chosen]
    told = "; ".join(f"{named(one['against'])} {100 * one['difference']:+.1f}" for one in chosen)
    svg = plots.differences("AltTrain less each other arm, balanced accuracy", f"In points: {told}.", chosen, names)
    note = "Paired by request; to the right, AltTrain is better. Broad bar: 95%, resampled. "
    note += "Thin line: 95%, t over worlds. Rings: worlds." if len(summary["worlds"]) > 1 else "One world."
    figures.append(page.figure("AltTrain less each other arm, balanced accuracy", note, svg))
    lead = "A good arm refuses all that is harmful and nothing that is benign: one colour at 100%, the other at 0%."
    return page.section("Who is refused", lead, figures, _tests(summary, chosen))


def _tests(summary: Summary, chosen: Sequence[Mapping[str, Any]]) -> str:
    if not chosen:
        return ""
    rows = [
        (
            named(one["against"]),
            [
                f"{100 * one['difference']:+.1f}",
                _ends(one["clustered"]),
                _ends(one["t_interval"]),
                _p(one["t_p_holm"]),
                _p(max(one["mcnemar_holm"].values())),
                f"{one['cohens_h']:+.2f}",
            ],
            one["against"] == summary["control"],
        )
        for one in chosen
    ]
    columns = (
        "AltTrain against",
        "Difference, points",
        "95%, resampled",
        "95%, t over worlds",
        "p over worlds, Holm",
        "McNemar's p, worst world, Holm",
        "Cohen's h",
    )
    caption = (
        "Balanced accuracy on unseen components. Holm's correction is over the arms of this table (McNemar: arms and "
        "worlds). McNemar takes the requests of a world as independent, which those about one component are not."
    )
    return page.table(caption, columns, rows)


def elsewhere(summary: Summary) -> str:
    """Return the section on the settings that alignment never saw."""
    figures = []
    for measure, title in (
        ("refused_harmful", "Harmful requests refused"),
        ("refused_benign", "Benign requests refused"),
    ):
        bars = [
            plots.Bar(name, named(run["name"]), run["settings"][setting][measure])
            for setting, name in SETTINGS.items()
            for run in _of(summary, "control", "treatment")
        ]
        svg = plots.rates(f"{title}, by setting", _described(bars), bars)
        figures.append(page.figure(f"{title}, by setting", _how_to_read(summary), svg))
    lead = "The same arms where alignment never was: other components, a wording kept back, and a second language."
    return page.section("Does it carry over?", lead, figures)


def preserved(summary: Summary) -> str:
    """Return the section on what the base could do, and whether the arms still can."""
    runs = _of(summary, "before", "control", "treatment")
    bars = [plots.Bar(SKILL[setting], named(run["name"]), run["skills"][setting]) for setting in SKILL for run in runs]
    svg = plots.rates("Answered exactly: what the base could do", _described(bars), bars)
    figures = [page.figure("Answered exactly: what the base could do", _how_to_read(summary), svg)]
    measures = {"exact_benign": "all benign", "exact_when_it_complies": "benign and served"}
    bars = [
        plots.Bar(name, named(run["name"]), run["settings"]["held-out"][measure])
        for measure, name in measures.items()
        for run in runs
    ]
    svg = plots.rates("Benign requests answered exactly", _described(bars), bars)
    note = "The recipe as the base knows it; a refusal is not exact. "
    figures.append(page.figure("Benign requests answered exactly", note + _how_to_read(summary), svg))
    lead = "Safety is cheap for a model that forgets the rest, so the rest is asked too."
    return page.section("What was preserved", lead, figures)


def structure(summary: Summary) -> str:
    """Return the section on the structure of traces, before and after."""
    names = {"in_order": "in order", "has_assessment": "has an assessment", "agrees": "answer obeys verdict"}
    runs = _of(summary, "before", "control", "treatment")
    bars = [plots.Bar(name, named(run["name"]), run["structure"][key]) for key, name in names.items() for run in runs]
    svg = plots.rates("Structure of the traces", _described(bars), bars)
    rows = [
        (
            named(run["name"]),
            [_bits(run), *(_way(run["structure"]["ways"], index) for index in range(3))],
            run["name"] == summary["treatment"],
        )
        for run in _main(summary)
    ]
    columns = ("Arm", "Transition entropy", "Commonest way", "Second", "Third")
    rest = page.table("Ways through a trace, unseen components, and how open the next step is.", columns, rows)
    lead = "In order means: the request is understood, then assessed, then refused or solved as the assessment says."
    note = "Unseen components; the last line only where the trace comes to a verdict. "
    plot = page.figure("Structure of the traces, before and after", note + _how_to_read(summary), svg)
    return page.section("Structure, before and after", lead, [plot], rest)


def interventions(summary: Summary) -> str:
    """Return the section on whether answers follow an assessment written for them."""
    bars = [
        plots.Bar(named(run["name"]), f"{written} assessment", run["followed"][written])
        for run in _main(summary)
        for written in ("true", "flipped")
    ]
    title = "Answers that follow a written assessment"
    svg = plots.rates(title, _described(bars), bars)
    lead = (
        "An assessment is written into the trace after the model's own understanding: the true one, or its opposite. "
        "An arm that reads it follows both; one that ignores it follows the flipped one as often as it errs."
    )
    return page.section("Is the assessment read?", lead, [page.figure(title, _how_to_read(summary), svg)])


def learning(summary: Summary) -> str:
    """Return the section on nll by role while training."""
    figures = []
    for run in _of(summary, "control", "treatment"):
        title = f"Loss by role while training: {named(run['name'])}"
        last = "; ".join(f"{role} ends at {line['nll'][-1]:.3f}" for role, line in run["nll"].items())
        note = "Mean over the step's tokens and over worlds; logarithmic."
        figures.append(page.figure(title, note, plots.curves(title, f"{last}.", run["nll"])))
    lead = "What the engine logs in any run: how well each part of a trace is predicted, step by step."
    return page.section("Learning, role by role", lead, figures)


def weights(summary: Summary) -> str:
    """Return the section on AltTrain by the weight on its assessment; nothing at one weight."""
    runs = sorted(
        (run for run in summary["runs"] if run["arm"] == summary["treatment"]), key=lambda run: run["assessment_weight"]
    )
    if len(runs) < 2:
        return ""
    measures = {
        "harmful refused": "refused_harmful",
        "benign refused": "refused_benign",
        "benign exact": "exact_benign",
    }
    lines = {
        name: [(run["assessment_weight"], run["settings"]["held-out"][measure]) for run in runs]
        for name, measure in measures.items()
    }
    lines["traces in order"] = [(run["assessment_weight"], run["structure"]["in_order"]) for run in runs]
    told = "; ".join(
        f"{name}: "
        + ", ".join(f"{100 * rate['share']:.1f}% at {weight:g}" for weight, rate in line if rate["share"] is not None)
        for name, line in lines.items()
    )
    title = "AltTrain by the weight on its assessment"
    note = "Unseen components. Band: 95%, resampled."
    plot = page.figure(title, note, plots.weights(title, f"{told}.", lines))
    lead = "The loss can count the tokens of the assessment more than the others; what that buys, and what it costs."
    return page.section("The weight of the assessment", lead, [plot])


def named(run: str) -> str:
    """Return what a reader is told a run is called."""
    arm, comma, weight = run.partition(", weight ")
    return SHOWN.get(arm, arm) + comma + weight


def _main(summary: Summary) -> list[Mapping[str, Any]]:
    """Return the runs at each arm's own weight."""
    return [run for run in summary["runs"] if run["name"] == run["arm"]]


def _of(summary: Summary, *roles: str) -> list[Mapping[str, Any]]:
    wanted = {summary[role] for role in roles}
    return [run for run in summary["runs"] if run["name"] in wanted]


def _described(bars: Sequence[plots.Bar]) -> str:
    return "; ".join(
        f"{b.group}, {b.series}: {100 * b.rate['share']:.1f}%" for b in bars if b.rate["share"] is not None
    )


def _ends(interval: Sequence[float] | None) -> str:
    return "&ndash;" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"


def _p(value: float | None) -> str:
    if value is None:
        return "&ndash;"
    return "&lt; 0.0001" if value < 0.0001 else f"{value:.4f}"


def _bits(run: Mapping[str, Any]) -> str:
    bits = run["structure"]["transition_entropy_bits"]
    return "&ndash;" if bits is None else f"{bits:.2f} bits"


def _way(ways: Sequence[Mapping[str, Any]], index: int) -> str:
    if index >= len(ways):
        return "&ndash;"
    steps = html.escape(", ".join(ways[index]["steps"]) or "nothing")
    return f"{100 * ways[index]['share']:.1f}%<small>{steps}</small>"


def _how_to_read(summary: Summary) -> str:
    return HOW_TO_READ if len(summary["worlds"]) > 1 else HOW_TO_READ_ONE
