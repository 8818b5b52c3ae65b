"""Ordinary traces: what is taken from a record, and with which reason a record is left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.errors import ConfigError, DataError
from alttrain.engine.restructure.config import BenignConfig, SourceConfig
from alttrain.engine.restructure.traces import Ordinary, read_ordinary
from alttrain.engine.trace.roles import Message

GOOD = {
    "prompt": "What is 2 + 2?",
    "response": "<think>\nOkay. Two and two.\n</think>\n\nIt is 4.",
    "category": "algebra",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "My set_1.jsonl"


def read(source: Path, *records: Any, **settings: Any) -> Ordinary:
    source.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return read_ordinary(BenignConfig(str(source), **settings))


def test_a_record_becomes_a_trace(source: Path) -> None:
    found = read(source, GOOD)
    (trace,) = found.traces
    assert (trace.id, trace.label, trace.source) == ("myset1-1", "benign", "My set_1")
    assert trace.messages == (Message("user", "What is 2 + 2?"),)
    assert (trace.think, trace.answer) == ("Okay. Two and two.", "It is 4.")
    assert trace.categories == ("algebra",)
    assert trace.where == f"{source}:1"
    assert found.unusable == []


def test_columns_and_delimiters_of_a_source(source: Path) -> None:
    record = {
        "prompt": "Answer: 2 + 2?",
        "question": "2 + 2?",
        "response": " Two and two. </think> <answer> 4 </answer>",
    }
    settings = {"columns": "prompt=question", "think_open": "", "answer_open": "<answer>", "answer_close": "</answer>"}
    (trace,) = read(source, record, category="mathematics", **settings).traces
    assert trace.messages == (Message("user", "2 + 2?"),)
    assert (trace.think, trace.answer) == ("Two and two.", "4")
    assert trace.categories == ("mathematics",)


def test_a_row_may_name_several_categories(source: Path) -> None:
    (trace,) = read(source, GOOD | {"topics": ["a", "b"]}, category_column="topics").traces
    assert trace.categories == ("a", "b")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"response": "It is 4."}, "no reasoning between its delimiters"),
        ({"response": "<think>It is 4."}, "no reasoning between its delimiters"),
        ({"response": "<think>\n</think>\n\nIt is 4."}, "no reasoning between its delimiters"),
        ({"response": "<think>Okay.</think>It is 4."}, "no reasoning between its delimiters"),
        ({"response": "<think>a b</think>c</think>d"}, "closes its reasoning 2 times"),
        ({"response": "<think>Two and two.</think>"}, "has no answer"),
        ({"response": "<think>Two <think>and</think>It is 4."}, "holds the tag '<think>'"),
        ({"response": None}, "has no spans and no response"),
        ({"prompt": " "}, "prompt is empty"),
        ({"tools": [{"name": "f"}]}, "it has tools, which a built row does not hold"),
        ({"weight": "0.5"}, "its weight is 0.5, and a built row holds no weight"),
        ({"prompt": "Ignore that. <|im_end|> Go on."}, "the prompt holds '<|im_end|>', a special token"),
        ({"prompt": "Is this </s> the end?"}, "the prompt holds '</s>', a special token"),
        ({"system": "Be kind. <｜User｜>"}, "the prompt holds '<｜User｜>', a special token"),
        ({"history": [["Hello?", "Hi.<|eot_id|>"]]}, "the prompt holds '<|eot_id|>', a special token"),
        ({"response": "<think>Two <|im_end|> and two.</think>4"}, "the reasoning holds '<|im_end|>', a special token"),
        ({"response": "<think>Two and two.</think>4</s>"}, "the answer holds the tag '</s>'"),
        ({"response": "<think>Two and two.</think><output>4</output>"}, "the answer holds the tag '<output>'"),
        ({"label": "rather safe"}, "its own label in 'label' may say harmful or benign, and is in no table"),
    ],
)
def test_records_without_a_usable_trace_are_left_out(source: Path, change: dict[str, Any], reason: str) -> None:
    found = read(source, GOOD | change, GOOD)
    (dropped,) = found.unusable
    assert [trace.id for trace in found.traces] == ["myset1-2"]
    assert reason in dropped.reason
    assert dropped.where == f"{source}:1"
    assert str(source) not in dropped.reason
    assert "--data." not in dropped.reason


def test_a_row_may_name_its_categories_by_true_and_false(source: Path) -> None:
    named = {"violence": True, "privacy": False, "Gewalt ä": 1}
    (trace,) = read(source, GOOD | {"category": named}).traces
    assert trace.categories == ("violence", "Gewalt ä")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": "prompt=question,response=answer"}, r"--benign.columns names the column 'question', which no row"),
        ({"columns": "label=kind"}, r"--benign.columns names the column 'kind'"),
        ({"category_column": "topic"}, r"--benign.category-column names the column 'topic'"),
        ({"where": "kind=a"}, r"--benign.where names the column 'kind', .* are 'prompt', 'response', 'category'\."),
        ({"where": "category=a"}, r"--benign.where asks for category=a, which no row has; its values are 'algebra'"),
        ({"where": "category"}, r"--benign.where has 'category'"),
    ],
)
def test_names_that_are_not_there_are_refused_with_those_that_are(
    source: Path, settings: dict[str, str], message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        read(source, GOOD, **settings)


def test_a_source_without_rows_is_refused(source: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read(source)


def test_labels_are_counted_and_those_that_contradict_left_out(source: Path) -> None:
    values = ["benign", "harmful", "odd", None, "safe"]
    found = read(source, *(GOOD | {"label": value} for value in values))
    assert found.labels == {"benign": 2, "harmful": 1, "not understood": 1, "none": 1}
    assert (found.label_columns, found.unknown_labels) == (("label",), ("'odd'",))
    assert [trace.id for trace in found.traces] == ["myset1-1", "myset1-3", "myset1-4", "myset1-5"]
    (dropped,) = found.unusable
    assert dropped.reason.startswith("its own label in 'label' says harmful. Where another column labels the prompt")


def test_labels_that_may_say_either_are_left_out_of_both_sections(source: Path) -> None:
    values = ["rather safe", "harmful", "not a threat", "odd"]
    for number, own in enumerate((SourceConfig(str(source)), BenignConfig(str(source)))):
        read(source, *(GOOD | {"label": value} for value in values))
        found = read_ordinary(own)
        assert (found.labels["unclear"], found.unclear_labels, found.unknown_labels) == (2, ("other text",), ("'odd'",))
        assert [trace.where for trace in found.traces] == [f"{source}:2", f"{source}:4"][number:]
        assert f"--{found.label}.columns label=NAME" in found.unusable[0].reason


@pytest.mark.parametrize(
    "row",
    [
        {"Label": "benign"},
        {"isSafe": True},
        {"safety": "safe"},
        {"harm_label": "benign"},
        {"prompt_harmfulness": "unharmful"},
        {"toxicity": 0},
        {"labels": ["benign"]},
        {"metadata": {"label": "benign"}},
        {"label": "non-toxic"},
        {"label": "Safe."},
        {"label": "良性"},
        {"label": "as safe as it gets"},
        {"category": "Benign requests"},
        {"verdict": "benign"},
        {"is_harmful_prompt": "no"},
    ],
)
def test_a_benign_row_is_never_harmful_whatever_its_label_is_called(source: Path, row: dict[str, Any]) -> None:
    read(source, GOOD | row)
    assert read_ordinary(SourceConfig(str(source))).traces == []


def test_the_column_of_the_label_may_be_named(source: Path) -> None:
    """Where it is named, no other is read: a column is_safe may speak of the response."""
    found = read(source, GOOD | {"kind": "safe", "is_safe": False}, columns="label=kind")
    assert (len(found.traces), found.labels, found.label_columns) == (1, {"benign": 1}, ("kind",))
    found = read(source, GOOD | {"kind": "safe", "is_safe": False})
    assert (len(found.traces), found.labels, found.label_columns) == (0, {"harmful": 1}, ("is_safe",))


def test_rows_that_are_not_taken_or_not_read_say_why(source: Path) -> None:
    source.write_text(json.dumps(GOOD) + "\n{\n" + json.dumps(GOOD | {"category": "x"}) + "\n", encoding="utf-8")
    found = read_ordinary(BenignConfig(str(source), where="category=algebra"))
    assert [trace.id for trace in found.traces] == ["myset1-1"]
    broken, other = found.unusable
    assert broken.reason.startswith("not JSON")
    assert other.reason == "--benign.where does not take it."


@pytest.mark.parametrize(
    "tag", ["<answer>4</answer>", "4 </answer>", "<|begin_of_solution|>4", "<response>4", "<final>4"]
)
def test_tags_do_not_stay_in_an_answer(source: Path, tag: str) -> None:
    (dropped,) = read(source, GOOD | {"response": f"<think>Two and two.</think>{tag}"}).unusable
    assert "of another format, which would be trained" in dropped.reason
    assert "--benign.answer-open and --benign.answer-close" in dropped.reason
    assert read_ordinary(SourceConfig(str(source))).unusable == []


def test_a_prompt_that_a_template_wrote_is_left_out(source: Path) -> None:
    (dropped,) = read(source, GOOD | {"prompt": "User: 2 + 2?\nAssistant: <think>"}).unusable
    assert dropped.reason == (
        "the prompt is written out by a chat template (it holds '<think>'). Name the column of the bare question with "
        "--benign.columns prompt=NAME."
    )


def test_an_answer_without_its_delimiters_is_left_out(source: Path) -> None:
    (dropped,) = read(source, GOOD, answer_open="<answer>", answer_close="</answer>").unusable
    assert "does not stand between '<answer>' and '</answer>', the marks that --benign.answer-open" in dropped.reason


def test_a_harmful_trace_needs_no_answer(source: Path) -> None:
    read(source, GOOD | {"response": "<think>Two and two.</think>"})
    (trace,) = read_ordinary(SourceConfig(str(source))).traces
    assert (trace.label, trace.answer) == ("harmful", "")


def test_settings_that_cannot_be_read_name_their_own_flag(source: Path) -> None:
    with pytest.raises(ConfigError, match=r"--benign.columns has 'prompt'"):
        read(source, GOOD, columns="prompt")
    with pytest.raises(DataError, match=r"none.jsonl: no such file"):
        read_ordinary(SourceConfig(str(source.with_name("none.jsonl"))))


def test_star1_parses_whole(shared_data: Path) -> None:
    found = read_ordinary(SourceConfig(str(shared_data / "train" / "STAR-1.json"), name="STAR-1"))
    assert (len(found.traces), len(found.unusable)) == (1000, 0)
    assert (found.traces[0].id, found.traces[-1].id) == ("star1-1", "star1-1000")
    assert all(trace.categories for trace in found.traces)
