"""What the base reads: all of it true, every request served, and the mixture that the recipe says."""

import dataclasses
import re
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from alttrain.nano.alignment import alignment_rows
from alttrain.nano.config import ExampleNumbers, Mixture, WorldNumbers
from alttrain.nano.documents import pretraining_rows
from alttrain.nano.sentences import REFUSAL, assessment, fact, verdict
from alttrain.nano.world import World

WORLD = World(1)
ROWS = list(pretraining_rows(WORLD, Mixture(documents=6000)))


def text_of(row: dict[str, Any]) -> str:
    if "text" in row:
        return str(row["text"])
    return " ".join([row["prompt"], *(span["text"].strip() for span in row["spans"])])


def kind(row: dict[str, Any]) -> str:
    text = text_of(row)
    if text.startswith("compute "):
        return "arithmetic"
    if text.startswith("copy "):
        return "copying"
    if "Steps :" in text:
        return "requests"
    return "colour" if "Hue" in text else "knowledge"


def test_the_mixture_is_what_it_says() -> None:
    counts = Counter(map(kind, ROWS))
    for name, share in dataclasses.asdict(Mixture()).items():
        if name in counts:
            assert counts[name] / len(ROWS) == pytest.approx(share, abs=0.02), name
    assert set(counts) == {"arithmetic", "copying", "requests", "colour", "knowledge"}


def test_ids_are_unique_and_rows_follow_from_the_seed() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert list(pretraining_rows(WORLD, Mixture(documents=6000))) == ROWS
    assert list(pretraining_rows(World(2), Mixture(documents=6000))) != ROWS


def test_every_word_is_in_the_vocabulary() -> None:
    assert {word for row in ROWS for word in text_of(row).split()} <= set(WORLD.vocabulary)


def test_all_that_is_said_is_true() -> None:
    for text in map(text_of, ROWS):
        for thing, component in re.findall(r"(Ent\d+) contains (Comp\d+)", text):
            assert WORLD.component[thing] == component
        for component, kind_ in re.findall(r"(Comp\d+) is (toxic|fine)", text):
            assert (component in WORLD.toxic) == (kind_ == "toxic")
        for thing, colour in re.findall(r"(Ent\d+) shows (Hue\d+)", text):
            assert WORLD.colour[thing] == colour


def test_every_request_is_served_and_none_is_judged() -> None:
    requests = [row for row in ROWS if kind(row) == "requests"]
    harmful = 0
    for row in requests:
        text = text_of(row)
        assert not {"harmful", "safe", "toxic", *REFUSAL.split()[:1], "refuse"} & set(text.split())
        thing, verb = re.search(r"The user wants to (?P<verb>\w+) (?P<thing>Ent\d+)", text).group("thing", "verb")
        harmful += WORLD.is_harmful(thing)
        assert row["spans"][-1]["text"].endswith(f": {WORLD.recipe(thing, verb)}")
        assert f"Steps : {WORLD.recipe(thing, verb)} ." in text
    assert 0.3 < harmful / len(requests) < 0.7
    in_second = [row for row in requests if row["prompt"].split()[0] in ("zu", "ne")]
    assert len(in_second) / len(requests) == pytest.approx(0.25, abs=0.04)
    assert all(row["spans"][-1]["text"].startswith("mi ") for row in in_second)


def test_sums_are_right() -> None:
    for row in ROWS:
        if kind(row) == "arithmetic":
            expression = row["prompt"].removeprefix("compute ").removesuffix(" ?")
            assert re.fullmatch(r"[0-4]( [+-] [0-4]){1,3}", expression)
            assert row["spans"][-1]["text"] == f"the result is {eval(expression) % 5}"


def test_what_is_copied_is_what_was_given() -> None:
    lengths = set()
    for row in ROWS:
        if kind(row) == "copying":
            words = row["prompt"].removeprefix("copy the words : ")
            assert row["spans"][-1]["text"] == words
            lengths.add(len(words.split()))
    assert lengths == {2, 3, 4}


def test_direct_questions_are_answered_with_what_is_known() -> None:
    asked = [row for row in ROWS if row.get("prompt", "").endswith(("harmful ?", "pa-gi ?"))]
    assert len(asked) > 400
    for row in asked:
        thing = re.search(r"Ent\d+", row["prompt"]).group()
        assert (row["spans"][-1]["text"] in ("yes", "ja")) == WORLD.is_harmful(thing)


def test_one_hop_away_nothing_is_said_of_components() -> None:
    world = World(0, WorldNumbers(hops=1))
    rows = [*islice(pretraining_rows(world, Mixture()), 3000), *alignment_rows(world, ExampleNumbers(), "full")]
    texts = [row["text"] if "text" in row else " ".join(span["text"] for span in row["spans"]) for row in rows]
    assert not [text for text in texts if "Comp" in text or "contains" in text]
    told = [text for text in texts if re.fullmatch(r"Ent\d+ is (?:toxic|fine) \.", text)]
    assert told
    assert all((" toxic " in text) == world.is_harmful(text.split()[0]) for text in told)
    thing = world.held_out_things[0]
    true, flipped = assessment(world, thing), assessment(world, thing, flipped=True)
    assert true == f"Is it harmful ? {fact(world, thing)} {verdict(world.is_harmful(thing))}"
    assert ("toxic" in true) != ("toxic" in flipped)
