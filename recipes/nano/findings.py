"""What a study found, in plain sentences computed from its summary: what holds, what does not, and what it costs.

A difference is said to hold only where its resampled interval and, with several worlds, its t interval both exclude 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alttrain.nano.arms import FACTS

Summary = Mapping[str, Any]

WHERE = {
    "held-out": "about components never seen in alignment",
    "wrapper": "in a wording never seen in alignment",
    "language": "in a language never seen in alignment",
}
SKILL = {"question": "direct questions", "arithmetic": "arithmetic", "copy": "copying"}


def find(summary: Summary) -> list[str]:
    """Return the sentences, the answer to the study's question first."""
    return [
        *_main(summary),
        *_elsewhere(summary),
        *_exactness(summary),
        *_skills(summary),
        *_structure(summary),
        *_interventions(summary),
        *_ablations(summary),
        *_weights(summary),
        *_cost(summary),
        str(summary["clustering"]),
    ]


def holds(comparison: Mapping[str, Any]) -> bool:
    """Return whether a comparison's intervals all exclude 0."""
    given = [interval for interval in (comparison["clustered"], comparison["t_interval"]) if interval is not None]
    return bool(given) and not any(low <= 0 <= high for low, high in given)


def select(
    summary: Summary, run: str, against: str, setting: str, measure: str, among: str = ""
) -> Mapping[str, Any] | None:
    """Return the comparison of two runs under a measure of a setting, if the study made it."""
    for name in (among,) if among else ("treatment_against", "against_control"):
        for one in summary[name]:
            if (one["run"], one["against"], one["setting"], one["measure"]) == (run, against, setting, measure):
                found: Mapping[str, Any] = one
                return found
    return None


def percent(share: float | None) -> str:
    """Return a share as a reader has it."""
    return "none" if share is None else f"{100 * share:.1f}%"


def points(interval: Sequence[float]) -> str:
    """Return an interval of a difference in percentage points."""
    return f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"


def _intervals(one: Mapping[str, Any]) -> str:
    text = f"95% interval {points(one['clustered'])}"
    if one["t_interval"] is None:
        return f"{text} over the components of one world"
    return f"{text}; over {len(one['worlds'])} worlds by t {points(one['t_interval'])}"


def _balanced(one: Mapping[str, Any]) -> str:
    return f"{percent(one['shares'][0])} against {percent(one['shares'][1])}, {100 * one['difference']:+.1f} points, "


def _main(summary: Summary) -> Iterator[str]:
    one = select(summary, summary["treatment"], summary["control"], "held-out", "balanced_accuracy")
    if one is None:
        yield "AltTrain and its control were not both run, so this study does not show whether structure matters."
        return
    figures = f"Requests {WHERE['held-out']}, balanced accuracy: {_balanced(one)}{_intervals(one)}"
    if not holds(one):
        yield f"The effect of structure does not hold here. {figures}; an interval contains 0."
    elif one["difference"] > 0:
        where = " in this one world" if one["t_interval"] is None else ""
        yield f"The effect of structure holds{where}. {figures}."
    else:
        yield f"The effect of structure does not hold: the control is better. {figures}."
    rates = {run["name"]: run["settings"]["held-out"] for run in summary["runs"]}
    treatment, control = (rates[summary[name]] for name in ("treatment", "control"))
    yield (
        f"There, AltTrain refuses {percent(treatment['refused_harmful']['share'])} of harmful and "
        f"{percent(treatment['refused_benign']['share'])} of benign requests, the control "
        f"{percent(control['refused_harmful']['share'])} and {percent(control['refused_benign']['share'])}."
    )


def _elsewhere(summary: Summary) -> Iterator[str]:
    for setting in ("wrapper", "language"):
        one = select(summary, summary["treatment"], summary["control"], setting, "balanced_accuracy")
        if one is not None:
            verdict = _verdict(
                one, "AltTrain is more accurate", "the control is more accurate", "no difference is shown"
            )
            yield f"Requests {WHERE[setting]}: {verdict}, {_balanced(one)}{_intervals(one)}."


def _exactness(summary: Summary) -> Iterator[str]:
    treatment = summary["treatment"]
    for against, name in ((summary["before"], "the base"), (summary["control"], "the control")):
        one = select(summary, treatment, against, "held-out", "exact_benign")
        if one is not None:
            verdict = _verdict(one, "rises", "falls", "is not shown to differ")
            yield f"Exact answers to benign requests: AltTrain's share {verdict} against {name}, " + _shares(one)
    rates = {run["name"]: run["settings"]["held-out"]["exact_when_it_complies"]["share"] for run in summary["runs"]}
    both = [rates.get(summary[name]) for name in ("treatment", "control")]
    if None not in both:
        yield f"When it complies, AltTrain is exact {percent(both[0])} of the time, the control {percent(both[1])}."


def _skills(summary: Summary) -> Iterator[str]:
    for setting, name in SKILL.items():
        one = select(summary, summary["treatment"], summary["before"], setting, "exact")
        if one is not None:
            yield (
                f"{name.capitalize()}: AltTrain {_verdict(one, 'gains', 'loses', 'is not shown to change')}, "
                + _shares(one)
            )


def _structure(summary: Summary) -> Iterator[str]:
    runs = {run["name"]: run["structure"] for run in summary["runs"]}
    named = {"before": "before", "control": "under the control", "treatment": "under AltTrain"}
    shares = [
        f"{percent(runs[summary[name]]['in_order']['share'])} {where}"
        for name, where in named.items()
        if summary[name] in runs and runs[summary[name]]["in_order"]["share"] is not None
    ]
    if shares:
        yield f"Traces that understand, assess and then decide, in that order: {', '.join(shares)}."
    agrees = runs.get(summary["treatment"], {}).get("agrees")
    if agrees and agrees["share"] is not None:
        yield f"Where AltTrain's trace comes to a verdict, its answer obeys it {percent(agrees['share'])} of the time."


def _interventions(summary: Summary) -> Iterator[str]:
    for run in summary["runs"]:
        true, flipped = run["followed"]["true"], run["followed"]["flipped"]
        if run["name"] in (summary["treatment"], summary["control"]) and None not in (true["share"], flipped["share"]):
            name = "AltTrain" if run["name"] == summary["treatment"] else "the control"
            # Answers that ignore what is written agree with it and with its opposite 100% of the time in all.
            both = true["share"] + flipped["share"]
            steered = flipped["clustered"][0] > 0.5 and true["clustered"][0] > 0.5
            verdict = "obeys" if steered else ("does not follow" if both <= 1.1 else "follows only in part")
            yield (
                f"{name[0].upper()}{name[1:]} {verdict} an assessment written into its trace: it does as it says "
                f"{percent(true['share'])} of the time when it is true, {percent(flipped['share'])} when it is flipped."
            )


def _ablations(summary: Summary) -> Iterator[str]:
    apart: dict[str, list[str]] = {"beats": [], "is not shown to differ from": [], "loses to": []}
    for one in summary["treatment_against"]:
        if (one["setting"], one["measure"]) != ("held-out", "balanced_accuracy"):
            continue
        if one["against"] in (summary["before"], summary["control"]) or ", weight " in one["against"]:
            continue
        kept = holds(one) and (one["t_p_holm"] is None or one["t_p_holm"] < 0.05)
        verdict = ("beats" if one["difference"] > 0 else "loses to") if kept else "is not shown to differ from"
        apart[verdict].append(f"{one['against']} ({percent(one['shares'][1])}, {points(one['clustered'])})")
    for verdict, names in apart.items():
        if names:
            yield f"In balanced accuracy on held-out components AltTrain {verdict} {'; '.join(names)}."


def _weights(summary: Summary) -> Iterator[str]:
    treatment = summary["treatment"]
    for run in summary["runs"]:
        if run["arm"] == treatment and run["name"] != treatment:
            changes = []
            for measure, name in (("balanced_accuracy", "balanced accuracy"), ("exact_benign", "exact benign answers")):
                one = select(summary, treatment, run["name"], "held-out", measure)
                if one is not None:
                    verdict = _verdict(one, "lowers", "raises", "is not shown to change")
                    changes.append(
                        f"{verdict} {name} ({percent(one['shares'][1])} against {percent(one['shares'][0])})"
                    )
            if changes:
                yield f"Weight {run['assessment_weight']:g} on the assessment {' and '.join(changes)}."


def _cost(summary: Summary) -> Iterator[str]:
    runs = {run["name"]: run for run in summary["runs"]}
    treatment, control = runs.get(summary["treatment"]), runs.get(summary["control"])
    if treatment is None or control is None:
        return
    if treatment["token_ratio"] is not None:
        yield f"AltTrain generates {treatment['token_ratio']:.2f} times the control's tokens a request."
    ours, theirs = treatment["training"], control["training"]
    if ours["num_tokens"] and theirs["num_tokens"]:
        yield (
            f"Training: {ours['num_steps']:,.0f} steps and {ours['num_tokens']:,.0f} tokens for AltTrain, "
            f"{theirs['num_steps']:,.0f} and {theirs['num_tokens']:,.0f} for the control."
        )
    for name in (name for name, facts in FACTS.items() if facts.has_as_many_tokens):
        matched = select(summary, summary["treatment"], name, "held-out", "balanced_accuracy")
        if matched is not None:
            verdict = _verdict(matched, "is still ahead of", "is behind", "is not shown to differ from")
            yield f"AltTrain {verdict} a control trained on as many tokens: {_balanced(matched)}{_intervals(matched)}."


def _verdict(one: Mapping[str, Any], above: str, below: str, neither: str) -> str:
    if not holds(one):
        return neither
    return above if one["difference"] > 0 else below


def _shares(one: Mapping[str, Any]) -> str:
    return f"{percent(one['shares'][0])} against {percent(one['shares'][1])} ({points(one['clustered'])} points)."
