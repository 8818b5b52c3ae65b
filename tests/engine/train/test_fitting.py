"""The fewest layers are the fewest: tried one by one, they fit and one fewer does not."""

import dataclasses
import itertools

import pytest

from alttrain.engine.config import ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.config_checks import validate
from alttrain.engine.errors import ConfigError
from alttrain.engine.model.shape import PUBLISHED, ModelShape
from alttrain.engine.train.fitting import (
    check_count,
    fewest_layers,
    in_words,
    layout_of,
    needed,
    recomputing,
    with_recomputation,
)
from alttrain.engine.train.memory_model import Layout, Memory, Pack, memory_of

GIB = 2**30
SEVEN = PUBLISHED["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"]
FOURTEEN = PUBLISHED["deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"]
LAYOUTS = [
    Layout(stage=stage, world_size=world, fuses_layers=fuses)
    for (stage, world), fuses in itertools.product(((1, 1), (1, 8), (2, 8), (3, 8)), (True, False))
]


def takes(shape: ModelShape, layout: Layout, pack: Pack, count: int) -> float:
    tried = recomputing(layout, count, shape)
    return needed(memory_of(shape, tried, pack), tried)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda each: f"{each.stage}-{each.world_size}-{each.fuses_layers}")
def test_the_fewest_that_fit_and_more_never_take_more(layout: Layout) -> None:
    pack = Pack(8192, 6144, 2)
    all_counts = range(FOURTEEN.layers + 1)
    taken = [takes(FOURTEEN, layout, pack, count) for count in all_counts]
    assert taken == sorted(taken, reverse=True)
    for room in (taken[0], taken[0] - 1, taken[1], taken[17] + 1, taken[47], taken[48]):
        fewest = fewest_layers(FOURTEEN, layout, pack, room)
        assert fewest == next(count for count in all_counts if taken[count] <= room)
    assert fewest_layers(FOURTEEN, layout, pack, taken[48] - 1) is None
    assert fewest_layers(FOURTEEN, dataclasses.replace(layout, checkpointing="full"), pack, taken[0]) == 0


def test_a_layer_of_the_7b_spares_what_it_keeps_beside_its_input() -> None:
    pack = Pack(8192, 6144)
    taken = [memory_of(SEVEN, recomputing(Layout(), count, SEVEN), pack).peak for count in range(SEVEN.layers + 1)]
    spared = {more - less for more, less in itertools.pairwise(taken)}
    assert spared == {8192 * (106_616 - 2 * 3584)}


def test_what_is_needed_is_the_peak_and_a_margin() -> None:
    memory = Memory({"weights": 60 * GIB}, {"at the loss": {"loss": 40 * GIB}})
    assert needed(memory, Layout()) == pytest.approx(103 * GIB)
    assert needed(memory, Layout(stage=3, world_size=2)) == pytest.approx(106 * GIB)


def test_a_count_as_settings_that_can_be_typed_and_in_words() -> None:
    run = RunConfig(model=ModelConfig(path="m", checkpointing="selective", recomputed_layers=2), output="o")
    for count, checkpointing, layers, said in (
        (0, "off", 0, "off"),
        (1, "full", 1, "full, 1 of 28 layers"),
        (27, "full", 27, "full, 27 of 28 layers"),
        (28, "full", 0, "full"),
    ):
        model = with_recomputation(run, count, SEVEN).model
        assert (model.checkpointing, model.recomputed_layers) == (checkpointing, layers)
        assert in_words(checkpointing, count, SEVEN) == said
        layout = recomputing(Layout(), count, SEVEN)
        assert (layout.checkpointing, layout.num_recomputed(SEVEN)) == (checkpointing, count)
        planned = dataclasses.replace(run, model=model, plan=dataclasses.replace(run.plan, gpu="h200"))
        validate(planned)
    assert with_recomputation(run, 3, SEVEN).optim == run.optim


def test_a_layout_is_a_runs() -> None:
    optim = OptimConfig(moments="float32", master="bfloat16", gradients="float32")
    run = RunConfig(model=ModelConfig(checkpointing="full", recomputed_layers=4), optim=optim, zero=ZeroConfig(stage=3))
    layout = layout_of(run, 2, fuses_layers=False)
    wanted = Layout(stage=3, world_size=2, checkpointing="full", recomputed_layers=4, fuses_layers=False)
    assert layout == dataclasses.replace(wanted, moments="float32", master="bfloat16", gradients="float32")
    assert layout_of(RunConfig(), 2, fuses_layers=True).checkpointing == "off"


def test_more_layers_than_there_are() -> None:
    run = RunConfig(model=ModelConfig(checkpointing="full", recomputed_layers=28))
    check_count(run, SEVEN)
    run = RunConfig(model=ModelConfig(checkpointing="full", recomputed_layers=29))
    with pytest.raises(ConfigError, match=r"--model\.recomputed-layers is 29, and the model has 28 layers"):
        check_count(run, SEVEN)
