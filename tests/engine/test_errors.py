"""Every error that is a user's to mend is of one family, and none of it is raised without a sentence."""

import ast
import inspect
from pathlib import Path

from alttrain.engine import errors

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}


def test_one_except_catches_them_all_and_the_text_is_the_message() -> None:
    assert len(CLASSES) > 1
    for name, kind in CLASSES.items():
        assert issubclass(kind, errors.AlttrainError), name
        assert str(kind("rows.jsonl:1: no prompt.")) == "rows.jsonl:1: no prompt.", name


def test_they_hide_no_mistake_of_the_program() -> None:
    """A KeyError of ours must never be taken for something that the user can mend."""
    assert errors.AlttrainError.__mro__ == (errors.AlttrainError, Exception, BaseException, object)


def test_each_class_is_raised_somewhere_and_always_with_a_message() -> None:
    raised = set()
    for path in sorted((ROOT / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                assert node.args, f"{path.name}:{node.lineno} says nothing"
                raised.add(node.func.id)
    assert raised == CLASSES.keys() - {"AlttrainError"}
