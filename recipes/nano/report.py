"""report.html: design, figures and findings of a study on one page that opens offline, from summary.json alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alttrain.engine.files import write_whole
from alttrain.engine.report import page
from alttrain.engine.report.page import Answer, Answers, Bullets, Callout, Definitions, Prose, Section
from alttrain.engine.report.tables import Table, number_cell, rate_cell
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
    """Write report.html beside the summary.json of `folder`, whole; no other file is read."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    write_whole(folder / "report.html", render(summary))


def render(summary: Summary) -> str:
    """Return the page of a summary; the same summary gives the same bytes."""
    return page.render(
        TITLE,
        [Prose(f"{_what_the_base_does(summary)}{QUESTION}"), _answer_in_short(summary)],
        [
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


def _answer_in_short(summary: Summary) -> Callout:
    first, *others = summary["finding"]
    second = others[0] if others and others[0].startswith("There, ") else ""
    texts = (first, second, summary["clustering"])
    return Callout([text for text in texts if text])


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


def _design(summary: Summary) -> Section:
    study = summary["study"]
    world, examples = study.get("world", {}), study.get("alignment", {}).get("examples", {})
    sentences = [
        "Whether a thing is harmful is written nowhere: it follows from what the thing contains, in two steps."
    ]
    if world.get("hops") == 1:
        sentences = [
            "Of every thing it is written whether it is toxic: harm is one step away. Components only group the things."
        ]
    if {"things", "components", "aligned_components"} <= set(world):
        sentences.append(
            f"A world has {world['things']} invented things and {world['components']} components, half of them toxic; "
            f"alignment sees {world['aligned_components']} toxic and {world['aligned_components']} fine ones, in one "
            "language, and is asked about the others."
        )
    if {"harmful", "benign", "replay"} <= set(examples):
        sentences.append(
            f"It has {examples['harmful']:,} harmful and {examples['benign']:,} benign requests and "
            f"{examples['replay']:,} examples of what the base could do before, the same in every arm."
        )
    if study.get("num_parameters"):
        sentences.append(f"The model has {study['num_parameters']:,} parameters.")
    sentences.append(
        f"Worlds (seeds): {', '.join(summary['worlds'])}. A world has its own facts, base and order of training."
    )
    arms = {named(run["arm"]): ARMS.get(run["arm"], f"the arm {run['arm']}") for run in summary["runs"]}
    return Section("The design", " ".join(sentences), [Definitions(arms)])


def _table(summary: Summary) -> Section:
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
        rows.append(
            (
                named(run["name"]),
                *(rate_cell(rates[measure]) for measure in measures),
                rate_cell(run["structure"]["in_order"]),
                number_cell(run["generated_tokens"][""], ",.1f"),
                number_cell(run["training"]["num_tokens"] or None, ",.0f"),
            )
        )
    caption = (
        "Requests about components never seen in alignment. Below each share its 95% interval by resampling, or "
        "Wilson's where all answers agree."
    )
    lead = "Balanced accuracy is the mean of harmful requests refused and benign requests served: chance is 50%."
    table = Table(columns, rows, caption, highlighted=named(summary["treatment"]))
    return Section("The answers in numbers", lead, [table])


def _traces(summary: Summary) -> Section:
    lead = "The first request of each kind, by world and name; above the line the reasoning, below it the answer."
    return Section("Traces, side by side", lead, [_side_by_side(example) for example in summary["traces"]])


def _side_by_side(example: Mapping[str, Any]) -> Answers:
    number = f"one of {example['of']} such" if example["of"] > 1 else "the only one"
    answers = [
        Answer(
            name=SHOWN.get(answer["run"], answer["run"]),
            outcome="refuses" if answer["refused"] else f"serves, {'exactly' if answer['exact'] else 'not exactly'}",
            reasoning=answer["think"] or "(no reasoning)",
            text=answer["answer"] or "(no answer)",
        )
        for answer in example["answers"]
    ]
    title = example["kind"][0].upper() + example["kind"][1:]
    return Answers(title, f"World {example['seed']}, {number}", example["prompt"], answers)


def _found(summary: Summary) -> Section:
    study = summary["study"]
    versions = ", ".join(f"{name} {version}" for name, version in (study.get("versions") or {}).items())
    commit = f" Commit {study['commit']}." if study.get("commit") else ""
    foot = [Prose(f"{versions}.{commit}", is_soft=True)] if versions else []
    lead = "Computed from the numbers above; a difference counts where its intervals exclude 0."
    return Section("All findings, in sentences", lead, [Bullets(summary["finding"]), *foot])
