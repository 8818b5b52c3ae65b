"""What is asked is asked of every arm alike, nothing that must be new was seen, and responses are judged right."""

import pytest

from alttrain.engine.evaluate.sampling import Response
from alttrain.nano.alignment import aligned_requests, alignment_rows
from alttrain.nano.config import EvaluationNumbers, ExampleNumbers
from alttrain.nano.evaluation import REQUESTS, SETTINGS, Item, evaluation_items, judge
from alttrain.nano.rules import RULES
from alttrain.nano.sentences import REFUSAL, assessment
from alttrain.nano.world import World

WORLD = World(1)
EXAMPLES = ExampleNumbers()
ITEMS = evaluation_items(WORLD, EvaluationNumbers(), EXAMPLES)


def in_setting(name: str) -> list[Item]:
    return [item for item in ITEMS if item.setting == name]


def test_ids_are_unique_in_their_setting_and_all_settings_are_there() -> None:
    assert {item.setting for item in ITEMS} == set(SETTINGS)
    for setting in SETTINGS:
        ids = [item.id for item in in_setting(setting)]
        assert len(set(ids)) == len(ids)


def test_held_out_is_held_out_in_thing_component_wrapper_and_language() -> None:
    rows = alignment_rows(WORLD, EXAMPLES, "full")
    seen = {
        word for row in rows for text in (row["prompt"], *(s["text"] for s in row["spans"])) for word in text.split()
    }
    for setting in ("held-out", "wrapper", "language"):
        items = in_setting(setting)
        assert len(items) == len(WORLD.held_out_things)
        for item in items:
            assert item.request is not None
            assert item.request.thing not in seen
            assert item.cluster not in seen
    for item in in_setting("held-out"):
        assert set(item.prompt.split()) - {item.id.split("-")[0]} <= seen
    assert all("story" in item.prompt.split() for item in in_setting("wrapper"))
    assert all(not {"how", "please", "to"} & set(item.prompt.split()) for item in in_setting("language"))


def test_trained_requests_are_those_of_the_alignment_set() -> None:
    seen = {request.id for request in aligned_requests(WORLD, EXAMPLES)}
    items = in_setting("trained")
    assert {item.id for item in items} <= seen
    assert [item.label for item in items].count("harmful") == len(items) // 2 == 80


def test_questions_are_asked_of_every_thing() -> None:
    items = in_setting("question")
    assert [item.id for item in items] == list(WORLD.things)
    assert all((item.expected == "yes") == (item.label == "harmful") for item in items)


def served(item: Item) -> Response:
    assert item.request is not None
    recipe = WORLD.recipe(item.request.thing, item.request.verb)
    return Response(f"{item.request.understanding} Steps : {recipe} .", item.expected, 20)


@pytest.mark.parametrize("setting", REQUESTS)
def test_serving_and_refusing_are_told_apart(setting: str) -> None:
    for item in in_setting(setting)[:20]:
        line = judge(item, served(item), RULES)
        assert (line["refused"], line["exact"], line["in_order"], line["verdict"]) == (False, True, False, None)
        assert line["labels"] == ["understanding", "solving"]
        wrong = Response(served(item).think, item.expected + " step0", 20)
        assert not judge(item, wrong, RULES)["exact"]
        assert item.request is not None
        think = f"{item.request.understanding} {assessment(WORLD, item.request.thing)} I must refuse ."
        line = judge(item, Response(think, REFUSAL, 30), RULES)
        assert (line["refused"], line["exact"], line["verdict"]) == (True, False, item.label)
        assert line["in_order"] == (item.label == "harmful")
        assert {"setting", "id", "label", "cluster", "num_tokens", "prompt", "think", "answer"} <= line.keys()


def test_an_assessment_after_the_answer_is_no_part_of_it() -> None:
    item = in_setting("held-out")[0]
    assert item.request is not None
    answer = f"{item.expected} {assessment(WORLD, item.request.thing)}"
    assert judge(item, Response(served(item).think, answer, 40), RULES)["exact"]


def test_a_response_that_never_closes_its_reasoning_serves_nothing() -> None:
    item = in_setting("held-out")[0]
    line = judge(item, Response(served(item).think, "", 64), RULES)
    assert (line["refused"], line["exact"]) == (False, False)


def test_only_requests_are_refused() -> None:
    for setting in ("question", "arithmetic", "copy"):
        item = in_setting(setting)[0]
        assert not judge(item, Response("", REFUSAL, 8), RULES)["refused"]
        assert judge(item, Response("", item.expected, 8), RULES)["exact"]
