"""Rendering a row as text through the chat template, and the text as tokens with a role each.

The parts of a row, in order:

    prompt | opening | think | spans before `answer` | closing | `answer` and what follows it | end

A row of plain text, without messages, has only its text and the end. A row is rendered once and tokenised once. The
reasoning never goes through the template, because many templates delete it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from alttrain.engine.data.chat_template import ChatTemplate
from alttrain.engine.data.checks import name_spans
from alttrain.engine.data.template_text import Template
from alttrain.engine.errors import DataError, ModelError
from alttrain.engine.thinking import MARKS, Thinking
from alttrain.engine.trace.roles import ROLES, Example, Row, Span

SPAN_IDS: Mapping[str, int] = {role: index for index, role in enumerate(ROLES)}


class Tokenizer(Template, Protocol):
    """The part of transformers' fast tokenizers that is used here."""

    is_fast: bool
    eos_token: str | None
    eos_token_id: int | None
    all_special_tokens: list[str]

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

    def __init__(
        self,
        tokenizer: Tokenizer,
        target: Thinking = MARKS,
        variables: Mapping[str, Any] | None = None,
        today: date = date(2026, 1, 1),
    ) -> None:
        """Check that `tokenizer` has what training needs.

        Args:
            tokenizer: the model's.
            target: the marks that the reasoning is written with.
            variables: for the chat template, beside those that switch reasoning on.
            today: the date that a template gets that reads the clock.

        Raises:
            ConfigError: the chat template does not know one of the variables.
            ModelError: the tokenizer has no chat template, no end-of-sequence token or no offsets, or its template
                opens or closes the reasoning in a way in which no row can go on.
        """
        self.template = ChatTemplate(tokenizer, target, variables, today)
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
        self._target = target
        self._eos: str = tokenizer.eos_token
        self._special = _special_tokens(tokenizer)

    def render(self, row: Row) -> Rendered:
        """Return `row` as text, ready to be tokenised; plain text only gets the end-of-sequence token.

        In all other rows the reasoning is opened by `<think>` and a line break unless the template has just opened it,
        and closed by a line break, `</think>` and a blank line; a row without an answer ends after `</think>`. Other
        target marks have white space of their own. Where the template has opened the reasoning and it is empty, the
        white space before `</think>` is left out: with the template's own it would become one token, which the model
        never sees when it generates. Where the template has closed the reasoning, the answer follows.

        Raises:
            DataError: a text holds a special token or a target mark, or the template refuses the conversation or
                leaves a part of it out.
        """
        self._check_texts(row)
        if not row.messages:
            return _join(row, [(span.role, span.text) for span in row.spans] + [("end", self._eos)])
        try:
            prompt = self.template.prompt(row)
            calls = self.template.calls(row, has_answer=_has_answer(row)) if row.tool_calls else ""
        except DataError as error:
            raise error.at(row.where) from error
        written = [("prompt", prompt.text), ("opening", prompt.opening)]
        if prompt.is_closed:
            return _join(row, [*written, *_answer_alone(row), ("answer", calls), ("end", self._eos)])
        think = self._target.write_opening(prompt.opening)
        roles = [span.role for span in row.spans]
        answer = roles.index("answer") if "answer" in roles else len(roles)
        has_reasoning = any(span.text for span in row.spans[:answer])
        closing = self._target.write_closing(
            after_text=has_reasoning or bool(think), has_answer=answer < len(roles) or bool(calls)
        )
        parts = [*written, ("think", think)]
        parts += [(span.role, span.text) for span in row.spans[:answer]]
        parts += [("closing", closing), *((span.role, span.text) for span in row.spans[answer:])]
        return _join(row, [*parts, ("answer", calls), ("end", self._eos)])

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
                examples.append(_joined(r))
                continue
            span_ids = _locate(self._token_ends(input_ids, offsets), r.parts)
            assert span_ids[-1] == SPAN_IDS["end"]
            examples.append(Example(r.row.id, list(input_ids), span_ids, r.row.where, r.row.weight))
        return examples

    def _check_texts(self, row: Row) -> None:
        spans = name_spans(row)
        texts = [("the prompt", self._without_marks(message.content)) for message in row.messages]
        texts += [
            ("reasoning", str(m.extras["reasoning_content"])) for m in row.messages if m.extras.get("reasoning_content")
        ]
        if row.tools or row.tool_calls or any(message.extras.get("tool_calls") for message in row.messages):
            called = [row.tools, row.tool_calls, [message.extras.get("tool_calls") for message in row.messages]]
            texts.append(("a tool or a tool call", json.dumps(called, ensure_ascii=False, default=str)))
        for name, text in texts + spans:
            if found := self._special.search(text):
                raise DataError(
                    f"{name} holds {found.group()!r}, a token with a meaning of its own to this "
                    "tokenizer. Take it out.",
                    where=row.where,
                )
        for name, text in spans:
            if mark := next((tag for tag in self._target.tags if tag in text and row.messages), None):
                raise DataError(
                    f"{name} holds {mark!r}, which is written around the reasoning. Take it out.", where=row.where
                )

    def _without_marks(self, text: str) -> str:
        """Return a turn without the marks around its reasoning, which the template takes out or leaves as it likes."""
        for mark in self._target.tags:
            text = text.replace(mark, " ")
        return text

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


def _has_answer(row: Row) -> bool:
    return any(span.role == "answer" and span.text for span in row.spans)


def _answer_alone(row: Row) -> list[tuple[str, str]]:
    """Return the spans of a row whose reasoning the template has closed; all its text is the answer.

    Raises:
        DataError: the row has reasoning.
    """
    roles = [span.role for span in row.spans if span.text]
    has_mark_of_none = row.spans[0] == Span("answer", "")
    if any(role not in ("answer", "unsegmented") for role in roles) or (
        "unsegmented" in roles and not has_mark_of_none
    ):
        raise DataError(
            "the chat template closes the reasoning before the response, by a switch of the row or a word in its "
            "prompt, and the row has reasoning. Take out one of the two.",
            where=row.where,
        )
    return [("answer", span.text) for span in row.spans]


def _joined(rendered: Rendered) -> DataError:
    """Return the error of a row whose prompt ends within a token."""
    reason = (
        "the prompt's token ids are not a prefix of the row's, so the model would be trained after a prompt that it is "
        "never given."
    )
    if rendered.text[rendered.prompt_end].isspace():
        return DataError(
            f"{reason} Let the first span begin with a word, not with white space.", where=rendered.row.where
        )
    return DataError(
        f"{reason} The chat template is at fault: let what it opens the assistant's turn with end in a token of its "
        "own (a special token or a line break), with --data.chat-template.",
        where=rendered.row.where,
    )


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
