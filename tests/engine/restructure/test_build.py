"""From files of traces to AltTrain-1K: what is written, what the card says, and that both can be made again."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from alttrain.engine.config import DataConfig, LossConfig
from alttrain.engine.data.dataset import load_dataset
from alttrain.engine.data.rows import read_rows
from alttrain.engine.errors import ConfigError, DataError, ModelError
from alttrain.engine.restructure import build
from alttrain.engine.restructure.config import BenignConfig, BuildConfig, SourceConfig
from alttrain.engine.restructure.structures import ORDER, Structure

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
    assert f"| held_out.csv | {sha256(made['avoid'][0])} | 2 |" in card
    assert f"| other.csv | {sha256(made['avoid'][1])} | 0 |" in card
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
        assert build.as_record(row) == record


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
        ({"num_harmful": 0, "num_benign": 0}, DataError, "nothing is written"),
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
    tokenizer = build.load_tokenizer(small_tokenizer)
    report = load_dataset([made["output"]], DataConfig(), LossConfig(), tokenizer, max_tokens=2048).report
    assert (report.rows, report.examples, report.unsegmented, report.skipped) == (5, 5, 0, ())
    assert set(report.tokens) == {"prompt", "opening", "think", "closing", "end", *ORDER[structure]}


def test_the_card_counts_the_tokens_of_every_role(made: dict[str, Any], small_tokenizer: str) -> None:
    said = build.build(BuildConfig(**(made | {"tokenizer": small_tokenizer})))
    tokenizer = build.load_tokenizer(small_tokenizer)
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
    assert "Left out: 6 of STAR-1: its prompt stands in harmbench_behaviors_text_val.csv" in said


@pytest.fixture(scope="module")
def tokenizer_folder(shared_data: Path) -> str:
    return str(shared_data / "tokenizers" / "deepseek-r1-distill-qwen")


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: str) -> Any:
    return build.load_tokenizer(tokenizer_folder)


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
