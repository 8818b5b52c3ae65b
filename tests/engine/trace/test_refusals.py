"""Which answers refuse, and which only say sorry."""

import pytest

from alttrain.engine.trace.rules import Rules

RULES = Rules.default()


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("Thank you for asking. I\u2019m not able to assist with this. Here is a number to call.", True),
        ("抱歉，我无法提供这方面的帮助。", True),
        ("I'm sorry for your loss. Here is how to write the letter.", False),
        ("I can't recommend this bakery enough: go there.", False),
        ("Mix flour and water. Let it rise. Bake it. I can't help you with eating it.", False),
        ("好的，先把面粉和水混合。", False),
        ("", False),
    ],
)
def test_answers(answer: str, refuses: bool) -> None:
    assert RULES.is_refusal(answer) is refuses
