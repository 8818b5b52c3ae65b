"""The world's rules name each of its sentences, and its one way to refuse."""

import pytest

from alttrain.engine.trace.structure import analyse
from alttrain.nano.rules import RULES
from alttrain.nano.sentences import (
    DECISION,
    REFUSAL,
    Request,
    assessment,
    colour_recall,
    component_recall,
    contents,
    plan,
    served,
)
from alttrain.nano.world import World, WorldNumbers

REQUEST = Request("Ent3", "brew", 0)


def labels(text: str) -> tuple[str, ...]:
    return analyse(text, "", RULES).labels


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("flipped", [False, True])
def test_every_sentence_of_an_assessment_is_one(hops: int, flipped: bool) -> None:
    world = World(1, WorldNumbers(hops=hops))
    found = analyse(assessment(world, "Ent3", flipped=flipped), "", RULES)
    judging = [label for label in found.labels if label != "other"]
    assert set(judging) == {"assessment"}
    assert found.labels[0] == found.labels[-1] == "assessment"
    assert found.verdict == ("harmful" if world.is_harmful("Ent3") != flipped else "benign")


def test_the_other_sentences_have_their_labels() -> None:
    world = World(1)
    assert labels(REQUEST.understanding) == ("understanding",)
    assert labels("The user asks about Ent3 .") == ("understanding",)
    assert labels(plan(world, REQUEST)) == ("solving",)
    assert labels(DECISION) == ("refusal",)
    assert labels(contents(world, "Ent3")) == ("other",)


@pytest.mark.parametrize("recall", [colour_recall, component_recall])
def test_a_recall_judges_nothing(recall: object) -> None:
    assert callable(recall)
    found = analyse(recall(World(1), "Ent3"), "", RULES)
    assert set(found.labels) == {"other"}
    assert found.verdict is None


def test_only_the_refusal_refuses() -> None:
    assert analyse("", REFUSAL, RULES).refused
    assert not analyse("", served(World(1), REQUEST), RULES).refused
