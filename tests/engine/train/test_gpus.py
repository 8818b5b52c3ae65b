"""The table of GPUs: every name of --plan.gpu, and the peaks by which a run's MFU is counted."""

import typing

from alttrain.engine.config import PlanConfig
from alttrain.engine.run.metrics import PEAK_FLOPS
from alttrain.engine.train.gpus import GIB, GPUS


def test_every_name_of_the_flag_is_in_the_table() -> None:
    names = typing.get_args(typing.get_type_hints(PlanConfig)["gpu"])
    assert set(names) - {""} == set(GPUS)


def test_peaks_are_those_by_which_metrics_count() -> None:
    known = {"h200": "H200", "h100-80": "H100", "a100-80": "A100", "a100-40": "A100", "l40s": "L40S", "b200": "B200"}
    assert {name: GPUS[name].peak_flops for name in known} == {name: PEAK_FLOPS[key] for name, key in known.items()}


def test_nothing_is_reached_beyond_the_peak_and_memory_is_below_the_name() -> None:
    sold = {"h200": 141, "h100-80": 80, "a100-80": 80, "a100-40": 40, "l40s": 48, "rtx4090": 24, "b200": 192}
    for name, gpu in GPUS.items():
        assert 0.5 * gpu.peak_flops < gpu.product_flops < gpu.peak_flops
        assert 0.85 * sold[name] < gpu.memory / GIB < sold[name]
        assert gpu.network <= gpu.link
