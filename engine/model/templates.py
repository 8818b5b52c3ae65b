"""Chat templates as they are exported: one that reasons only when it is asked to is made to reason by default.

Training gives every template the switches of `data/render.py`'s THINKING. A server gives none, so that a template such
as "think if enable_thinking, else write an empty reasoning" would open the assistant's turn in another way than the one
that was trained. The exported template sets what it was trained with, unless its caller says otherwise.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from alttrain.engine.data.render import THINKING

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


def think_by_default(tokenizer: Any, template: str) -> tuple[str, tuple[str, ...]]:
    """Return the template that reasons without being asked to, and the switches whose default was changed.

    With the switches given, it writes what it wrote. A template that writes the same with and without them is returned
    as it is, and so is one that cannot be changed in this way.
    """
    trained = _renderings(tokenizer, template, THINKING)
    if _renderings(tokenizer, template, {}) == trained:
        return template, ()
    named = [switch for switch in THINKING if re.search(rf"\b{switch}\b", template)]
    choices = [(switch,) for switch in named] + [tuple(named)]
    for switches in choices:
        changed = _preset(template, switches)
        if _renderings(tokenizer, changed, {}) == trained and _is_the_same_when_asked(tokenizer, template, changed):
            return changed, switches
    return template, ()


def opens_alike(tokenizer: Any, template: str) -> bool:
    """Return whether the template writes without any switch what it was trained to write."""
    return _renderings(tokenizer, template, {}) == _renderings(tokenizer, template, THINKING)


def writes_alike(one: Any, other: Any, template: str) -> bool:
    """Return whether two tokenizers, whose special tokens may differ, write the same with the template."""
    return _renderings(one, template, {}) == _renderings(other, template, {})


def _preset(template: str, switches: Sequence[str]) -> str:
    """Return the template after a statement that sets the switches where they are not given; it writes nothing."""
    start = "".join(
        f"{{%- if {switch} is not defined %}}{{%- set {switch} = true %}}{{%- endif %}}" for switch in switches
    )
    # White space before a template's first statement is dropped only where a line begins with it, and the line break
    # after a statement is dropped as well: transformers renders with lstrip_blocks and trim_blocks.
    return start + ("\n" if template[:1].isspace() else "") + template


def _is_the_same_when_asked(tokenizer: Any, template: str, changed: str) -> bool:
    asked = (dict.fromkeys(THINKING, value) for value in (True, False))
    return all(_renderings(tokenizer, template, s) == _renderings(tokenizer, changed, s) for s in asked)


def _renderings(tokenizer: Any, template: str, switches: Mapping[str, bool]) -> list[str]:
    """Return what the template writes for each conversation, or the error that it raises."""
    texts = []
    for conversation in CONVERSATIONS:
        for opened in (False, True):
            try:
                text = tokenizer.apply_chat_template(
                    [dict(turn) for turn in conversation],
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=opened,
                    strftime_now=str,  # the same at every moment: the format itself
                    **switches,
                )
            except Exception as error:  # a template is a program that may raise anything
                text = f"{type(error).__name__}: {error}"
            texts.append(str(text))
    return texts
