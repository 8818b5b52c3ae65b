"""Findings are sentences of a summary's own numbers; what does not hold is said not to."""

import copy
import runpy
from pathlib import Path
from typing import Any

import pytest

from alttrain.nano.findings import find, holds, percent, points, select
from alttrain.nano.summary import summarise

STUDY = runpy.run_path(str(Path(__file__).with_name("invented_study.py")))
EFFECT = ("full", "no-assessment", "held-out", "balanced_accuracy")


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    habits = STUDY["HABITS"] | {"no-assessment-tokens": (0.7, 0.33)}
    return summarise(STUDY["make_study"](tmp_path_factory.mktemp("study"), habits, seeds=(0, 1, 2), weights=(1.0, 4.0)))


def test_both_intervals_must_exclude_zero() -> None:
    assert holds({"clustered": [0.1, 0.2], "t_interval": [0.05, 0.3]})
    assert holds({"clustered": [-0.2, -0.1], "t_interval": None})
    assert not holds({"clustered": [0.1, 0.2], "t_interval": [-0.05, 0.3]})
    assert not holds({"clustered": [0.0, 0.2], "t_interval": None})
    assert not holds({"clustered": None, "t_interval": None})


def test_a_comparison_is_found_by_its_names(summary: dict[str, Any]) -> None:
    one = select(summary, *EFFECT)
    assert one is not None
    assert (one["run"], one["against"], one["setting"], one["measure"]) == EFFECT
    assert select(summary, *EFFECT, among="against_control") is not None
    assert select(summary, "full", "nobody", "held-out", "balanced_accuracy") is None


def test_sentences_tell_the_numbers_of_the_summary(summary: dict[str, Any]) -> None:
    sentences = find(summary)
    assert sentences == summary["finding"]
    one = select(summary, *EFFECT)
    assert one is not None
    assert sentences[0].startswith("The effect of structure holds.")
    assert f"{percent(one['shares'][0])} against {percent(one['shares'][1])}" in sentences[0]
    assert points(one["clustered"]) in sentences[0]
    assert any(text.startswith("Weight 4 on the assessment ") for text in sentences)
    assert any("a control trained on as many tokens" in text for text in sentences)
    assert sentences[-1] == summary["clustering"]


def test_an_interval_that_holds_zero_takes_the_finding_back(summary: dict[str, Any]) -> None:
    weaker = copy.deepcopy(summary)
    one: Any = select(weaker, *EFFECT)
    one["t_interval"] = [-0.1, 0.5]
    assert find(weaker)[0].startswith("The effect of structure does not hold here.")


def test_numbers_as_readers_have_them() -> None:
    assert (percent(None), percent(0.1234), points((-0.05, 0.1))) == ("none", "12.3%", "[-5.0, +10.0]")
