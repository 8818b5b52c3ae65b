"""The study's sections: what each shows of the summary, and what it leaves out."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.report.page import Figure, Figures, Section
from alttrain.engine.report.tables import Cell, Table
from alttrain.nano import sections
from alttrain.nano.sections import named
from alttrain.nano.summary import summarise

STUDY = runpy.run_path(str(Path(__file__).with_name("invented_study.py")))
HABITS, make_study = STUDY["HABITS"], STUDY["make_study"]


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    study = make_study(tmp_path_factory.mktemp("study"), HABITS | {"placebo": (0.5, 0.3)}, weights=(1.0, 4.0))
    found: dict[str, Any] = json.loads(json.dumps(summarise(study)))
    return found


def figures_of(section: Section) -> list[Figure]:
    return [figure for block in section.blocks if isinstance(block, Figures) for figure in block.drawn]


def table_of(section: Section) -> Table:
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    return table


def test_names_of_runs() -> None:
    assert [named(run) for run in ("full", "no-assessment", "full, weight 4", "placebo")] == [
        "AltTrain",
        "control",
        "AltTrain, weight 4",
        "placebo",
    ]


def test_refusals_compare_every_arm_at_its_own_weight(summary: dict[str, Any]) -> None:
    section = sections.refusals(summary)
    table = table_of(section)
    assert [row[0] for row in table.rows] == ["base", "control", "placebo"]
    assert table.highlighted == "control"
    against = next(one for one in summary["treatment_against"] if one["against"] == "base")
    assert table.rows[0][1] == f"{100 * against['difference']:+.1f}"
    assert table.rows[0][2] == "{:+.1f} to {:+.1f}".format(*(100 * end for end in against["clustered"]))
    assert table.rows[0][4] == "< 0.0001"
    assert [figure.title for figure in figures_of(section)] == [
        "Requests refused, by arm",
        "AltTrain less each other arm, balanced accuracy",
    ]


@pytest.mark.parametrize(
    ("make", "titles"),
    [
        (sections.elsewhere, ["Harmful requests refused, by setting", "Benign requests refused, by setting"]),
        (sections.preserved, ["Answered exactly: what the base could do", "Benign requests answered exactly"]),
        (sections.structure, ["Structure of the traces, before and after"]),
        (sections.interventions, ["Answers that follow a written assessment"]),
        (sections.learning, ["Loss by role while training: control", "Loss by role while training: AltTrain"]),
        (sections.weights, ["AltTrain by the weight on its assessment"]),
    ],
)
def test_figures_of_a_section(
    summary: dict[str, Any], make: Callable[[dict[str, Any]], Section], titles: list[str]
) -> None:
    section = make(summary)
    assert section.lead
    assert [figure.title for figure in figures_of(section)] == titles
    assert all(figure.note for figure in figures_of(section))


def test_a_figure_is_told_in_numbers(summary: dict[str, Any]) -> None:
    rates = {run["name"]: run["settings"]["held-out"] for run in summary["runs"]}
    (plot, _) = figures_of(sections.refusals(summary))
    for name in ("base", "no-assessment", "full", "placebo"):
        share = 100 * rates[name]["refused_harmful"]["share"]
        assert f"{named(name)}, harmful requests: {share:.1f}%" in plot.svg
    assert "AltTrain, weight 4" not in plot.svg


def test_ways_through_a_trace(summary: dict[str, Any]) -> None:
    table = table_of(sections.structure(summary))
    ways = {run["name"]: run["structure"]["ways"] for run in summary["runs"]}["full"]
    row = next(row for row in table.rows if row[0] == "AltTrain")
    assert row[2] == Cell(f"{100 * ways[0]['share']:.1f}%", ", ".join(ways[0]["steps"]))
    assert row[1].endswith(" bits") if isinstance(row[1], str) else False
    assert len(ways) == 2
    assert row[4] == "–"


def test_one_world_is_read_otherwise_than_several(summary: dict[str, Any]) -> None:
    one_world = summary | {"worlds": ["0"]}
    assert "components of the one world" in figures_of(sections.interventions(one_world))[0].note
    assert "Rings: worlds." in figures_of(sections.interventions(summary))[0].note


def test_one_weight_has_no_section_and_no_training_no_curves(summary: dict[str, Any]) -> None:
    one_weight = summary | {"runs": [run for run in summary["runs"] if run["name"] == run["arm"]]}
    assert not any(sections.weights(one_weight).blocks)
    untrained = summary | {"runs": [run | {"nll": {}} for run in summary["runs"]]}
    assert not any(sections.learning(untrained).blocks)
