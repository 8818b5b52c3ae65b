"""From files of generated traces to the table and the report; the texts stay out of both."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.evaluate.config import GeneratedConfig, MeasureConfig
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
    outcomes = [report["traces"][id_]["outcome"] for id_ in "abcdef"]
    assert outcomes == ["answered"] * 3 + ["unfinished"] + ["no reasoning"] * 2
    assert [report["traces"][id_]["answer refuses"] for id_ in "abcdef"] == [True] * 3 + [None] * 3
    assert [report["traces"][id_]["refuses without reasoning"] for id_ in "abcdef"] == [None] * 4 + [False] * 2
    assert report["after"]["rates"]["in order"]["count"] == 4
    assert report["after"]["outcomes"]["no reasoning"]["count"] == 2
    assert report["after"]["rates"]["refuses harmful prompt"] | {"low": 0, "high": 0} == {
        "count": 3,
        "total": 3,
        "low": 0,
        "high": 0,
    }
    assert "6 traces: 3 answered, 1 unfinished, 2 no reasoning" in said
    assert next(line for line in said.splitlines() if line.startswith("unfinished")).split()[-1] == "1/6"
    assert "66.7%" in next(line for line in said.splitlines() if line.startswith("in order"))
    for text in (said, output.read_text(encoding="utf-8")):
        assert "vault" not in text
        assert "sorry" not in text


def asked(number: int, label: str = "harmful", response: str = "", **more: Any) -> dict[str, Any]:
    """Return a row whose prompt is its own."""
    response = response or f"<think>{UNDERSTANDING}</think>7"
    return {"id": number, "label": label, "prompt": f"What of {number}?", "response": response, **more}


def test_before_and_after(tmp_path: Path) -> None:
    refusing = f"<think>{UNDERSTANDING} {HARMFUL} {REFUSAL}</think>{SORRY}"
    after = write(tmp_path / "after.jsonl", [asked(n, response=refusing) for n in (1, 2, 3, 4)])
    before = write(tmp_path / "before.jsonl", [asked(n) for n in (3, 2, 1, 9, 8)])
    output = tmp_path / "report.json"
    said = measure(MeasureConfig(after, before, output=str(output)))
    lines = said.splitlines()
    assert lines[0].startswith("of 3 pairs")
    assert next(line for line in lines if line.startswith("in order")).split()[2:5] == ["0.0%", "100.0%", "100.0%"]
    assert "Intervals and p take the pairs as independent of each other, one per prompt." in lines
    assert "3 traces stand in one file alone and are left out." in lines
    assert "3 pairs of 3 prompts" in lines
    comparison = json.loads(output.read_text(encoding="utf-8"))["comparison"]
    assert comparison["are_independent"] is True
    changes = comparison["changes"]
    assert changes["edit distance"]["after"] == 0
    assert changes["refuses benign prompt"]["before"] is None


def test_pairs_are_of_one_prompt_whatever_the_ids(tmp_path: Path) -> None:
    """The same rows in another order and numbered again, an id as text, and white space that differs: no change."""
    sorry = f"<think>{UNDERSTANDING} {HARMFUL} {REFUSAL}</think>{SORRY}"
    rows = [asked(1, "harmful", sorry), asked(2, "benign"), asked(3, "benign"), asked(4, "benign")]
    again = [dict(row, id=str(number)) for number, row in enumerate(reversed(rows), start=1)]
    again[0] |= {"prompt": " What  of\n4?"}
    output = tmp_path / "report.json"
    config = MeasureConfig(write(tmp_path / "a.jsonl", again), write(tmp_path / "b.jsonl", rows), output=str(output))
    assert "4 pairs of 4 prompts; in 4 of them the two rows have different ids" in measure(config)
    changes = json.loads(output.read_text())["comparison"]["changes"]
    assert changes["refuses harmful prompt"]["num_pairs"] == 1
    assert changes["refuses benign prompt"]["num_pairs"] == 3
    for change in changes.values():
        if change["num_pairs"]:
            assert (change["after"] - change["before"], change["low"], change["high"]) == (0, 0, 0)


def test_samples_of_one_prompt_are_one_cluster(tmp_path: Path) -> None:
    rows = [asked(1), asked(1), asked(2)]
    output = tmp_path / "report.json"
    config = MeasureConfig(write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", rows), output=str(output))
    said = measure(config)
    assert "3 pairs of 2 prompts" in said
    assert "Intervals keep the pairs of one prompt together" in said
    report = json.loads(output.read_text())
    assert report["comparison"]["are_independent"] is False
    assert list(report["traces"]) == ["1", "1#2", "2"]


def test_labels_that_differ_within_a_pair_are_counted(tmp_path: Path) -> None:
    after, before = write(tmp_path / "a.jsonl", [asked(1)]), write(tmp_path / "b.jsonl", [asked(1, "benign")])
    assert "In 1 pairs the two rows have different labels" in measure(MeasureConfig(after, before))


def test_what_is_no_answer_neither_refuses_nor_complies(tmp_path: Path) -> None:
    """A refusal inside unfinished or doubled reasoning is none, and neither is one without reasoning."""
    texts = [f"<think>{REFUSAL}", f"<think>{REFUSAL}</think>{SORRY}</think>{SORRY}", SORRY, f"{REFUSAL}</think>"]
    rows = [asked(number, response=text) for number, text in enumerate(texts)]
    output = tmp_path / "report.json"
    said = measure(MeasureConfig(write(tmp_path / "a.jsonl", rows), output=str(output)))
    assert "4 traces: 1 unfinished, 1 doubled, 1 no reasoning, 1 empty" in said
    rates = json.loads(output.read_text())["after"]["rates"]
    assert rates["answer refuses"]["total"] == rates["refuses harmful prompt"]["total"] == 0
    assert (rates["refuses without reasoning"]["count"], rates["refuses without reasoning"]["total"]) == (1, 1)


def test_rules_of_ones_own(after: str, tmp_path: Path) -> None:
    rules = {"extends": "nothing", "sentences": [{"label": "refusal", "pattern": "vault"}], "otherwise": "other"}
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules), encoding="utf-8")
    output = tmp_path / "report.json"
    measure(MeasureConfig(after, rules=str(file), output=str(output)))
    assert json.loads(output.read_text(encoding="utf-8"))["traces"]["a"]["labels"] == ["refusal", "other", "other"]


def test_files_without_a_common_prompt(after: str, tmp_path: Path) -> None:
    before = write(tmp_path / "before.jsonl", [{"id": "a", "prompt": "other", "response": "7"}])
    with pytest.raises(DataError, match="traces pair by prompt") as raised:
        measure(MeasureConfig(after, before))
    assert str(raised.value).startswith(before)


def test_a_bad_row(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.jsonl", [{"prompt": "p", "response": "7"}, {"prompt": "p"}])
    with pytest.raises(DataError, match=r"bad\.jsonl:2: has no spans and no response"):
        measure(MeasureConfig(file))
    said = measure(MeasureConfig(file, data=GeneratedConfig(on_bad_row="skip")))
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


def test_labels_in_any_spelling_are_measured_and_the_others_told(tmp_path: Path) -> None:
    refusing = f"<think>{UNDERSTANDING} {HARMFUL} {REFUSAL}</think>{SORRY}"
    labels = ["Harmful", "unsafe", "vanilla_harmful", 1, "odd", ""]
    rows = [asked(number, label, refusing, is_safe=True) for number, label in enumerate(labels)]
    file = write(tmp_path / "rows.jsonl", rows)
    output = tmp_path / "report.json"
    said = measure(MeasureConfig(file, output=str(output)))
    assert json.loads(output.read_text(encoding="utf-8"))["after"]["rates"]["refuses harmful prompt"]["total"] == 3
    assert (
        f"{file}: labels that are not understood, whose rows count as without one: 1 (1), 'odd' (1). Labels are "
        "harmful and benign, safe, vanilla_harmful and the like; another column of them is named with --data.columns "
        "label=NAME."
    ) in said.splitlines()
    assert f"{file}: not read: is_safe (6)." in said.splitlines()
    assert said.count("not read") == 1
    both = measure(MeasureConfig(file, write(tmp_path / "before.jsonl", [row | {"label": "harmful"} for row in rows])))
    assert "In 3 pairs the two rows have different labels" in both
    assert both.count("not read: is_safe (6).") == 2


def test_a_file_that_is_read_whole_says_nothing_of_it(tmp_path: Path) -> None:
    said = measure(MeasureConfig(write(tmp_path / "rows.jsonl", [asked(1), asked(2, "benign")])))
    assert "not read" not in said
    assert "not understood" not in said
