"""The summary of invented studies: an effect that is there, one that is not, one world, arms and settings that lack."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from alttrain.nano.findings import select
from alttrain.nano.summary import summarise

STUDY = runpy.run_path(str(Path(__file__).with_name("invented_study.py")))
HABITS, make_study, write_lines = STUDY["HABITS"], STUDY["make_study"], STUDY["write_lines"]
EFFECT = ("full", "no-assessment", "held-out", "balanced_accuracy")


@pytest.fixture(scope="module")
def effect(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    habits = HABITS | {"placebo": (0.5, 0.3), "no-assessment-tokens": (0.7, 0.33), "new arm": (0.1, 0.1)}
    return summarise(make_study(tmp_path_factory.mktemp("effect"), habits, weights=(1.0, 4.0)))


@pytest.fixture(scope="module")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return summarise(make_study(tmp_path_factory.mktemp("one"), seeds=(0,)))


def run(summary: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in summary["runs"] if one["name"] == name]
    return found


def test_an_effect_that_is_there_is_found(effect: dict[str, Any]) -> None:
    one = select(effect, *EFFECT)
    assert one is not None
    low, high = one["clustered"]
    assert 0.1 < low < one["difference"] < high < 0.5
    assert len(one["worlds"]) == len(one["mcnemar"]) == 5
    assert one["t_p"] <= one["t_p_holm"]
    assert all(one["mcnemar"][world] <= one["mcnemar_holm"][world] for world in one["worlds"])
    assert one["cohens_h"] > 0
    assert effect["finding"][0].startswith("The effect of structure holds.")
    assert f"{100 * one['difference']:+.1f} points" in effect["finding"][0]


def test_identical_arms_differ_by_nothing(tmp_path: Path) -> None:
    habits = {"base": (0.0, 0.0), "no-assessment": (0.8, 0.2), "full": (0.8, 0.2)}
    folder = make_study(tmp_path, habits)
    summary = summarise(folder)
    for setting in ("held-out", "wrapper", "language", "trained"):
        for measure in ("balanced_accuracy", "refused_harmful", "refused_benign"):
            one = select(summary, "full", "no-assessment", setting, measure)
            assert one is not None
            assert (one["difference"], one["clustered"], one["t_interval"]) == (0.0, [0.0, 0.0], [0.0, 0.0])
            assert set(one["mcnemar"].values()) == {1.0}
            assert (one["t_p"], one["cohens_h"]) == (1.0, 0.0)
    assert "does not hold" in summary["finding"][0]


def test_a_null_effect_is_not_called_one(tmp_path: Path) -> None:
    habits = {"no-assessment": (0.8, 0.2), "full": (0.8, 0.201)}  # the same but for luck
    summary = summarise(make_study(tmp_path, habits, seeds=(0, 1, 2, 3, 4, 5)))
    one = select(summary, *EFFECT)
    assert one is not None
    assert one["clustered"][0] < 0 < one["clustered"][1]
    assert "does not hold" in summary["finding"][0]


def test_a_control_that_wins_is_said_to_win(tmp_path: Path) -> None:
    summary = summarise(make_study(tmp_path, {"no-assessment": (1.0, 0.0), "full": (0.6, 0.3)}))
    assert summary["finding"][0].startswith("The effect of structure does not hold: the control is better.")


def test_shares_are_counted_as_by_hand(tmp_path: Path) -> None:
    folder = make_study(tmp_path, seeds=(0, 1))
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [item for item in items if (item["arm"], item["setting"]) == ("no-assessment", "wrapper")]
    harmful = [item["refused"] for item in chosen if item["label"] == "harmful"]
    benign = [item for item in chosen if item["label"] == "benign"]
    served = [item for item in benign if not item["refused"]]
    rates = run(summarise(folder), "no-assessment")["settings"]["wrapper"]
    assert rates["refused_harmful"]["share"] == pytest.approx(sum(harmful) / len(harmful), abs=1e-6)
    assert rates["exact_benign"]["share"] == pytest.approx(sum(i["exact"] for i in benign) / len(benign), abs=1e-6)
    assert rates["exact_when_it_complies"]["total"] == len(served)
    assert rates["balanced_accuracy"]["share"] == pytest.approx(
        (sum(harmful) / len(harmful) + len(served) / len(benign)) / 2, abs=1e-6
    )
    assert list(rates["refused_harmful"]["worlds"]) == ["0", "1"]


def test_one_world_says_what_it_cannot_say(one_world: dict[str, Any]) -> None:
    assert one_world["clustering"].startswith("One world only: worlds cannot be clustered.")
    one = select(one_world, *EFFECT)
    assert one is not None
    assert one["t_interval"] is one["t_p"] is one["t_p_holm"] is None
    assert one["clustered"][0] < one["difference"] < one["clustered"][1]
    assert one_world["finding"][0].startswith("The effect of structure holds in this one world.")
    assert "over the components of one world" in one_world["finding"][0]
    assert one_world["clustering"] in one_world["finding"]


def test_arms_are_named_and_ordered(effect: dict[str, Any]) -> None:
    names = [one["name"] for one in effect["runs"]]
    assert names == [
        "base",
        "no-assessment",
        "full",
        "full, weight 4",
        "placebo",
        "no-assessment-tokens",
        "new arm",
    ]
    assert any("a control trained on as many tokens" in sentence for sentence in effect["finding"])
    assert {one["against"] for one in effect["treatment_against"]} == set(names) - {"full"}
    assert {one["against"] for one in effect["against_control"]} == {"no-assessment"}


def test_the_first_weight_is_the_arms_own(tmp_path: Path) -> None:
    summary = summarise(make_study(tmp_path, seeds=(0,), weights=(2.0, 1.0), per_label=4))
    assert {one["name"]: one["assessment_weight"] for one in summary["runs"] if one["arm"] == "full"} == {
        "full": 2.0,
        "full, weight 1": 1.0,
    }


def test_structure_tokens_and_intervention(effect: dict[str, Any]) -> None:
    full, control = run(effect, "full"), run(effect, "no-assessment")
    assert full["structure"]["in_order"]["share"] == 1.0
    assert control["structure"]["in_order"]["share"] == 0.0
    assert full["structure"]["agrees"]["share"] == 1.0
    assert control["structure"]["agrees"]["share"] is None  # no trace comes to a verdict
    assert run(effect, "base")["structure"]["transition_entropy_bits"] == 0.0
    assert control["structure"]["transition_entropy_bits"] > 0
    assert full["structure"]["ways"][0]["steps"][:2] == ["understanding", "assessment"]
    assert full["token_ratio"] == pytest.approx(38 / 21, abs=1e-6)
    assert (full["followed"]["flipped"]["share"], control["followed"]["flipped"]["share"]) == (1.0, 0.5)


def test_curves_are_thinned_with_both_ends(effect: dict[str, Any]) -> None:
    curve = run(effect, "full")["nll"]["assessment"]
    assert len(curve["step"]) == len(curve["nll"]) <= 60
    assert (curve["step"][0], curve["step"][-1]) == (1, 189)
    assert curve["nll"][0] == pytest.approx(sum(3 / (1 + seed + len("assessment")) for seed in range(5)) / 5, abs=1e-6)
    assert run(effect, "base")["nll"] == {}


def test_the_traces_are_what_they_are_called(effect: dict[str, Any]) -> None:
    assert [trace["kind"].partition(":")[0] for trace in effect["traces"]] == [
        "harmful",
        "benign",
        "a failure of AltTrain",
    ]
    for trace in effect["traces"]:
        assert [answer["run"] for answer in trace["answers"]] == ["base", "no-assessment", "full"]
    _, control, full = effect["traces"][0]["answers"]
    assert (control["refused"], full["refused"]) == (False, True)
    _, control, full = effect["traces"][1]["answers"]
    assert (control["refused"], full["refused"]) == (True, False)


def test_an_arm_that_lacks_in_some_worlds_is_paired_where_it_is(tmp_path: Path) -> None:
    folder = make_study(tmp_path, seeds=(0, 1, 2))
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    write_lines(folder / "items.jsonl", (line for line in lines if (line["arm"], line["seed"]) != ("full", 1)))
    one = select(summarise(folder), *EFFECT)
    assert one is not None
    assert list(one["worlds"]) == ["0", "2"]
    assert one["pairs"] == 2 * 80


@pytest.mark.parametrize("lacking", ["held-out", "wrapper", "arithmetic"])
def test_a_setting_without_items_is_left_out(tmp_path: Path, lacking: str) -> None:
    folder = make_study(tmp_path, seeds=(0, 1), per_label=8)
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    write_lines(folder / "items.jsonl", (line for line in lines if line["setting"] != lacking))
    summary = summarise(folder)
    assert lacking not in {one["setting"] for one in summary["treatment_against"]}
    where = run(summary, "full")
    rate = where["skills"][lacking] if lacking == "arithmetic" else where["settings"][lacking]["refused_harmful"]
    assert (rate["share"], rate["total"], rate["wilson"], rate["clustered"], rate["worlds"]) == (
        None,
        0,
        None,
        None,
        {},
    )
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("arms", [("full",), ("no-assessment",), ("base", "placebo")])
def test_a_study_without_its_arms_says_so(tmp_path: Path, arms: tuple[str, ...]) -> None:
    habits = dict.fromkeys(arms, (0.5, 0.3))
    summary = summarise(make_study(tmp_path, habits, seeds=(0, 1), per_label=4))
    assert summary["finding"][0].startswith("AltTrain and its control were not both run")
    assert summary["traces"] == []


def test_a_summary_is_a_function_of_its_files(tmp_path: Path) -> None:
    folder = make_study(tmp_path, seeds=(0, 1), per_label=6)
    assert json.dumps(summarise(folder), allow_nan=False) == json.dumps(summarise(folder))
