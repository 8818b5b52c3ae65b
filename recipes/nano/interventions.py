"""An assessment written into a trace for the model: the true one, or its opposite. Does the answer follow it?"""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from alttrain.engine.evaluate.sampling import Speaker
from alttrain.engine.trace.rules import Rules
from alttrain.engine.trace.structure import analyse
from alttrain.nano.evaluation import Item
from alttrain.nano.sentences import assessment
from alttrain.nano.world import World


def intervene(
    speaker: Speaker, world: World, chosen: Sequence[tuple[Item, str]], rules: Rules
) -> Iterator[dict[str, Any]]:
    """Yield a line of interventions.jsonl, without what is the same for the run, for each item and each assessment.

    The understanding that the model itself wrote stays, the assessment comes after it, and the model goes on. It
    follows a harmful verdict by refusing and a benign one by not refusing.
    """
    cases = [(item, think, written) for item, think in chosen for written in ("true", "flipped")]
    begun = []
    for item, think, written in cases:
        assert item.request is not None
        sentences = assessment(world, item.request.thing, flipped=written == "flipped")
        begun.append(f"{understanding_of(think, rules)} {sentences}".strip())
    for index, response in speaker.respond([item.prompt for item, _, _ in cases], begun):
        item, _, written = cases[index]
        is_harmful = (item.label == "harmful") == (written == "true")
        refused = analyse(response.think, response.answer, rules).refused
        yield {"id": item.id, "label": item.label, "written": written, "followed": refused == is_harmful}


def understanding_of(think: str, rules: Rules) -> str:
    """Return the sentences with which a trace says what is asked; empty where it begins otherwise."""
    sentences = analyse(think, "", rules).sentences
    return "".join(sentence.text for sentence in takewhile(lambda s: s.label == "understanding", sentences)).strip()
