"""Greedy responses of an exported model folder, generated with transformers alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alttrain.engine.data.tokenizer import load_tokenizer
from alttrain.engine.thinking import MARKS

PROMPTS_AT_ONCE = 256
MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class Response:
    """A generated response, split at `</think>`."""

    think: str
    answer: str
    """Empty where the reasoning is never closed."""
    num_tokens: int
    """Generated tokens, including `</think>` and the end-of-sequence token."""


class Speaker:
    """A model loaded from a folder, which answers prompts."""

    def __init__(self, folder: Path) -> None:
        """Load the folder as transformers reads it, and its tokenizer as its tokenizer.json says."""
        from transformers import AutoModelForCausalLM

        self._tokenizer: Any = load_tokenizer(folder)
        self._tokenizer.padding_side = "left"
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()

    def respond(self, prompts: Sequence[str], written: Sequence[str] = ()) -> Iterator[tuple[int, Response]]:
        """Yield (index, response) of every prompt, in batches of similar length.

        Args:
            prompts: the users' messages.
            written: for each prompt, a beginning of the trace that the model continues; it is part of the response's
                `think` and does not count in `num_tokens`.
        """
        beginnings = list(written) or [""] * len(prompts)
        texts = [self._open(prompt) + start for prompt, start in zip(prompts, beginnings, strict=True)]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index].split()))
        for first in range(0, len(order), PROMPTS_AT_ONCE):
            batch = order[first : first + PROMPTS_AT_ONCE]
            for index, ids in zip(batch, self._generate([texts[index] for index in batch]), strict=True):
                yield index, self._response(beginnings[index], ids)

    def _open(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    def _generate(self, texts: list[str]) -> list[list[int]]:
        import torch

        inputs = self._tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            whole = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                max_new_tokens=MAX_NEW_TOKENS,
            )
        new: list[list[int]] = whole[:, inputs["input_ids"].shape[1] :].tolist()
        end = self._tokenizer.eos_token_id
        return [ids[: ids.index(end) + 1] if end in ids else ids for ids in new]

    def _response(self, beginning: str, ids: list[int]) -> Response:
        text = beginning + " " + self._tokenizer.decode([i for i in ids if i != self._tokenizer.eos_token_id])
        think, _, answer = text.partition(MARKS.close)
        return Response(think.strip(), answer.strip(), len(ids))
