"""The trainers of others beside ours: the same documents, rows as they come, and what is missing named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import bench_rival_steps
import pytest
import torch
from bench_rival_steps import STEPS_OF_A_SIZE, TIMED_STEPS, Clock, Setting

from harness import predictions
from harness.documents import IGNORED, plain_row, step_examples
from harness.predictions import Work, head_seconds, rival_layout, rival_time, shape_of
from harness.rival_trainers import Rival, documents, labelled
from harness.shapes import R1_DISTILL, TINY

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_rival_steps.py"


def test_the_documents_of_a_step_are_the_same_in_every_process_and_others_in_every_step() -> None:
    first, again, next_one = (step_examples(1340, 1000, step) for step in (1, 1, 2))
    assert [example.input_ids for example in first] == [example.input_ids for example in again]
    assert [example.input_ids for example in first] != [example.input_ids for example in next_one]


def test_a_plain_row_trains_the_tokens_that_have_weight_with_us() -> None:
    examples = step_examples(500, 1000, 1)
    row = plain_row(examples)
    assert row["input_ids"] == [token for example in examples for token in example.input_ids]
    assert row["seq_lengths"] == [len(example.input_ids) for example in examples]
    work = Work.of_examples(examples)
    assert labelled(row) == work.labelled
    assert work.tokens == 500
    for document, example in zip(documents(row), examples, strict=True):
        prompt = len(example.input_ids) // 4
        assert document["labels"] == [IGNORED] * prompt + example.input_ids[prompt:]


def test_every_trainer_is_named_once_and_the_7b_comes_first() -> None:
    plans = bench_rival_steps.plans("cuda", False)
    assert len({plan.label for plan in plans}) == len(plans)
    assert all(not plan.implementation.startswith("ours") for plan in plans)
    assert plans[0].label.startswith("R1-7B TRL")


def test_a_clock_sends_a_row_for_each_size_and_times_only_what_is_warm() -> None:
    sent: list[dict[str, Any]] = []
    rival = Rival("transformers", has_liger=False, checkpointing=False, is_dense=True)
    clock = Clock(Setting("tiny", TINY["tiny"], rival, (48, 96)), "in words", sent.append)
    clock.loss = torch.tensor(6.0)
    for step in range(2 * STEPS_OF_A_SIZE):
        clock.begin(step)
        clock.end(step)
    assert [row["sizes"]["tokens"] for row in sent] == [48, 96]
    assert all(row["samples"] == TIMED_STEPS for row in sent)
    assert all(0 < row["low_ms"] <= row["median_ms"] <= row["high_ms"] for row in sent)


def test_a_trainer_that_is_not_installed_is_named_for_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rival, "missing", lambda _: "trl is not installed")
    rows = bench_rival_steps.measured(Setting("tiny", TINY["tiny"], bench_rival_steps.TRL, (48, 96)))
    assert [(row["sizes"]["tokens"], row["reason"]) for row in rows] == [
        (48, "trl is not installed"),
        (96, "trl is not installed"),
    ]


def test_a_size_that_does_not_fit_is_named_and_those_before_it_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(_: Setting, __: str, clock: Clock) -> None:
        for step in range(STEPS_OF_A_SIZE):
            clock.begin(step)
            clock.end(step)
        raise torch.OutOfMemoryError("12 GiB more")

    monkeypatch.setattr(bench_rival_steps, "_train", train)
    sent: list[dict[str, Any]] = []
    rival = Rival("transformers", has_liger=False, checkpointing=False, is_dense=True)
    bench_rival_steps.measure_setting(sent.append, Setting("tiny", TINY["tiny"], rival, (48, 96)))
    assert "median_ms" in sent[0]
    assert sent[1]["reason"] == "does not fit: 12 GiB more"
    assert len(sent) == 2


def test_the_products_of_a_loss_are_those_of_its_chunks() -> None:
    """TRL projects twice, Liger adds up dW over many chunks; transformers has the plain products of all rows."""
    from alttrain.engine.train.gpus import GPUS

    shape, gpu = shape_of(R1_DISTILL["R1-7B"]), GPUS["h200"]
    ours, plain, trl, liger = (head_seconds(shape, 8192, gpu, loss) for loss in ("", "logits", "trl", "liger"))
    assert plain == pytest.approx(ours, rel=0.02)
    assert trl == pytest.approx(4 / 3 * ours, rel=0.1)
    assert liger > 1.1 * ours


def test_a_loss_that_projects_again_is_predicted_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    from alttrain.engine.train.gpus import GPUS

    model = R1_DISTILL["R1-7B"]
    assert torch.cuda.is_available() or predictions.loss_ms(model, 8192, "") is None
    monkeypatch.setattr(predictions, "_this_gpu", lambda: GPUS["h200"])
    ours, few, trl, liger, by_token = (
        predictions.loss_ms(model, rows, loss, projects_again=again) or 0.0
        for rows, loss, again in (
            (8192, "", False), (819, "", False), (8192, "trl", False), (8192, "liger", False), (8192, "liger", True),
        )
    )  # fmt: skip
    assert few < 0.2 * ours < ours < trl < by_token
    assert ours < liger < by_token


def test_a_trainer_that_recomputes_or_has_no_flash_attention_is_predicted_slower() -> None:
    from alttrain.engine.train.gpus import GPUS
    from alttrain.engine.train.plan_load import tiles_of
    from alttrain.engine.train.time_model import Batch, Machine, step_time

    shape, gpu = shape_of(R1_DISTILL["R1-7B"]), GPUS["h200"]
    work = Work.of_examples(step_examples(8192, 1000, 1))
    batch = Batch(work.tokens, work.labelled, 1, sum(map(tiles_of, work.lengths)))

    def seconds(checkpointing: bool, is_dense: bool) -> float:
        layout = rival_layout(checkpointing=checkpointing, fuses_layers=True)
        ours = step_time(shape, layout, batch, Machine(gpu))
        return rival_time(ours, shape, layout, work, gpu, "trl", is_dense=is_dense).seconds

    assert seconds(False, False) < seconds(True, False) < seconds(True, True)


def test_dry_run_takes_steps_of_every_trainer_that_is_installed_and_names_the_others(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads((tmp_path / "rival_steps.json").read_text())
    assert written["refused"] == written["cut"] == []
    told = [*written["rows"], *written["absent"]]
    assert len(told) == 2 * len(bench_rival_steps.plans("cpu", True))
    # The same model over the same documents has the same loss, to bfloat16, by whatever trainer.
    for tokens in (48, 96):
        found = [row["loss"] for row in written["rows"] if row["sizes"]["tokens"] == tokens]
        assert max(found, default=0.0) - min(found, default=0.0) < 0.02
