"""The documents of a benchmark's steps: every implementation gets the same ones, to the token."""

import random
from collections.abc import Sequence

from alttrain.engine.trace.roles import ROLES, Example

PROMPT, ASSESSMENT, REASONING = (ROLES.index(role) for role in ("prompt", "assessment", "reasoning"))
IGNORED = -100  # the label of a token without loss, to every trainer of others


def draw_examples(num_tokens: int, vocabulary: int, draw: random.Random) -> list[Example]:
    """Return documents of AltTrain's lengths, about 167, `num_tokens` together; a quarter of each is prompt."""
    lengths: list[int] = []
    while (left := num_tokens - sum(lengths)) > 0:
        lengths.append(min(left, max(20, int(draw.lognormvariate(5.06, 0.35)))))
    examples = []
    for length in lengths:
        spans = [PROMPT] * (length // 4) + [ASSESSMENT] * (length // 4)
        spans += [REASONING] * (length - len(spans))
        examples.append(Example("", [draw.randrange(vocabulary) for _ in range(length)], spans, ""))
    return examples


def step_examples(num_tokens: int, vocabulary: int, step: int) -> list[Example]:
    """Return the documents of step `step` of that many tokens: the same in every process."""
    return draw_examples(num_tokens, vocabulary, random.Random(f"{num_tokens} tokens, step {step}"))


def plain_row(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Return documents as one packed row of plain fine-tuning: prompts, and the first token of each, have no label."""
    row: dict[str, list[int]] = {"input_ids": [], "labels": [], "seq_lengths": []}
    for example in examples:
        pairs = zip(example.input_ids, example.span_ids, strict=True)
        labels = [IGNORED if span == PROMPT else token for token, span in pairs]
        row["input_ids"] += example.input_ids
        row["labels"] += [IGNORED, *labels[1:]]
        row["seq_lengths"].append(len(example.input_ids))
    return row
