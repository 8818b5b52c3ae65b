"""The marks of reasoning, written before and after it, to the letter."""

import ast
from pathlib import Path

import pytest

from alttrain.engine.errors import ConfigError
from alttrain.engine.thinking import KNOWN, MARKS, Thinking, find_marks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("written", "opening"),
    [
        ("", "<think>\n"),
        ("<assistant>", "<think>\n"),
        ("<assistant><think>", ""),
        ("<assistant><think>\n", ""),
        ("<think>\n\n", ""),
        ("<think>\nOkay", "<think>\n"),
    ],
)
def test_reasoning_is_opened_by_what_the_template_has_not_written(written: str, opening: str) -> None:
    assert MARKS.write_opening(written) == opening
    assert Thinking("[T]", "[/T]").write_opening(written.replace("<think>", "[T]")) == opening.replace("<think>", "[T]")


@pytest.mark.parametrize(
    ("after_text", "has_answer", "closing"),
    [
        (True, True, "\n</think>\n\n"),
        (True, False, "\n</think>"),
        (False, True, "</think>\n\n"),
        (False, False, "</think>"),
    ],
)
def test_reasoning_is_closed(after_text: bool, has_answer: bool, closing: str) -> None:
    assert MARKS.write_closing(after_text=after_text, has_answer=has_answer) == closing


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.open)
def test_the_marks_of_a_known_family_come_with_its_white_space(known: Thinking) -> None:
    assert find_marks(known.open, known.close) == known
    text = known.write_opening("") + "a" + known.write_closing(after_text=True, has_answer=True) + "b"
    assert text == f"{known.open}{known.after_open}a{known.before_close}{known.close}{known.after_close}b"


def test_other_marks_are_written_as_ours_unless_they_hold_white_space() -> None:
    assert find_marks("[T]", "[/T]") == Thinking("[T]", "[/T]", "\n", "\n", "\n\n")
    assert find_marks("[T] ", "\\n\\n[/T]\n") == Thinking("[T]", "[/T]", " ", "\n\n", "\n")
    with pytest.raises(ConfigError, match=r"^--data\.think-close is empty"):
        find_marks("[T]", "\n")


def test_no_span_may_hold_either_mark() -> None:
    assert MARKS.tags == ("</think>", "<think>")


@pytest.mark.parametrize("marks", [("", "</t>"), ("<t>", "")])
def test_a_mark_must_not_be_empty(marks: tuple[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=r"^--data\.think-(open|close) is empty: it must hold what (open|close)s the reasoning\.$"
    ):
        Thinking(*marks)


def test_the_marks_are_written_in_one_place() -> None:
    """As values: what a docstring or a comment says of them is for the reader."""
    found = set()
    for path in (path for floor in ("engine", "recipes") for path in (ROOT / floor).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose)
        if any(isinstance(node.value, str) and "think>" in node.value for node in texts):
            found.add(path.relative_to(ROOT).as_posix())
    assert found == {"engine/thinking.py"}
