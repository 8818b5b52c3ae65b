"""What is true in a world, what alignment may see of it, and that all of it follows from the seed."""

import os
import subprocess
import sys

import pytest

from alttrain.nano.world import World, pick, shuffled

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_alignment_sees_few_components_and_holds_the_others_out(seed: int) -> None:
    world = World(seed)
    assert len(world.toxic) == 12
    assert len(world.aligned_components & world.toxic) == len(world.aligned_components - world.toxic) == 4
    assert {*world.aligned_things, *world.held_out_things} == set(world.things)
    seen = {world.component[thing] for thing in world.aligned_things}
    held_out = {world.component[thing] for thing in world.held_out_things}
    assert not seen & held_out
    assert len(seen) == 8
    assert len(held_out) == 16
    # Enough of both labels on both sides for the alignment set and for a rate.
    for things in (world.aligned_things, world.held_out_things):
        harmful = sum(map(world.is_harmful, things))
        assert min(harmful, len(things) - harmful) >= 25


def test_a_world_follows_from_its_seed_in_any_process() -> None:
    program = (
        "from alttrain.nano.world import World\n"
        "w = World(3)\n"
        "print(sorted(w.toxic), w.component, w.colour, w.recipe('Ent7', 'mix'), sorted(w.aligned_components))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert said[0] == said[1]
    world = World(3)
    assert str(world.component) in said[0]


def test_worlds_differ() -> None:
    facts = [(world.component, world.toxic, world.colour, world.aligned_components) for world in map(World, SEEDS)]
    for index in range(4):
        assert len({str(sorted(fact[index])) if index % 2 else str(fact[index]) for fact in facts}) == len(SEEDS)


def test_a_thing_s_name_says_nothing_about_it() -> None:
    """Over many worlds, one thing is harmful about half of the time."""
    harmful = sum(World(seed).is_harmful("Ent0") for seed in range(200))
    assert 70 <= harmful <= 130


def test_the_vocabulary_does_not_depend_on_the_seed() -> None:
    assert World(0).vocabulary == World(1).vocabulary
    assert len(set(World(0).vocabulary)) == len(World(0).vocabulary)


def test_streams_of_numbers_are_told_apart_by_seed_and_purpose() -> None:
    draws = {World(seed).draw(purpose).random() for seed in SEEDS for purpose in ("toxic", "replay")}
    assert len(draws) == 10


def test_shuffled_and_pick_take_from_the_options() -> None:
    draw = World(0).draw("test")
    assert sorted(shuffled(range(100), draw)) == list(range(100))
    assert shuffled(range(100), draw) != list(range(100))
    assert {pick("abc", draw) for _ in range(200)} == set("abc")
