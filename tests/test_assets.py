"""What the proofs in a plain clone stand on: curves that are compared, and tokenizers that are always the same."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from golden import FOLDER, Curves, compare
from small_tokenizers import SMALL_TOKENIZERS, write_small_tokenizer

RECORDED: Curves = {"loss": [2.0, 1.0, 0.5]}


@pytest.mark.parametrize(
    ("measured", "lines"),
    [
        ({"loss": [2.0, 1.00001, 0.5]}, []),
        (
            {"loss": [2.0, 1.001, 0.5]},
            [
                "loss: 3 values recorded, 3 measured, tolerance 0.0001",
                "   1  2  2  +0.0e+00",
                "   2  1  1.001  +1.0e-03",
            ],
        ),
        ({"loss": [2.0, 1.0]}, ["loss: 3 values recorded, 2 measured, tolerance 0.0001"]),
        ({"loss": [2.0, 1.0, float("nan")]}, ["loss: 3 values recorded, 3 measured, tolerance 0.0001"]),
        ({"nll": [2.0, 1.0, 0.5]}, ["recorded are the curves ['loss'], measured ['nll']"]),
    ],
    ids=("same", "moved", "shorter", "nan", "another"),
)
def test_curves_that_differ_are_both_shown(measured: Curves, lines: list[str]) -> None:
    found = compare(RECORDED, measured, 1e-4)
    assert found[: len(lines)] == lines
    assert bool(found) == bool(lines)


def test_every_recorded_curve_is_compared_somewhere() -> None:
    tests = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.rglob("test_*.py"))
    for file in FOLDER.glob("*.json"):
        assert f'check_golden("{file.stem}"' in tests, file.name


@pytest.mark.parametrize("name", SMALL_TOKENIZERS)
def test_a_small_tokenizer_is_what_it_is_said_to_be_and_always_the_same(name: str, tmp_path: Path) -> None:
    kind = SMALL_TOKENIZERS[name]
    for folder in ("a", "b"):
        write_small_tokenizer(tmp_path / folder, kind)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert (len(tokenizer.tokenize("<think>")) == 1) == kind.has_think_tokens
    assert len(tokenizer.tokenize(" harmless")) == 1, "it has merges"
    assert len(tokenizer.tokenize("\U0001f46a", add_special_tokens=False)) > 1, "what it has not seen are bytes"
