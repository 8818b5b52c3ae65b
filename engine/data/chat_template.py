"""The chat template as training uses it: the prompt of a row, and in what state it leaves the reasoning.

A template is a program of its model's makers. It may open the reasoning, close it by a switch, read the clock, drop
turns of a role that it does not know, or ignore tools. Nothing of that happens in silence: what a template does is
found by asking it, and a row of which it leaves a part out is refused.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from alttrain.engine.data.template_text import Template, TemplateText
from alttrain.engine.errors import ConfigError, DataError, ModelError
from alttrain.engine.thinking import KNOWN, MARKS, Thinking
from alttrain.engine.trace.roles import Message, Row

GIVE_TEMPLATE = "Give one with --data.chat-template FILE."

_HELLO = Message("user", "Hello")
_ANSWER = "altanswer0"


@dataclass(frozen=True)
class Prompt:
    """What the template writes before a response."""

    text: str
    """The turns so far."""
    opening: str
    """The assistant's marker, and the opening mark of the reasoning where the template writes it."""
    is_closed: bool
    """Whether the template has closed the reasoning, so that only an answer may follow."""


class ChatTemplate:
    """Writes the prompts of rows, and refuses those of which the template would leave a part out."""

    def __init__(
        self,
        tokenizer: Template,
        target: Thinking = MARKS,
        variables: Mapping[str, Any] | None = None,
        today: date = date(2026, 1, 1),
    ) -> None:
        """Ask the template how it opens a turn of the assistant.

        Args:
            tokenizer: holds the template.
            target: the marks that the reasoning is written with.
            variables: for the template, beside those that switch reasoning on.
            today: the date that a template gets that reads the clock.

        Raises:
            ConfigError: the template does not know one of the variables.
            ModelError: there is no template, or it opens or closes the reasoning in a way in which no row can go on.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(f"the tokenizer has no chat template, which writes the prompt. {GIVE_TEMPLATE}")
        self._text = TemplateText(tokenizer, variables or {}, today)
        self._target = target
        self._closed: dict[tuple[str, str], bool | str] = {}
        self._left_out: dict[str, str] = {}
        for name in variables or {}:
            if not self._text.knows(name):
                raise ConfigError(
                    f"has {name!r}, which the chat template does not read. Take it out, or give a template that does.",
                    flag="--data.chat-template-kwargs",
                )
        try:
            opened = self._write([_HELLO], (), {})
        except DataError as error:
            way_out = "" if "--data.chat-template" in error.sentence else f" {GIVE_TEMPLATE}"
            raise ModelError(error.sentence + way_out) from error
        if opened.is_closed:
            raise ModelError(
                "the chat template closes the reasoning before the model can begin it. Give it the variable that opens "
                "it, with --data.chat-template-kwargs, or another template, with --data.chat-template."
            )
        self._check_marks()

    @property
    def reads_clock(self) -> bool:
        """Whether what the template writes depends on the date."""
        return self._text.reads_clock

    def prompt(self, row: Row) -> Prompt:
        """Return what the template writes before the response of `row`.

        Raises:
            DataError: the template refuses the conversation, or leaves a turn, the tools or a variable of the row out.
        """
        unknown = [name for name in row.switches if not self._text.knows(name)]
        if unknown:
            raise DataError(
                f"chat_template_kwargs has {unknown[0]!r}, which the chat template does not read. Take it out, or give "
                "a template that does."
            )
        if left_out := self._what_is_left_out(row):
            raise DataError(left_out)
        prompt = self._write(row.messages, row.tools, row.switches)
        for index, message in enumerate(row.messages):
            if message.role != "assistant" and not _is_written(message.content, prompt.text):
                raise DataError(
                    f"the chat template changes the text of messages[{index}], a turn of role {message.role}. Mend the "
                    "turn, or give another template with --data.chat-template."
                )
        return prompt

    def calls(self, row: Row, *, has_answer: bool) -> str:
        """Return the text of the tool calls that the response of `row` makes, after its answer if it has one.

        Raises:
            DataError: the template does not write them in a turn of their own.
        """
        said = self._text.write([*row.messages, Message("assistant", _ANSWER)], row.tools, row.switches, opens=False)
        content = _ANSWER if has_answer else ""
        calling = Message("assistant", content, {"tool_calls": list(row.tool_calls)})
        called = self._text.write([*row.messages, calling], row.tools, row.switches, opens=False)
        before, _, after = said.rpartition(_ANSWER)
        start = before + content
        text = called[len(start) : len(called) - len(after)]
        if not called.startswith(start) or not called.endswith(after) or not text:
            raise DataError(
                "the response has tool_calls, which the chat template does not write after "
                f"{'an answer' if has_answer else 'the reasoning'}. Take them out, or give a template that writes them."
            )
        return text

    def _write(self, messages: Sequence[Message], tools: Sequence[Any], switches: Mapping[str, Any]) -> Prompt:
        prompt = self._text.write(messages, tools, switches, opens=False)
        whole = self._text.write(messages, tools, switches, opens=True)
        if not whole.startswith(prompt):
            raise DataError("the chat template changes the prompt when it opens the assistant's turn.")
        opening = whole[len(prompt) :]
        return Prompt(prompt, opening, self._is_closed(opening, switches))

    def _is_closed(self, opening: str, switches: Mapping[str, Any]) -> bool:
        """Return whether `opening` has closed the reasoning; what it says is found out once.

        Raises:
            DataError: it has begun the reasoning in another way than by the opening mark.
        """
        key = (opening, json.dumps(switches, sort_keys=True, default=str))
        if key not in self._closed:
            self._closed[key] = self._find_closed(opening, switches)
        found = self._closed[key]
        if isinstance(found, str):
            raise DataError(found)
        return found

    def _find_closed(self, opening: str, switches: Mapping[str, Any]) -> bool | str:
        target = self._target
        if target.is_opened_by(opening):
            return False
        if opening.rstrip().endswith(target.close):
            return True
        foreign = next((known for known in KNOWN if known != target and known.open in opening), None)
        if foreign is None and target.open not in opening and target.close not in opening:
            added = self._added_to_header(opening, switches)
            if not added:
                return False
        else:
            added = opening.strip()
        way_out = (
            f"--data.target-open {foreign.open!r} --data.target-close {foreign.close!r}"
            if foreign
            else "--data.target-open and --data.target-close"
        )
        return (
            f"the chat template opens the assistant's turn with {added[-60:]!r}, which is not {target.open!r} and "
            f"white space alone, so the model would never see its reasoning begin as it is trained. Name the marks of "
            f"this model with {way_out}, or give another template with --data.chat-template."
        )

    def _added_to_header(self, opening: str, switches: Mapping[str, Any]) -> str:
        """Return what the opening has beyond the header of any turn of the assistant; "" where that is not found."""
        try:
            prompt = self._text.write([_HELLO], (), switches, opens=False)
            whole = self._text.write([_HELLO, Message("assistant", _ANSWER)], (), switches, opens=False)
        except DataError:
            return ""
        if not whole.startswith(prompt) or _ANSWER not in whole:
            return ""
        header = whole[len(prompt) :].partition(_ANSWER)[0].partition(self._target.open)[0].rstrip()
        return opening[len(header) :].strip() if header and opening.startswith(header) else ""

    def _check_marks(self) -> None:
        """Refuse a template that writes another family's marks and never the target's.

        Raises:
            ModelError: it does.
        """
        if self._target.open in self._text.source or self._target != MARKS:
            return
        for known in KNOWN:
            if known.open in self._text.source:
                raise ModelError(
                    f"the chat template writes the reasoning between {known.open!r} and {known.close!r}, and never "
                    f"{self._target.open!r}. Train in this model's own marks with --data.target-open {known.open!r} "
                    f"--data.target-close {known.close!r}, or give another template with --data.chat-template."
                )

    def _what_is_left_out(self, row: Row) -> str:
        """Return which turns or tools of `row` the template would leave out; every form of row is tried once.

        The template is given a conversation of the same form in which every part is a word of its own.
        """
        calls = [len(message.extras.get("tool_calls", ())) for message in row.messages]
        form = [
            (message.role, bool(message.content), count) for message, count in zip(row.messages, calls, strict=True)
        ]
        key = json.dumps([form, bool(row.tools), row.switches], sort_keys=True, default=str)
        if key not in self._left_out:
            self._left_out[key] = self._find_left_out(form, bool(row.tools), row.switches)
        return self._left_out[key]

    def _find_left_out(
        self, form: Sequence[tuple[str, bool, int]], has_tools: bool, switches: Mapping[str, Any]
    ) -> str:
        messages: list[Message] = []
        words: dict[str, str] = {}
        for index, (role, has_content, num_calls) in enumerate(form):
            names = [f"altcall{index}x{number}" for number in range(num_calls)]
            calls = [
                {"type": "function", "function": {"name": name, "arguments": {f"{name}key": f"{name}value"}}}
                for name in names
            ]
            # Long enough to be cut by a template that cuts.
            content = f"altturn{index}x {'word ' * 2000}altturn{index}end" if has_content else ""
            messages.append(Message(role, content, {"tool_calls": calls} if calls else {}))
            words |= dict.fromkeys(names, f"the tool calls of messages[{index}]")
            words |= {f"{name}value": f"the arguments of the tool calls of messages[{index}]" for name in names}
            part = f"messages[{index}], a turn of role {role},"
            words |= {f"altturn{index}x": part, f"altturn{index}end": f"the end of {part}"} if content else {}
        parameters = {"type": "object", "properties": {"alttool0key": {"type": "string"}}}
        tool = {"name": "alttool0x", "description": "alttool0says", "parameters": parameters}
        tools = [{"type": "function", "function": tool}] if has_tools else []
        if has_tools:
            words |= {
                "alttool0x": "the tools",
                "alttool0says": "what the tools do",
                "alttool0key": "the tools' parameters",
            }
        try:
            text = self._text.write(messages, tools, switches, opens=False).casefold()
        except DataError:
            return ""  # a template that refuses this form is asked again with the row itself
        for word, part in words.items():
            if word not in text:
                return (
                    f"the chat template leaves {part} out of the prompt. Take it out, or give a template that has it."
                )
        return ""


def _is_written(content: str, text: str) -> bool:
    """Return whether a turn's content stands in what the template wrote, trimmed or escaped as JSON.

    `/think` and `/no_think` are switches that some templates take out of a prompt.
    """
    if content.strip() in text:
        return True
    bare, written = (_SWITCH.sub("", each) for each in (content, text))
    return bare.strip() in written or json.dumps(bare.strip(), ensure_ascii=False)[1:-1] in written


_SWITCH = re.compile(r"\s*/(?:no_)?think\b")
