"""The time model by hand, and in the order that any step must have; no GPU has confirmed its milliseconds."""

import dataclasses
import itertools

import pytest

from alttrain.engine.model.shape import PUBLISHED
from alttrain.engine.train.gpus import GPUS, Gpu
from alttrain.engine.train.memory_model import Layout
from alttrain.engine.train.time_model import (
    SHARED,
    Batch,
    Machine,
    StepTime,
    beside,
    layer_products,
    optimizer_bytes,
    product_seconds,
    step_time,
    waiting_seconds,
)

SHAPES = {name.rsplit("-", 1)[1]: shape for name, shape in PUBLISHED.items()}
H200 = GPUS["h200"]
# One multiprocessor, and numbers that can be divided in the head.
TOY = Gpu("toy", 1e9, 2e12, 1e12, 1e15, 1, 100.0, 10.0)


def batch(tokens: int, packs: float = 1) -> Batch:
    """Documents of 167 tokens: two rows of tiles, three tiles each."""
    return Batch(tokens, 0.75 * tokens, packs, 3 * tokens / 167)


@pytest.mark.parametrize(
    ("model", "tokens", "milliseconds"),
    [
        ("1.5B", 1340, 48), ("1.5B", 8192, 148), ("1.5B", 16_384, 286), ("7B", 1340, 143), ("7B", 8192, 575),
        ("7B", 16_384, 1110), ("8B", 1340, 149), ("8B", 8192, 623),
    ],
)  # fmt: skip
def test_an_h200s_steps_are_those_of_the_forecast_op_by_op(model: str, tokens: int, milliseconds: int) -> None:
    """The forecast walked through every operation of a step on the null device; this model uses widths alone."""
    time = step_time(SHAPES[model], Layout(), batch(tokens), Machine(H200))
    assert time.seconds == pytest.approx(1e-3 * milliseconds, rel=0.05)


def test_a_product_takes_whole_tiles() -> None:
    tile = 128 * 256 * 2 * 512 / 1e12
    assert product_seconds(128, 256, 512, TOY) == pytest.approx(tile)
    assert product_seconds(127, 255, 512, TOY) == pytest.approx(tile)
    assert product_seconds(256, 512, 512, TOY) == pytest.approx(4 * tile)
    two = dataclasses.replace(TOY, multiprocessors=2)
    assert product_seconds(128, 256, 512, two) > 0.5 * tile  # the second one finds no tile as large


def test_a_thin_product_takes_the_time_of_its_bytes() -> None:
    slow = dataclasses.replace(TOY, bandwidth=1e9)
    assert product_seconds(1, 1000, 1000, slow) == pytest.approx((2 * (1000 + 1_000_000) + 2000) / 1e9)


def test_the_backward_has_two_products_for_each_of_the_forward() -> None:
    shape = SHAPES["7B"]
    assert layer_products(shape, 8192, H200) == pytest.approx(
        3 * layer_products(shape, 8192, H200, only_forward=True), rel=0.05
    )
    flops = 6 * 8192 * sum(out * into for out, into in shape.products)
    assert layer_products(shape, 8192, H200) > flops / H200.product_flops


@pytest.mark.parametrize(
    ("layout", "bytes_a_parameter"),
    [
        (Layout(), 20),  # weights and low halves 4 each, moments 8, gradient read twice 4
        (Layout(master="bfloat16"), 16),
        (Layout(moments="float32"), 28),
        (Layout(moments="float32", gradients="float32"), 32),
        (Layout(stage=1, world_size=2), 22 + (20 + 18) / 2),
        (Layout(stage=2, world_size=4), 14 + (20 + 88) / 4),
        (Layout(stage=3, world_size=4, moments="float32"), 14 + (28 + 88) / 4),
    ],
)
def test_the_optimizers_bytes_by_hand(layout: Layout, bytes_a_parameter: float) -> None:
    shape = SHAPES["7B"]
    assert optimizer_bytes(shape, layout) == pytest.approx(bytes_a_parameter * shape.num_parameters)


def test_one_process_waits_for_nobody_and_stage_1_for_all_gradients() -> None:
    shape = SHAPES["7B"]
    assert waiting_seconds(shape, Layout(), 1, Machine(H200), 1.0, 1.0) == 0
    machine = Machine(H200, 8)
    all_reduce, gather = (share * shape.num_parameters * 7 / 8 / 370e9 for share in (8, 2))
    waiting = waiting_seconds(shape, Layout(stage=1, world_size=8), 1, machine, 1.0, 1.0)
    assert waiting == pytest.approx(all_reduce + gather, rel=0.01)
    hidden = waiting_seconds(shape, Layout(stage=2, world_size=8), 1, machine, 1.0, 1.0)
    assert hidden == pytest.approx(SHARED * all_reduce + gather, rel=0.05)
    bare = waiting_seconds(shape, Layout(stage=2, world_size=8), 1, machine, 0.0, 0.0)
    assert bare == pytest.approx(all_reduce + gather, rel=0.05)


def test_what_is_beside_a_computation_costs_its_share_and_what_is_longer_costs_the_rest() -> None:
    assert beside(1.0, 4.0) == pytest.approx(SHARED)
    assert beside(4.0, 1.0) == pytest.approx(3.0 + SHARED)
    assert beside(4.0, 0.0) == 4.0


def test_between_nodes_the_network_limits_and_more_nodes_leave_less() -> None:
    assert Machine(TOY, 2).bus == 100.0
    assert Machine(TOY, 2, 2).bus == pytest.approx(20.0 * 0.95)
    assert Machine(TOY, 20, 2).bus == pytest.approx(100.0 * 0.95)
    assert Machine(TOY, 2, 4).bus == pytest.approx(20.0 * 0.95**2)
    assert Machine(TOY, 2, 4).world_size == 8


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_more_work_takes_longer(stage: int) -> None:
    """Stage 0 stands for one process."""
    machine = Machine(H200, 8 if stage else 1)

    def seconds(tokens: int, packs: float, checkpointing: str) -> float:
        layout = Layout(stage=stage or 1, world_size=machine.world_size, checkpointing=checkpointing)
        return step_time(SHAPES["7B"], layout, batch(tokens, packs), machine).seconds

    for checkpointing in ("off", "selective", "full"):
        # While Python is waited for, hardly anything grows.
        times = [seconds(tokens, 1, checkpointing) for tokens in (128, 512, 2048, 8192, 32_768)]
        assert all(longer > 0.99 * shorter for shorter, longer in itertools.pairwise(times))
        assert times[1:] == sorted(times[1:])
        assert seconds(2048, 1, checkpointing) < seconds(2048, 2, checkpointing)
    assert seconds(8192, 1, "off") < seconds(8192, 1, "selective") < seconds(8192, 1, "full")


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_each_recomputed_layer_adds_its_part(checkpointing: str, stage: int) -> None:
    shape, machine = SHAPES["7B"], Machine(H200, 8 if stage else 1)

    def of(count: int) -> StepTime:
        layout = Layout(
            stage=stage or 1,
            world_size=machine.world_size,
            checkpointing=checkpointing if count else "off",
            recomputed_layers=count,
        )
        return step_time(shape, layout, batch(8192), machine)

    times = [of(count) for count in range(shape.layers + 1)]
    assert times[0].device["again"] == 0
    for name in ("again", "launches"):
        each = [after.device[name] - before.device[name] for before, after in itertools.pairwise(times)]
        assert each == pytest.approx([each[0]] * shape.layers)
        assert each[0] > 0
    python = [after.host - before.host for before, after in itertools.pairwise(times)]
    assert python == pytest.approx([python[0]] * shape.layers)
    assert [time.seconds for time in times] == sorted(time.seconds for time in times)
    everything = Layout(stage=stage or 1, world_size=machine.world_size, checkpointing=checkpointing)
    assert step_time(shape, everything, batch(8192), machine) == times[-1]


def test_a_faster_gpu_and_a_smaller_model_take_less() -> None:
    times = [
        step_time(SHAPES[name], Layout(), batch(8192), Machine(H200)).seconds for name in ("1.5B", "7B", "14B", "32B")
    ]
    assert times == sorted(times)
    by_gpu = [
        step_time(SHAPES["7B"], Layout(), batch(8192), Machine(GPUS[name])).seconds
        for name in ("b200", "h200", "a100-80", "rtx4090")
    ]
    assert by_gpu == sorted(by_gpu)


def test_a_step_takes_the_longer_of_device_and_python() -> None:
    tiny = step_time(SHAPES["1.5B"], Layout(), batch(10), Machine(GPUS["b200"]))
    assert tiny.seconds == tiny.host > sum(tiny.device.values())
    full = step_time(SHAPES["7B"], Layout(), batch(8192), Machine(H200))
    assert full.seconds == sum(full.device.values()) > full.host


def test_torchs_layers_take_longer_than_ours() -> None:
    ours, torchs = (
        step_time(SHAPES["7B"], Layout(fuses_layers=fuses), batch(8192), Machine(H200)) for fuses in (True, False)
    )
    assert ours.seconds < torchs.seconds
    assert ours.host < torchs.host
