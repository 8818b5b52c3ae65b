"""Settings out of range are named with their flag, value and rule; everything else passes."""

import dataclasses
import math
from typing import Any

import pytest

from alttrain.engine.config import LossConfig, OptimConfig, PlanConfig, RunConfig, ZeroConfig
from alttrain.engine.config_checks import validate
from alttrain.engine.errors import ConfigError
from alttrain.engine.trace.roles import ROLES

GOOD = RunConfig(
    model=dataclasses.replace(RunConfig().model, path="m"),
    data=dataclasses.replace(RunConfig().data, train=("t",)),
    output="o",
)


SELECTIVE = dataclasses.replace(GOOD.model, checkpointing="selective")
FLOAT32 = dataclasses.replace(GOOD.model, dtype="float32")


def changed(section: str, **values: Any) -> RunConfig:
    if section == "run":
        return dataclasses.replace(GOOD, **values)
    return dataclasses.replace(GOOD, **{section: dataclasses.replace(getattr(GOOD, section), **values)})


def test_defaults_are_valid() -> None:
    validate(GOOD)


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("model", {"path": ""}, "--model.path is missing"),
        ("data", {"train": ()}, "--data.train is missing"),
        ("data", {"think_open": "[T]"}, "--data.think-open is '[T]' and --data.think-close '</think>': marks belong"),
        ("data", {"target_close": "[/T]"}, "--data.target-open is '<think>' and --data.target-close '[/T]': marks"),
        ("data", {"answer_open": "<answer>"}, "--data.answer-open and --data.answer-close belong together"),
        ("data", {"chat_template_kwargs": "[1]"}, "--data.chat-template-kwargs is '[1]': it must be a JSON object"),
        ("data", {"chat_template_kwargs": "{"}, "--data.chat-template-kwargs is '{': it must be a JSON object"),
        ("data", {"date": "today"}, "--data.date is 'today': it must be a date as in 2026-01-31."),
        ("run", {"output": ""}, "--output is missing"),
        ("run", {"seed": -1}, "--seed is -1"),
        ("zero", {"stage": 4}, "--zero.stage is 4: it must be 0, 1, 2 or 3"),
        ("zero", {"stage": -1}, "--zero.stage is -1"),
        ("zero", {"stage": 0}, "--zero.stage 0 with --model.dtype bfloat16"),
        ("zero", {"stage": 2, "offload": "all"}, "--zero.offload all needs --zero.stage 3"),
        ("run", {"zero": ZeroConfig(stage=3), "model": SELECTIVE}, "selective with --zero.stage 3"),
        ("run", {"model": FLOAT32, "optim": OptimConfig(master="bfloat16")}, "--optim.master is bfloat16 with"),
        ("run", {"model": FLOAT32, "optim": OptimConfig(gradients="bfloat16")}, "--optim.gradients is bfloat16 with"),
        ("run", {"model": dataclasses.replace(FLOAT32, fp8="rowwise")}, "--model.fp8 is rowwise with --model.dtype"),
        ("model", {"recomputed_layers": -1}, "--model.recomputed-layers is -1: it must be 0 or more"),
        (
            "model",
            {"recomputed_layers": 3},
            "--model.recomputed-layers is 3 with --model.checkpointing auto, which chooses the number itself. Leave it "
            "out, or use --model.checkpointing full.",
        ),
        ("model", {"recomputed_layers": 3, "checkpointing": "off"}, "checkpointing off, which recomputes nothing."),
        ("optim", {"lr": 0.0}, "--optim.lr is 0.0: it must be a positive number"),
        ("optim", {"lr": math.nan}, "--optim.lr is nan"),
        ("optim", {"lr": math.inf}, "--optim.lr is inf"),
        ("optim", {"betas": (0.9, 1.0)}, "--optim.betas is (0.9, 1.0)"),
        ("optim", {"weight_decay": -0.1}, "--optim.weight-decay is -0.1"),
        ("optim", {"max_grad_norm": math.nan}, "--optim.max-grad-norm is nan"),
        ("batch", {"pack_tokens": 0}, "--batch.pack-tokens is 0"),
        ("batch", {"examples": 0}, "--batch.examples is 0 and batch.tokens is 0 too"),
        ("schedule", {"epochs": 0}, "--schedule.epochs is 0 and schedule.steps is 0 too"),
        ("schedule", {"warmup_steps": -1}, "--schedule.warmup-steps is -1"),
        ("checkpoint", {"keep": 0}, "--checkpoint.keep is 0"),
        ("loss", {"assessment": -1.0}, "--loss.assessment is -1.0: a weight must be a number, 0 or more"),
        ("loss", {"answer": math.nan}, "--loss.answer is nan"),
        ("loss", dict.fromkeys(LossConfig().weights(), 0.0), "every --loss weight is 0"),
    ],
)
def test_out_of_range_is_named(section: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(changed(section, **values))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_a_number_of_layers_with_what_recomputes_layers(checkpointing: str) -> None:
    validate(changed("model", checkpointing=checkpointing, recomputed_layers=3))


def test_every_role_has_a_weight_and_all_ones_is_plain_sft() -> None:
    weights = LossConfig().weights()
    assert tuple(weights) == ROLES
    assert {role for role, weight in weights.items() if weight == 0} == {"prompt", "opening"}
    assert set(weights.values()) == {0.0, 1.0}


PLANNED = dataclasses.replace(GOOD, data=RunConfig().data, output="", plan=PlanConfig(gpu="h200"))


def test_a_plan_needs_neither_rows_nor_a_folder() -> None:
    validate(PLANNED)
    with pytest.raises(ConfigError, match=r"--model.path is missing"):
        validate(dataclasses.replace(PLANNED, model=dataclasses.replace(GOOD.model, path="")))


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("plan", {"gpus": 0}, "--plan.gpus is 0: it must be at least 1."),
        ("plan", {"nodes": -1}, "--plan.nodes is -1: it must be at least 1."),
        ("plan", {"price": -0.5}, "--plan.price is -0.5: it must be 0 or more."),
        ("plan", {"price": math.nan}, "--plan.price is nan"),
        ("model", {"dtype": "float32"}, "--plan.gpu is given with --model.dtype float32: only bfloat16 weights"),
        ("model", {"fp8": "rowwise"}, "--plan.gpu is given with --model.fp8 rowwise: float8 products are not"),
        ("zero", {"offload": "optimizer"}, "--plan.gpu is given with --zero.offload optimizer: host memory is not"),
    ],
)
def test_what_no_plan_can_be_made_for_is_refused(section: str, values: dict[str, Any], said: str) -> None:
    part = dataclasses.replace(getattr(PLANNED, section), **values)
    with pytest.raises(ConfigError) as error:
        validate(dataclasses.replace(PLANNED, **{section: part}))
    assert str(error.value).startswith(said)


def test_the_same_runs_are_good_without_a_plan() -> None:
    for section, values in (("model", {"dtype": "float32"}), ("zero", {"offload": "optimizer"})):
        validate(changed(section, **values))
