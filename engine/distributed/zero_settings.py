"""Importing and configuring deepspeed; every setting that is not its default has the reason beside it.

Private attributes that are used here, and whose presence is asserted: `__compatible_ops__` of deepspeed.ops, and
`_set_pg_timeout` of torch's distributed_c10d.
"""

import logging
import os
import warnings
from typing import Any

from torch.distributed import distributed_c10d

from alttrain.engine.config import RunConfig
from alttrain.engine.distributed.world import TIMEOUT, World
from alttrain.engine.model.backbone import Backbone

# Gradients are reduced in buckets of this many elements: 200 MB in float32.
BUCKET_ELEMENTS = 50_000_000


def limit_waiting(engine: Any) -> None:
    """Set TIMEOUT on DeepSpeed's own process group, which DeepSpeed makes with gloo's thirty minutes."""
    set_timeout = getattr(distributed_c10d, "_set_pg_timeout", None)
    assert set_timeout is not None, "this torch has no _set_pg_timeout"
    set_timeout(TIMEOUT, engine.data_parallel_group)


def import_deepspeed(world: World) -> Any:
    """Return the deepspeed module, imported so that it compiles nothing, joins this world and logs only warnings."""
    if world.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # deepspeed calls collectives by names that torch 2.13 has begun to rename.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.distributed.* is deprecated")
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # The shared-memory op would be compiled at this point, with a C++ compiler and ninja that a user may not have.
    assert isinstance(deepspeed.ops.__compatible_ops__, dict)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(verbose=False)
    return deepspeed


def deepspeed_settings(config: RunConfig, backbone: Backbone) -> dict[str, Any]:
    """Return DeepSpeed's configuration."""
    stage, offload = config.zero.stage, config.zero.offload
    zero: dict[str, Any] = {
        "stage": stage,
        # If this is false, float32 communication silently becomes bfloat16 again.
        "contiguous_gradients": True,
        "overlap_comm": stage >= 2,
        "reduce_bucket_size": BUCKET_ELEMENTS,
        "allgather_bucket_size": BUCKET_ELEMENTS,
    }
    if stage == 3:
        hidden_size = int(backbone.config.hidden_size)
        # Norms and biases stay whole; every matrix is partitioned.
        zero["stage3_param_persistence_threshold"] = 10 * hidden_size
        zero["stage3_prefetch_bucket_size"] = BUCKET_ELEMENTS
    if offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.optim.max_grad_norm,
        "steps_per_print": 2**60,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # AdamW is passed in, torch's or ours
        "zero_force_ds_cpu_optimizer": False,  # DeepSpeed's own AdamW would have to be compiled
        "communication_data_type": "fp32",
        "timers": {"throughput": {"enabled": False}},  # the timer waits for the device at every forward and step
    }
    if config.model.dtype == "bfloat16":
        # Without immediate_grad_update, stage 1 keeps every gradient twice, in bfloat16 and in float32.
        settings["bf16"] = {"enabled": True, "immediate_grad_update": True}
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings
