"""Bad rows and bad flags, given to a recipe as a user gives them: one sentence, exit code 2, and nothing written."""

import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from alttrain.engine.trace.roles import ROLES

Refusal = Callable[..., str]

SPANS = [
    {"role": "understanding", "text": "They ask for the time."},
    {"role": "assessment", "text": " That is harmless."},
    {"role": "answer", "text": "It is noon."},
]
NO_WEIGHT = {f"loss__{role}": 0 for role in ROLES}
GOOD = {"id": "good", "prompt": "What time is it?", "spans": SPANS}


def row(**changes: Any) -> bytes:
    """Return the good row under another id, changed, as a line; a value of `...` leaves the key out."""
    values = {**GOOD, "id": "bad", **changes}
    return json.dumps({name: value for name, value in values.items() if value is not ...}).encode() + b"\n"


def span(**changes: Any) -> bytes:
    return row(spans=[SPANS[0], {"role": "answer", "text": "It is noon.", **changes}])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> Path:
    return write_model(tmp_path_factory.mktemp("bad-input") / "model")


@pytest.fixture
def flags(tmp_path: Path, model: Path) -> dict[str, object]:
    """Return the flags of a run that would start."""
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(row(**GOOD))
    return {
        "model__path": model,
        "model__dtype": "float32",
        "data__train": rows,
        "output": tmp_path / "run",
        "zero__stage": 1,
        "batch__pack_tokens": 512,
        "schedule__steps": 1,
    }


BAD_LINES = {
    "not UTF-8": (b'{"prompt": "caf\xe9"}\n', r"not UTF-8 \(byte 16 of the line\)\. Save the file as UTF-8\."),
    "not JSON": (b'{"prompt": \n', r"not JSON: .+ \(column \d+\)\. Each line of a \.jsonl file is one JSON object\."),
    "nested too deeply": (b"[" * 100_000 + b"\n", r"not JSON that can be read: nested too deeply.+Mend the row\."),
    "not an object": (b'["a"]\n', r"not an object but a list; a row is one JSON object\."),
    "no prompt": (
        row(prompt=...),
        r"prompt is missing or null; it must be text\. .+--data\.columns; the columns are .+\.",
    ),
    "prompt is null": (row(prompt=None), r"prompt is missing or null; it must be text\..+"),
    "prompt is empty": (row(prompt=" \n"), r"prompt is empty; it must be text\."),
    "prompt is not text": (row(prompt=7), r"prompt is a number; it must be text\."),
    "two prompts": (row(question="x"), r"has the columns prompt and question, .+--data\.columns prompt=COLUMN\."),
    "no spans": (row(spans=...), r"has no spans and no response\. List the spans, .+--data\.columns; .+\."),
    "spans are empty": (row(spans=[]), r"spans is an empty list; it must be a list with at least one span\."),
    "span is not an object": (row(spans=["x"]), r"spans\[0\] is other text; a span is an object with role and text\."),
    "unknown role": (span(role="thought"), r"spans\[1\]\.role is 'thought'; it must be one of understanding, .+\."),
    "role of the engine": (span(role="closing"), r"spans\[1\]\.role is 'closing'; it must be one of .+\."),
    "no text": (row(spans=[{"role": "answer"}]), r"spans\[0\]\.text is missing or null; it must be text\."),
    "text is null": (span(text=None), r"spans\[1\]\.text is missing or null; it must be text\."),
    "a tag": (span(text="a</think>b"), r"spans\[1\] \(answer\) holds the tag '</think>', .+ Take it out\."),
    "a special token": (span(text="a<|end|>b"), r"the answer holds '<\|end\|>', .+ --data\.foreign-marks keep\."),
    "a special token in the prompt": (row(prompt="<|user|>"), r"the prompt holds '<\|user\|>', .+ Take it out\."),
    "half a surrogate pair": (span(text="\ud800"), r"spans\[1\] \(answer\) holds half of a surrogate pair, .+\."),
    "an id twice": (row(id="good"), r"the id 'good' stands at .+rows\.jsonl:1 too; an id stands for .+\."),
    "longer than a pack": (
        span(text="x" * 600),
        r"the row has \d+ tokens, and a pack or the model's context holds 512\. .+--data\.too-long skip or cut\.",
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_line_is_named(refused: Refusal, flags: dict[str, Any], case: str) -> None:
    line, reason = BAD_LINES[case]
    flags["data__train"].write_bytes(row(**GOOD) + line)
    assert re.fullmatch(re.escape(f"{flags['data__train']}:2: ") + reason, refused(flags))


def test_bad_line_of_the_held_out_rows_is_named(refused: Refusal, flags: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "held-out.jsonl").write_bytes(row() + row(prompt=None))
    sentence = refused({**flags, "data__eval": tmp_path / "held-out.jsonl"})
    assert sentence.startswith(f"{tmp_path / 'held-out.jsonl'}:2: prompt is missing or null")


def test_id_of_another_file(refused: Refusal, flags: dict[str, Any]) -> None:
    first, second = flags["data__train"], flags["data__train"].with_name("more.jsonl")
    second.write_bytes(row(id="good") + row(id="good"))
    sentence = refused({**flags, "data__train": (first, second)})
    assert sentence.startswith(
        f"{second}:2: the id 'good' stands at {second}:1 too; an id stands for one row of a file."
    )


BAD_FILES: Mapping[str, tuple[str, bytes | None, str]] = {
    "no such file": ("a.jsonl", None, r"no such file\. Give a .+, or a hub id as in owner/name.+\."),
    "a folder": (".", None, r"is a folder; name the files in it: .+\."),
    "an empty file": ("a.jsonl", b"", r"holds no rows\. Give a file with at least one\."),
    "blank lines": ("a.jsonl", b"\n\n", r"holds no rows\. Give a file with at least one\."),
    "an empty array": ("a.json", b"[]", r"holds no rows\. Give a file with at least one\."),
    "an array that is cut": ("a.json", b"[" + row() + b",\n{", r":3: not a JSON array of rows: .+ Mend the file\."),
    "lines called .json": ("a.json", row() + row(), r":1: not a JSON array of rows: .+\. Mend the file\."),
    "another kind of file": ("a.xlsx", b"prompt\n", r"its name ends in '\.xlsx'; rows are read from .+ files\."),
    "a table without rows": ("a.csv", b"prompt\n", r"holds no rows\. Give a file with at least one\."),
    "not parquet": ("a.parquet", b"PAR1", r"not a parquet file that can be read \(\w+\)\. Write it again\."),
}


@pytest.mark.parametrize("flag", ["data__train", "data__eval"])
@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_named(refused: Refusal, flags: dict[str, Any], tmp_path: Path, case: str, flag: str) -> None:
    name, content, reason = BAD_FILES[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert re.fullmatch(re.escape(str(tmp_path / name)) + "(: )?" + reason, refused({**flags, flag: tmp_path / name}))


def test_no_row_can_be_used(refused: Refusal, flags: dict[str, Any]) -> None:
    rows = flags["data__train"]
    rows.write_bytes(row(prompt=7) + row(spans=[]))
    sentence = refused({**flags, "data__on_bad_row": "skip"})
    assert sentence == f"{rows}: none of the 2 rows read can be used; the first: {rows}:1: prompt is a number; it " + (
        "must be text."
    )
    rows.write_bytes(span(text="x" * 600))
    sentence = refused({**flags, "data__too_long": "skip"})
    assert f"{rows}: none of the 1 rows read can be used; the first: {rows}:1: the row has" in sentence


def test_nothing_supervised(refused: Refusal, flags: dict[str, Any]) -> None:
    rows = flags["data__train"]
    ends = {"loss__think": 0, "loss__closing": 0, "loss__end": 0}
    weights = {"loss__understanding": 0, "loss__assessment": 0, "loss__answer": 0}
    assert refused({**flags, **ends, **weights}).startswith(f"{rows}: nothing is supervised: the weight of every role")
    rows.write_bytes(row(**GOOD) + row(spans=[{"role": "understanding", "text": "They ask."}]))
    sentence = refused({**flags, **ends, "loss__understanding": 0})
    assert sentence.startswith(f"{rows}:2: no token of the row has weight in the loss")


BAD_FLAGS: Mapping[str, tuple[dict[str, object], str]] = {
    "no data": ({"data__train": ()}, r"--data\.train is missing: give one or more files or hub ids\."),
    "no output": ({"output": ""}, r"--output is missing: give the run folder\."),
    "a negative weight": ({"loss__assessment": -1}, r"--loss\.assessment is -1\.0: a weight must be a number, 0 or .+"),
    "a weight of NaN": ({"loss__answer": "nan"}, r"--loss\.answer is nan: a weight must be a number, 0 or more\."),
    "an infinite weight": ({"loss__end": "inf"}, r"--loss\.end is inf: a weight must be a number, 0 or more\."),
    "all weights 0": (NO_WEIGHT, r"every --loss weight is 0: at least one role must have weight, .+"),
    "stage 4": ({"zero__stage": 4}, r"--zero\.stage is 4: it must be 0, 1, 2 or 3\."),
    "stage -1": ({"zero__stage": -1}, r"--zero\.stage is -1: it must be 0, 1, 2 or 3\."),
    "stage 0 in bfloat16": (
        {"zero__stage": 0, "model__dtype": "bfloat16"},
        r"--zero\.stage 0 .+ Use --zero\.stage.+",
    ),
    "offload of nothing": ({"zero__offload": "all"}, r"--zero\.offload all needs --zero\.stage 3; this run says 1\."),
    "layers of nothing": (
        {"model__recomputed_layers": 2, "model__checkpointing": "off"},
        r"--model\.recomputed-layers is 2 with --model\.checkpointing off, which recomputes nothing\. Leave it out, .+",
    ),
    "more layers than there are": (
        {"model__recomputed_layers": 3, "model__checkpointing": "full"},
        r"--model\.recomputed-layers is 3, and the model has 2 layers\. Take at most .+",
    ),
    "rate 0": ({"optim__lr": 0}, r"--optim\.lr is 0\.0: it must be a positive number\."),
    "rate of NaN": ({"optim__lr": "nan"}, r"--optim\.lr is nan: it must be a positive number\."),
    "infinite rate": ({"optim__lr": "1e400"}, r"--optim\.lr is inf: it must be a positive number\."),
    "decay rate of 1": ({"optim__betas": (0.9, 1)}, r"--optim\.betas is \(0\.9, 1\.0\): it must be at least 0 and .+"),
    "negative seed": ({"seed": -1}, r"--seed is -1: it must be 0 or more and below 2\^63\."),
    "pack of nothing": ({"batch__pack_tokens": 0}, r"--batch\.pack-tokens is 0: it must be at least 1\."),
    "steps of nothing": ({"batch__examples": 0}, r"--batch\.examples is 0 and batch\.tokens is 0 too: give one .+"),
    "steps too small": (
        {"batch__tokens": 9},
        r"--batch\.tokens is 9: a step must hold the longest example, .+",
    ),
    "a pack too small": ({"batch__pack_tokens": 9}, r".+rows\.jsonl:1: the row has \d+ tokens, .+ holds 9\. .+"),
    "columns not paired": ({"data__columns": "prompt"}, r"--data\.columns has 'prompt': .+ prompt=question,.+"),
    "a column that is not there": (
        {"data__columns": "prompt=q"},
        r".+rows\.jsonl:1: no column 'q', which --data.+",
    ),
    "no delimiter": (
        {"data__think_close": ""},
        r"--data\.think-close is empty: it must hold what closes the reasoning\.",
    ),
    "no template file": ({"data__chat_template": "no.jinja"}, r"--data\.chat-template no\.jinja: cannot be read .+"),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_setting_is_named(refused: Refusal, flags: dict[str, Any], case: str) -> None:
    changes, sentence = BAD_FLAGS[case]
    assert re.fullmatch(sentence, refused({**flags, **changes}))


BROKEN_TEMPLATES = {
    "not Jinja": (b"{% for %}", "--data.chat-template"),
    "another encoding": (b"caf\xe9", "--data.chat-template"),
    "empty": (b"", "--data.chat-template"),
    "refuses every conversation": (b"{{ raise_exception('not today') }}", "(not today). Leave such rows"),
    "fails": (b"{{ 1 / 0 }}", "(division by zero). Leave such rows"),
    "changes the prompt": (b"{% if add_generation_prompt %}A{% endif %}B", "changes the prompt"),
    "closes the reasoning": (b"A{% if add_generation_prompt %}<think>\n\n</think>{% endif %}", "closes the reasoning"),
}


@pytest.mark.parametrize("case", BROKEN_TEMPLATES)
def test_broken_template(refused: Refusal, flags: dict[str, Any], tmp_path: Path, case: str) -> None:
    content, reason = BROKEN_TEMPLATES[case]
    (tmp_path / "chat.jinja").write_bytes(content)
    sentence = refused({**flags, "data__chat_template": tmp_path / "chat.jinja"})
    assert reason in sentence
    assert "--data.chat-template" in sentence


def test_hub_id_without_network(refused: Refusal, flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=socket.gaierror("no network")))
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between tries
    sentence = refused({**flags, "model__path": "nobody/no-model"})
    assert sentence.startswith("--model.path nobody/no-model: no such folder here, and the hub gave ")
    assert sentence.endswith("Check the id and the network, or give a folder that holds the model.")
    sentence = refused({**flags, "data__train": "nobody/no-rows"})
    assert sentence.startswith("nobody/no-rows: no such file, and the hub does not hand out a data set of that name")
    assert sentence.endswith("(owner/name:configuration@split), or give a file.")
