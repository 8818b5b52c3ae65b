"""The setting that a plan chooses fits by its own count, is the fastest that was tried, and could be run."""

import dataclasses
from typing import Any

import pytest

from alttrain.engine.config import (
    BatchConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    PlanConfig,
    RunConfig,
    ZeroConfig,
)
from alttrain.engine.config_checks import validate
from alttrain.engine.errors import ConfigError
from alttrain.engine.model.shape import PUBLISHED
from alttrain.engine.train import plan as planning
from alttrain.engine.train.gpus import GPUS
from alttrain.engine.train.plan import SAME_PACKS, SAME_TIME, changes, make_plan, option_of, settings
from alttrain.engine.train.plan_load import assumed_rows

DISTILL = "deepseek-ai/DeepSeek-R1-Distill-"


def run(name: str, gpu: str, gpus: int = 1, nodes: int = 1, **sections: Any) -> RunConfig:
    config = RunConfig(
        model=ModelConfig(path=f"{DISTILL}{name}"),
        batch=BatchConfig(examples=8),
        plan=PlanConfig(gpu=gpu, gpus=gpus, nodes=nodes),  # type: ignore[arg-type]
    )
    return dataclasses.replace(config, **sections)


@pytest.mark.parametrize(
    ("model", "gpu", "gpus", "nodes"),
    [
        ("Qwen-1.5B", "l40s", 1, 1), ("Qwen-1.5B", "rtx4090", 1, 1), ("Qwen-7B", "h200", 1, 1),
        ("Qwen-7B", "a100-40", 8, 1), ("Llama-8B", "h100-80", 4, 1), ("Qwen-14B", "h200", 1, 1),
        ("Qwen-32B", "h100-80", 8, 2), ("Qwen-32B", "b200", 8, 1),
    ],
)  # fmt: skip
def test_the_best_setting_fits_and_nothing_that_fits_is_faster(model: str, gpu: str, gpus: int, nodes: int) -> None:
    config = run(model, gpu, gpus, nodes)
    plan = make_plan(config)
    assert plan.best is not None
    assert plan.best.memory.peak < plan.best.needed <= GPUS[gpu].memory
    assert plan.way_out is None
    optim = plan.best.config.optim
    precise = dataclasses.replace(config, optim=dataclasses.replace(optim, gradients="auto"))
    for tried in settings(precise, gpus * nodes):
        option = option_of(tried, plan.rows, plan.model.shape, plan.machine)
        assert not option.fits or option.time.seconds * (1 + SAME_TIME) >= plan.best.time.seconds


def test_what_the_flags_say_is_the_setting_and_a_run_that_could_start() -> None:
    config = run("Qwen-14B", "h200", batch=BatchConfig(examples=48))
    best = make_plan(config).best
    assert best is not None
    typed = config
    for flag, value in changes(config, best).items():
        section, name = flag.removeprefix("--").replace("-", "_").split(".")
        old = getattr(getattr(typed, section), name)
        part = dataclasses.replace(getattr(typed, section), **{name: type(old)(value)})
        typed = dataclasses.replace(typed, **{section: part})
    validate(dataclasses.replace(typed, data=DataConfig(train=("t",)), output="o"))
    again = make_plan(typed)
    assert again.asked.fits
    assert again.best is not None
    assert changes(typed, again.best) == {}
    assert again.asked.memory == best.memory


def test_precision_is_lowered_only_where_nothing_else_fits() -> None:
    seven = make_plan(run("Qwen-7B", "h200", optim=OptimConfig(moments="float32", gradients="float32"))).best
    assert seven is not None
    assert (seven.layout.moments, seven.layout.gradients, seven.layout.master) == ("float32", "float32", "float32")
    fourteen = make_plan(run("Qwen-14B", "h200")).best
    assert fourteen is not None
    assert fourteen.layout.master == "bfloat16"
    assert changes(run("Qwen-14B", "h200"), fourteen)["--optim.master"] == "bfloat16"
    two = make_plan(run("Qwen-14B", "h200", gpus=2)).best
    assert two is not None
    assert two.layout.master == "float32"


def test_the_run_as_it_stands_is_kept_where_it_is_as_fast() -> None:
    config = run("Qwen-7B", "h200", model=ModelConfig(path=f"{DISTILL}Qwen-7B", checkpointing="off"))
    plan = make_plan(config)
    assert plan.best is not None
    assert changes(config, plan.best) == {}
    assert plan.notes[0] == "--zero.stage 2 -> 1: one process has nothing to partition"


def test_where_nothing_fits_the_way_out_does() -> None:
    for model, gpu in (("Qwen-7B", "a100-40"), ("Qwen-14B", "rtx4090"), ("Qwen-32B", "h200")):
        plan = make_plan(run(model, gpu))
        assert plan.best is None
        assert not plan.asked.fits
        out = plan.way_out
        assert out is not None
        assert out.machine.gpu == GPUS[gpu]
        again = make_plan(run(model, gpu, out.machine.gpus, out.machine.nodes))
        assert again.best is not None
        assert again.best.memory == out.memory


def test_the_way_out_is_another_gpu_where_more_of_them_do_not_help() -> None:
    """A pack of the longest row is larger than a small GPU, however many there are."""
    rows = dataclasses.replace(assumed_rows("x"), lengths=[100_000] * 8)
    config = run("Qwen-7B", "rtx4090", batch=BatchConfig(examples=1, pack_tokens=100_000))
    shape = PUBLISHED[f"{DISTILL}Qwen-7B"]
    out = planning._smallest_that_fits(config, rows, shape, planning.Machine(GPUS["rtx4090"]))
    assert out is not None
    assert out.machine.gpu != GPUS["rtx4090"]


def test_several_ranks_cannot_do_without_a_master() -> None:
    with pytest.raises(ConfigError, match=r"--optim.master is bfloat16 with 8 ranks"):
        make_plan(run("Qwen-7B", "h200", gpus=8, optim=OptimConfig(master="bfloat16")))


def test_auto_is_what_the_plan_takes_itself() -> None:
    """The run as it stands recomputes what it must on that machine, and no flag is typed for it."""
    for gpu, name, examples in (("h200", "Qwen-7B", 48), ("h100-80", "Qwen-1.5B", 96), ("h200", "Qwen-14B", 24)):
        optim = OptimConfig(master="bfloat16" if name == "Qwen-14B" else "float32")
        plan = make_plan(run(name, gpu, batch=BatchConfig(examples=examples), optim=optim))
        model = plan.asked.config.model
        assert plan.asked.fits
        assert (model.checkpointing, plan.asked.layout.num_recomputed(plan.asked.shape)) == (
            "full" if plan.asked.fewest_layers else "off",
            plan.asked.fewest_layers,
        )
        assert plan.best is not None
        assert not any(flag.startswith("--model.") for flag in changes(plan.config, plan.best))


def test_what_auto_does_not_come_to_is_typed() -> None:
    """PyTorch's layers keep so much that all but products is the cheaper to recompute."""
    model = ModelConfig(path=f"{DISTILL}Qwen-7B", kernels="torch")
    optim = OptimConfig(master="bfloat16")
    plan = make_plan(run("Qwen-7B", "h100-80", model=model, optim=optim, batch=BatchConfig(examples=48)))
    assert plan.asked.layout.checkpointing == "full"
    assert plan.best is not None
    flags = changes(plan.config, plan.best)
    assert flags["--model.checkpointing"] == "selective"
    assert "--model.recomputed-layers" not in flags


def test_no_more_layers_are_recomputed_than_must_be() -> None:
    """What the plan takes where a step fits neither without recomputation nor needs all of it."""
    asked = ModelConfig(path=f"{DISTILL}Qwen-32B", checkpointing="full")
    config = run("Qwen-32B", "h200", 8, model=asked, batch=BatchConfig(examples=8 * 48))
    best = make_plan(config).best
    assert best is not None
    assert 0 < best.layout.recomputed_layers < 64
    one_less = dataclasses.replace(best.config.model, recomputed_layers=best.layout.recomputed_layers - 1)
    shape, rows = PUBLISHED[asked.path], assumed_rows("x")
    machine = planning.Machine(GPUS["h200"], 8)
    fewer = option_of(dataclasses.replace(best.config, model=one_less), rows, shape, machine)
    assert not fewer.fits
    assert fewer.time.seconds < best.time.seconds
    assert changes(config, best)["--model.recomputed-layers"] == str(best.layout.recomputed_layers)


def test_a_number_of_layers_that_is_asked_for_is_planned_and_kept_where_it_is_as_fast() -> None:
    asked = ModelConfig(path=f"{DISTILL}Qwen-7B", checkpointing="full", recomputed_layers=2)
    plan = make_plan(run("Qwen-7B", "h200", model=asked))
    assert plan.asked.recomputation == "full, 2 of 28 layers"
    assert plan.best is not None
    assert changes(plan.config, plan.best) == {}
    many = dataclasses.replace(asked, recomputed_layers=20)
    plan = make_plan(run("Qwen-7B", "h200", model=many, batch=BatchConfig(examples=48)))
    assert plan.best is not None
    assert changes(plan.config, plan.best) == {"--model.checkpointing": "off", "--model.recomputed-layers": "0"}
    with pytest.raises(ConfigError, match="the model has 28 layers"):
        make_plan(run("Qwen-7B", "h200", model=dataclasses.replace(asked, recomputed_layers=29)))


def test_larger_packs_where_a_step_has_the_tokens_and_memory_the_room() -> None:
    """96 rows of 170 tokens: two packs of 8,192, or one of 16,384, which is sure to be faster, if not by 5%."""
    plan = make_plan(run("Qwen-7B", "h200", batch=BatchConfig(examples=96)))
    assert plan.asked.load.most_packs == 2
    assert plan.best is not None
    assert changes(plan.config, plan.best) == {"--batch.pack-tokens": "16384"}
    assert 0.94 < plan.best.time.seconds / plan.asked.time.seconds < 1 - SAME_PACKS
    # Eight rows fill no pack, and where two packs fit, one of twice the tokens may not.
    assert changes(run("Qwen-7B", "h200"), make_plan(run("Qwen-7B", "h200")).best or plan.asked) == {}
    small = make_plan(run("Qwen-7B", "h100-80", gpus=2, batch=BatchConfig(examples=192)))
    assert small.best is not None
    assert small.best.config.batch.pack_tokens < 16_384


def test_selective_checkpointing_is_never_tried_with_stage_3() -> None:
    tried = [(each.zero.stage, each.model.checkpointing) for each in settings(run("Qwen-7B", "h200"), 8)]
    assert len(tried) == len(set(tried)) == 8
    assert (3, "selective") not in tried
    assert {each.zero.stage for each in settings(run("Qwen-7B", "h200"), 1)} == {1}


def test_mfu_is_that_of_the_metrics() -> None:
    option = make_plan(run("Qwen-7B", "h200", gpus=2, zero=ZeroConfig(stage=1))).asked
    work = PUBLISHED[f"{DISTILL}Qwen-7B"].work
    assert option.flops == pytest.approx(8 * work.work(170))
    assert option.mfu == pytest.approx(option.flops / option.time.seconds / (2 * 989e12))
    assert option.hours == pytest.approx(1875 * option.time.seconds / 3600)
