"""Rows to examples: lengths, weights, and an account in which every row appears."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from alttrain.engine.config import DataConfig, LossConfig
from alttrain.engine.data.dataset import Dataset, load_dataset, shared_prompts
from alttrain.engine.errors import DataError, ModelError
from alttrain.engine.trace.roles import ROLES
from small_tokenizers import SMALL_TOKENIZERS


@pytest.fixture(scope="session")
def tokenizer(small_tokenizer_folder: Callable[[str], Path]) -> Any:
    return AutoTokenizer.from_pretrained(small_tokenizer_folder("bytes-opened"))


def row(name: str | None, answer: str = "Yes.", **changes: Any) -> dict[str, Any]:
    spans = [{"role": "understanding", "text": "It asks."}, {"role": "answer", "text": answer}]
    return {"id": name, "prompt": "Hello?", "spans": spans, **changes}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def refusal(files: tuple[str, ...], tokenizer: Any, config: DataConfig, loss: LossConfig, max_tokens: int) -> str:
    with pytest.raises(DataError) as error:
        load_dataset(files, config, loss, tokenizer, max_tokens)
    assert "\n" not in str(error.value)
    return str(error.value)


def roles(dataset: Dataset, index: int) -> set[str]:
    return {ROLES[span_id] for span_id in dataset.examples[index].span_ids}


LONG = "One and two and three and four and five and six and seven. " * 8
SKIP, CUT = DataConfig(too_long="skip"), DataConfig(too_long="cut")


def test_a_row_that_is_too_long(tmp_path: Path, tokenizer: Any) -> None:
    files = (write(tmp_path / "a.jsonl", row("a"), row("b", LONG), row("c")),)
    whole = load_dataset(files, DataConfig(), LossConfig(), tokenizer, 4096)
    length = whole.lengths[1]
    limit = max(whole.lengths[0], whole.lengths[2]) + 5
    assert refusal(files, tokenizer, DataConfig(), LossConfig(), limit) == (
        f"{files[0]}:2: the row has {length} tokens, and a pack or the model's context holds {limit}. "
        "Raise --batch.pack-tokens as far as the context goes, or say --data.too-long skip or cut."
    )
    # A row that breaks no rule but length is an error even where bad rows are skipped: it has a setting of its own.
    assert refusal(files, tokenizer, DataConfig(on_bad_row="skip"), LossConfig(), limit).startswith(f"{files[0]}:2: ")

    skipped = load_dataset(files, SKIP, LossConfig(), tokenizer, limit)
    assert [example.id for example in skipped.examples] == ["a", "c"]
    assert len(skipped.report.skipped) == 1
    assert skipped.report.skipped[0].startswith(f"{files[0]}:2: the row has {length} tokens")

    cut = load_dataset(files, CUT, LossConfig(), tokenizer, limit)
    assert cut.examples[1].input_ids == whole.examples[1].input_ids[:limit]
    assert cut.examples[1].span_ids == whole.examples[1].span_ids[:limit]
    assert roles(cut, 1) == roles(whole, 1) - {"end"}
    assert (cut.report.cut, cut.report.examples, cut.report.skipped) == (1, 3, ())
    assert load_dataset(files, CUT, LossConfig(), tokenizer, length).report.cut == 0


def test_a_row_cut_down_to_its_prompt_trains_nothing(tmp_path: Path, tokenizer: Any) -> None:
    files = (write(tmp_path / "a.jsonl", row("a"), row("b", prompt=LONG)),)
    limit = load_dataset(files[:1], SKIP, LossConfig(), tokenizer, 60).lengths[0]
    message = f"{files[0]}:2: no token of the row has weight in the loss, so it would train nothing."
    assert refusal(files, tokenizer, CUT, LossConfig(), limit).startswith(message)
    both = load_dataset(files, DataConfig(too_long="cut", on_bad_row="skip"), LossConfig(), tokenizer, limit)
    assert both.report.skipped[0].startswith(message)
    assert both.report.cut == 0


def test_weights_decide_which_rows_train(tmp_path: Path, tokenizer: Any) -> None:
    assessed = row("b", spans=[{"role": "assessment", "text": "It is harmless."}])
    files = (write(tmp_path / "a.jsonl", row("a"), assessed),)
    only = dict.fromkeys(ROLES, 0.0)
    loss = LossConfig(**{**only, "assessment": 2.0})  # type: ignore[arg-type]
    assert refusal(files, tokenizer, DataConfig(), loss, 100).startswith(
        f"{files[0]}:1: no token of the row has weight"
    )
    kept = load_dataset(files, DataConfig(on_bad_row="skip"), loss, tokenizer, 100)
    assert [example.id for example in kept.examples] == ["b"]
    nothing = LossConfig(**{**only, "reasoning": 1.0})  # type: ignore[arg-type]
    assert refusal(files, tokenizer, DataConfig(on_bad_row="skip"), nothing, 100) == (
        f"{files[0]}: nothing is supervised: the weight of every role in the data (prompt, opening, understanding, "
        "assessment, closing, answer, end) is 0. Give one of them a --loss weight above 0."
    )


def test_the_first_token_is_nobody_s_label(tmp_path: Path, tokenizer: Any) -> None:
    files = (write(tmp_path / "a.jsonl", row("a")),)
    loss = LossConfig(prompt=1.0)
    assert load_dataset(files, CUT, loss, tokenizer, 2).lengths == [2]
    assert refusal(files, tokenizer, CUT, loss, 1).startswith(f"{files[0]}:1: no token of the row has weight")


def test_bad_rows_are_refused_or_skipped_and_every_row_is_accounted_for(tmp_path: Path, tokenizer: Any) -> None:
    rows = [row("a"), row("b", "<|im_end|>"), row("a"), row("c", prompt=5), row("d", LONG), row("e")]
    files = (write(tmp_path / "a.jsonl", *rows),)
    config = DataConfig(on_bad_row="skip", too_long="skip")
    dataset = load_dataset(files, config, LossConfig(), tokenizer, 60)
    report = dataset.report
    assert [example.id for example in dataset.examples] == ["a", "e"]
    assert sorted(reason.partition(": ")[0] for reason in report.skipped) == [f"{files[0]}:{n}" for n in (2, 3, 4, 5)]
    assert report.rows == report.examples + len(report.skipped)
    assert "left out" in report.summary()
    assert json.loads(json.dumps(report.as_dict()))["rows"] == 6
    assert "the answer holds '<|im_end|>', by which models end or begin a turn" in refusal(
        (write(tmp_path / "b.jsonl", *rows[:2]),), tokenizer, DataConfig(), LossConfig(), 60
    )
    bad = (write(tmp_path / "c.jsonl", rows[1]),)
    assert refusal(bad, tokenizer, config, LossConfig(), 60).startswith(
        f"{bad[0]}: none of the 1 rows read can be used"
    )


def test_the_fingerprint_knows_tokens_roles_and_weights_and_no_names(tmp_path: Path, tokenizer: Any) -> None:
    def fingerprint(name: str, *rows: Any) -> str:
        files = (write(tmp_path / name, *rows),)
        return load_dataset(files, DataConfig(), LossConfig(), tokenizer, 100).report.sha256

    same = [[row("a"), row("b")], [row("b"), row("a")], [row(None), row(None)]]
    assert {fingerprint("b.jsonl", *rows) for rows in same} == {fingerprint("a.jsonl", row("a"), row("b"))}
    other = row("b", spans=[{"role": "reasoning", "text": "It asks."}, {"role": "answer", "text": "Yes."}])
    changed = [[row("a")], [row("a"), row("b", "No.")], [row("a"), other], [row("a"), row("b", weight=2)]]
    assert fingerprint("a.jsonl", row("a"), row("b")) not in {fingerprint("b.jsonl", *rows) for rows in changed}


def test_forms_and_controls_are_counted(tmp_path: Path, tokenizer: Any) -> None:
    late = [{"role": "answer", "text": "Yes."}, {"role": "assessment", "text": " It is benign."}]
    twice = [{"role": role, "text": f" {role}."} for role in ("reasoning", "assessment", "reasoning", "answer")]
    rows = [row("a"), row("b", structure="full"), row("c", spans=late, structure="after-answer"), row("d", spans=twice)]
    files = (write(tmp_path / "a.jsonl", *rows, row("e", structure="a paragraph"), {"text": "It rains."}),)
    report = load_dataset(files, DataConfig(), LossConfig(), tokenizer, 100).report
    assert report.forms == {
        "understanding > answer": 3,
        "answer > assessment": 1,
        "reasoning > assessment > answer": 1,
        "unsegmented": 1,
    }
    assert report.structures == {"full": 1, "after-answer": 1}
    assert report.unread == {"structure": 1}
    assert "made as a control: after-answer (1)" in report.summary()


def test_held_out_rows_with_the_prompt_of_a_trained_one_are_found(tmp_path: Path, tokenizer: Any) -> None:
    def load(name: str, *rows: Any) -> Any:
        return load_dataset((write(tmp_path / name, *rows),), DataConfig(), LossConfig(), tokenizer, 100)

    train = load("a.jsonl", row("a"), row("b", prompt="Bye?"), {"text": "It rains."})
    held = load("b.jsonl", row("c", "No."), row("d", prompt="Why?"), {"text": "It pours."}, {"text": "It rains."})
    assert shared_prompts(train, held) == [f"{tmp_path}/b.jsonl:1", f"{tmp_path}/b.jsonl:4"]
    assert shared_prompts(held, load_dataset((), DataConfig(), LossConfig(), tokenizer, 100)) == []


def test_no_files_are_no_examples_and_an_unfit_tokenizer_is_refused(
    tokenizer: Any, small_tokenizer_folder: Callable[[str], Path]
) -> None:
    assert load_dataset((), DataConfig(), LossConfig(), tokenizer, 100).examples == []
    bare = AutoTokenizer.from_pretrained(small_tokenizer_folder("bytes"))
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        load_dataset((), DataConfig(), LossConfig(), bare, 100)


@pytest.mark.parametrize("name", SMALL_TOKENIZERS)
def test_rows_of_every_format_are_read_whole(
    name: str, asset_rows: Path, small_tokenizer_folder: Callable[[str], Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_tokenizer_folder(name))
    dataset = load_dataset((str(asset_rows),), DataConfig(), LossConfig(), tokenizer, 2048)
    report = dataset.report
    assert report.rows == report.examples == 30
    assert report.cut == len(report.skipped) == 0
    assert report.unsegmented == 5  # one lists such a span, two have no reasoning to find spans in, two are plain text
    assert sum(report.tokens.values()) == sum(dataset.lengths)
    assert report.tokens["end"] == 30
    is_opened = SMALL_TOKENIZERS[name].opening != ""
    assert set(report.tokens) == set(ROLES) - ({"think"} if is_opened else set())


def test_star_1_is_read_whole(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers/minimind-6400")
    files = (str(shared_data / "train/STAR-1.json"),)
    dataset = load_dataset(files, DataConfig(), LossConfig(), tokenizer, 8192)
    report = dataset.report
    assert report.rows == report.examples == 1000
    assert report.unsegmented == report.cut == len(report.skipped) == 0
    assert sum(report.tokens.values()) == sum(dataset.lengths)
    assert report.tokens["end"] == 1000
    assert set(report.tokens) == set(ROLES) - {"think", "unsegmented"}
