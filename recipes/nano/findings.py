"""The findings of a study, as sentences computed from its summary: which effects hold, which do not, and the cost.

A difference is said to hold only where its resampled interval and, with several worlds, its t interval both exclude 0.
Of the several arms that AltTrain is compared with, it is said to beat or to lose to one only where also the p value
over worlds, corrected over those arms by Holm, is below 0.05; that p value is said.
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
    intervals = [interval for interval in (comparison["clustered"], comparison["t_interval"]) if interval is not None]
    return bool(intervals) and not any(low <= 0 <= high for low, high in intervals)


def select(
    summary: Summary, run: str, against: str, setting: str, measure: str, among: str = ""
) -> Mapping[str, Any] | None:
    """Return the comparison of two runs under a measure of a setting, or None if the study does not have it."""
    wanted = (run, against, setting, measure)
    for name in (among,) if among else ("treatment_against", "against_control"):
        for comparison in summary[name]:
            if tuple(comparison[key] for key in ("run", "against", "setting", "measure")) == wanted:
                found: Mapping[str, Any] = comparison
                return found
    return None


def percent(share: float | None) -> str:
    """Return a share as text, in percent."""
    return "none" if share is None else f"{100 * share:.1f}%"


def points(interval: Sequence[float]) -> str:
    """Return an interval of a difference as text, in percentage points."""
    return f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"


def _intervals(comparison: Mapping[str, Any]) -> str:
    text = f"95% interval {points(comparison['clustered'])}"
    if comparison["t_interval"] is None:
        return f"{text} over the components of one world"
    return f"{text}; over {len(comparison['worlds'])} worlds by t {points(comparison['t_interval'])}"


def _balanced(comparison: Mapping[str, Any]) -> str:
    new, old = (percent(share) for share in comparison["shares"])
    return f"{new} against {old}, {100 * comparison['difference']:+.1f} points, "


def _main(summary: Summary) -> Iterator[str]:
    comparison = select(summary, summary["treatment"], summary["control"], "held-out", "balanced_accuracy")
    if comparison is None:
        yield "AltTrain and its control were not both run, so this study does not show whether structure matters."
        return
    figures = f"Requests {WHERE['held-out']}, balanced accuracy: {_balanced(comparison)}{_intervals(comparison)}"
    if not holds(comparison):
        yield f"The effect of structure does not hold here. {figures}; an interval contains 0."
    elif comparison["difference"] > 0:
        where = " in this one world" if comparison["t_interval"] is None else ""
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
        comparison = select(summary, summary["treatment"], summary["control"], setting, "balanced_accuracy")
        if comparison is not None:
            verdict = _verdict(
                comparison, "AltTrain is more accurate", "the control is more accurate", "no difference is shown"
            )
            yield f"Requests {WHERE[setting]}: {verdict}, {_balanced(comparison)}{_intervals(comparison)}."


def _exactness(summary: Summary) -> Iterator[str]:
    treatment = summary["treatment"]
    for against, name in ((summary["before"], "the base"), (summary["control"], "the control")):
        comparison = select(summary, treatment, against, "held-out", "exact_benign")
        if comparison is not None:
            verdict = _verdict(comparison, "rises", "falls", "is not shown to differ")
            yield f"Exact answers to benign requests: AltTrain's share {verdict} against {name}, " + _shares(comparison)
    rates = {run["name"]: run["settings"]["held-out"]["exact_when_it_complies"]["share"] for run in summary["runs"]}
    both = [rates.get(summary[name]) for name in ("treatment", "control")]
    if None not in both:
        yield f"When it complies, AltTrain is exact {percent(both[0])} of the time, the control {percent(both[1])}."


def _skills(summary: Summary) -> Iterator[str]:
    for setting, name in SKILL.items():
        comparison = select(summary, summary["treatment"], summary["before"], setting, "exact")
        if comparison is not None:
            yield (
                f"{name.capitalize()}: AltTrain {_verdict(comparison, 'gains', 'loses', 'is not shown to change')}, "
                + _shares(comparison)
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
            # If answers ignore the written assessment, the shares that follow the true and the flipped one sum to 100%.
            both = true["share"] + flipped["share"]
            steered = flipped["clustered"][0] > 0.5 and true["clustered"][0] > 0.5
            verdict = "obeys" if steered else ("does not follow" if both <= 1.1 else "follows only in part")
            yield (
                f"{name[0].upper()}{name[1:]} {verdict} an assessment written into its trace: it does as it says "
                f"{percent(true['share'])} of the time when it is true, {percent(flipped['share'])} when it is flipped."
            )


def _ablations(summary: Summary) -> Iterator[str]:
    by_verdict: dict[str, list[str]] = {"beats": [], "is not shown to differ from": [], "loses to": []}
    for comparison in summary["treatment_against"]:
        if (comparison["setting"], comparison["measure"]) != ("held-out", "balanced_accuracy"):
            continue
        if comparison["against"] in (summary["before"], summary["control"]) or ", weight " in comparison["against"]:
            continue
        is_shown = holds(comparison) and (comparison["t_p_holm"] is None or comparison["t_p_holm"] < 0.05)
        above = comparison["difference"] > 0
        verdict = ("beats" if above else "loses to") if is_shown else "is not shown to differ from"
        figures = f"{percent(comparison['shares'][1])}, {points(comparison['clustered'])}"
        if comparison["t_p_holm"] is not None:
            figures += f", p {comparison['t_p_holm']:.2g}"
        by_verdict[verdict].append(f"{comparison['against']} ({figures})")
    for verdict, names in by_verdict.items():
        if names:
            many = "; p over worlds, corrected by Holm" if any(", p " in name for name in names) else ""
            yield (
                f"In balanced accuracy on held-out components AltTrain {verdict} {'; '.join(names)} (the arm's own "
                f"share, then the 95% interval of the difference, resampled{many})."
            )


def _weights(summary: Summary) -> Iterator[str]:
    treatment = summary["treatment"]
    for run in summary["runs"]:
        if run["arm"] == treatment and run["name"] != treatment:
            changes = []
            for measure, name in (("balanced_accuracy", "balanced accuracy"), ("exact_benign", "exact benign answers")):
                comparison = select(summary, treatment, run["name"], "held-out", measure)
                if comparison is not None:
                    verdict = _verdict(comparison, "lowers", "raises", "is not shown to change")
                    at_first_weight, at_this_weight = (percent(share) for share in comparison["shares"])
                    changes.append(f"{verdict} {name} ({at_this_weight} against {at_first_weight})")
            if changes:
                yield f"Weight {run['assessment_weight']:g} on the assessment {' and '.join(changes)}."


def _cost(summary: Summary) -> Iterator[str]:
    runs = {run["name"]: run for run in summary["runs"]}
    treatment, control = runs.get(summary["treatment"]), runs.get(summary["control"])
    if treatment is None or control is None:
        return
    if treatment["token_ratio"] is not None:
        yield f"AltTrain generates {treatment['token_ratio']:.2f} times the control's tokens a request."
    treatment_cost, control_cost = treatment["training"], control["training"]
    if treatment_cost["num_tokens"] and control_cost["num_tokens"]:
        yield (
            f"Training: {treatment_cost['num_steps']:,.0f} steps and {treatment_cost['num_tokens']:,.0f} tokens for "
            f"AltTrain, {control_cost['num_steps']:,.0f} and {control_cost['num_tokens']:,.0f} for the control."
        )
    for name in (name for name, facts in FACTS.items() if facts.has_as_many_tokens):
        matched = select(summary, summary["treatment"], name, "held-out", "balanced_accuracy")
        if matched is not None:
            verdict = _verdict(matched, "is still ahead of", "is behind", "is not shown to differ from")
            yield f"AltTrain {verdict} a control trained on as many tokens: {_balanced(matched)}{_intervals(matched)}."


def _verdict(comparison: Mapping[str, Any], above: str, below: str, neither: str) -> str:
    if not holds(comparison):
        return neither
    return above if comparison["difference"] > 0 else below


def _shares(comparison: Mapping[str, Any]) -> str:
    new, old = (percent(share) for share in comparison["shares"])
    return f"{new} against {old} ({points(comparison['clustered'])} points)."
