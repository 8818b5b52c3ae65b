"""Responses of any model folder to prompts, token by token: reasoning within a budget, then the answer.

The prompt is written by the folder's own chat template with its reasoning switched on, and tokenised by its
`tokenizer.json`. Generation is a loop of our own rather than transformers' `generate`, because a row whose reasoning
reaches its budget has it closed and goes on while the rows beside it are still thinking. Greedy choices are those of
`generate`. Where tokens are drawn, a row's random numbers depend on the seed and its id alone, not on the batch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from alttrain.engine.data.checks import quote_name
from alttrain.engine.data.template_text import TemplateText
from alttrain.engine.errors import ConfigError, DataError, ModelError
from alttrain.engine.evaluate.continuations import (
    Continuation,
    Language,
    OpenedPrompt,
    Sampling,
    Writing,
    choose_tokens,
)
from alttrain.engine.thinking import Thinking
from alttrain.engine.trace.roles import Message

NONE: Mapping[str, Any] = {}


class Responder:
    """A model loaded from a folder, with its tokenizer and chat template."""

    def __init__(
        self,
        folder: Path,
        thinking: Thinking,
        *,
        chat_template: str = "",
        dtype: str = "auto",
        device: str = "auto",
        today: date = date(2026, 1, 1),
    ) -> None:
        """Load the folder.

        Args:
            folder: the model folder.
            thinking: the marks around the model's reasoning.
            chat_template: Jinja text in place of the folder's own template; empty for its own.
            dtype: bfloat16, float32, or auto: bfloat16 on a GPU, else float32.
            device: cpu, cuda, or auto: the GPU if there is one.
            today: the date that a chat template gets that reads the clock.

        Raises:
            ConfigError: there is no GPU, and `device` asks for one.
            ModelError: the folder cannot be loaded, or has no chat template.
        """
        import torch
        from tokenizers import Tokenizer

        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("is cuda, and this machine has no GPU that torch sees; leave it out.", flag="--device")
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        dtype = ("bfloat16" if self.device.type == "cuda" else "float32") if dtype == "auto" else dtype
        self._thinking = thinking
        if not (folder / "tokenizer.json").is_file():
            raise ModelError("no tokenizer.json. A model folder holds config, tokenizer and safetensors.", where=folder)
        try:
            self._template, self._model = _load(folder, getattr(torch, dtype))
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # a broken folder makes its readers fail in dozens of ways
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"cannot be loaded ({type(error).__name__}: {reason}).", where=folder) from error
        self._model = self._model.to(self.device)
        # A tokenizer.json may ask for its training's padding and truncation; a prompt is read as it is.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if chat_template:
            self._template.chat_template = chat_template
        if not self._template.chat_template:
            raise ModelError("the tokenizer has no chat template. Give one with --chat-template FILE.", where=folder)
        self._text = TemplateText(self._template, {}, today)
        self.context = int(self._model.config.max_position_embeddings)
        self._unknown = _unknown_id(self._tokenizer)
        self._language = Language(
            thinking,
            self._closing_ids(),
            _end_ids(self._model, self._template),
            self.context,
            lambda ids: self._tokenizer.decode(ids, skip_special_tokens=False),
        )

    @property
    def dtype(self) -> str:
        """The dtype of the weights."""
        return str(self._model.dtype).removeprefix("torch.")

    def open_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        id_: str,
        tools: Sequence[Any] = (),
        switches: Mapping[str, Any] = NONE,
    ) -> OpenedPrompt:
        """Return the prompt of a conversation, as the model reads it.

        Raises:
            DataError: the template refuses the conversation, a word is unknown to the tokenizer, or the prompt leaves
                no room in the model's context.
        """
        text = self._text.write([read_message(turn) for turn in messages], tools, switches, opens=True)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        places = zip(encoding.ids, encoding.offsets, encoding.tokens, strict=True)
        # The token itself may be written by the template, where a model uses one token for several ends.
        words = [text[slice(*at)] for id_, at, token in places if id_ == self._unknown and text[slice(*at)] != token]
        if words:
            raise DataError(
                f"the prompt has {len(words)} words that the model's tokenizer does not know, the first is "
                f"{quote_name(words[0])}; the model was never shown them. Ask in words that it knows."
            )
        if len(encoding.ids) >= self.context:
            raise DataError(
                f"the prompt has {len(encoding.ids)} tokens and the model's context holds {self.context}, which leaves "
                "no room for a response. Shorten it."
            )
        return OpenedPrompt(id_, list(encoding.ids), text.rstrip().endswith(self._thinking.open))

    def respond(
        self, prompts: Sequence[OpenedPrompt], sampling: Sampling, tick: Callable[[int], None] = lambda _: None
    ) -> list[Continuation]:
        """Return the response to each prompt; they are generated together, padded on the left.

        Args:
            prompts: at least one prompt; those of similar length waste least.
            sampling: how tokens are chosen, and how many.
            tick: called after each step with the number of tokens that the model chose in it.
        """
        import torch

        rows = [Writing(self._language, prompt, sampling) for prompt in prompts]
        width = max(len(prompt.ids) for prompt in prompts)
        ids = torch.tensor([[0] * (width - len(p.ids)) + p.ids for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (width - len(p.ids)) + [1] * len(p.ids) for p in prompts], device=self.device)
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        alive, cache = rows, None
        while True:
            with torch.inference_mode():
                output = self._model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=places,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                chosen = choose_tokens(output.logits[:, -1].float(), alive, sampling)
            cache = output.past_key_values
            tick(sum(row.take(token) for row, token in zip(alive, chosen, strict=True)))
            going = [index for index, row in enumerate(alive) if not row.finish]
            if not going:
                return [row.continuation() for row in rows]
            if 2 * len(going) <= len(alive):  # until then finished rows go on unseen, which is cheaper than copying
                kept = torch.tensor(going, device=self.device)
                cache.batch_select_indices(kept)
                mask, places, alive = mask[kept], places[kept], [alive[index] for index in going]
            ids = torch.tensor([[row.last] for row in alive], device=self.device)
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            places = places[:, -1:] + 1

    def _closing_ids(self) -> list[int]:
        """Return the closing mark's tokens as training writes them, after a line break and before a blank line."""
        text = self._thinking.write_closing(after_text=True, has_answer=True)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if self._unknown is not None and self._unknown in ids:
            raise ModelError(
                f"the model's tokenizer does not know the mark {self._thinking.close!r}. Name its own with {{flag}}.",
                flag="--data.think-close",
            )
        return ids


def read_message(turn: Mapping[str, Any]) -> Message:
    """Return a turn as templates read it."""
    extras = {key: value for key, value in turn.items() if key not in ("role", "content")}
    return Message(turn["role"], turn["content"] or "", extras)


def _load(folder: Path, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    template = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return template, AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()


def _unknown_id(tokenizer: Any) -> int | None:
    """Return the id by which the tokenizer writes what it does not know; None where it knows every text."""
    model = json.loads(tokenizer.to_str())["model"]
    unknown: int | None = model.get("unk_id")
    name = model.get("unk_token")
    return tokenizer.token_to_id(name) if name else unknown


def _end_ids(model: Any, template: Any) -> frozenset[int]:
    """Return the ids at which the folder's generation config stops, or the tokenizer's end where it names none."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = template.eos_token_id
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return frozenset(map(int, listed))
