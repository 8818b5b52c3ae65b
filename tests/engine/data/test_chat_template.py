"""How a template leaves the reasoning, and what it leaves out of a prompt: nothing of it in silence."""

from datetime import date
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from alttrain.engine.data.chat_template import ChatTemplate
from alttrain.engine.errors import ConfigError, DataError, ModelError
from alttrain.engine.thinking import KNOWN, MARKS, Thinking
from alttrain.engine.trace.roles import Message, Row, Span

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}


def template(opening: str = "", turn: str = TURN, before: str = "") -> str:
    opened = "{% if add_generation_prompt %}<|im_start|>assistant\n" + opening + "{% endif %}"
    return before + "{% for m in messages %}" + turn + "{% endfor %}" + opened


def chat(text: str, target: Thinking = MARKS, **variables: Any) -> ChatTemplate:
    from tokenizers import Tokenizer, models

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    tokenizer.chat_template = text
    return ChatTemplate(tokenizer, target, variables, date(2026, 3, 1))


def row(*roles: str, **changes: Any) -> Row:
    messages = tuple(Message(role, f"I am {role}.") for role in roles or ("user",))
    return Row("a", "", messages, (Span("answer", "Yes."),), "", "f.jsonl:7", **changes)


@pytest.mark.parametrize("opening", ["", "<think>", "<think>\n", "<think>\n\n", "\n<think> "])
def test_an_opening_of_the_mark_and_white_space_leaves_the_reasoning_open(opening: str) -> None:
    prompt = chat(template(opening)).prompt(row())
    assert prompt.opening == "<|im_start|>assistant\n" + opening
    assert not prompt.is_closed
    assert MARKS.is_opened_by(prompt.opening) == ("<think>" in opening)


@pytest.mark.parametrize("known", KNOWN[1:], ids=lambda known: known.open)
def test_a_family_s_own_opening_is_refused_with_the_flags_that_name_it(known: Thinking) -> None:
    with pytest.raises(ModelError) as error:
        chat(template(f"{known.open}\n"))
    assert f"--data.target-open {known.open!r} --data.target-close {known.close!r}" in str(error.value)
    assert not chat(template(f"{known.open}\n"), known).prompt(row()).is_closed


@pytest.mark.parametrize("opening", ["<reason>\n", "Let me think.", "<think>\nOkay", "<think>a</think>b"])
def test_an_unknown_opening_is_refused(opening: str) -> None:
    with pytest.raises(
        ModelError, match=r"^the chat template opens the assistant's turn with .+ --data\.chat-template\.$"
    ):
        chat(template(opening))


def test_an_opening_that_only_lacks_a_line_break_is_a_header() -> None:
    turns = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    text = turns + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    assert chat(text).prompt(row()).opening == "<|assistant|>"


def test_a_template_of_other_marks_than_the_target_s_is_refused() -> None:
    writes = TURN + "{% if m.reasoning %}[THINK]{{ m.reasoning }}[/THINK]{% endif %}"
    with pytest.raises(ModelError, match=r"--data\.target-open '\[THINK\]' --data\.target-close '\[/THINK\]'"):
        chat(template(turn=writes))
    chat(template(turn=writes), KNOWN[3])
    chat(template(turn=writes + "{# or <think> #}"))


def test_a_switch_may_close_the_reasoning() -> None:
    text = template("{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}")
    assert not chat(text).prompt(row()).is_closed
    assert chat(text).prompt(row(switches={"enable_thinking": False})).is_closed
    with pytest.raises(ModelError, match=r"^the chat template closes the reasoning .+ --data\.chat-template-kwargs"):
        chat(text, enable_thinking=False)
    needs_switch = template("{% if effort != 'high' %}<think></think>{% endif %}")
    with pytest.raises(ModelError, match=r"^the chat template closes the reasoning"):
        chat(needs_switch)
    assert not chat(needs_switch, effort="high").prompt(row()).is_closed


def test_a_variable_that_the_template_does_not_read_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^--data\.chat-template-kwargs has 'effort', which the chat template does not"
    ):
        chat(template(), effort="high")
    with pytest.raises(DataError, match=r"^chat_template_kwargs has 'effort', which the chat template does not read\."):
        chat(template()).prompt(row(switches={"effort": "high"}))


def test_turns_that_a_template_drops_are_refused() -> None:
    knows_two = template(turn="{% if m.role in ('user', 'assistant') %}" + TURN + "{% endif %}")
    assert chat(knows_two).prompt(row("user", "assistant", "user")).text.count("I am") == 3
    with pytest.raises(DataError, match=r"^the chat template leaves messages\[0\], a turn of role system, out of the"):
        chat(knows_two).prompt(row("system", "user"))
    last_system = template(
        before="{% for m in messages %}{% if m.role == 'system' %}{% set x = m.content %}{% endif %}{% endfor %}"
    )
    chat(last_system).prompt(row("system", "user"))
    with pytest.raises(DataError, match=r"messages\[2\], a turn of role tool, out of the prompt"):
        chat(knows_two).prompt(row("user", "assistant", "tool"))


def test_tools_and_calls_that_a_template_drops_are_refused() -> None:
    with pytest.raises(DataError, match=r"^the chat template leaves the tools out of the prompt\."):
        chat(template()).prompt(row(tools=(TOOL,)))
    for parts, dropped in (("f.name", "what the tools do"), ("f.name ~ f.description", "the tools' parameters")):
        names = template(before="{% if tools %}{% set f = tools[0].function %}{{ " + parts + " }}{% endif %}")
        with pytest.raises(DataError, match=rf"^the chat template leaves {dropped} out of the prompt\."):
            chat(names).prompt(row(tools=(TOOL,)))
    knows_tools = template(before="{% if tools %}{{ tools | tojson }}{% endif %}")
    assert chat(knows_tools).prompt(row(tools=(TOOL,))).text.startswith("[{")
    calling = Message("assistant", "", {"tool_calls": [CALL]})
    turns = (Message("user", "x"), calling, Message("tool", "5"))
    with pytest.raises(
        DataError, match=r"^the chat template leaves the tool calls of messages\[1\] out of the prompt\."
    ):
        chat(template()).prompt(Row("a", "", turns, (), "", "f:1"))


def test_a_template_may_rewrite_what_it_keeps() -> None:
    """It is asked with words of its own, so that a text that it trims or escapes is not taken for one that it drops."""
    rewriting = chat(template(turn="{{ m.content | trim | tojson }}"))
    assert rewriting.prompt(Row("a", "", (Message("user", ' "a" '),), (), "", "f:1")).text


def test_a_template_that_cuts_or_changes_a_turn_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"^the chat template leaves the end of messages\[0\], a turn of role user, out of"
    ):
        chat(template(turn="{{ m.content[:20] }}")).prompt(row())
    changing = chat(template(turn="{{ m.content | replace('dir', '') }}"))
    with pytest.raises(DataError, match=r"^the chat template changes the text of messages\[0\], a turn of role user\."):
        changing.prompt(Row("a", "", (Message("user", "ls dir"),), (), "", "f:1"))
    switching = chat(template(turn="{{ m.content | replace('/no_think', '') }}"))
    switching.prompt(Row("a", "", (Message("user", "Add 2 and 3. /no_think"),), (), "", "f:1"))


def test_arguments_of_calls_that_a_template_drops_are_refused() -> None:
    turn = "{{ m.role }}{{ m.content or '' }}{% for c in m.tool_calls or [] %}[{{ c.function.name }}]{% endfor %}"
    calling = Message("assistant", "", {"tool_calls": [CALL]})
    with pytest.raises(
        DataError, match=r"^the chat template leaves the arguments of the tool calls of messages\[1\] out"
    ):
        chat(template(turn=turn)).prompt(
            Row("a", "", (Message("user", "x"), calling, Message("tool", "5")), (), "", "f:1")
        )


def test_a_closing_mark_alone_closes_the_reasoning() -> None:
    """As DeepSeek V3.1's template does where it is told not to think."""
    text = template("{% if thinking %}<think>{% else %}</think>{% endif %}")
    assert not chat(text).prompt(row()).is_closed
    assert chat(text).prompt(row(switches={"thinking": False})).is_closed


def test_the_text_of_calls_is_what_the_template_writes_after_the_answer() -> None:
    turn = "<|im_start|>{{ m.role }}\n{{ m.content or '' }}" + (
        "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}</call>{% endfor %}<|im_end|>\n"
    )
    writes = chat(template(turn=turn))
    assert writes.calls(row(tool_calls=(CALL,)), has_answer=True) == "<call>add</call>"
    assert writes.calls(row(tool_calls=(CALL, CALL)), has_answer=False) == "<call>add</call>" * 2
    with pytest.raises(DataError, match=r"^the response has tool_calls, which the chat template does not write after"):
        chat(template()).calls(row(tool_calls=(CALL,)), has_answer=True)
