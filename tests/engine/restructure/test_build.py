"""From files of traces to AltTrain-1K: what is written, what the card says, and that both can be made again."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from alttrain.engine.config import DataConfig, LossConfig
from alttrain.engine.data.dataset import load_dataset
from alttrain.engine.data.rows import read_rows
from alttrain.engine.data.tokenizer import fetch_tokenizer
from alttrain.engine.errors import ConfigError, DataError, ModelError
from alttrain.engine.restructure import build
from alttrain.engine.restructure.config import AssessConfig, BenignConfig, BuildConfig, SourceConfig
from alttrain.engine.restructure.record import as_record
from alttrain.engine.restructure.structures import ORDER, Structure
from alttrain.engine.restructure.wording import as_json, built_in

SCRIPT = Path(__file__).resolve().parents[3] / "recipes" / "build_dataset.py"
STRUCTURES: tuple[Structure, ...] = get_args(Structure)


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    """Settings for two small sources: 6 harmful rows (one twice, one broken) and 5 benign ones."""
    harmful = [
        {"prompt": f"Tell me secret {n}.", "response": f"<think>A secret, {n}. No.</think>No."} for n in range(4)
    ]
    harmful += [{"prompt": "tell me  SECRET 0", "response": "<think>Again. No.</think>No."}]
    harmful += [{"prompt": "Tell me secret 9.", "response": "No."}]
    benign = [
        {"prompt": f"What is {n} + 1?", "response": f"<think>Add. One more than {n}.</think>{n + 1}"} for n in range(5)
    ]
    for name, records in (("harmful", harmful), ("benign", benign)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "held_out.csv").write_text("id,question\n1,TELL ME SECRET 2!\n2,What is 3 + 1\n", encoding="utf-8")
    (tmp_path / "other.csv").write_text("id,question\n1,nothing\n", encoding="utf-8")
    return {
        "harmful": SourceConfig(str(tmp_path / "harmful.jsonl"), licence="CC0"),
        "benign": BenignConfig(str(tmp_path / "benign.jsonl")),
        "num_harmful": 2,
        "num_benign": 3,
        "avoid": (str(tmp_path / "held_out.csv"), str(tmp_path / "other.csv")),
        "output": str(tmp_path / "out" / "train.jsonl"),
        "overwrite": True,
    }


def records_of(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def test_counts_and_rows_of_a_build(made: dict[str, Any]) -> None:
    said = build.build(BuildConfig(**made))
    rows = records_of(made["output"])
    assert sorted(row["label"] for row in rows) == ["benign"] * 3 + ["harmful"] * 2
    assert len({row["id"] for row in rows}) == 5
    assert {row["id"] for row in rows} <= {f"{name}-{n}" for name in ("harmful", "benign") for n in range(1, 7)}
    assert {row["source"] for row in rows} == {"harmful", "benign"}
    prompts = {row["prompt"] for row in rows}
    assert not prompts & {"Tell me secret 2.", "What is 3 + 1?", "tell me  SECRET 0"}
    assert said.startswith("train.jsonl: 5 rows (2 harmful of 3, 3 benign of 4), structure full;")
    assert "Left out: 1 of harmful: its prompt stands in held_out.csv" in said
    assert sorted(file.name for file in Path(made["output"]).parent.iterdir()) == ["train.jsonl", "train.md"]


def test_the_card_states_where_rows_come_from_and_went(made: dict[str, Any]) -> None:
    build.build(BuildConfig(**made))
    card = Path(made["output"]).with_suffix(".md").read_text(encoding="utf-8")
    hashes = {name: sha256(path) for name, path in (("out", made["output"]), ("in", made["harmful"].path))}
    assert f"sha256 `{hashes['out']}`" in card
    assert f"| harmful | harmful | CC0 | harmful.jsonl | {hashes['in']} | 6 | 3 | 2 |" in card
    assert f"| benign | benign | not stated | benign.jsonl | {sha256(made['benign'].path)} | 5 | 4 | 3 |" in card
    assert "| harmful | its prompt has come before | 1 |" in card
    assert "| harmful | its prompt stands in held_out.csv | 1 |" in card
    assert "| harmful | the response has no reasoning between its delimiters; a trace needs some. | 1 |" in card
    assert f"| held_out.csv | {sha256(made['avoid'][0])} | 2 | 0 | 2 |" in card
    assert f"| other.csv | {sha256(made['avoid'][1])} | 1 | 0 | 0 |" in card
    assert "- Labels of harmful (harmful): 6 rows, none has one; the flag alone says that they are harmful." in card
    assert "structure `full` (understanding, assessment, reasoning, answer), seed 0" in card
    assert "| role | rows | characters |" in card
    for row in records_of(made["output"]):
        assert row["prompt"] not in card
        assert all(span["text"].strip() not in card for span in row["spans"] if len(span["text"]) > 10)


def test_the_card_counts_characters_of_every_role(made: dict[str, Any]) -> None:
    build.build(BuildConfig(**made))
    rows = records_of(made["output"])
    card = Path(made["output"]).with_suffix(".md").read_text(encoding="utf-8")
    for role in ORDER["full"]:
        count = sum(len(span["text"]) for row in rows for span in row["spans"] if span["role"] == role)
        assert f"| {role} | 5 | {count} | {count / 5:.1f} |" in card


def sha256(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def test_the_same_inputs_and_seed_give_the_same_bytes(made: dict[str, Any]) -> None:
    def build_with(**changes: Any) -> tuple[str, str]:
        config = BuildConfig(**(made | changes))
        build.build(config)
        return sha256(config.output), sha256(config.output.replace(".jsonl", ".md"))

    elsewhere = made["output"].replace("/out/", "/elsewhere/")
    assert build_with() == build_with() == build_with(output=elsewhere)
    assert build_with(seed=1)[0] != build_with()[0]


def test_fewer_rows_than_asked_for_are_all_taken_and_said(made: dict[str, Any]) -> None:
    said = build.build(BuildConfig(**(made | {"num_harmful": 900})))
    assert "Of 900 harmful rows asked for, 3 remain: all are taken." in said
    assert len(records_of(made["output"])) == 6


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_is_read_back_as_it_was_written(made: dict[str, Any], structure: Structure) -> None:
    build.build(BuildConfig(**(made | {"structure": structure})))
    read = read_rows([made["output"]])
    assert (len(read.rows), read.placed) == (5, {"listed": 5})
    for row, record in zip(read.rows, records_of(made["output"]), strict=True):
        assert tuple(span.role for span in row.spans) == ORDER[structure]
        assert as_record(row) == record


def test_structures_have_the_same_prompts_and_answers(made: dict[str, Any]) -> None:
    found = set()
    for structure in STRUCTURES:
        build.build(BuildConfig(**(made | {"structure": structure})))
        rows = records_of(made["output"])
        answers = [span["text"] for row in rows for span in row["spans"] if span["role"] == "answer"]
        found.add(json.dumps([[(row["id"], row["prompt"], row["label"]) for row in rows], answers]))
    assert len(found) == 1


def test_several_turns_are_written_as_messages(made: dict[str, Any], tmp_path: Path) -> None:
    turns = [("system", "Be kind."), ("user", "What is 7 + 1?"), ("assistant", "<think>Add. Eight.</think>8")]
    record = {"messages": [{"role": role, "content": content} for role, content in turns]}
    (tmp_path / "turns.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    settings = made | {"benign": BenignConfig(str(tmp_path / "turns.jsonl")), "num_harmful": 0, "num_benign": 1}
    build.build(BuildConfig(**settings))
    (row,) = records_of(made["output"])
    assert "prompt" not in row
    assert [message["role"] for message in row["messages"]] == ["system", "user"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"harmful": SourceConfig(), "benign": BenignConfig()}, ConfigError, "are both missing"),
        ({"num_benign": -1}, ConfigError, "--num-benign is -1"),
        ({"output": "train.json"}, ConfigError, "must end in .jsonl"),
        ({"avoid": ("none.csv",)}, DataError, "none.csv: cannot be read"),
        ({"harmful": SourceConfig("none.jsonl")}, DataError, "none.jsonl: no such file"),
        ({"num_harmful": 0, "num_benign": 0}, DataError, "no rows are asked for"),
        ({"harmful": SourceConfig("a.jsonl", name="?!")}, ConfigError, r"--harmful.name is '\?!'"),
        ({"assess": AssessConfig("none.json")}, ConfigError, "--assess.phrases none.json: cannot be read"),
        ({"tokenizer": "/no/such/folder"}, ModelError, "--tokenizer /no/such/folder"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    made: dict[str, Any], change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        build.build(BuildConfig(**(made | change)))
    assert "\n" not in str(caught.value)
    assert not Path(made["output"]).parent.exists()


def test_an_output_that_cannot_be_written(made: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        build.build(BuildConfig(**(made | {"output": str(tmp_path / "file" / "train.jsonl")})))


def test_sources_of_one_name_are_refused(made: dict[str, Any]) -> None:
    both = {
        "harmful": SourceConfig(made["harmful"].path, name="A"),
        "benign": BenignConfig(made["benign"].path, name="a"),
    }
    with pytest.raises(ConfigError, match="both sources are called 'a'"):
        build.build(BuildConfig(**(made | both)))


def write_rows(file: Path, records: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(file)


def rows_with(column: str, values: list[Any]) -> list[dict[str, Any]]:
    response = "<think>A thought about it. Then more.</think>Done."
    return [{"prompt": f"Ask number {n}.", "response": response, column: value} for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("column", "values", "harmful", "benign"),
    [
        ("label", ["harmful", "benign", "unsafe", "odd", None], [0, 2], [1]),
        ("is_safe", [False, True, 0, 1.0], [0, 2], [1, 3]),
        ("data_type", ["vanilla_harmful", "vanilla_benign", "adversarial_harmful"], [0, 2], [1]),
    ],
)
def test_a_row_is_written_as_what_its_own_label_says_or_not_at_all(
    tmp_path: Path, column: str, values: list[Any], harmful: list[int], benign: list[int]
) -> None:
    """One file for both sections; rows that do not say what they are would stand in both, and stand in neither."""
    path = write_rows(tmp_path / "both.jsonl", rows_with(column, values))
    output = str(tmp_path / "train.jsonl")
    said = build.build(BuildConfig(SourceConfig(path), BenignConfig(path), output=output))
    rows = records_of(output)
    assert {row["prompt"]: row["label"] for row in rows} == {
        f"Ask number {n}.": label for label, numbers in (("harmful", harmful), ("benign", benign)) for n in numbers
    }
    assert len({row["id"] for row in rows}) == len(rows)
    assert f"Left out: {len(benign)} of both (harmful): its own label in '{column}' says benign." in said
    assert f"Labels of both (harmful), in {column}: {len(harmful)} harmful, {len(benign)} benign" in said
    if unknown := len(values) - len(harmful) - len(benign):
        assert f"Left out: {unknown} of both (benign): its prompt stands among the harmful and among the benign" in said


def test_rows_are_selected_by_their_columns(tmp_path: Path) -> None:
    values = ["vanilla_harmful", "adversarial_harmful", "vanilla_benign", "adversarial_benign"] * 3
    path = write_rows(tmp_path / "both.jsonl", rows_with("label", values))
    output = tmp_path / "train.jsonl"
    config = BuildConfig(
        SourceConfig(path, where="label=vanilla_harmful,adversarial_harmful"),
        BenignConfig(path, where="label=vanilla_benign"),
        output=str(output),
    )
    said = build.build(config)
    assert "9 rows (6 harmful of 6, 3 benign of 3)" in said
    assert "Left out: 6 of both (harmful): --harmful.where does not take it." in said
    assert "Labels of both (benign), in label: 0 harmful, 3 benign, 0 not understood, 0 none." in said
    assert f"| both | harmful | not stated | both.jsonl | {sha256(path)} | 12 | 6 | 6 |" in output.with_suffix(
        ".md"
    ).read_text(encoding="utf-8")


def test_an_error_lists_why_no_row_remains(made: dict[str, Any], tmp_path: Path) -> None:
    records = rows_with("label", ["harmful", "harmful", "benign", "benign"])
    records[2]["response"] = "No thought."
    records[3]["response"] = "<think>A thought. More.</think><answer>4</answer>"
    path = write_rows(tmp_path / "none.jsonl", records)
    with pytest.raises(DataError) as caught:
        build.build(BuildConfig(**(made | {"benign": BenignConfig(path)})))
    assert str(caught.value) == (
        f"{path}: none of its 4 rows remains as benign, and nothing is written. 2 rows: its own label in 'label' says "
        "harmful. Where another column labels the prompt, name it with --benign.columns label=NAME; 1 row: the "
        "response has no reasoning between its delimiters; a trace needs some; 1 row: the answer holds the tag "
        "'<answer>' of another format, which would be trained. Name the marks around the answer with "
        "--benign.answer-open and --benign.answer-close."
    )
    assert not Path(made["output"]).exists()
    said = build.build(BuildConfig(**(made | {"benign": BenignConfig(path), "num_benign": 0})))
    assert "Left out: 1 of none: the response has no reasoning" in said


def test_most_reasons_are_listed_and_the_others_counted(made: dict[str, Any], tmp_path: Path) -> None:
    records = [{"messages": [{"role": f"r{n}", "content": "x"}]} for n in range(9)]
    path = write_rows(tmp_path / "none.jsonl", records)
    with pytest.raises(DataError, match=r"; 3 rows: 3 other reasons\.$"):
        build.build(BuildConfig(**(made | {"benign": BenignConfig(path)})))


@pytest.mark.parametrize("name", ["train.jsonl", "train.md"])
def test_what_is_there_is_not_written_over(made: dict[str, Any], name: str) -> None:
    file = Path(made["output"]).with_name(name)
    file.parent.mkdir()
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=rf"--output would write over .*{name}, which is there already: .*--overwrite"
    ):
        build.build(BuildConfig(**(made | {"overwrite": False})))
    assert [one.name for one in file.parent.iterdir()] == [name]
    assert file.read_text(encoding="utf-8") == "mine"
    build.build(BuildConfig(**made))
    assert file.read_text(encoding="utf-8") != "mine"
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=r"which is there already: name another place\.$"):
        build.build(BuildConfig(**made))


@pytest.mark.parametrize("role", ["harmful", "avoid"])
def test_what_is_read_is_not_written_over(made: dict[str, Any], tmp_path: Path, role: str) -> None:
    same = str(tmp_path / "." / "harmful.jsonl")
    change = {"output": str(tmp_path / "harmful.jsonl")} | ({"avoid": (same,)} if role == "avoid" else {})
    change |= {"harmful": SourceConfig(same) if role == "harmful" else SourceConfig()}
    with pytest.raises(ConfigError, match="which this build reads"):
        build.build(BuildConfig(**(made | change)))


def test_the_built_in_wording_from_a_file_gives_the_same_rows(made: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "new" / "phrases.json"
    said = build.build(BuildConfig(assess=AssessConfig(write_phrases=str(file))))
    assert said.startswith(f"{file}: the built-in wording.")
    build.build(BuildConfig(**made))
    rows = Path(made["output"]).read_bytes()
    build.build(BuildConfig(**(made | {"assess": AssessConfig(str(file))})))
    assert Path(made["output"]).read_bytes() == rows
    card = Path(made["output"]).with_suffix(".md").read_text(encoding="utf-8")
    assert f"The templates are those of the file phrases.json, sha256 `{sha256(str(file))}`." in card
    with pytest.raises(ConfigError, match=r"--assess.write-phrases would write over"):
        build.build(BuildConfig(assess=AssessConfig(write_phrases=str(file))))
    with pytest.raises(ConfigError, match=r"--assess.write-phrases .*cannot be written"):
        build.build(BuildConfig(assess=AssessConfig(write_phrases=str(file / "deeper.json"))))


def test_another_wording_is_what_is_written(made: dict[str, Any], tmp_path: Path) -> None:
    value = json.loads(as_json(built_in()))
    value["harmful"]["frames"] = ["Mine: this is harmful, as it asks for {kind} and {reason}."]
    value["benign"]["frames"] = ["Mine: this is a benign request, {kind}, and {reason}."]
    file = tmp_path / "phrases.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    build.build(BuildConfig(**(made | {"assess": AssessConfig(str(file))})))
    spans = [span for row in records_of(made["output"]) for span in row["spans"] if span["role"] == "assessment"]
    assert len(spans) == 5
    assert all(span["text"].startswith(" Mine: this is") for span in spans)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_command_line_exits_with_2_and_one_sentence(tmp_path: Path) -> None:
    done = run("--harmful.path", "none.jsonl", "--output", str(tmp_path / "out" / "train.jsonl"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "none.jsonl: no such file" in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    assert not {'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--benign.answer-open" in done.stdout


@pytest.fixture(scope="module")
def small_tokenizer(small_tokenizer_folder: Callable[[str], Path]) -> str:
    return str(small_tokenizer_folder("bytes"))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_rows_of_every_structure_load_with_a_tokenizer(
    made: dict[str, Any], small_tokenizer: str, structure: Structure
) -> None:
    build.build(BuildConfig(**(made | {"structure": structure})))
    tokenizer = fetch_tokenizer(small_tokenizer, "--tokenizer")
    report = load_dataset([made["output"]], DataConfig(), LossConfig(), tokenizer, max_tokens=2048).report
    assert (report.rows, report.examples, report.unsegmented, report.skipped) == (5, 5, 0, ())
    assert set(report.tokens) == {"prompt", "opening", "think", "closing", "end", *ORDER[structure]}


def test_the_card_counts_the_tokens_of_every_role(made: dict[str, Any], small_tokenizer: str) -> None:
    said = build.build(BuildConfig(**(made | {"tokenizer": small_tokenizer})))
    tokenizer = fetch_tokenizer(small_tokenizer, "--tokenizer")
    tokens = load_dataset([made["output"]], DataConfig(), LossConfig(), tokenizer, max_tokens=2048).report.tokens
    card = Path(made["output"]).with_suffix(".md").read_text(encoding="utf-8")
    assert f"tokens a row: {sum(tokens.values()) / 5:.1f} on average" in said
    for role, count in tokens.items():
        assert f"| {count} | {count / 5:.1f} |" in next(line for line in card.splitlines() if f"| {role} |" in line)


def real_config(shared_data: Path, output: Path, **changes: Any) -> Any:
    safety = shared_data / "safety"
    settings = {
        "harmful": SourceConfig(str(shared_data / "train" / "STAR-1.json"), name="STAR-1", licence="Apache-2.0"),
        "benign": BenignConfig(
            str(shared_data / "train" / "benign_math_think_deepseekchat_460.jsonl"),
            columns="prompt=question",
            answer_open="<answer>",
            answer_close="</answer>",
            category="mathematics",
            name="MATH-deepseek-chat",
        ),
        "avoid": tuple(map(str, sorted([*safety.glob("*.csv"), *safety.glob("*.jsonl")]))),
        "output": str(output),
    }
    return BuildConfig(**(settings | changes))


def test_alttrain_1k_from_the_real_files(shared_data: Path, tmp_path: Path) -> None:
    said = build.build(real_config(shared_data, tmp_path / "train.jsonl"))
    labels = [row["label"] for row in records_of(str(tmp_path / "train.jsonl"))]
    assert (labels.count("harmful"), labels.count("benign")) == (900, 100)
    assert said.count("Left out") == 1
    assert "Compared with xstest_prompts.csv: 677 cells (1153 short ones in columns of labels left aside)." in said
    assert "Left out: 6 of STAR-1: its prompt stands in harmbench_behaviors_text_val.csv" in said


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"columns": ""}, "460 rows: has the columns prompt and question"),
        ({"columns": "prompt=prompt"}, "460 rows: the prompt is written out by a chat template (it holds '<think>')"),
        ({"answer_open": "", "answer_close": ""}, "460 rows: the answer holds the tag '<answer>'"),
        ({"answer_open": "[", "answer_close": "]"}, "460 rows: the answer does not stand between '[' and ']'"),
    ],
)
def test_half_of_the_right_flags_is_refused_with_the_other_half(
    shared_data: Path, tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    config = real_config(shared_data, tmp_path / "train.jsonl", avoid=())
    with pytest.raises(
        DataError, match=re.escape(f"none of its 460 rows remains as benign, and nothing is written. {reason}")
    ):
        build.build(replace(config, benign=replace(config.benign, **changes)))


@pytest.fixture(scope="module")
def tokenizer_folder(shared_data: Path) -> str:
    return str(shared_data / "tokenizers" / "deepseek-r1-distill-qwen")


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: str) -> Any:
    return fetch_tokenizer(tokenizer_folder, "--tokenizer")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_real_rows_load_with_the_real_tokenizer(
    shared_data: Path, tmp_path: Path, tokenizer: Any, structure: Structure
) -> None:
    output = tmp_path / "train.jsonl"
    build.build(real_config(shared_data, output, structure=structure, num_harmful=90, num_benign=10, avoid=()))
    report = load_dataset([str(output)], DataConfig(), LossConfig(), tokenizer, max_tokens=32768).report
    assert (report.rows, report.examples, report.unsegmented, report.skipped) == (100, 100, 0, ())
    assert set(report.tokens) == {"prompt", "opening", "think", "closing", "end", *ORDER[structure]}


def test_with_a_tokenizer_the_card_counts_tokens(
    shared_data: Path, tmp_path: Path, tokenizer: Any, tokenizer_folder: str
) -> None:
    output = tmp_path / "train.jsonl"
    small = {"num_harmful": 9, "num_benign": 1, "avoid": (), "tokenizer": tokenizer_folder}
    said = build.build(real_config(shared_data, output, **small))
    tokens = load_dataset([str(output)], DataConfig(), LossConfig(), tokenizer, max_tokens=32768).report.tokens
    card = output.with_suffix(".md").read_text(encoding="utf-8")
    assert f"tokens a row: {sum(tokens.values()) / 10:.1f} on average" in said
    for role, count in tokens.items():
        assert f"| {count} | {count / 10:.1f} |" in next(line for line in card.splitlines() if f"| {role} |" in line)
