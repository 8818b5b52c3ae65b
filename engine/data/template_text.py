"""The text that a chat template writes for a conversation, whatever dialect of turns it reads, on a fixed date.

A template is a program of its model's makers, run by transformers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Protocol

from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import Message

# Variables by which templates switch reasoning on; a template ignores variables that it does not use.
THINKING: Mapping[str, bool] = {"enable_thinking": True, "open_thinking": True, "thinking": True}

# The names under which templates read the reasoning of earlier turns.
_REASONING_VARIABLES = ("reasoning_content", "reasoning", "thinking")
_CLOCK = re.compile(r"""strftime_now\s*\(\s*(?:format\s*=\s*)?(["'])(.*?)\1\s*\)""")
_ASKS_FOR_CLOCK = re.compile(r"strftime_now\s+is\s+(?:not\s+)?defined")


class Template(Protocol):
    """The part of transformers' tokenizers that writes a conversation as text."""

    chat_template: Any

    def apply_chat_template(
        self, conversation: list[dict[str, Any]], *, tokenize: bool, add_generation_prompt: bool, **variables: Any
    ) -> Any:
        """Return the text of a conversation."""
        ...


def stop_clock(template: str, today: date) -> str:
    """Return the template with the date in the place of every question for it that has its format written out."""
    return _CLOCK.sub(lambda found: json.dumps(today.strftime(found[2]), ensure_ascii=False), template)


class TemplateText:
    """Writes conversations by a tokenizer's chat template."""

    def __init__(self, tokenizer: Template, variables: Mapping[str, Any], today: date) -> None:
        """Take the template of `tokenizer`.

        Args:
            tokenizer: holds the template.
            variables: for the template, beside those that switch reasoning on.
            today: the date that a template gets that reads the clock.
        """
        template = tokenizer.chat_template
        self._tokenizer = tokenizer
        self._variables = {**THINKING, **variables}
        self._today = today
        self.source = "\n".join(map(str, template.values())) if isinstance(template, dict) else str(template)

    @property
    def reads_clock(self) -> bool:
        """Whether what the template writes depends on the date."""
        return "strftime_now" in self.source

    def knows(self, variable: str) -> bool:
        """Return whether the template reads a variable of that name."""
        return re.search(rf"\b{re.escape(variable)}\b", self.source) is not None

    def write(
        self, messages: Sequence[Message], tools: Sequence[Any], switches: Mapping[str, Any], *, opens: bool
    ) -> str:
        """Return what the template writes for a conversation, and for the opening of the next turn if `opens`."""
        variables: dict[str, Any] = {**self._variables, **switches}
        if tools:
            variables["tools"] = list(tools)
        if self.reads_clock:
            variables["chat_template"] = self._stopped(tools)
        failure: Exception | None = None
        for turns in self._dialects(messages):
            try:
                text = self._tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=opens, **variables
                )
            except Exception as error:  # a template is a program that may raise anything
                failure = failure or error
            else:
                if not _holds_python(str(text), turns):
                    return str(text)
                failure = failure or TypeError("the arguments of a tool call come out as Python, not as JSON")
        reason = " ".join(str(failure).split())[:200]
        raise DataError(
            f"the chat template refuses the conversation ({reason}). Leave such rows out with --data.on-bad-row skip, "
            "or give another template with --data.chat-template."
        ) from failure

    def _stopped(self, tools: Sequence[Any]) -> str:
        """Return the template with the date written in the place of every question for it.

        Raises:
            DataError: it asks in a way in which the date cannot be written there.
        """
        template = self._tokenizer.chat_template
        if isinstance(template, dict):
            template = template["tool_use" if tools and "tool_use" in template else "default"]
        text = stop_clock(str(template), self._today)
        if "strftime_now" in _ASKS_FOR_CLOCK.sub("", text):
            raise DataError(
                "the chat template reads the clock by a format that is not written out, so every start would train "
                "another prompt."
            )
        return text

    def _dialects(self, messages: Sequence[Message]) -> list[list[dict[str, Any]]]:
        """Return the conversation as templates read it; one with tool calls in all ways that templates differ in.

        Templates take the arguments of a call as an object or as JSON text, and a turn of calls alone without content
        or with an empty one.
        """
        turns = [self._turn(message) for message in messages]
        if not any(turn.get("tool_calls") for turn in turns):
            return [turns]
        as_text = [
            {**turn, "tool_calls": [_with_text(call) for call in turn["tool_calls"]]}
            if turn.get("tool_calls")
            else turn
            for turn in turns
        ]
        dialects = [turns, as_text]
        return dialects + [
            [{**turn, "content": ""} if turn["content"] is None else turn for turn in dialect] for dialect in dialects
        ]

    def _turn(self, message: Message) -> dict[str, Any]:
        turn = message.as_turn()
        if message.role == "developer" and not self.knows("developer"):
            turn["role"] = "system"
        reasoning = turn.pop("reasoning_content", None)
        if reasoning:
            turn |= {name: reasoning for name in _REASONING_VARIABLES if self.knows(name)}
        return turn


def _holds_python(text: str, turns: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the arguments of some call stand in `text` as Python writes a dict, which no model was shown."""
    calls = [call for turn in turns for call in turn.get("tool_calls", ())]
    arguments = [call["function"]["arguments"] for call in calls]
    return any(isinstance(each, dict) and each and str(each) in text for each in arguments)


def _with_text(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    function["arguments"] = json.dumps(function.get("arguments", {}), ensure_ascii=False)
    return {**call, "function": function}
