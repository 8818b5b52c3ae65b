"""Chat templates as they are exported: one that reasons only when it is asked to is made to reason by default.

Training gives every template the switches of `data/template_text.py`'s THINKING, and those of
--data.chat-template-kwargs. A server gives none, so that a template such
as "think if enable_thinking, else write an empty reasoning" would open the assistant's turn in another way than the one
that was trained. The exported template sets what it was trained with, unless its caller says otherwise.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from alttrain.engine.data.template_text import THINKING, stop_clock

NONE: Mapping[str, Any] = {}
USER = {"role": "user", "content": "Hello"}
CONVERSATIONS: Sequence[Sequence[Mapping[str, str]]] = (
    (USER,),
    ({"role": "system", "content": "Be brief."}, USER),
    (USER, {"role": "assistant", "content": "Good day."}, {"role": "user", "content": "What time is it?"}),
)


def templates_of(tokenizer: Any) -> dict[str, str]:
    """Return the chat templates of transformers' tokenizer by name; the only one is called `default`."""
    templates = tokenizer.chat_template
    return {"default": templates} if isinstance(templates, str) else dict(templates or {})


def think_by_default(tokenizer: Any, template: str, variables: Mapping[str, Any] = NONE) -> tuple[str, dict[str, Any]]:
    """Return the template that writes what was trained without being asked to, and the defaults that it was given.

    `variables` are those that training gives the template beside THINKING.

    With the switches given, it writes what it wrote. A template that writes the same with and without them is returned
    as it is, and so is one that cannot be changed in this way.
    """
    given = {**THINKING, **variables}
    trained = _renderings(tokenizer, template, given)
    if _renderings(tokenizer, template, {}) == trained:
        return template, {}
    named = {name: value for name, value in given.items() if re.search(rf"\b{re.escape(name)}\b", template)}
    for defaults in [{name: value} for name, value in named.items()] + [named]:
        changed = _preset(template, defaults)
        if _renderings(tokenizer, changed, {}) == trained and _is_the_same_when_asked(
            tokenizer, template, changed, variables
        ):
            return changed, defaults
    return template, {}


def opens_alike(tokenizer: Any, template: str, variables: Mapping[str, Any] = NONE) -> bool:
    """Return whether the template writes without any switch what it was trained to write."""
    return _renderings(tokenizer, template, {}) == _renderings(tokenizer, template, {**THINKING, **variables})


def writes_alike(one: Any, other: Any, template: str) -> bool:
    """Return whether two tokenizers, whose special tokens may differ, write the same with the template."""
    return _renderings(one, template, {}) == _renderings(other, template, {})


def _preset(template: str, defaults: Mapping[str, Any]) -> str:
    """Return the template after a statement that sets variables where they are not given; it writes nothing."""
    start = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {write_default(value)} %}}{{%- endif %}}"
        for name, value in defaults.items()
    )
    # White space before a template's first statement is dropped only where a line begins with it, and the line break
    # after a statement is dropped as well: transformers renders with lstrip_blocks and trim_blocks.
    return start + ("\n" if template[:1].isspace() else "") + template


def write_default(value: Any) -> str:
    """Return a JSON value as Jinja writes it."""
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _is_the_same_when_asked(tokenizer: Any, template: str, changed: str, variables: Mapping[str, Any]) -> bool:
    asked = ({**dict.fromkeys(THINKING, value), **variables} for value in (True, False))
    return all(_renderings(tokenizer, template, s) == _renderings(tokenizer, changed, s) for s in asked)


def _renderings(tokenizer: Any, template: str, switches: Mapping[str, Any]) -> list[str]:
    """Return what the template writes for each conversation, or the error that it raises."""
    texts = []
    for conversation in CONVERSATIONS:
        for opened in (False, True):
            try:
                text = tokenizer.apply_chat_template(
                    [dict(turn) for turn in conversation],
                    chat_template=stop_clock(template, date(2026, 1, 1)),
                    tokenize=False,
                    add_generation_prompt=opened,
                    **switches,
                )
            except Exception as error:  # a template is a program that may raise anything
                text = f"{type(error).__name__}: {error}"
            texts.append(str(text))
    return texts
