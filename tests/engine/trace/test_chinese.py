"""What Chinese sentences are called: every one of the file that was written for the test."""

import json
from pathlib import Path

import pytest

from alttrain.engine.trace.rules import Rules

RULES = Rules.default()
CHINESE = Path(__file__).with_name("structure_chinese.json")


@pytest.mark.parametrize("split", ["development", "held"])
def test_chinese_sentences(split: str) -> None:
    labelled = json.loads(CHINESE.read_text(encoding="utf-8"))[split]
    found = [RULES.label(text) for text, _, _ in labelled]
    assert [[one.text, one.label, one.verdict] for one in found] == labelled
