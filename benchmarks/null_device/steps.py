"""Whole training steps of the engine as it stands, on the null device: cases, counted and printed as JSON.

    echo '{"case": {"model": "7B"}, "capacity": null}' | python -m null_device.steps

in the environment that `places.py` describes; `running.py` starts it. Every case is a fork of a process that has
imported everything, which is most of the time that a small one takes. The model has its real widths and zeros for
weights; documents are those of bench_train_step.py. Of several ranks this process is the first, and the others do not
exist: collectives are counted and change nothing. Values that the host reads are zeros, so a branch that depends on
one takes the way of zero: gradients are never clipped, and DeepSpeed's check that ranks agree is left out.
"""

import contextlib
import functools
import importlib
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from null_device.cases import Case
from null_device.counters import NullDevice, Waits, most_called, since, summary

WARMUP_STEPS, COUNTED_STEPS = 2, 3
PACKAGES = ("torch", "triton", "transformers", "deepspeed")
LISTED = 10
# The collectives of torch.distributed, and the position of the argument whose bytes are all that is sent or received.
COLLECTIVES = {
    "all_reduce": 0, "broadcast": 0, "reduce": 0, "all_gather_into_tensor": 0, "reduce_scatter_tensor": 1,
    "_all_gather_base": 0, "_reduce_scatter_base": 1,
}  # fmt: skip


def yardstick() -> float:
    """Return the CPU milliseconds of a million additions in Python, by which host times of two machines compare."""
    begin, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number
    return round(1e3 * (time.process_time() - begin), 1)


class Zeros:
    """Weights that take no time and no memory."""

    def read(self, _name: str, _shape: tuple[int, ...], start: int, stop: int) -> Any:
        """Return zeros on the device that share one element."""
        import torch

        return torch.zeros(1, dtype=torch.bfloat16, device="cuda").expand(stop - start)


def make_backbone(case: Case) -> Any:
    """Return a backbone in the shape of the case's model, without folder and tokenizer."""
    from alttrain.engine.model.backbone import Backbone
    from harness.shapes import R1_DISTILL, transformers_config

    config = transformers_config(R1_DISTILL[f"R1-{case.model}"], case.layers)
    return Backbone(Path(), config, None, Zeros())  # type: ignore[arg-type]


def make_config(case: Case) -> Any:
    """Return the settings of the run that the case describes; all others are the engine's defaults."""
    from alttrain.engine.config import BatchConfig, LossConfig, ModelConfig, OptimConfig, RunConfig, ZeroConfig

    return RunConfig(
        model=ModelConfig(
            checkpointing=case.checkpointing,  # type: ignore[arg-type]
            recomputed_layers=case.recomputed,
            kernels=case.kernels,  # type: ignore[arg-type]
            fp8=case.fp8,  # type: ignore[arg-type]
        ),
        loss=LossConfig(assessment=2.0),
        batch=BatchConfig(pack_tokens=case.tokens),
        optim=OptimConfig(
            master=case.master,  # type: ignore[arg-type]
            moments=case.moments,  # type: ignore[arg-type]
            gradients=case.gradients,  # type: ignore[arg-type]
        ),
        zero=ZeroConfig(stage=case.stage),
    )


def with_auto(config: Any, case: Case, backbone: Any, world: Any) -> Any:
    """Return the settings with the recomputation that --model.checkpointing auto comes to on this device."""
    from alttrain.engine.model.shape import ModelShape
    from alttrain.engine.train.fitting import layout_of, with_recomputation
    from alttrain.engine.train.memory_model import Pack
    from alttrain.engine.train.recomputation_choice import choose, room_of

    shape = ModelShape.from_config(backbone.config.to_dict(), Path())
    layout = layout_of(config, case.world, fuses_layers=case.kernels != "torch")
    pack = Pack(case.tokens, case.tokens, case.packs)
    return with_recomputation(config, choose(shape, layout, pack, room_of(world.device), "rank 0").layers, shape)


def stand_in_for_other_ranks(case: Case) -> Counter[str]:
    """Make this process the first of the case's ranks; return the count of collectives that it will call, and bytes."""
    import torch.distributed as dist

    found: Counter[str] = Counter()
    for name, position in COLLECTIVES.items():
        if hasattr(dist, name):
            setattr(dist, name, _counted(getattr(dist, name), name, position, found))
    if case.world > 1:
        from torch.distributed import distributed_c10d
        from torch.testing._internal.distributed.fake_pg import FakeStore

        place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": case.world, "LOCAL_WORLD_SIZE": case.world}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29555")
        start = dist.init_process_group

        def start_alone(*_: Any, **__: Any) -> None:
            start("fake", store=FakeStore(), rank=0, world_size=case.world)

        dist.init_process_group = start_alone
        distributed_c10d._set_pg_timeout = lambda *_: None  # nobody is waited for
    if case.stage == 3:
        import deepspeed.runtime.zero.partitioned_param_coordinator as coordinator

        coordinator.assert_ints_same_as_other_ranks = lambda *_: None
    return found


def _counted(collective: Callable[..., Any], name: str, position: int, found: Counter[str]) -> Callable[..., Any]:
    @functools.wraps(collective)
    def call(*args: Any, **options: Any) -> Any:
        tensors = [*args, *options.values()]
        found[f"{name} calls"] += 1
        found[f"{name} bytes"] += tensors[position].numel() * tensors[position].element_size()
        return collective(*args, **options)

    return call


class Steps:
    """Steps of the engine that a case describes."""

    def __init__(self, case: Case, capacity: int | None) -> None:
        """Build the engine on a device of `capacity` bytes; None for the device's own."""
        from alttrain.engine.data.batch import Collator
        from alttrain.engine.distributed.choice import build_engine, settled
        from alttrain.engine.distributed.world import World

        self.case = case
        self.device = NullDevice()
        if capacity is not None:
            self.device.set_capacity(capacity)
        self.collectives = stand_in_for_other_ranks(case)
        self.backbone, self.world = make_backbone(case), World.from_environment()
        self.config, _ = settled(make_config(case), self.world.size)
        if case.checkpointing == "auto":
            self.config = with_auto(self.config, case, self.backbone, self.world)
        self.engine = build_engine(self.config, self.backbone, self.world)
        span_weights = self.engine.kernels.paths.span_weights
        self.collator = Collator(self.config.loss, self.world.device, backend=span_weights)
        self.draw = random.Random(0)

    def take(self, step: int, log: Any) -> dict[str, float]:
        """Draw, collate, train and log one step, as the training loop does; return the CPU milliseconds of each."""
        from alttrain.engine.data.steps import DrawnStep
        from alttrain.engine.train.loop import train_step
        from harness.documents import draw_examples

        case = self.case
        packs = [draw_examples(case.tokens, 1000, self.draw) for _ in range(case.packs)]
        numbers = [list(range(len(pack))) for pack in packs]
        tokens = case.tokens * case.packs * case.world
        drawn = DrawnStep([numbers] * case.world, tokens, case.packs * case.world, 0.0, 0.0)
        times = [time.process_time()]
        batch = self.collator.collate(packs)
        times.append(time.process_time())
        stats = train_step(self.engine, batch, self.world, 1e-6)
        times.append(time.process_time())
        log.add(step, 1e-6, drawn, stats)
        times.append(time.process_time())
        return {
            part: round(1e3 * (end - begin), 1)
            for part, begin, end in zip(("collate", "step", "log"), times[:-1], times[1:], strict=True)
        }

    def measure(self, figures: dict[str, Any]) -> None:
        """Fill in `figures` as steps are taken, so that they hold what was found before a step that fails."""
        import torch

        figures["parameters"] = sum(self.engine.parameter_bytes().values()) // 2
        figures["kernels"] = self.engine.kernels.reason
        figures["checkpointing"] = [self.config.model.checkpointing, self.config.model.recomputed_layers]
        figures["bytes_after_start"] = torch.cuda.memory_allocated()
        figures["peak_bytes"] = 0
        host: list[dict[str, float]] = []
        last = WARMUP_STEPS + COUNTED_STEPS + 1
        with _metrics_log(self, last) as log:
            for step in range(1, last + 1):
                torch.cuda.reset_peak_memory_stats()
                before, sent = self.device.counts(), Counter(self.collectives)
                with Waits(self.device) if step == last else contextlib.nullcontext() as waits:
                    times = self.take(step, log)
                figures["steps"] = step
                figures["peak_bytes"] = max(figures["peak_bytes"], torch.cuda.max_memory_allocated())
                figures["reserved_bytes"] = torch.cuda.max_memory_reserved()
                if WARMUP_STEPS < step < last:
                    host.append(times)
                if step == last - 1:
                    counts = since(before, self.device.counts())
                    figures["step"] = summary(counts)
                    figures["collectives"] = dict(sorted((self.collectives - sent).items()))
                    figures["launched_most"] = most_called(counts, ("kernel", "triton"), LISTED)
                    figures["products"] = most_called(counts, ("product",), LISTED)
            figures["bytes_between_steps"] = torch.cuda.memory_allocated()
            figures["allocator_retries"] = torch.cuda.memory_stats().get("num_alloc_retries", 0)
            figures["host_cpu_ms"] = {part: min(times[part] for times in host) for part in host[0]}
            figures["yardstick_cpu_ms"] = yardstick()
            figures["waits"] = dict(waits.found.most_common())  # type: ignore[union-attr]


@contextlib.contextmanager
def _metrics_log(steps: Steps, num_steps: int) -> Iterator[Any]:
    from alttrain.engine.run.folder import RunFolder
    from alttrain.engine.run.metrics import MetricsLog

    with tempfile.TemporaryDirectory() as folder:
        sizes = {"pack_tokens": steps.case.tokens, "first_step": 0, "num_steps": num_steps}
        with MetricsLog(RunFolder(Path(folder)), steps.world, dtype="bfloat16", **sizes) as log:
            log.bar.disable = True
            yield log


def import_everything() -> None:
    """Import what every case needs: nothing of it starts CUDA or a thread.

    Asked for the number of devices, as deepspeed does, torch would refuse CUDA in every process that is forked later.
    """
    import torch

    count = torch._C._cuda_getDeviceCount
    torch._C._cuda_getDeviceCount = lambda: 1
    for module in (
        "torch._dynamo", "triton", "deepspeed", "transformers.models.qwen2.modeling_qwen2",
        "transformers.models.llama.modeling_llama", "bench_train_step", "alttrain.engine.distributed.zero",
        "alttrain.engine.train.loop",
    ):  # fmt: skip
        importlib.import_module(module)
    torch._C._cuda_getDeviceCount = count


def run_alone(request: dict[str, Any]) -> None:
    """Run the case of a request and print its figures, in a process that ends with it."""
    import torch

    case = Case(**request["case"])
    figures: dict[str, Any] = {"case": case._asdict(), "versions": {name: version(name) for name in PACKAGES}}
    try:
        Steps(case, request["capacity"]).measure(figures)
    except Exception as error:  # whatever it is, it is what the case showed
        figures["refused"] = f"{type(error).__name__}: {str(error).strip()[:500]}"
        if not isinstance(error, torch.OutOfMemoryError):
            traceback.print_exc()
    print("FIGURES " + json.dumps(figures), flush=True)
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Run a case for every line of standard input, each in a process of its own, and print END after each."""
    import_everything()
    for text in sys.stdin:
        child = os.fork()
        if child == 0:
            run_alone(json.loads(text))
        _, status = os.waitpid(child, 0)
        print(f"END {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
