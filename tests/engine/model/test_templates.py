"""Templates that reason when asked to are made to reason by default, and write every other character as before."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alttrain.engine.data.template_text import THINKING
from alttrain.engine.data.tokenizer import load_tokenizer
from alttrain.engine.model.templates import CONVERSATIONS, opens_alike, templates_of, think_by_default

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"


def opening(condition: str) -> str:
    choice = f"{{% if {condition} %}}<think>\n{{% else %}}<think></think>{{% endif %}}"
    return "{% if add_generation_prompt %}<|assistant|>" + choice + "{% endif %}"


ASKED = {
    "MiniMind's": (TURNS + opening("open_thinking is defined and open_thinking is true"), ("open_thinking",)),
    "DeepSeek V3.1's": (
        "{% if not thinking is defined %}{% set thinking = false %}{% endif %}" + TURNS + opening("thinking"),
        ("thinking",),
    ),
    "of a newer Qwen": (TURNS + opening("enable_thinking is defined and enable_thinking"), ("enable_thinking",)),
    "system prompt": ("{% if enable_thinking %}/think {% else %}/no_think {% endif %}" + TURNS, ("enable_thinking",)),
    "in a macro": (
        "{% macro open() %}{% if thinking %}<think>\n{% endif %}{% endmacro %}"
        + TURNS
        + "{% if add_generation_prompt %}{{ open() }}{% endif %}",
        ("thinking",),
    ),
    "two at once": (TURNS + opening("thinking and enable_thinking"), ("enable_thinking", "thinking")),
    "white space first": ("\n\n  {% if true %}\n  " + TURNS + opening("thinking") + "  {% endif %}\n", ("thinking",)),
    "text first": ("  Hello\n" + TURNS + opening("thinking"), ("thinking",)),
    "a statement that eats space": ("{%- if true -%}\n " + TURNS + opening("thinking") + "{%- endif %}", ("thinking",)),
}
AS_THEY_ARE = {
    "Qwen 3's": TURNS
    + "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is defined and enable_thinking is false %}"
    + "<think></think>{% endif %}{% endif %}",
    "always open": TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}",
    "never heard of it": TURNS,
    "broken": "{% if %}",
    "reads the clock": "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}" + TURNS,
}


@pytest.fixture(scope="module")
def tokenizer(small_tokenizer_folder: Callable[[str], Path]) -> Any:
    return load_tokenizer(small_tokenizer_folder("bytes"))


@pytest.mark.parametrize("name", ASKED)
def test_it_reasons_without_being_asked(tokenizer: Any, name: str) -> None:
    template, switches = ASKED[name]
    changed, set_ones = think_by_default(tokenizer, template)
    assert set_ones == dict.fromkeys(switches, True)
    assert not opens_alike(tokenizer, template)
    assert opens_alike(tokenizer, changed)
    for conversation in CONVERSATIONS:
        for opened in (False, True):

            def write(text: str, opened: bool = opened, conversation: Any = conversation, **given: bool) -> str:
                return str(
                    tokenizer.apply_chat_template(
                        list(conversation), chat_template=text, tokenize=False, add_generation_prompt=opened, **given
                    )
                )

            assert write(changed) == write(template, **THINKING) == write(changed, **THINKING)
            for switch in THINKING:  # a caller is obeyed
                others = dict.fromkeys(set_ones, True)
                assert write(changed, **{switch: False}) == write(template, **{**others, switch: False})


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_a_template_that_need_not_change_stays(tokenizer: Any, name: str) -> None:
    assert think_by_default(tokenizer, AS_THEY_ARE[name]) == (AS_THEY_ARE[name], {})
    assert opens_alike(tokenizer, AS_THEY_ARE[name])


def test_variables_that_a_run_gave_are_defaults_too(tokenizer: Any) -> None:
    template = TURNS + opening("effort == 'high'") + "{{ strftime_now('%f') }}"
    changed, defaults = think_by_default(tokenizer, template, {"effort": "high", "unknown": None})
    assert defaults == {"effort": "high"}
    assert opens_alike(tokenizer, changed, {"effort": "high"})
    assert not opens_alike(tokenizer, template, {"effort": "high"})


def test_a_template_that_cannot_be_changed_stays() -> None:
    """Such as one that finds its switches by a name that it puts together."""

    def write(turns: Any, chat_template: str, **given: bool) -> str:
        return "open" if "thinking" in given else "closed"

    stubborn = SimpleNamespace(apply_chat_template=write)
    assert think_by_default(stubborn, "{{ thinking }}") == ("{{ thinking }}", {})
    assert not opens_alike(stubborn, "{{ thinking }}")


def test_templates_by_name() -> None:
    assert templates_of(SimpleNamespace(chat_template="a")) == {"default": "a"}
    assert templates_of(SimpleNamespace(chat_template={"default": "a", "rag": "b"})) == {"default": "a", "rag": "b"}
    assert templates_of(SimpleNamespace(chat_template=None)) == {}
