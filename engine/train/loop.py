"""The training loop: `train` holds a whole run, from top to bottom.

Errors of the user are found before the first file is written, and one rank's end every rank. Then come the optimizer
steps, whose loss and gradient do not depend on ranks, micro-batches or packs, and at the end the export of the model.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from alttrain.engine.config import RunConfig
from alttrain.engine.data.batch import Collator, StepBatch
from alttrain.engine.data.dataset import shared_prompts
from alttrain.engine.distributed.choice import build_engine, settled
from alttrain.engine.distributed.engine import Engine
from alttrain.engine.distributed.world import World
from alttrain.engine.report.run_report import write_report
from alttrain.engine.run.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from alttrain.engine.run.export import export_model
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.run.lock import hold_folder
from alttrain.engine.run.metrics import MetricsLog, StepStats
from alttrain.engine.run.space import check_space, space_of
from alttrain.engine.trace.roles import ROLES
from alttrain.engine.train.agreement import check_agreement
from alttrain.engine.train.held_out import evaluate
from alttrain.engine.train.preparation import Preparation, prepare
from alttrain.engine.train.recomputation_choice import settle_recomputation
from alttrain.engine.train.schedule import learning_rate


def train(config: RunConfig) -> None:
    """Fine-tune as `config` says; afterwards the run folder holds the exported model, the metrics and a report.

    Raises:
        AlttrainError: something the user can fix; errors in settings, data, model or run folder are raised before
            anything is written.
    """
    folder = RunFolder(Path(config.output))
    with World.from_environment() as world:
        settings, notes = world.together(lambda: settled(config, world.size))
        run = world.together(lambda: prepare(settings))
        facts = {"world_size": world.size, **run.facts}
        check_agreement(settings, facts, world)
        space = space_of(settings, folder, run.backbone.num_parameters, run.plan.num_steps, world.size)

        def check() -> None:
            folder.check(settings, facts)
            check_space(space, folder)

        with hold_folder(folder, world, check):
            _train(settings, run, facts, folder, world, [*notes, space.sentence()])


def _train(
    config: RunConfig, run: Preparation, facts: dict[str, Any], folder: RunFolder, world: World, notes: list[str]
) -> None:
    """Build the engine, take every step that is left, and export; all ranks have the same run and hold its folder."""
    plan, train_set, eval_set, work = run.plan, run.train_set, run.eval_set, run.backbone.work
    checkpoint = newest_checkpoint(folder) if config.resume else None
    config, said = settle_recomputation(config, run.backbone, plan, train_set.lengths, world)
    engine = build_engine(config, run.backbone, world)
    done = load_checkpoint(engine, checkpoint, world) if checkpoint is not None else 0
    world.barrier()  # every rank has built its model: now the folder may be written to
    if world.is_first:
        _announce(config, run, engine, done, [*said, *notes])
        computed = {"layout": engine.layout, "kernels": "; ".join(engine.kernels.sentences())}
        changes = folder.create(config, {**facts, "computed": computed}, done)
        if changes:
            sys.stderr.write(f"not as at the start before: {'; '.join(changes)}\n")
        folder.cut(done)

    if done == 0 and eval_set.examples:
        evaluate(engine, eval_set, work, config, folder, world, step=0)
    collator = Collator(config.loss, world.device, backend=engine.kernels.paths.span_weights)
    sizes = {"pack_tokens": config.batch.pack_tokens, "first_step": done, "num_steps": plan.num_steps}
    with MetricsLog(folder, world, dtype=config.model.dtype, **sizes) as log:
        for step in range(done + 1, plan.num_steps + 1):
            drawn = plan.draw(step - 1, config.batch.pack_tokens, world.size, work)
            packs = [[train_set.examples[index] for index in pack] for pack in drawn.packs[world.rank]]
            batch = collator.collate(packs)
            lr = learning_rate(config.optim.lr, config.schedule, step, plan.num_steps)
            log.add(step, lr, drawn, train_step(engine, batch, world, lr))

            if eval_set.examples and _is_due(config.eval.every, step, plan.num_steps):
                with log.paused():
                    evaluate(engine, eval_set, work, config, folder, world, step=step)
            if config.checkpoint.every and _is_due(config.checkpoint.every, step, plan.num_steps):
                with log.paused():
                    save_checkpoint(engine, folder, world, step, config.checkpoint.keep)

    export_model(engine, run.backbone, config, folder, world)
    if world.is_first:
        write_report(folder.path)
        sys.stderr.write(f"model: {folder.model}\nreport: {folder.report}\n")


def train_step(engine: Engine, batch: StepBatch, world: World, lr: float) -> StepStats:
    """Take one optimizer step over `batch`, this rank's share of the step.

        loss = sum of w(role(label)) * nll over ranks, micro-batches, packs and tokens / D

    D is summed over the ranks before the first forward, so that a token counts the same in whatever pack it stands.
    Nothing here waits for the device, as no value is copied to the host; `distributed/zero.py` says where DeepSpeed
    waits.
    """
    denominator = world.sum(batch.denominator)
    sums = torch.zeros(1 + 2 * len(ROLES), dtype=torch.float64, device=world.device)
    for index, micro_batch in enumerate(batch.micro_batches):
        loss_sum, nll_sums, token_counts = engine.loss_sums(micro_batch)
        engine.backward(loss_sum, denominator, is_last=index == len(batch.micro_batches) - 1)
        sums += torch.cat([loss_sum.detach().reshape(1).double(), nll_sums.double(), token_counts.double()])
    grad_norm = engine.step(lr)

    totals = world.sum(torch.cat([sums, batch.weight_sum.reshape(1)]))
    loss_sum, nll_sums, token_counts, weight_sum = torch.split(totals, [1, len(ROLES), len(ROLES), 1])
    return StepStats(loss_sum[0] / denominator, nll_sums, token_counts, weight_sum[0], grad_norm)


def _announce(config: RunConfig, run: Preparation, engine: Engine, done: int, notes: list[str]) -> None:
    """Tell the user what was read (skipped rows and unsegmented text too) and what will be done."""
    lines = [f"train: {run.train_set.report.summary()}"]
    if run.eval_set.examples:
        lines.append(f"held out: {run.eval_set.report.summary()}")
        if shared := shared_prompts(run.train_set, run.eval_set):
            lines.append(
                f"held out: {len(shared)} rows have the prompt of a row that is trained, and say nothing of new ones: "
                f"{', '.join(shared[:5])}{', ...' if len(shared) > 5 else ''}"
            )
    if config.resume:
        lines.append(f"going on after step {done}" if done else f"no checkpoint in {config.output}: starting")
    lines.append(f"{run.plan.num_steps} steps {engine.layout}")
    if config.schedule.warmup_steps > run.plan.num_steps:
        lines.append(
            f"the warm-up of {config.schedule.warmup_steps} steps is longer than the run, whose learning rate never "
            "reaches its peak (--schedule.warmup-steps)"
        )
    lines += [*notes, *run.backbone.notes, *engine.kernels.sentences()]
    sys.stderr.write("\n".join(lines) + "\n")


def _is_due(every: int, step: int, num_steps: int) -> bool:
    return step == num_steps or (every > 0 and step % every == 0)
