"""The alignment sets of the arms share prompts, answers, ids and order; the traces differ, in structure alone."""

from collections.abc import Iterator
from typing import Any

import pytest

from alttrain.engine.trace.structure import analyse
from alttrain.nano.alignment import aligned_requests, alignment_rows, num_words
from alttrain.nano.arms import ARMS, Arm
from alttrain.nano.config import ExampleNumbers
from alttrain.nano.rules import RULES
from alttrain.nano.world import World

WORLD = World(1)
NUMBERS = ExampleNumbers()
ROWS = {arm: alignment_rows(WORLD, NUMBERS, arm) for arm in ARMS}


def spans(row: dict[str, Any], *roles: str) -> list[str]:
    return [span["text"].strip() for span in row["spans"] if not roles or span["role"] in roles]


def requests(arm: Arm) -> Iterator[dict[str, Any]]:
    return (row for row in ROWS[arm] if row["label"])


def test_there_are_a_thousand_and_the_labels_are_balanced() -> None:
    for rows in ROWS.values():
        labels = [row["label"] for row in rows]
        assert (labels.count("harmful"), labels.count("benign"), labels.count("")) == (400, 400, 200)
        assert len({row["id"] for row in rows}) == 1000


@pytest.mark.parametrize("arm", ARMS)
def test_prompts_answers_ids_and_order_are_those_of_the_control(arm: Arm) -> None:
    for row, control in zip(ROWS[arm], ROWS["no-assessment"], strict=True):
        assert (row["id"], row["label"], row["prompt"]) == (control["id"], control["label"], control["prompt"])
        assert spans(row, "answer") == spans(control, "answer")
        if not row["label"]:
            assert row == control


def test_traces_have_the_order_that_their_names_say() -> None:
    orders = {arm: [span["role"] for span in next(requests(arm))["spans"]] for arm in ARMS}
    assert orders == {
        "full": ["understanding", "assessment", "reasoning", "answer"],
        "no-assessment": ["understanding", "reasoning", "answer"],
        "no-assessment-tokens": ["understanding", "reasoning", "answer"],
        "assessment-last": ["understanding", "reasoning", "assessment", "answer"],
        "after-answer": ["understanding", "reasoning", "answer", "assessment"],
        "no-understanding": ["assessment", "reasoning", "answer"],
        "answer-only": ["answer"],
        "placebo": ["understanding", "reasoning", "reasoning", "answer"],
        "component-recall": ["understanding", "reasoning", "reasoning", "answer"],
    }


def test_what_takes_the_assessment_s_place_is_as_long_and_judges_nothing() -> None:
    for placebo, recall, full in zip(requests("placebo"), requests("component-recall"), requests("full"), strict=True):
        lengths = {len(" ".join(spans(row)).split()) for row in (placebo, recall, full)}
        assert len(lengths) == 1
        thing = full["id"].split("-")[0]
        assert f"{thing} contains {WORLD.component[thing]} ." in " ".join(spans(recall))
        assert f"{thing} shows {WORLD.colour[thing]} ." in " ".join(spans(placebo))
        assert "Comp" not in " ".join(spans(placebo))
        for row in (placebo, recall):
            assert not {"toxic", "fine", "harmful", "safe"} & set(" ".join(spans(row)).split())


def test_nothing_held_out_is_seen() -> None:
    held_out = {*WORLD.held_out_things} | {*WORLD.components} - WORLD.aligned_components
    for rows in ROWS.values():
        words = {word for row in rows for text in (row["prompt"], *spans(row)) for word in text.split()}
        assert not words & held_out
        assert not words & {"story", "forge", "zu", "ne", "mi"}


def test_harmful_is_refused_and_benign_is_served() -> None:
    for row in requests("full"):
        thing, verb, _ = row["id"].split("-")
        is_harmful = row["label"] == "harmful"
        assert WORLD.is_harmful(thing) == is_harmful
        answer = "sorry i can not help with that" if is_harmful else f"to {verb} {thing} : {WORLD.recipe(thing, verb)}"
        assert spans(row, "answer") == [answer]


@pytest.mark.parametrize("arm", ARMS)
def test_the_structure_metric_reads_each_arm_as_what_it_is(arm: Arm) -> None:
    for row in requests(arm):
        answer = [span["role"] for span in row["spans"]].index("answer")
        think = "".join(span["text"] for span in row["spans"][:answer])
        structure = analyse(think, spans(row, "answer")[0], RULES, prompt_label=row["label"])
        assert structure.refused == (row["label"] == "harmful")
        assert structure.in_order == (arm == "full")
        is_assessed = arm in ("full", "no-understanding", "assessment-last")
        assert structure.verdict == (row["label"] if is_assessed else None)


def test_fewer_examples_are_the_first_of_the_more() -> None:
    few = alignment_rows(WORLD, ExampleNumbers(harmful=10, benign=10, replay=6), "full")
    every = {row["id"]: row for row in ROWS["full"]}
    assert len(few) == 26
    assert all(every[row["id"]] == row for row in few)


def test_requests_are_aligned_once_each_and_words_are_those_of_the_rows() -> None:
    requests = aligned_requests(WORLD, NUMBERS)
    assert len({request.id for request in requests}) == len(requests) == 800
    row = {"prompt": "is Ent1 harmful ?", "spans": [{"role": "answer", "text": " yes it is"}]}
    assert num_words([row, row]) == 14
