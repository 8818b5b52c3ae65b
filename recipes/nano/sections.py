"""The report's sections with figures, each made from the summary alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from alttrain.engine.report import plots
from alttrain.engine.report.page import Figure, Figures, Section
from alttrain.engine.report.tables import MISSING, Cell, Table, number_cell
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


def refusals(summary: Summary) -> Section:
    """Return the section on refusals by arm, and on the differences of AltTrain and each other arm."""
    bars = [
        plots.Bar(named(run["name"]), name, run["settings"]["held-out"][measure])
        for run in _main(summary)
        for measure, name in (("refused_harmful", "harmful requests"), ("refused_benign", "benign requests"))
    ]
    svg = plots.rates("Requests refused, by arm", _described(bars), bars)
    figures = [Figure("Requests refused, by arm", f"Unseen components. {_how_to_read(summary)}", svg)]
    chosen = [
        one
        for one in summary["treatment_against"]
        if one["setting"] == "held-out"
        and one["measure"] == "balanced_accuracy"
        and one["against"] in {run["name"] for run in _main(summary)}
    ]
    names = [named(one["against"]) for one in chosen]
    points = "; ".join(f"{named(one['against'])} {100 * one['difference']:+.1f}" for one in chosen)
    svg = plots.differences("AltTrain less each other arm, balanced accuracy", f"In points: {points}.", chosen, names)
    note = "Paired by request; to the right, AltTrain is better. Broad bar: 95%, resampled. "
    note += "Thin line: 95%, t over worlds. Rings: worlds." if len(summary["worlds"]) > 1 else "One world."
    figures.append(Figure("AltTrain less each other arm, balanced accuracy", note, svg))
    lead = "A good arm refuses all that is harmful and nothing that is benign: one colour at 100%, the other at 0%."
    return Section("Who is refused", lead, [Figures(figures), _tests(summary, chosen)])


def _tests(summary: Summary, chosen: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            named(one["against"]),
            f"{100 * one['difference']:+.1f}",
            _ends(one["clustered"]),
            _ends(one["t_interval"]),
            _p(one["t_p_holm"]),
            _p(max(one["mcnemar_holm"].values())),
            f"{one['cohens_h']:+.2f}",
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
    return Table(columns, rows, caption, highlighted=named(summary["control"]))


def elsewhere(summary: Summary) -> Section:
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
        figures.append(Figure(f"{title}, by setting", _how_to_read(summary), svg))
    lead = "The same arms where alignment never was: other components, a wording kept back, and a second language."
    return Section("Does it carry over?", lead, [Figures(figures)])


def preserved(summary: Summary) -> Section:
    """Return the section on the base's skills, and whether the arms still have them."""
    runs = _of(summary, "before", "control", "treatment")
    bars = [plots.Bar(SKILL[setting], named(run["name"]), run["skills"][setting]) for setting in SKILL for run in runs]
    svg = plots.rates("Answered exactly: what the base could do", _described(bars), bars)
    figures = [Figure("Answered exactly: what the base could do", _how_to_read(summary), svg)]
    measures = {"exact_benign": "all benign", "exact_when_it_complies": "benign and served"}
    bars = [
        plots.Bar(name, named(run["name"]), run["settings"]["held-out"][measure])
        for measure, name in measures.items()
        for run in runs
    ]
    svg = plots.rates("Benign requests answered exactly", _described(bars), bars)
    note = "The recipe as the base knows it; a refusal is not exact. "
    figures.append(Figure("Benign requests answered exactly", note + _how_to_read(summary), svg))
    lead = "Safety is cheap for a model that forgets the rest, so the rest is asked too."
    return Section("What was preserved", lead, [Figures(figures)])


def structure(summary: Summary) -> Section:
    """Return the section on the structure of traces, before and after."""
    names = {"in_order": "in order", "has_assessment": "has an assessment", "agrees": "answer obeys verdict"}
    runs = _of(summary, "before", "control", "treatment")
    bars = [plots.Bar(name, named(run["name"]), run["structure"][key]) for key, name in names.items() for run in runs]
    svg = plots.rates("Structure of the traces", _described(bars), bars)
    rows = [
        (
            named(run["name"]),
            number_cell(run["structure"]["transition_entropy_bits"], ".2f", " bits"),
            *(_way(run["structure"]["ways"], index) for index in range(3)),
        )
        for run in _main(summary)
    ]
    columns = ("Arm", "Transition entropy", "Commonest way", "Second", "Third")
    caption = "Ways through a trace, unseen components, and how open the next step is."
    table = Table(columns, rows, caption, highlighted=named(summary["treatment"]))
    lead = "In order means: the request is understood, then assessed, then refused or solved as the assessment says."
    note = "Unseen components; the last line only where the trace comes to a verdict. "
    plot = Figure("Structure of the traces, before and after", note + _how_to_read(summary), svg)
    return Section("Structure, before and after", lead, [Figures([plot]), table])


def interventions(summary: Summary) -> Section:
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
    return Section("Is the assessment read?", lead, [Figures([Figure(title, _how_to_read(summary), svg)])])


def learning(summary: Summary) -> Section:
    """Return the section on nll by role while training."""
    figures = []
    for run in _of(summary, "control", "treatment"):
        title = f"Loss by role while training: {named(run['name'])}"
        last = "; ".join(f"{role} ends at {line['nll'][-1]:.3f}" for role, line in run["nll"].items())
        note = "Mean over the step's tokens and over worlds; logarithmic."
        lines = {role: plots.Line(line["step"], line["nll"]) for role, line in run["nll"].items()}
        figures.append(Figure(title, note, plots.curves(title, f"{last}.", lines, "nll, nats a token")))
    lead = "What the engine logs in any run: how well each part of a trace is predicted, step by step."
    return Section("Learning, role by role", lead, [Figures(figures)])


def weights(summary: Summary) -> Section:
    """Return the section on AltTrain by the weight of its assessment; it is empty if there is only one weight."""
    runs = sorted(
        (run for run in summary["runs"] if run["arm"] == summary["treatment"]), key=lambda run: run["assessment_weight"]
    )
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
    description = "; ".join(
        f"{name}: "
        + ", ".join(f"{100 * rate['share']:.1f}% at {weight:g}" for weight, rate in line if rate["share"] is not None)
        for name, line in lines.items()
    )
    title = "AltTrain by the weight on its assessment"
    note = "Unseen components. Band: 95%, resampled."
    svg = plots.weights(title, f"{description}.", lines) if len(runs) > 1 else ""
    lead = "The loss can count the tokens of the assessment more than the others; what that buys, and what it costs."
    return Section("The weight of the assessment", lead, [Figures([Figure(title, note, svg)])])


def named(run: str) -> str:
    """Return the name of a run for readers."""
    arm, comma, weight = run.partition(", weight ")
    return SHOWN.get(arm, arm) + comma + weight


def _main(summary: Summary) -> list[Mapping[str, Any]]:
    """Return the run of each arm at the study's first weight, which has the arm's name."""
    return [run for run in summary["runs"] if run["name"] == run["arm"]]


def _of(summary: Summary, *roles: str) -> list[Mapping[str, Any]]:
    wanted = {summary[role] for role in roles}
    return [run for run in summary["runs"] if run["name"] in wanted]


def _described(bars: Sequence[plots.Bar]) -> str:
    return "; ".join(
        f"{b.group}, {b.series}: {100 * b.rate['share']:.1f}%" for b in bars if b.rate["share"] is not None
    )


def _ends(interval: Sequence[float] | None) -> str:
    return MISSING if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"


def _p(value: float | None) -> str:
    if value is None:
        return MISSING
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _way(ways: Sequence[Mapping[str, Any]], index: int) -> Cell | str:
    if index >= len(ways):
        return MISSING
    return Cell(f"{100 * ways[index]['share']:.1f}%", ", ".join(ways[index]["steps"]) or "nothing")


def _how_to_read(summary: Summary) -> str:
    return HOW_TO_READ if len(summary["worlds"]) > 1 else HOW_TO_READ_ONE
