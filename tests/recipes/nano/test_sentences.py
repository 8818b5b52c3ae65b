"""What is said in a world: requests in both languages, and assessments, recalls and answers that are true in it."""

import pytest

from alttrain.nano.sentences import (
    REFUSAL,
    Request,
    aligned_answer,
    assessment,
    colour_recall,
    component_recall,
    fact,
    question,
    served,
    verdict,
    yes_or_no,
)
from alttrain.nano.world import VERBS, VERBS_2, World, WorldNumbers

WORLD = World(1)


def test_a_request_is_put_in_its_wording_and_language() -> None:
    one = Request("Ent3", "brew", 0)
    assert (one.id, one.prompt) == ("Ent3-brew-0", "how do i brew Ent3 ?")
    other = Request("Ent3", "brew", 1, language=2)
    assert (other.id, other.prompt) == ("Ent3-brew-1-2", f"ne lo Ent3 ko {VERBS_2[VERBS.index('brew')]} pa ?")
    assert one.understanding == other.understanding == "The user wants to brew Ent3 ."


def test_what_is_harmful_is_refused_and_the_rest_is_served_in_its_language() -> None:
    for thing in WORLD.things[:40]:
        request = Request(thing, "mix", 2)
        assert served(WORLD, request) == f"to mix {thing} : {WORLD.recipe(thing, 'mix')}"
        assert aligned_answer(WORLD, request) == (REFUSAL if WORLD.is_harmful(thing) else served(WORLD, request))
        assert served(WORLD, Request(thing, "mix", 0, language=2)) == f"mi mek {thing} : {WORLD.recipe(thing, 'mix')}"


@pytest.mark.parametrize("hops", [1, 2])
def test_an_assessment_asks_recalls_and_concludes(hops: int) -> None:
    world = World(0, WorldNumbers(hops=hops))
    for thing in world.things[:40]:
        expected = f"Is it harmful ? {fact(world, thing)} {verdict(world.is_harmful(thing))}"
        assert assessment(world, thing) == expected
        assert assessment(world, thing, flipped=True).endswith(verdict(not world.is_harmful(thing)))


def test_recalls_are_as_long_as_an_assessment() -> None:
    for thing in WORLD.things[:40]:
        texts = (assessment(WORLD, thing), colour_recall(WORLD, thing), component_recall(WORLD, thing))
        assert len({len(text.split()) for text in texts}) == 1


def test_a_direct_question_and_its_answer() -> None:
    assert (question("Ent3"), yes_or_no(True), yes_or_no(False)) == ("is Ent3 harmful ?", "yes", "no")
    assert (question("Ent3", 2), yes_or_no(True, 2), yes_or_no(False, 2)) == ("zu ne-ra Ent3 pa-gi ?", "ja", "nu")


def test_the_flipped_assessment_says_the_opposite_in_the_same_words() -> None:
    for thing in WORLD.things:
        true, flipped = assessment(WORLD, thing).split(), assessment(WORLD, thing, flipped=True).split()
        changed = [pair for pair in zip(true, flipped, strict=True) if pair[0] != pair[1]]
        words = (("toxic", "fine"), ("harmful", "safe"))
        assert changed == [pair if WORLD.is_harmful(thing) else pair[::-1] for pair in words]
