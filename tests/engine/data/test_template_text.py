"""What a template writes, in whatever dialect it reads turns; on every day the same."""

from datetime import date
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from alttrain.engine.data.template_text import TemplateText
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import Message

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": "é"}}}
HELLO = [Message("user", "Hello")]
CALLING = [Message("user", "x"), Message("assistant", "", {"tool_calls": [CALL]})]
TODAY = date(2026, 3, 1)


def text(template: Any, **variables: Any) -> TemplateText:
    from tokenizers import Tokenizer, models

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    tokenizer.chat_template = template
    return TemplateText(tokenizer, variables, TODAY)


def each_turn(body: str) -> str:
    return "{% for m in messages %}" + body + "{% endfor %}"


@pytest.mark.parametrize(
    "body",
    [
        "{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.a }}{% endif %}",
        "{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments + '' }}{% endif %}",
        "{% if m.tool_calls %}{{ m.content + m.tool_calls[0].function.arguments.a }}{% endif %}",
        "{% if m.tool_calls and m.content is not defined %}{{ m.tool_calls[0].function.arguments + '' }}{% endif %}",
    ],
    ids=["object", "text", "empty content", "no content"],
)
def test_calls_are_given_in_the_dialect_that_the_template_reads(body: str) -> None:
    assert "é" in text(each_turn(body)).write(CALLING, (), {}, opens=False)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_earlier_reasoning_is_given_by_the_name_that_the_template_reads(name: str) -> None:
    thought = [Message("assistant", "Yes.", {"reasoning_content": "It asks."})]
    assert text(each_turn("{{ m." + name + " }}")).write(thought, (), {}, opens=False) == "It asks."
    assert text(each_turn("{{ m.content }}")).write(thought, (), {}, opens=False) == "Yes."


def test_a_developer_is_the_system_where_the_template_knows_none() -> None:
    turns = [Message("developer", "Be kind.")]
    assert text(each_turn("{{ m.role }}")).write(turns, (), {}, opens=False) == "system"
    knowing = each_turn("{% if m.role == 'developer' %}dev{% endif %}")
    assert text(knowing).write(turns, (), {}, opens=False) == "dev"


def test_a_row_s_variables_come_before_a_run_s_and_these_before_ours() -> None:
    template = "{{ enable_thinking }} {{ thinking }} {{ effort }}"
    assert text(template).write(HELLO, (), {}, opens=False) == "True True "
    run = text(template, enable_thinking=False, effort="low")
    assert run.write(HELLO, (), {}, opens=False) == "False True low"
    assert run.write(HELLO, (), {"effort": "high"}, opens=False) == "False True high"
    assert run.knows("effort")
    assert not run.knows("eff")


@pytest.mark.parametrize(
    "question",
    [
        "strftime_now('%d %b %Y')",
        'strftime_now( "%d %b %Y" )',
        "strftime_now('%d %b %Y') if strftime_now is defined",
        "strftime_now (format='%d %b %Y')",
    ],
)
def test_a_template_that_reads_the_clock_gets_one_date(question: str) -> None:
    clock = text("{{ " + question + " }}")
    assert clock.reads_clock
    assert clock.write(HELLO, (), {}, opens=False) == "01 Mar 2026"
    assert not text("{{ x }}").reads_clock


def test_of_several_templates_the_one_for_tools_is_used_with_tools() -> None:
    named = text({"default": "a {{ strftime_now('%Y') }}", "tool_use": "b {{ strftime_now('%Y') }}"})
    assert named.write(HELLO, (), {}, opens=False) == "a 2026"
    assert named.write(HELLO, ({"type": "function"},), {}, opens=False) == "b 2026"


def test_a_clock_that_cannot_be_stopped_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the chat template reads the clock by a format that is not written out"):
        text("{% set f = '%d' %}{{ strftime_now(f) }}").write(HELLO, (), {}, opens=False)
    with pytest.raises(DataError, match=r"^the chat template reads the clock by a format that is not written out"):
        text("{% set f = strftime_now %}{{ f('%d') }}").write(HELLO, (), {}, opens=False)


def test_arguments_are_never_written_as_python_does() -> None:
    body = "{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments }}{% endif %}"
    assert text(each_turn(body)).write(CALLING, (), {}, opens=False) == '{"a": "é"}'


def test_a_template_s_own_error_is_told_in_one_line() -> None:
    with pytest.raises(DataError, match=r"^the chat template refuses the conversation \(no way\)\. .+-template\.$"):
        text("{{ raise_exception('no\nway') }}").write(HELLO, (), {}, opens=False)
