"""What --model.checkpointing auto comes to: the fewest layers on the fullest pack, the same on every rank, and told."""

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from alttrain.engine.config import BatchConfig, ModelConfig, RunConfig, ScheduleConfig, ZeroConfig
from alttrain.engine.data.steps import Plan
from alttrain.engine.data.work import WorkModel
from alttrain.engine.distributed.choice import settled
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import ConfigError
from alttrain.engine.model.shape import PUBLISHED, ModelShape
from alttrain.engine.train import recomputation_choice as choosing
from alttrain.engine.train.fitting import fewest_layers, layout_of, needed, recomputing, with_recomputation
from alttrain.engine.train.memory_model import Layout, Pack, memory_of
from alttrain.engine.train.recomputation_choice import (
    choose,
    fullest_pack,
    most_cautious,
    sentence,
    settle_recomputation,
)

GIB = 2**30
SEVEN = PUBLISHED["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"]
PACK, ONE = Pack(8192, 8192), Layout()
WORK = WorkModel(1.0, 0.01)
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_least_recomputation_that_fits() -> None:
    off = memory_of(SEVEN, ONE, PACK).peak
    assert choose(SEVEN, ONE, PACK, 1.03 * off, "rank 0").layers == 0
    some = choose(SEVEN, ONE, PACK, 90 * GIB, "rank 0")
    assert some.layers == fewest_layers(SEVEN, ONE, PACK, 90 * GIB)
    assert 0 < some.layers < SEVEN.layers
    assert some.fits
    assert some.memory == memory_of(SEVEN, recomputing(ONE, some.layers, SEVEN), PACK)


def test_where_the_margin_alone_is_missing_it_is_tried_and_said_and_where_more_is_it_is_refused() -> None:
    full = recomputing(ONE, SEVEN.layers, SEVEN)
    peak = memory_of(SEVEN, full, PACK).peak
    tight = choose(SEVEN, ONE, PACK, peak, "rank 0")
    assert tight.layers == SEVEN.layers
    assert not tight.fits
    said = sentence(tight, SEVEN, PACK)
    assert said.startswith(
        f"--model.checkpointing auto -> full: the fullest pack, 8,192 tokens, takes {peak / GIB:.1f} "
    )
    assert said.endswith(
        f"with the margin that is {needed(tight.memory, full) / GIB:.1f}, so that it may run out of memory"
    )
    with pytest.raises(ConfigError) as raised:
        choose(SEVEN, ONE, PACK, 0.96 * peak, "rank 3 (node5)")
    for part in (
        f"--model.checkpointing is auto, and a pack of 8,192 tokens takes {peak / GIB:.1f} GiB ",
        "with every layer recomputed, where rank 3 (node5) has 7",
        "Take more or larger GPUs, --optim.master bfloat16 or shorter packs",
        "or full to try it nevertheless.",
    ):
        assert part in str(raised.value)
    several = Layout(stage=2, world_size=2)
    with pytest.raises(ConfigError, match="Take more or larger GPUs or shorter packs"):
        choose(SEVEN, several, PACK, GIB, "rank 0")


def test_the_rank_with_least_room_decides() -> None:
    choices = [choose(SEVEN, ONE, PACK, room * GIB, f"rank {room}") for room in (110, 90, 139, 89.9)]
    layers = [choice.layers for choice in choices]
    assert most_cautious(choices).layers == max(layers)
    assert most_cautious(choices).where == "rank 89.9"
    assert "of 89.9 on rank 89.9" in sentence(most_cautious(choices), SEVEN, PACK)


def make_steps(lengths: list[int], examples: int = 4, epochs: int = 3) -> Plan:
    return Plan(lengths, BatchConfig(examples=examples), ScheduleConfig(epochs=epochs), 5)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("most_packed", [1000, 8])
def test_no_pack_of_the_run_is_fuller(monkeypatch: pytest.MonkeyPatch, world_size: int, most_packed: int) -> None:
    monkeypatch.setattr(choosing, "MOST_PACKED", most_packed)
    draw = random.Random(world_size)
    lengths = [draw.choice((20, 60, 170, 900)) + draw.randrange(40) for _ in range(101)]
    steps = make_steps(lengths)
    found = fullest_pack(steps, lengths, 1000, world_size, WORK)
    packs = [steps.draw(step, 1000, world_size, WORK).packs for step in range(steps.num_steps)]
    sums = [sum(lengths[index] for index in pack) for ranks in packs for rank in ranks for pack in rank]
    most = max(len(ranks[0]) for ranks in packs)
    assert steps.num_steps == 3 * 26
    if most_packed == 1000:
        assert found == Pack(max(sums), max(sums), most)
    else:
        assert 0.95 * max(sums) <= found.tokens <= max(sums)


def test_a_step_that_fits_one_pack_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [100] * 50 + [130]
    steps = make_steps(lengths)
    drawn = []
    draw = steps.draw
    monkeypatch.setattr(steps, "draw", lambda *args: drawn.append(args[0]) or draw(*args))  # type: ignore[func-returns-value]
    assert fullest_pack(steps, lengths, 8192, 1, WORK) == Pack(430, 430, 1)
    assert len(drawn) == 1


def settle(config: RunConfig, device: torch.device = CPU, layers: int = 2) -> tuple[RunConfig, list[str]]:
    model = AutoConfig.for_model(
        "qwen2", vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    backbone: Any = SimpleNamespace(config=model, folder=Path("m"), work=WORK)
    lengths = [30, 20, 20, 10]
    return settle_recomputation(config, backbone, make_steps(lengths), lengths, World(0, 0, 1, device))


def test_on_a_cpu_nothing_is_recomputed() -> None:
    config, said = settle(RunConfig())
    assert config == dataclasses.replace(RunConfig(), model=ModelConfig(checkpointing="off"))
    assert said == ["--model.checkpointing auto -> off: on a CPU nothing is recomputed"]
    assert settle(config) == (config, [])


def test_what_is_asked_for_is_done_and_nothing_is_said() -> None:
    for checkpointing, layers in (("off", 0), ("full", 0), ("full", 2), ("selective", 1)):
        config = RunConfig(model=ModelConfig(checkpointing=checkpointing, recomputed_layers=layers))  # type: ignore[arg-type]
        assert settle(config) == (config, [])
    with pytest.raises(ConfigError, match=r"--model\.recomputed-layers is 3, and the model has 2 layers"):
        settle(RunConfig(model=ModelConfig(checkpointing="full", recomputed_layers=3)))


def test_what_is_not_planned_for_recomputes_all() -> None:
    for config, why in (
        (RunConfig(model=ModelConfig(dtype="float32")), "--model.dtype float32"),
        (RunConfig(zero=ZeroConfig(stage=3, offload="all")), "--zero.offload all"),
    ):
        chosen, said = settle(config, GPU)
        assert (chosen.model.checkpointing, chosen.model.recomputed_layers) == ("full", 0)
        assert said == [f"--model.checkpointing auto -> full: with {why} memory is not planned for"]


@pytest.mark.parametrize("count", [0, 4, 6])
def test_on_a_gpu_the_room_of_this_process_decides(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """What is planned for is a pack of 80 tokens of this model, with the kernels that passed."""
    fuses, layers = count == 4, 6
    config, _ = settled(RunConfig(batch=BatchConfig(examples=2, pack_tokens=100)), 1)
    layout = layout_of(config, 1, fuses_layers=fuses)
    shape = ModelShape("qwen2", 32, 64, layers, 4, 2, 8, 97, qkv_bias=True)
    pack = Pack(80, 80, 1)
    monkeypatch.setattr(choosing, "agreed_kernels", lambda *_: SimpleNamespace(fuses_layers=fuses))
    tried = recomputing(layout, count, shape)
    monkeypatch.setattr(choosing, "room_of", lambda _: needed(memory_of(shape, tried, pack), tried))
    chosen, said = settle(config, GPU, layers)
    assert chosen == with_recomputation(config, count, shape)
    words = {0: "off", 4: "full, 4 of 6 layers", 6: "full"}[count]
    assert said[0].startswith(f"--model.checkpointing auto -> {words}: the fullest pack, 80 tokens, takes 0.1 GiB")
    monkeypatch.setattr(choosing, "room_of", lambda _: 1 << 20)
    with pytest.raises(ConfigError, match=r"where rank 0 .*has 0\.0\. Take more"):
        settle(config, GPU, layers)


def test_room_is_what_is_free_and_what_the_allocator_has_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 8)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 3)
    assert choosing.room_of(GPU) == 75
