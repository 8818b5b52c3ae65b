"""The training loop: `train` holds a whole run, from top to bottom.

Errors of the user are found before the first file is written. Then come the optimizer steps, whose loss and gradient do
not depend on ranks, micro-batches or packs, and at the end the export of the model.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alttrain.engine.config import RunConfig
from alttrain.engine.data.batch import Collator, StepBatch
from alttrain.engine.data.dataset import Dataset, load_dataset
from alttrain.engine.data.steps import Plan
from alttrain.engine.distributed.world import World
from alttrain.engine.distributed.zero import ZeroEngine
from alttrain.engine.model.backbone import Backbone, open_backbone
from alttrain.engine.model.identity import model_digest, text_digest
from alttrain.engine.report.run_report import write_report
from alttrain.engine.run.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from alttrain.engine.run.export import export_model
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.run.metrics import MetricsLog, StepStats
from alttrain.engine.trace.roles import ROLES
from alttrain.engine.train.held_out import evaluate
from alttrain.engine.train.schedule import learning_rate


def train(config: RunConfig) -> None:
    """Fine-tune as `config` says; afterwards the run folder holds the exported model, the metrics and a report.

    Raises:
        AlttrainError: something the user can fix; errors in settings, data, model or run folder are raised before
            anything is written.
    """
    backbone = open_backbone(config)
    max_tokens = min(config.batch.pack_tokens, backbone.max_tokens)
    train_set = load_dataset(config.data.train, config.data, config.loss, backbone.tokenizer, max_tokens)
    eval_set = load_dataset(config.data.eval, config.data, config.loss, backbone.tokenizer, max_tokens)
    work = backbone.work
    plan = Plan(train_set.lengths, config.batch, config.schedule, config.seed)
    folder = RunFolder(Path(config.output))

    with World.from_environment() as world:
        facts = _facts(config, train_set, eval_set, plan, world) | {"model": _model_facts(config, backbone)}
        folder.check(config, facts)
        checkpoint = newest_checkpoint(folder) if config.resume else None
        engine = ZeroEngine(config, backbone, world)

        done = load_checkpoint(engine, checkpoint, world) if checkpoint is not None else 0
        world.barrier()  # every rank has checked the folder and built its model: now the folder may be written to
        if world.is_first:
            _announce(
                config, train_set, eval_set, plan, world, done, (*backbone.notes, f"kernels: {engine.kernels.reason}")
            )
            changes = folder.create(config, facts, done)
            if changes:
                sys.stderr.write(f"not as at the start before: {'; '.join(changes)}\n")
            folder.cut(done)

        if done == 0 and eval_set.examples:
            evaluate(engine, eval_set, work, config, folder, world, step=0)
        collator = Collator(config.loss, world.device, backend=engine.kernels.backend)
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

        export_model(engine, backbone, config, folder, world)
        if world.is_first:
            write_report(folder.path)
            sys.stderr.write(f"model: {folder.model}\nreport: {folder.report}\n")


def train_step(engine: ZeroEngine, batch: StepBatch, world: World, lr: float) -> StepStats:
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


def _facts(config: RunConfig, train_set: Dataset, eval_set: Dataset, plan: Plan, world: World) -> dict[str, Any]:
    """Return the facts that config.json records beside the settings; a resumed run must have the same."""
    return {
        "world_size": world.size,
        "num_steps": plan.num_steps,
        "data": {
            "files": [*config.data.train, *config.data.eval],
            "train": train_set.report.as_dict(),
            "eval": eval_set.report.as_dict() if eval_set.examples else {},
        },
    }


def _model_facts(config: RunConfig, backbone: Backbone) -> dict[str, str]:
    """Return the hashes by which a resumed run knows its model and chat template, wherever these lie."""
    template = backbone.tokenizer.chat_template
    return {
        "sha256": model_digest(backbone.folder, with_weights=not config.model.random_init),
        "chat_template_sha256": text_digest(template if isinstance(template, str) else repr(template)),
    }


def _announce(
    config: RunConfig,
    train_set: Dataset,
    eval_set: Dataset,
    plan: Plan,
    world: World,
    done: int,
    notes: Sequence[str],
) -> None:
    """Tell the user what was read (skipped rows and unsegmented text too) and what will be done.

    Args:
        config: the settings.
        train_set: the rows that are trained.
        eval_set: the held-out rows.
        plan: the steps.
        world: the ranks.
        done: the last step that a resumed run has taken; 0 for a new one.
        notes: sentences about the model folder and the kernels.
    """
    sys.stderr.write(f"train: {train_set.report.summary()}\n")
    if eval_set.examples:
        sys.stderr.write(f"held out: {eval_set.report.summary()}\n")
    if config.resume:
        message = f"going on after step {done}" if done else f"no checkpoint in {config.output}: starting"
        sys.stderr.write(f"{message}\n")
    sys.stderr.write(f"{plan.num_steps} steps on {world.size} ranks, ZeRO stage {config.zero.stage}\n")
    sys.stderr.writelines(f"{note}\n" for note in notes)


def _is_due(every: int, step: int, num_steps: int) -> bool:
    return step == num_steps or (every > 0 and step % every == 0)
