"""What a resumed run must have as it was, what it may have elsewhere, and what is told of each start."""

import copy
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.config import RunConfig
from alttrain.engine.errors import CheckpointError
from alttrain.engine.run.resuming import changes_of, check_same_run, earlier_starts, new_start

FOLDER = Path("runs/it")


def record(**settings: Any) -> dict[str, Any]:
    run = RunConfig().as_dict()
    for name, value in settings.items():
        section, _, key = name.partition("__")
        run[section][key] = value
    return {
        "run": run,
        "world_size": 2,
        "num_steps": 10,
        "data": {"files": ["x"], "train": {"sha256": "a" * 64, "skipped": ["x:1: bad"]}, "eval": {}},
        "model": {"sha256": "b" * 64, "chat_template_sha256": "c" * 64},
        "versions": {"torch": "2.13.0", "python": "3.12.1"},
        "git_commit": "f00",
    }


PATHS = {
    "model__path": "/disk/model",
    "data__train": ["/disk/rows.jsonl"],
    "data__chat_template": "/disk/t.jinja",
}


@pytest.mark.parametrize(("name", "value"), PATHS.items())
def test_the_same_content_under_another_path_goes_on_and_is_told(name: str, value: Any) -> None:
    before, now = record(), record(**{name: value})
    now["data"]["files"], now["data"]["train"]["skipped"] = ["y"], ["y:1: bad"]
    check_same_run(FOLDER, before, now)
    (change,) = changes_of(before, now)
    flag = "--" + name.replace("__", ".").replace("_", "-")
    assert change.startswith(f"{flag} /disk/")
    assert change.endswith((" (the same model)", " (the same rows)", " (the same chat template)"))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (("model", "sha256"), "the model of --model.path is another than"),
        (("model", "chat_template_sha256"), "the chat template of --data.chat-template is another than"),
        (("data", "train", "sha256"), "the rows of --data.train are others than"),
        (("data", "eval", "sha256"), "the rows of --data.eval are others than"),
    ],
)
def test_other_content_is_refused_under_the_same_path(keys: tuple[str, ...], sentence: str) -> None:
    before, now = record(), record()
    at = now
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = "d" * 64
    with pytest.raises(CheckpointError) as raised:
        check_same_run(FOLDER, before, now)
    assert str(raised.value).startswith(sentence)
    assert "dddddddddddd" in str(raised.value) or "not now" in str(raised.value)


def test_held_out_rows_may_not_go() -> None:
    before, now = record(), record()
    before["data"]["eval"] = {"sha256": "e" * 64}
    with pytest.raises(CheckpointError, match=r"--data\.eval are others"):
        check_same_run(FOLDER, before, now)


def test_what_changes_no_number_may_differ_and_all_else_may_not() -> None:
    now = record(checkpoint__every=7, model__checkpointing="full", model__recomputed_layers=3, eval__every=3)
    check_same_run(FOLDER, record(), now)
    assert [change.split()[0] for change in changes_of(record(), now)] == [
        "--model.checkpointing",
        "--model.recomputed-layers",
        "--checkpoint.every",
        "--eval.every",
    ]
    for name, value, said in (
        ("optim__lr", 1.0, "--optim.lr 1e-05, this one 1.0"),
        ("data__columns", "prompt=q", "--data.columns none, this one prompt=q"),
        ("model__random_init", True, "--model.random-init False, this one True"),
    ):
        with pytest.raises(CheckpointError, match=said):
            check_same_run(FOLDER, record(), record(**{name: value}))
    for fact in ("world_size", "num_steps"):
        with pytest.raises(CheckpointError, match=fact.replace("_", " ")):
            check_same_run(FOLDER, record(), record() | {fact: 99})


def test_a_record_without_hashes_of_the_model_is_compared_by_path() -> None:
    """Runs that began before the record held them go on too, from where their model lay."""
    before = record(model__path="m")
    del before["model"]
    check_same_run(FOLDER, before, record(model__path="m"))
    with pytest.raises(CheckpointError, match=r"--model\.path m, this one n"):
        check_same_run(FOLDER, before, record(model__path="n"))


def test_a_run_begun_when_all_states_were_float32_goes_on_with_them_alone() -> None:
    before = record()
    for name in ("moments", "master", "gradients"):
        del before["run"]["optim"][name]
    now = record(optim__moments="float32", optim__gradients="float32")
    check_same_run(FOLDER, before, now)
    assert changes_of(before, now) == []
    with pytest.raises(CheckpointError, match=r"its run has --optim\.moments float32, this one bfloat16"):
        check_same_run(FOLDER, before, record(optim__moments="bfloat16", optim__gradients="float32"))


def test_a_run_begun_when_all_layers_were_recomputed_goes_on_with_fewer_and_says_so() -> None:
    before = record(model__checkpointing="full")
    del before["run"]["model"]["recomputed_layers"]
    now = record(model__checkpointing="full", model__recomputed_layers=3)
    check_same_run(FOLDER, before, now)
    assert changes_of(before, record(model__checkpointing="full")) == []
    assert changes_of(before, now) == ["--model.recomputed-layers 3, before 0"]


def test_versions_and_commit_are_told() -> None:
    now = record()
    now["versions"], now["git_commit"] = {"torch": "2.13.1", "python": "3.12.1"}, None
    assert changes_of(record(), now) == ["torch 2.13.1, before 2.13.0", "commit None, before f00"]


def test_starts_are_listed_in_order() -> None:
    assert earlier_starts(None) == []
    first = new_start(record(), 0, [])
    assert (first["step"], first["versions"]["torch"], first["git_commit"]) == (0, "2.13.0", "f00")
    kept = record() | {"starts": [first]}
    assert earlier_starts(copy.deepcopy(kept)) == [first]
    (made_up,) = earlier_starts(record())
    assert (made_up["step"], made_up["versions"]["torch"]) == (None, "2.13.0")


def test_other_kernels_are_told_and_every_start_keeps_its_own() -> None:
    before, now = record(), record()
    assert changes_of(before, now | {"computed": {"kernels": "kernels: Triton"}}) == []  # it was not kept then
    before["computed"] = {"layout": "in one process, 10 bytes a parameter", "kernels": "kernels: Triton"}
    now["computed"] = before["computed"] | {"kernels": "kernels: Triton, but PyTorch for rope"}
    assert changes_of(before, now) == ["kernels: Triton, but PyTorch for rope, before kernels: Triton"]
    assert new_start(now, 3, [])["computed"] == now["computed"]
