"""The table of arms: every name has its row, and what is derived from the rows has every name."""

from typing import get_args

import pytest

from alttrain.engine.trace.roles import ROLES
from alttrain.nano.arms import ARMS, BEFORE, CONTROL, FACTS, READING_ORDER, RECALLS, TREATMENT, Arm
from alttrain.nano.report import ARMS as DESCRIPTIONS
from alttrain.nano.sections import named


def test_every_name_that_the_flags_take_has_its_row_and_the_reverse() -> None:
    assert set(ARMS) == set(get_args(Arm))
    assert set(FACTS) == {BEFORE, *ARMS}
    assert all(facts.name == name for name, facts in FACTS.items())


def test_the_reading_order_holds_every_arm_once_and_begins_with_the_question() -> None:
    assert READING_ORDER[:3] == (BEFORE, CONTROL, TREATMENT) == ("base", "no-assessment", "full")
    assert sorted(READING_ORDER) == sorted(FACTS)
    assert READING_ORDER[-1] == "no-assessment-tokens"


def test_the_control_is_the_treatment_without_its_assessment() -> None:
    treatment, control = FACTS[TREATMENT].parts, FACTS[CONTROL].parts
    assert tuple(part for part in treatment if part != "assessment") == control
    (matched,) = [facts for facts in FACTS.values() if facts.has_as_many_tokens]
    assert matched.parts == control


@pytest.mark.parametrize("arm", ARMS)
def test_every_response_has_parts_that_can_be_written_and_one_answer(arm: Arm) -> None:
    parts = FACTS[arm].parts
    assert set(parts) <= {*ROLES, *RECALLS}
    assert parts.count("answer") == 1
    assert len(set(parts)) == len(parts)


def test_the_base_is_not_trained() -> None:
    assert FACTS[BEFORE].parts == ()
    assert BEFORE not in ARMS


def test_readers_tell_the_arms_apart() -> None:
    titles = [facts.title for facts in FACTS.values()]
    assert len(set(titles)) == len(titles)
    assert all(facts.question.endswith("?") for facts in FACTS.values())


def test_the_report_s_names_are_those_of_the_table() -> None:
    assert {name: named(name) for name in FACTS} == {name: facts.title for name, facts in FACTS.items()}
    assert named("full, weight 4") == "AltTrain, weight 4"
    assert named("an arm of yesterday") == "an arm of yesterday"
    for name, facts in FACTS.items():
        assert DESCRIPTIONS[name] == f"{facts.description}. {facts.question}"
