"""What a run needs before its first step, read and checked on every rank: the model folder, the rows and the plan."""

from dataclasses import dataclass
from typing import Any

from alttrain.engine.config import RunConfig
from alttrain.engine.data.dataset import Dataset, load_dataset
from alttrain.engine.data.steps import Plan
from alttrain.engine.model.backbone import Backbone, open_backbone
from alttrain.engine.model.identity import model_digest, text_digest


@dataclass(frozen=True)
class Preparation:
    """A run that can begin."""

    backbone: Backbone
    train_set: Dataset
    eval_set: Dataset
    plan: Plan
    facts: dict[str, Any]
    """What config.json records beside the settings; a resumed run must have the same steps, data and model."""


def prepare(config: RunConfig) -> Preparation:
    """Read and check what `config` names; no weight is read yet.

    Raises:
        AlttrainError: something the user can fix in settings, data or model.
    """
    backbone = open_backbone(config)
    max_tokens = min(config.batch.pack_tokens, backbone.max_tokens)
    train_set = load_dataset(config.data.train, config.data, config.loss, backbone.tokenizer, max_tokens)
    eval_set = load_dataset(config.data.eval, config.data, config.loss, backbone.tokenizer, max_tokens)
    plan = Plan(train_set.lengths, config.batch, config.schedule, config.seed)
    facts = {
        "num_steps": plan.num_steps,
        "data": {
            "files": [*config.data.train, *config.data.eval],
            "train": train_set.report.as_dict(),
            "eval": eval_set.report.as_dict() if eval_set.examples else {},
        },
        "model": _model_facts(config, backbone),
    }
    return Preparation(backbone, train_set, eval_set, plan, facts)


def _model_facts(config: RunConfig, backbone: Backbone) -> dict[str, str]:
    """Return the hashes by which a run knows its model and chat template, wherever these lie."""
    template = backbone.tokenizer.chat_template
    return {
        "sha256": model_digest(backbone.folder, with_weights=not config.model.random_init),
        "chat_template_sha256": text_digest(template if isinstance(template, str) else repr(template)),
    }
