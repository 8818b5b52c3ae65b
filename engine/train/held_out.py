"""Evaluation on held-out rows: the loss as in training, and the nll of every role that the model writes."""

import torch

from alttrain.engine.config import RunConfig
from alttrain.engine.data.batch import Collator
from alttrain.engine.data.dataset import Dataset
from alttrain.engine.data.packs import pack_step
from alttrain.engine.data.work import WorkModel
from alttrain.engine.distributed.engine import Engine
from alttrain.engine.distributed.world import World
from alttrain.engine.files import append_line
from alttrain.engine.run.folder import RunFolder
from alttrain.engine.run.metrics import nll_by_role
from alttrain.engine.trace.roles import ROLES

# Rows packed at a time: enough to fill the packs of many ranks.
EXAMPLES_AT_ONCE = 512


def evaluate(
    engine: Engine,
    dataset: Dataset,
    work: WorkModel,
    config: RunConfig,
    folder: RunFolder,
    world: World,
    *,
    step: int,
) -> None:
    """Append a line to eval.jsonl: `step`, `loss` (the training loss, over all rows at once) and `nll` by role.

    Roles of weight 0 are measured too, so that a run that does not train a role can be compared with one that does.
    Only `prompt` and `opening`, which the model does not write, are left out unless they have weight.
    """
    measured = [role for role in ROLES if role not in ("prompt", "opening")]
    collator = Collator(config.loss, world.device, backend=engine.kernels.backend, measured=measured)
    sums = torch.zeros(2 + 2 * len(ROLES), dtype=torch.float64, device=world.device)
    with engine.evaluating():
        for first in range(0, len(dataset.examples), EXAMPLES_AT_ONCE):
            examples = dataset.examples[first : first + EXAMPLES_AT_ONCE]
            packs = pack_step([len(e.input_ids) for e in examples], config.batch.pack_tokens, world.size, work)
            batch = collator.collate([[examples[index] for index in pack] for pack in packs[world.rank]])
            sums[1] += batch.denominator
            for micro_batch in batch.micro_batches:
                loss_sum, nll_sums, token_counts = engine.loss_sums(micro_batch)
                sums[0] += loss_sum
                sums[2:] += torch.cat([nll_sums, token_counts])
    loss_sum, denominator, *by_role = world.sum(sums).tolist()
    if world.is_first:
        nll = nll_by_role(by_role[: len(ROLES)], by_role[len(ROLES) :])
        append_line(folder.evaluations, {"step": step, "loss": loss_sum / denominator, "nll": nll})
