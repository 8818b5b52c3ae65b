"""What the user reads of a plan: both settings, what to type, what to change, and that nothing of it was measured."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from alttrain.engine.config import BatchConfig, ModelConfig, OptimConfig, PlanConfig, RunConfig
from alttrain.engine.train.gpus import GIB, GPUS
from alttrain.engine.train.plan import make_plan
from alttrain.engine.train.plan_text import figures, machine_name, written
from alttrain.engine.train.time_model import Machine

NAME = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"


def run(gpu: str = "h200", name: str = NAME, examples: int = 8, checkpointing: Any = "auto", **plan: Any) -> RunConfig:
    return RunConfig(
        model=ModelConfig(path=name, checkpointing=checkpointing),
        batch=BatchConfig(examples=examples),
        plan=PlanConfig(gpu=gpu, **plan),  # type: ignore[arg-type]
    )


def cells(text: str, title: str) -> list[str]:
    """Return the words of the line that begins with `title`."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(title)]
    return line.strip().removeprefix(title).split()


def test_parts_add_up_to_the_peak_and_the_step() -> None:
    plan = make_plan(run(gpus=4))
    text = written(plan)
    begin, end = text.index("memory of each GPU"), text.index("  peak")
    parts = [float(re.split(r" {2,}", line.strip())[1]) for line in text[begin:end].splitlines()[1:]]
    assert sum(parts) == pytest.approx(plan.asked.memory.peak / GIB, abs=0.3)
    device = plan.asked.time
    assert sum(device.device.values()) + device.waiting <= device.seconds
    assert cells(text, "the step")[0] == f"{1e3 * device.seconds:.0f}"
    assert cells(text, "steps")[:1] == ["1,875"]


def test_the_last_line_says_what_is_predicted_and_what_counted() -> None:
    for config in (run(), run("rtx4090", NAME.replace("7B", "32B"))):
        last = written(make_plan(config)).splitlines()[-1]
        assert "Times are predicted: no GPU has run this." in last
        assert "within 3% of those counts" in last
        assert "measured" not in last


def test_what_to_type_and_what_to_change() -> None:
    text = written(make_plan(run(checkpointing="full")))
    assert "\ntype: --model.checkpointing off\n" in text
    assert "--zero.stage 2 -> 1: one process has nothing to partition\n" in text
    nothing = written(make_plan(run("a100-40")))
    assert (
        "Nothing fits on 1 x A100 SXM, 40 GB. On 4 x A100 SXM, 40 GB it does: --plan.gpu a100-40 --plan.gpus 4"
        in nothing
    )
    assert "fastest that fits" not in nothing
    assert "no, " in nothing


def test_nothing_known_holds_it() -> None:
    plan = dataclasses.replace(make_plan(run("a100-40")), way_out=None)
    assert "Nothing fits on any machine that is known here. Shorten the rows: --data.too-long cut" in written(plan)


def test_a_cost_only_where_there_is_a_price() -> None:
    assert "\ncost " not in written(make_plan(run()))
    plan = make_plan(run(gpus=2, price=3.0))
    assert cells(written(plan), "cost")[0] == f"{plan.asked.hours * 2 * 3.0:,.2f}"


def test_idle_ranks_are_said() -> None:
    assert "50% of the ranks' packs are empty" in written(make_plan(run(examples=4, gpus=8)))
    assert "packs are empty" not in written(make_plan(run(examples=8, gpus=8)))


def test_the_sentence_for_recipes_says_both_settings_or_that_it_does_not_fit() -> None:
    plan = make_plan(run(checkpointing="full"))
    assert figures(plan) in written(plan)
    assert figures(plan).startswith("1 x H200: 73.6 GiB of 139.2 a GPU, all layers recomputed, ")
    assert " With --model.checkpointing off 77." in figures(plan)
    assert " GiB of 139.2 a GPU, nothing recomputed, " in figures(plan)
    assert "which does not fit" in figures(make_plan(run("a100-40")))


def test_what_is_recomputed_is_said() -> None:
    """A step of 16,320 tokens of the 14B, with 8 bytes a parameter: not all of it need be recomputed."""
    model = ModelConfig(path=NAME.replace("7B", "14B"))
    optim = OptimConfig(master="bfloat16")
    batch = BatchConfig(examples=48)
    config = RunConfig(model=model, optim=optim, batch=batch, plan=PlanConfig(gpu="h200"))
    plan = make_plan(config)
    count = plan.asked.fewest_layers
    assert 0 < count < 48
    assert f" GiB of 139.2 a GPU, {count} of 48 layers recomputed, " in figures(plan)
    assert re.search(rf"^--model.checkpointing +auto: full, {count} of 48 layers\b", written(plan), re.MULTILINE)
    selective = dataclasses.replace(config, model=dataclasses.replace(model, checkpointing="selective"))
    assert ", all but products of all layers recomputed, " in figures(make_plan(selective))
    assert re.search(r"^--model.checkpointing +selective ", written(make_plan(selective)), re.MULTILINE)


def test_a_machine_in_words() -> None:
    assert machine_name(Machine(GPUS["h200"], 8)) == "8 x H200"
    assert machine_name(Machine(GPUS["h200"], 8, 2)) == "2 nodes of 8 x H200"


def test_what_was_not_counted_is_said(tmp_path: Path) -> None:
    said = "No Qwen3 was among the counted"
    assert said not in written(make_plan(run()))
    values = {
        "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 256,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert said in written(make_plan(run(name=str(tmp_path)))).splitlines()[-1]
