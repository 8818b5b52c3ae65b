"""Rendering a row as text through the chat template, and the text as tokens with a role each.

The parts of a row, in order:

    prompt | opening | think | spans before `answer` | closing | `answer` and what follows it | end

A row of plain text, without messages, has only its text and the end. A row is rendered once and tokenised once. The
reasoning never goes through the template, because many templates delete it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from alttrain.engine.data.checks import name_spans
from alttrain.engine.errors import DataError, ModelError
from alttrain.engine.thinking import MARKS
from alttrain.engine.trace.roles import ROLES, Example, Row

SPAN_IDS: Mapping[str, int] = {role: index for index, role in enumerate(ROLES)}

# Variables by which templates switch reasoning on; a template ignores variables that it does not use.
THINKING: Mapping[str, bool] = {"enable_thinking": True, "open_thinking": True, "thinking": True}

GIVE_TEMPLATE = "Give one with --data.chat-template FILE."


class Tokenizer(Protocol):
    """The part of transformers' fast tokenizers that is used here."""

    is_fast: bool
    eos_token: str | None
    eos_token_id: int | None
    all_special_tokens: list[str]

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool, **switches: bool
    ) -> Any:
        """Return the text of a conversation."""
        ...

    def get_added_vocab(self) -> dict[str, int]:
        """Return the added tokens, which are split off a text before it is tokenised."""
        ...

    def __call__(self, text: list[str], **options: Any) -> Any:
        """Return ids and offsets of a batch of texts."""
        ...

    def decode(self, token_ids: list[int], **options: Any) -> Any:
        """Return the text of some ids."""
        ...


@dataclass(frozen=True)
class Rendered:
    """A row as one text, and where its parts end."""

    row: Row
    text: str = field(repr=False)
    prompt_end: int
    """Number of characters that the template wrote: the prompt and the opening."""
    parts: tuple[tuple[int, int], ...]
    """(character at which the part ends, span id), ascending; parts without text are left out."""


class Renderer:
    """Renders rows as text and tokens for one tokenizer, which it has checked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Check that `tokenizer` has what training needs.

        Raises:
            ModelError: the tokenizer has no chat template, no end-of-sequence token or no offsets, or its template
                closes the reasoning before the model can begin it.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(f"the tokenizer has no chat template, which writes the prompt. {GIVE_TEMPLATE}")
        if not tokenizer.is_fast:
            raise ModelError(
                "the tokenizer is a slow one, which cannot say where in the text a token stands. "
                "Put a tokenizer.json into the model folder."
            )
        if not tokenizer.eos_token or tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has no end-of-sequence token, which every row ends in. "
                "Name its eos_token in tokenizer_config.json."
            )
        self._tokenizer = tokenizer
        self._eos: str = tokenizer.eos_token
        self._special = _special_tokens(tokenizer)
        try:
            _, opening = self._prompt([{"role": "user", "content": "Hello"}])
        except DataError as error:
            raise ModelError(f"{error.sentence} {GIVE_TEMPLATE}") from error
        if MARKS.close in opening:
            raise ModelError(f"the chat template closes the reasoning before the model can begin it. {GIVE_TEMPLATE}")

    def render(self, row: Row) -> Rendered:
        """Return `row` as text, ready to be tokenised; plain text only gets the end-of-sequence token.

        In all other rows the reasoning is opened by `<think>` and a line break unless the template has just written
        them, and closed by a line break, `</think>` and a blank line; a row without an answer ends after `</think>`.
        Where the template has opened the reasoning and it is empty, the line break before `</think>` is left out: with
        the template's own line break it would become one token, which the model never sees when it generates.

        Raises:
            DataError: a text holds a special token, or the template refuses the messages.
        """
        self._check_texts(row)
        if not row.messages:
            return _join(row, [(span.role, span.text) for span in row.spans] + [("end", self._eos)])
        try:
            prompt, opening = self._prompt([{"role": m.role, "content": m.content} for m in row.messages])
        except DataError as error:
            raise DataError(f"{error.sentence} Mend the row's messages, or the template.", where=row.where) from error
        think = MARKS.write_opening(opening)
        roles = [span.role for span in row.spans]
        answer = roles.index("answer") if "answer" in roles else len(roles)
        has_reasoning = any(span.text for span in row.spans[:answer])
        closing = MARKS.write_closing(on_new_line=has_reasoning or bool(think), has_answer=answer < len(roles))
        parts = [("prompt", prompt), ("opening", opening), ("think", think)]
        parts += [(span.role, span.text) for span in row.spans[:answer]]
        parts += [("closing", closing), *((span.role, span.text) for span in row.spans[answer:]), ("end", self._eos)]
        return _join(row, parts)

    def tokenize(self, rendered: Sequence[Rendered]) -> list[Example | DataError]:
        """Return the tokens of each text, or why the text cannot be trained on.

        A token gets the role of the part that holds its last character; a token across two parts that of the later.
        """
        if not rendered:
            return []
        # The template writes BOS for models that use it; the tokenizer would add a second.
        options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
        tokens = self._tokenizer([r.text for r in rendered], return_offsets_mapping=True, **options)
        prompts = self._tokenizer([r.text[: r.prompt_end] for r in rendered], **options)["input_ids"]
        examples: list[Example | DataError] = []
        for r, input_ids, offsets, prompt_ids in zip(
            rendered, tokens["input_ids"], tokens["offset_mapping"], prompts, strict=True
        ):
            if input_ids[: len(prompt_ids)] != prompt_ids:
                examples.append(
                    DataError(
                        "the prompt's token ids are not a prefix of the row's, so the model would be "
                        "trained after a prompt that it is never given. Let the first span begin with a word, not "
                        "with white space.",
                        where=r.row.where,
                    )
                )
                continue
            span_ids = _locate(self._token_ends(input_ids, offsets), r.parts)
            assert span_ids[-1] == SPAN_IDS["end"]
            examples.append(Example(r.row.id, list(input_ids), span_ids, r.row.where))
        return examples

    def _prompt(self, conversation: list[dict[str, str]]) -> tuple[str, str]:
        """Return what the template writes for the conversation, and what it writes to open the assistant's turn."""
        texts = []
        for add_generation_prompt in (False, True):
            try:
                text = self._tokenizer.apply_chat_template(
                    conversation, tokenize=False, add_generation_prompt=add_generation_prompt, **THINKING
                )
            except Exception as error:  # a template is a program that may raise anything
                reason = " ".join(str(error).split())[:200]
                raise DataError(f"the chat template refuses the conversation ({reason}).") from error
            texts.append(str(text))
        prompt, whole = texts
        if not whole.startswith(prompt):
            raise DataError("the chat template changes the prompt when it opens the assistant's turn.")
        return prompt, whole[len(prompt) :]

    def _check_texts(self, row: Row) -> None:
        texts = [("the prompt", message.content) for message in row.messages]
        texts += name_spans(row)
        for name, text in texts:
            found = self._special.search(text)
            if found:
                raise DataError(
                    f"{name} holds {found.group()!r}, a token with a meaning of its own to this "
                    "tokenizer. Take it out.",
                    where=row.where,
                )

    def _token_ends(self, input_ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[int]:
        """Return for each token the position after its last character.

        Byte-level tokenizers may leave spaces out of their offsets. Where that leaves a gap before the next token, the
        spaces at the end of the token's text are added back; the end of a token of spaces alone is not changed.
        """
        ends = [end for _, end in offsets]
        for index in range(len(ends) - 1):
            gap = offsets[index + 1][0] - ends[index]
            if gap > 0:
                text = self._tokenizer.decode([input_ids[index]], clean_up_tokenization_spaces=False)
                words = text.rstrip(" ")
                ends[index] += min(gap, len(text) - len(words)) if words else 0
        return ends


def _join(row: Row, parts: Sequence[tuple[str, str]]) -> Rendered:
    """Return the (role, text) parts as one text; those without text are left out."""
    ends, end = [], 0
    for role, text in parts:
        end += len(text)
        if text:
            ends.append((end, SPAN_IDS[role]))
    written = sum(len(text) for role, text in parts if role in ("prompt", "opening"))
    return Rendered(row, "".join(text for _, text in parts), written, tuple(ends))


def _locate(ends: Sequence[int], parts: Sequence[tuple[int, int]]) -> list[int]:
    """Return the span id of the part that holds the last character of each token."""
    span_ids, part = [], 0
    for end in ends:
        while part < len(parts) - 1 and end > parts[part][0]:
            part += 1
        span_ids.append(parts[part][1])
    return span_ids


def _special_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Return a pattern that finds special and added tokens in a text; tokens of white space alone are ordinary text."""
    tokens = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    longest_first = sorted((token for token in tokens if token.strip()), key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
