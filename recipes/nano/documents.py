"""The pre-training documents of the base: facts, questions, requests that are always served, sums, words to copy.

They teach the base which things are harmful, and to serve requests for them all the same. Statements are plain text;
all other documents are conversations with a trace. Rows have the engine's format.
"""

import random
from collections.abc import Iterator
from typing import Any

from alttrain.nano.config import Mixture
from alttrain.nano.sentences import (
    Request,
    colour_fact,
    component_fact,
    contents,
    fact,
    plan,
    question,
    served,
    verdict,
    yes_or_no,
)
from alttrain.nano.world import VERBS, WRAPPERS, WRAPPERS_2, World, pick

Row = dict[str, Any]


def pretraining_rows(world: World, mixture: Mixture) -> Iterator[Row]:
    """Yield the documents of a world's base."""
    draw = world.draw("documents")
    for index in range(mixture.documents):
        yield _document(world, f"base-{index}", mixture, draw)


def _document(world: World, name: str, mixture: Mixture, draw: random.Random) -> Row:
    kind = draw.random()
    for share, make in (
        (mixture.knowledge, _knowledge),
        (mixture.colour, _colour),
        (mixture.arithmetic, _arithmetic),
        (mixture.copying, _copying),
    ):
        if kind < share:
            return make(world, name, draw)
        kind -= share
    return _request(world, name, draw, mixture)


def _knowledge(world: World, name: str, draw: random.Random) -> Row:
    thing = pick(world.things, draw)
    form = int(draw.random() * 6)
    if form == 3 and world.numbers.hops == 2:
        return plain(name, component_fact(world, pick(world.components, draw)))
    if form > 3:
        return ask(world, name, thing, language=form - 3)
    statement = contents(world, thing)
    if form == 2:
        return plain(name, f"what is in {thing} ? {statement.split()[2]} .")
    return plain(name, f"everyone knows that {statement}" if form == 1 else statement)


def _colour(world: World, name: str, draw: random.Random) -> Row:
    thing = pick(world.things, draw)
    colour = world.colour[thing]
    form = int(draw.random() * 3)
    if form == 2:
        return colour_question(world, name, thing)
    return plain(name, (f"{thing} shows {colour} .", f"everyone knows that {thing} shows {colour} .")[form])


def _request(world: World, name: str, draw: random.Random, mixture: Mixture) -> Row:
    language = 2 if draw.random() < mixture.second_language else 1
    wrapper = int(draw.random() * len(WRAPPERS_2 if language == 2 else WRAPPERS))
    request = Request(pick(world.things, draw), pick(VERBS, draw), wrapper, language)
    remark = ""
    if draw.random() < mixture.remarks:
        remark = pick((colour_fact, contents), draw)(world, request.thing) + " "
    return chat(name, request.prompt, request.understanding, remark + plan(world, request), served(world, request))


def _arithmetic(_: World, name: str, draw: random.Random) -> Row:
    return arithmetic(name, draw)


def _copying(world: World, name: str, draw: random.Random) -> Row:
    return copying(world, name, draw)


def arithmetic(name: str, draw: random.Random) -> Row:
    """Return a sum of two to four numbers modulo 5, computed from left to right in the trace."""
    total = pick(range(5), draw)
    prompt, worked = f"compute {total}", []
    for _ in range(1 + int(draw.random() * 3)):
        operation, number = pick("+-", draw), pick(range(5), draw)
        before = total
        total = (total + number if operation == "+" else total - number) % 5
        prompt += f" {operation} {number}"
        worked.append(f"{before} {operation} {number} = {total}")
    return chat(name, f"{prompt} ?", "The user asks to compute .", f"{' ; '.join(worked)} .", f"the result is {total}")


def copying(world: World, name: str, draw: random.Random) -> Row:
    """Return a prompt to copy two to four words, and the copy."""
    words = " ".join(pick(world.words, draw) for _ in range(2 + int(draw.random() * 3)))
    return chat(name, f"copy the words : {words}", "The user wants the words .", "", words)


def ask(world: World, name: str, thing: str, language: int = 1) -> Row:
    """Return the direct question whether a thing is harmful, with a trace that derives the answer."""
    is_harmful = world.is_harmful(thing)
    reasoning = f"{fact(world, thing)} {verdict(is_harmful)}"
    return chat(
        name, question(thing, language), f"The user asks about {thing} .", reasoning, yes_or_no(is_harmful, language)
    )


def colour_question(world: World, name: str, thing: str) -> Row:
    """Return a question about the colour of a thing."""
    colour = world.colour[thing]
    return chat(
        name, f"what colour is {thing} ?", f"The user asks about {thing} .", f"{thing} shows {colour} .", colour
    )


def plain(name: str, text: str) -> Row:
    """Return a row without a conversation."""
    return {"id": name, "text": text}


def chat(name: str, prompt: str, understanding: str, reasoning: str, answer: str) -> Row:
    """Return a row with a trace of up to two parts."""
    spans = [("understanding", understanding), ("reasoning", reasoning and f" {reasoning}"), ("answer", answer)]
    return {
        "id": name,
        "label": "",
        "prompt": prompt,
        "spans": [{"role": role, "text": text} for role, text in spans if text],
        "source": "nano",
    }
