"""From files of generated traces to the table and the report; the texts stay out of both."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.evaluate.config import MeasureConfig, ReadConfig
from alttrain.engine.evaluate.measure import measure

SCRIPT = Path(__file__).resolve().parents[3] / "recipes" / "measure_structure.py"
UNDERSTANDING = "Okay, so the user asks for the vault's number."
HARMFUL = "This is clearly illegal."
REFUSAL = "So I can't help with that."
SORRY = "I'm sorry, but I can't help with that."


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@pytest.fixture
def after(tmp_path: Path) -> str:
    """Six traces in all the forms that rows have."""
    think = f"{UNDERSTANDING} {HARMFUL} {REFUSAL}"
    spans = [
        ("understanding", UNDERSTANDING),
        ("assessment", f" {HARMFUL}"),
        ("reasoning", f" {REFUSAL}"),
        ("answer", SORRY),
    ]
    return write(
        tmp_path / "after.jsonl",
        [
            {"id": "a", "label": "harmful", "prompt": "p", "response": f"<think>{think}</think>{SORRY}"},
            {"id": "b", "label": "harmful", "prompt": "p", "spans": [{"role": r, "text": t} for r, t in spans]},
            {"id": "c", "label": "harmful", "question": "p", "response": f"{think}</think>\n{SORRY}"},
            {"id": "d", "label": "3/5", "messages": [{"role": "user", "content": "p"}], "response": f"<think>{think}"},
            {"id": "e", "label": "benign", "prompt": "p", "response": "The number is 7."},
            {"id": "f", "prompt": "p", "response": "<think></think>The number is 7."},
        ],
    )


def test_every_form_of_row_is_measured(after: str, tmp_path: Path) -> None:
    output = tmp_path / "new" / "report.json"
    said = measure(MeasureConfig(after, output=str(output)))
    report = json.loads(output.read_text(encoding="utf-8"))
    labels = {id_: trace["labels"] for id_, trace in report["traces"].items()}
    full = ["understanding", "assessment", "refusal"]
    assert labels == {"a": full, "b": full, "c": full, "d": full, "e": [], "f": []}
    assert [report["traces"][id_]["answer refuses"] for id_ in "abcdef"] == [True] * 4 + [False] * 2
    assert report["after"]["rates"]["in order"]["count"] == 4
    assert report["after"]["rates"]["refuses harmful prompt"] | {"low": 0, "high": 0} == {
        "count": 3,
        "total": 3,
        "low": 0,
        "high": 0,
    }
    assert "6 traces, 2 without reasoning" in said
    assert "66.7%" in next(line for line in said.splitlines() if line.startswith("in order"))
    for text in (said, output.read_text(encoding="utf-8")):
        assert "vault" not in text
        assert "sorry" not in text


def test_before_and_after(after: str, tmp_path: Path) -> None:
    rows = [
        {"id": id_, "label": "harmful", "prompt": "p", "response": f"<think>{UNDERSTANDING}</think>7"} for id_ in "abcz"
    ]
    output = tmp_path / "report.json"
    said = measure(MeasureConfig(after, write(tmp_path / "before.jsonl", rows), output=str(output)))
    lines = said.splitlines()
    assert lines[0].startswith("of 3 pairs")
    assert next(line for line in lines if line.startswith("in order")).split()[2:5] == ["0.0%", "100.0%", "100.0%"]
    assert "Intervals and p take the pairs as independent of each other, one per prompt id." in lines
    assert "4 traces stand in one file alone and are left out." in lines
    comparison = json.loads(output.read_text(encoding="utf-8"))["comparison"]
    assert comparison["are_independent"] is True
    changes = comparison["changes"]
    assert changes["edit distance"]["after"] == 0
    assert changes["refuses benign prompt"]["before"] is None


def test_rules_of_ones_own(after: str, tmp_path: Path) -> None:
    rules = {"extends": "nothing", "sentences": [{"label": "refusal", "pattern": "vault"}], "otherwise": "other"}
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules), encoding="utf-8")
    output = tmp_path / "report.json"
    measure(MeasureConfig(after, rules=str(file), output=str(output)))
    assert json.loads(output.read_text(encoding="utf-8"))["traces"]["a"]["labels"] == ["refusal", "other", "other"]


def test_files_without_a_common_id(after: str, tmp_path: Path) -> None:
    before = write(tmp_path / "before.jsonl", [{"prompt": "p", "response": "7"}])
    with pytest.raises(DataError, match="traces pair by id") as raised:
        measure(MeasureConfig(after, before))
    assert str(raised.value).startswith(before)


def test_a_bad_row(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.jsonl", [{"prompt": "p", "response": "7"}, {"prompt": "p"}])
    with pytest.raises(DataError, match=r"bad\.jsonl:2: has no spans and no response"):
        measure(MeasureConfig(file))
    said = measure(MeasureConfig(file, data=ReadConfig(on_bad_row="skip")))
    assert "1 of 2 rows skipped" in said


def test_the_output_is_json(after: str) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.json"):
        measure(MeasureConfig(after, output="report.txt"))


def test_the_command_line(after: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), after], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("of 6 traces")
    assert done.stderr == ""
    left = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "none.jsonl")], capture_output=True, text=True, check=False
    )
    assert (left.returncode, left.stdout, left.stderr.count("\n")) == (2, "", 1)
