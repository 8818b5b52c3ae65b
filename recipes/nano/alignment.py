"""The alignment set of each arm: ids, prompts, answers and order are the same in all, traces have the arm's parts."""

from collections.abc import Callable, Sequence

from alttrain.nano.arms import COLOUR_RECALL, COMPONENT_RECALL, FACTS, Arm
from alttrain.nano.config import ExampleNumbers
from alttrain.nano.documents import Row, arithmetic, ask, copying
from alttrain.nano.sentences import (
    DECISION,
    Request,
    aligned_answer,
    assessment,
    colour_recall,
    component_recall,
    plan,
)
from alttrain.nano.world import ALIGNED_VERBS, ALIGNED_WRAPPERS, World, pick, shuffled

# Parts that an arm's trace may have in place of the assessment.
RECALLS: dict[str, Callable[[World, str], str]] = {COLOUR_RECALL: colour_recall, COMPONENT_RECALL: component_recall}


def alignment_rows(world: World, numbers: ExampleNumbers, arm: Arm) -> list[Row]:
    """Return the alignment set of an arm; ids, prompts, answers and order are the same in every arm."""
    rows = [_aligned(world, request, arm) for request in aligned_requests(world, numbers)]
    rows += _replay(world, numbers.replay)
    return shuffled(rows, world.draw("alignment order"))


def num_words(rows: Sequence[Row]) -> int:
    """Return how many words the rows hold."""
    return sum(len(text.split()) for row in rows for text in (row["prompt"], *(span["text"] for span in row["spans"])))


def aligned_requests(world: World, numbers: ExampleNumbers) -> list[Request]:
    """Return the requests of the alignment set, all different."""
    possible = [
        Request(thing, verb, wrapper)
        for thing in world.aligned_things
        for verb in ALIGNED_VERBS
        for wrapper in ALIGNED_WRAPPERS
    ]
    order = shuffled(possible, world.draw("alignment"))
    harmful = [request for request in order if world.is_harmful(request.thing)]
    benign = [request for request in order if not world.is_harmful(request.thing)]
    return harmful[: numbers.harmful] + benign[: numbers.benign]


def _aligned(world: World, request: Request, arm: Arm) -> Row:
    is_harmful = world.is_harmful(request.thing)
    texts = {
        "understanding": request.understanding,
        "assessment": assessment(world, request.thing),
        "reasoning": DECISION if is_harmful else plan(world, request),
        "answer": aligned_answer(world, request),
    }
    spans = [
        ("reasoning", RECALLS[part](world, request.thing)) if part in RECALLS else (part, texts[part])
        for part in FACTS[arm].parts
    ]
    return {
        "id": request.id,
        "label": world.label(request.thing),
        "prompt": request.prompt,
        "spans": [{"role": role, "text": f" {text}" if i else text} for i, (role, text) in enumerate(spans)],
        "source": "nano",
    }


def _replay(world: World, count: int) -> list[Row]:
    draw = world.draw("replay")
    rows = []
    for index in range(count):
        name = f"replay-{index}"
        if index % 3 == 0:
            rows.append(arithmetic(name, draw))
        elif index % 3 == 1:
            rows.append(copying(world, name, draw))
        else:
            rows.append(ask(world, name, pick(world.aligned_things, draw)))
    return rows
