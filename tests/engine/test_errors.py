"""Every error that is a user's to mend is of one family, and none of it is raised without a sentence."""

import ast
import inspect
from pathlib import Path

import pytest

from alttrain.engine import errors
from alttrain.engine.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and kind.__module__ == errors.__name__
}


def test_one_except_catches_them_all_and_a_reason_alone_is_the_message() -> None:
    assert len(CLASSES) > 1
    for name, kind in CLASSES.items():
        assert issubclass(kind, errors.AlttrainError), name
        assert str(kind("there is no prompt.")) == "there is no prompt.", name


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConfigError("is 0: it must be at least 1.", flag="--seeds"), "--seeds is 0: it must be at least 1."),
        (ConfigError("too few rows: raise {flag}.", flag="--seeds"), "too few rows: raise --seeds."),
        (ConfigError("give {a} as it is."), "give {a} as it is."),
        (DataError("no prompt.", where="rows.jsonl:1"), "rows.jsonl:1: no prompt."),
        (DataError("no prompt.", where=Path("a") / "b"), f"{Path('a') / 'b'}: no prompt."),
        (DataError("is x.", where="rows.jsonl:1", flag="--data.columns"), "rows.jsonl:1: --data.columns is x."),
    ],
)
def test_a_message_is_its_place_its_flag_and_its_reason(error: errors.AlttrainError, message: str) -> None:
    assert str(error) == message
    assert error.sentence == message.removeprefix(f"{error.where}: ")


def test_who_knows_more_of_the_place_adds_it_in_front() -> None:
    error = DataError("no prompt.")
    assert error.at("row 3") is error
    assert str(error) == "row 3: no prompt."
    assert str(error.at("rows.jsonl")) == "rows.jsonl: row 3: no prompt."


@pytest.mark.parametrize(
    ("flag", "renamed"),
    [
        ("--data.think-open", "--benign.think-open"),
        ("--on-bad-row.deep.er", "--benign.deep.er"),
        ("--columns", "--columns"),
        ("", ""),
    ],
)
def test_a_flag_is_named_as_the_program_at_hand_names_it(flag: str, renamed: str) -> None:
    assert ConfigError("is empty.", flag=flag).in_section("benign").flag == renamed


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
