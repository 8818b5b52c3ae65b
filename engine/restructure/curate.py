"""Which traces are used: duplicates and prompts of evaluation sets are dropped, and the rest is sampled by seed."""

import json
import random
from collections.abc import Mapping, Sequence, Set

from alttrain.engine.restructure.avoid import forms_of, normalise
from alttrain.engine.restructure.structures import Trace
from alttrain.engine.restructure.traces import Dropped
from alttrain.engine.trace.roles import Message

Prompt = tuple[tuple[str, str, str], ...]  # (role, text, whatever else the template is given) of each turn


def curate(traces: Sequence[Trace], avoid: Mapping[str, Set[str]]) -> tuple[list[Trace], list[Dropped]]:
    """Return the traces to keep, in order, and the dropped ones.

    A prompt that traces of both labels have is a contradiction, and none of them is kept: nothing here can tell which
    label is right. Prompts are compared turn by turn, in normalised form.

    Args:
        traces: of several with the same prompt and label, the first is kept.
        avoid: for each file, its normalised texts (`read_avoided`); a prompt is counted at the first file that holds
            one of its forms.
    """
    prompts = [tuple(map(_normalise_turn, trace.messages)) for trace in traces]
    labels: dict[Prompt, set[str]] = {}
    for trace, prompt in zip(traces, prompts, strict=True):
        labels.setdefault(prompt, set()).add(trace.label)
    kept: list[Trace] = []
    dropped: list[Dropped] = []
    seen: set[Prompt] = set()
    for trace, prompt in zip(traces, prompts, strict=True):
        forms = forms_of(trace.messages)
        file = next((file for file, texts in avoid.items() if not texts.isdisjoint(forms)), "")
        if len(labels[prompt]) > 1:
            reason = "its prompt stands among the harmful and among the benign rows"
            dropped.append(Dropped(trace.where, trace.source, trace.label, reason))
        elif prompt in seen:
            dropped.append(Dropped(trace.where, trace.source, trace.label, "its prompt has come before"))
        elif file:
            dropped.append(Dropped(trace.where, trace.source, trace.label, f"its prompt stands in {file}", file))
        else:
            kept.append(trace)
        seen.add(prompt)
    return kept, dropped


def _normalise_turn(message: Message) -> tuple[str, str, str]:
    extras = json.dumps(message.extras, sort_keys=True) if message.extras else ""
    return message.role, normalise(message.content), normalise(extras)


def choose(traces: Sequence[Trace], count: int, seed: int) -> list[Trace]:
    """Return `count` traces (all, where there are fewer) in a random order that depends on their ids and the seed only.

    With the same seed, a smaller count gives the first of the same traces.
    """
    return sorted(traces, key=lambda trace: random.Random(f"{seed}/{trace.id}").random())[:count]
