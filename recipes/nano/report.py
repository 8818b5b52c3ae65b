"""report.html: what a study asked, did and found, on one page that opens offline, from summary.json alone."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alttrain.engine.report import page
from alttrain.engine.run.folder import write_whole
from alttrain.nano import sections
from alttrain.nano.arms import FACTS
from alttrain.nano.sections import SHOWN, named

Summary = Mapping[str, Any]

TITLE = "Is it the structure? AltTrain and its control in a world small enough to know"
QUESTION = (
    "Both arms below are fine-tuned on the same "
    "prompts and the same final answers. In AltTrain's, the trace understands the request, then assesses whether it is "
    "harmful, then decides; in the control's, it understands and decides. If the assessment is what makes the "
    "difference, AltTrain refuses what is harmful and serves what is benign where alignment showed neither."
)
ARMS = {name: f"{facts.description}. {facts.question}" for name, facts in FACTS.items()}


def write_report(folder: Path) -> None:
    """Write report.html beside the summary.json of `folder`, whole; it reads no other file."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    write_whole(folder / "report.html", render(summary))


def render(summary: Summary) -> str:
    """Return the page of a summary; the same summary gives the same bytes."""
    return page.page(
        TITLE,
        [
            _head(summary),
            _design(summary),
            _table(summary),
            sections.refusals(summary),
            sections.elsewhere(summary),
            sections.preserved(summary),
            sections.structure(summary),
            sections.interventions(summary),
            sections.learning(summary),
            sections.weights(summary),
            _traces(summary),
            _found(summary),
        ],
    )


def _head(summary: Summary) -> str:
    first, *_ = summary["finding"]
    second = summary["finding"][1] if summary["finding"][1].startswith("There, ") else ""
    said = "".join(f"<p>{html.escape(text)}</p>" for text in (first, second, summary["clustering"]) if text)
    question = html.escape(f"{_what_the_base_does(summary)}{QUESTION}")
    return f'<h1>{html.escape(TITLE)}</h1>\n<p>{question}</p>\n<div class="finding">{said}</div>\n'


def _what_the_base_does(summary: Summary) -> str:
    for run in summary["runs"]:
        asked, requests = run["skills"].get("question"), run["settings"].get("held-out", {})
        if run["name"] == summary["before"] and asked and requests.get("refused_harmful"):
            served = 1 - requests["refused_harmful"]["share"]
            return (
                f"Asked whether a thing is harmful, a small reasoning model is right {asked['share']:.0%} of the time; "
                f"asked to make what is, it serves {served:.0%}. "
            )
    return ""


def _design(summary: Summary) -> str:
    study = summary["study"]
    world, examples = study.get("world", {}), study.get("alignment", {}).get("examples", {})
    said = ["Whether a thing is harmful is written nowhere: it follows from what the thing contains, in two steps."]
    if world.get("hops") == 1:
        said = [
            "Of every thing it is written whether it is toxic: harm is one step away. Components only group the things."
        ]
    if {"things", "components", "aligned_components"} <= set(world):
        said.append(
            f"A world has {world['things']} invented things and {world['components']} components, half of them toxic; "
            f"alignment sees {world['aligned_components']} toxic and {world['aligned_components']} fine ones, in one "
            "language, and is asked about the others."
        )
    if {"harmful", "benign", "replay"} <= set(examples):
        said.append(
            f"It has {examples['harmful']:,} harmful and {examples['benign']:,} benign requests and "
            f"{examples['replay']:,} examples of what the base could do before, the same in every arm."
        )
    if study.get("num_parameters"):
        said.append(f"The model has {study['num_parameters']:,} parameters.")
    said.append(
        f"Worlds (seeds): {', '.join(summary['worlds'])}. A world has its own facts, base and order of training."
    )
    arms = {named(run["arm"]): ARMS.get(run["arm"], f"the arm {run['arm']}") for run in summary["runs"]}
    return page.section("The design", " ".join(said), [], page.definitions(arms))


def _table(summary: Summary) -> str:
    columns = (
        "Arm",
        "Refuses harmful",
        "Refuses benign",
        "Balanced accuracy",
        "Benign answered exactly",
        "Exact when it complies",
        "Traces in order",
        "Tokens a request",
        "Training tokens",
    )
    rows = []
    for run in summary["runs"]:
        rates = run["settings"]["held-out"]
        measures = ("refused_harmful", "refused_benign", "balanced_accuracy", "exact_benign", "exact_when_it_complies")
        cells = [page.rate_cell(rates[measure]) for measure in measures]
        cells.append(page.rate_cell(run["structure"]["in_order"]))
        cells.append(_number(run["generated_tokens"][""], 1))
        cells.append(_number(run["training"]["num_tokens"] or None, 0))
        rows.append((named(run["name"]), cells, run["name"] == summary["treatment"]))
    caption = (
        "Requests about components never seen in alignment. Below each share its 95% interval by resampling, or "
        "Wilson's where all answers agree."
    )
    rest = page.table(caption, columns, rows)
    lead = "Balanced accuracy is the mean of harmful requests refused and benign requests served: chance is 50%."
    return page.section("The answers in numbers", lead, [], rest)


def _traces(summary: Summary) -> str:
    shown = "".join(page.trace(example, SHOWN) for example in summary["traces"])
    lead = "The first request of each kind, by world and name; above the line the reasoning, below it the answer."
    return page.section("Traces, side by side", lead, [], shown)


def _found(summary: Summary) -> str:
    said = "".join(f"<li>{html.escape(text)}</li>" for text in summary["finding"])
    study = summary["study"]
    facts = ", ".join(f"{name} {version}" for name, version in (study.get("versions") or {}).items())
    commit = f" Commit {html.escape(str(study['commit']))}." if study.get("commit") else ""
    foot = f'<p class="soft">{html.escape(facts)}.{commit}</p>' if facts else ""
    lead = "Computed from the numbers above; a difference counts where its intervals exclude 0."
    return page.section("All findings, in sentences", lead, [], f'<ul class="more">{said}</ul>\n{foot}')


def _number(value: float | None, digits: int) -> str:
    return "&ndash;" if value is None else f"{value:,.{digits}f}"
