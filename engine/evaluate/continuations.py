"""One response while it is written: which token comes next, when its reasoning is closed, and when it ends."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from alttrain.engine.thinking import Thinking


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how long a response may be."""

    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability are drawn from."""
    seed: int = 0
    max_think_tokens: int = 4096
    """At so many tokens of reasoning the closing mark is written for the model, and the answer follows."""
    max_answer_tokens: int = 2048


@dataclass(frozen=True)
class OpenedPrompt:
    """A prompt as the model reads it."""

    id: str
    ids: list[int] = field(repr=False)
    opened: bool
    """Whether it ends inside the reasoning."""


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt."""

    text: str = field(repr=False)
    """All of it, marks included, without the end-of-sequence token."""
    num_tokens: int
    """Tokens that the model chose itself, the end-of-sequence token included."""
    finish: str
    """`stop`: the model ended it; `length`: the answer's budget did; `context`: the model's context did."""
    was_forced: bool
    """Whether the closing mark was written for the model, at the budget of the reasoning."""


@dataclass(frozen=True)
class Language:
    """What a model and its tokenizer have in common, as far as a response needs it."""

    thinking: Thinking
    closing: list[int]
    """The tokens of the closing mark, with the line breaks around it."""
    ends: frozenset[int]
    """The tokens that end a response."""
    context: int
    """Tokens of prompt and response together."""
    decode: Callable[[list[int]], str]
    """Returns the text of some tokens, marks and special tokens included."""


class Writing:
    """One response while it is written."""

    def __init__(self, language: Language, prompt: OpenedPrompt, sampling: Sampling) -> None:
        self._language, self._sampling = language, sampling
        room = language.context - len(prompt.ids)
        # Where the context is shorter than both budgets, half of it is left to the answer.
        for_answer = min(sampling.max_answer_tokens, max(1, room // 2))
        self._max_think = max(1, min(sampling.max_think_tokens, room - for_answer - len(language.closing)))
        self._room = room
        self._phase = "think" if prompt.opened else "start"
        self._ids: list[int] = []
        self._forced: list[int] = []  # tokens of the closing mark still to be written for the model
        self._num_think = self._num_answer = self._num_chosen = 0
        self._was_forced = False
        self._random = random.Random(f"{sampling.seed}\n{prompt.id}")
        self.finish = ""

    @property
    def last(self) -> int:
        """The token written last."""
        return self._ids[-1]

    def draw(self) -> float:
        """Return the row's next random number, in [0, 1)."""
        return self._random.random()

    def take(self, token: int) -> int:
        """Go on by the token that the model chose, or by one of the closing mark; return how many it chose."""
        if self.finish:
            return 0
        if self._forced:
            self._ids.append(self._forced.pop(0))
            self._phase = "think" if self._forced else "answer"
            chosen = 0
        else:
            self._ids.append(token)
            self._num_chosen += 1
            chosen = 1
            if token in self._language.ends:
                self.finish = "stop"
                return chosen
            self._count()
        if not self.finish and len(self._ids) >= self._room:
            self.finish = "context"
        return chosen

    def _count(self) -> None:
        """Count the last token to the reasoning or to the answer, and end either at its budget."""
        marks = self._language.thinking
        if self._phase == "start":
            text = self._language.decode(self._ids).lstrip()
            if text.startswith(marks.open):
                self._phase = "think"
            elif not marks.open.startswith(text):
                self._phase = "answer"
        if self._phase == "answer":
            self._num_answer += 1
            if self._num_answer >= self._sampling.max_answer_tokens:
                self.finish = "length"
            return
        self._num_think += 1
        tail = self._ids[-len(self._language.closing) - 8 :]
        if marks.close in self._language.decode(tail):
            self._phase = "answer"
        elif self._num_think >= self._max_think:
            self._forced, self._was_forced = list(self._language.closing), True

    def continuation(self) -> Continuation:
        """Return the finished response."""
        ids = self._ids[:-1] if self.finish == "stop" else self._ids
        text = self._language.decode(ids)
        return Continuation(text, self._num_chosen, self.finish, self._was_forced)


def choose_tokens(logits: Any, rows: Sequence[Writing], sampling: Sampling) -> list[int]:
    """Return the next token of each row; `logits` is (row, token), float32."""
    import torch

    if sampling.temperature == 0:
        greedy: list[int] = logits.argmax(-1).tolist()
        return greedy
    probabilities, tokens = torch.softmax(logits.double() / sampling.temperature, -1).sort(-1, descending=True)
    sums = probabilities.cumsum(-1)
    # A token is kept if those before it have not reached top_p yet, so that the likeliest always is.
    kept = (sums - probabilities < sampling.top_p).sum(-1, keepdim=True)
    total = sums.gather(1, kept - 1)
    drawn = torch.tensor([[row.draw()] for row in rows], dtype=torch.float64, device=logits.device) * total
    places = torch.minimum(torch.searchsorted(sums, drawn, right=True), kept - 1)
    found: list[int] = tokens.gather(1, places).squeeze(1).tolist()
    return found
