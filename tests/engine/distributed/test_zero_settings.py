"""What DeepSpeed is told, to the last setting, and that it knows every one of them by that name."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed import distributed_c10d

from alttrain.engine.config import ModelConfig, OptimConfig, RunConfig, ZeroConfig
from alttrain.engine.distributed.world import TIMEOUT
from alttrain.engine.distributed.zero_settings import BUCKET_ELEMENTS, deepspeed_settings, limit_waiting

BACKBONE: Any = SimpleNamespace(config=SimpleNamespace(hidden_size=48))
ALWAYS = {
    "train_micro_batch_size_per_gpu": 1,
    "gradient_accumulation_steps": 1,
    "gradient_clipping": 0.5,
    "steps_per_print": 2**60,
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    "communication_data_type": "fp32",
    "timers": {"throughput": {"enabled": False}},
}
BFLOAT16 = {
    "bf16": {"enabled": True, "immediate_grad_update": True},
    "data_types": {"grad_accum_dtype": "fp32"},
}
PARTITIONED: dict[str, Any] = {
    "contiguous_gradients": True,
    "reduce_bucket_size": BUCKET_ELEMENTS,
    "allgather_bucket_size": BUCKET_ELEMENTS,
}
STAGE_3 = {
    "stage": 3,
    "overlap_comm": True,
    "stage3_param_persistence_threshold": 480,  # 10 x hidden_size: norms and biases stay whole
    "stage3_prefetch_bucket_size": BUCKET_ELEMENTS,
}
TO_THE_CPU = {"device": "cpu"}


def settings(stage: int, offload: Any = "none", dtype: Any = "bfloat16") -> dict[str, Any]:
    config = RunConfig(
        model=ModelConfig(dtype=dtype),
        optim=OptimConfig(max_grad_norm=0.5),
        zero=ZeroConfig(stage=stage, offload=offload),
    )
    return deepspeed_settings(config, BACKBONE)


@pytest.mark.parametrize(
    ("stage", "offload", "zero"),
    [
        (0, "none", {"stage": 0, "overlap_comm": False}),
        (1, "none", {"stage": 1, "overlap_comm": False}),
        (2, "none", {"stage": 2, "overlap_comm": True}),
        (3, "none", STAGE_3),
        (1, "optimizer", {"stage": 1, "overlap_comm": False, "offload_optimizer": TO_THE_CPU}),
        (2, "optimizer", {"stage": 2, "overlap_comm": True, "offload_optimizer": TO_THE_CPU}),
        (3, "optimizer", {**STAGE_3, "offload_optimizer": TO_THE_CPU}),
        (3, "all", {**STAGE_3, "offload_optimizer": TO_THE_CPU, "offload_param": TO_THE_CPU}),
    ],
)
def test_settings_of_each_stage_and_offload(stage: int, offload: str, zero: dict[str, Any]) -> None:
    everything = {**ALWAYS, "zero_optimization": {**PARTITIONED, **zero}}
    assert settings(stage, offload, "float32") == everything
    assert settings(stage, offload, "bfloat16") == {**everything, **BFLOAT16}


@pytest.fixture(scope="module")
def read_by_deepspeed() -> Any:
    """Return DeepSpeed's own class for its settings; importing it takes seconds."""
    with pytest.MonkeyPatch.context() as patched:
        if not torch.cuda.is_available():
            patched.setenv("DS_ACCELERATOR", "cpu")
        from deepspeed.runtime.config import DeepSpeedConfig

        yield DeepSpeedConfig


def test_deepspeed_reads_every_setting(read_by_deepspeed: Any) -> None:
    """It ignores a name that it does not know, at the top level without a word."""
    read = read_by_deepspeed(settings(3, "all"))
    assert read.gradient_clipping == 0.5
    assert (read.train_micro_batch_size_per_gpu, read.gradient_accumulation_steps) == (1, 1)
    assert read.steps_per_print == 2**60
    assert (read.zero_allow_untested_optimizer, read.zero_force_ds_cpu_optimizer) == (True, False)
    assert read.communication_data_type == torch.float32
    assert read.timers_config.enabled is False
    assert (read.bfloat16_config.enabled, read.bfloat16_config.immediate_grad_update) == (True, True)
    assert read.grad_accum_dtype == "fp32"
    zero = read.zero_config
    assert (zero.stage, zero.contiguous_gradients, zero.overlap_comm) == (3, True, True)
    assert {zero.reduce_bucket_size, zero.allgather_bucket_size, zero.prefetch_bucket_size} == {BUCKET_ELEMENTS}
    assert zero.param_persistence_threshold == 480
    assert (zero.offload_optimizer.device, zero.offload_param.device) == ("cpu", "cpu")


def test_what_is_set_is_not_what_deepspeed_does_anyway(read_by_deepspeed: Any) -> None:
    """A setting that has become the default can go, with its reason."""
    plain = read_by_deepspeed({"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}})
    assert plain.zero_config.reduce_bucket_size != BUCKET_ELEMENTS
    assert plain.zero_config.allgather_bucket_size != BUCKET_ELEMENTS
    assert plain.communication_data_type != torch.float32
    assert plain.timers_config.enabled is True
    assert plain.zero_allow_untested_optimizer is False
    assert plain.zero_force_ds_cpu_optimizer is True
    assert plain.grad_accum_dtype is None
    assert plain.bfloat16_config.immediate_grad_update is False


def test_deepspeeds_own_group_waits_as_long_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(distributed_c10d, "_set_pg_timeout", lambda *words: told.append(words))
    limit_waiting(SimpleNamespace(data_parallel_group="its group"))
    assert told == [(TIMEOUT, "its group")]


def test_a_torch_that_cannot_be_told_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(distributed_c10d, "_set_pg_timeout")
    with pytest.raises(AssertionError, match="this torch has no _set_pg_timeout"):
        limit_waiting(SimpleNamespace(data_parallel_group="its group"))


def test_settings_are_made_anew_for_each_engine() -> None:
    """DeepSpeed writes into what it is given."""
    config = dataclasses.replace(RunConfig(), zero=ZeroConfig(stage=3))
    assert deepspeed_settings(config, BACKBONE) is not deepspeed_settings(config, BACKBONE)
    assert (
        deepspeed_settings(config, BACKBONE)["zero_optimization"]
        is not deepspeed_settings(config, BACKBONE)["zero_optimization"]
    )
