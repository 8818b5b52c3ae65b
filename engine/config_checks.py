"""Checks of a run's settings that need nothing but their values: missing, out of range, or in contradiction."""

import json
import math
from datetime import date

from alttrain.engine.config import DataConfig, LossConfig, ModelConfig, RunConfig
from alttrain.engine.errors import ConfigError
from alttrain.engine.thinking import MARKS

MAX_EPOCHS = 10_000


def validate(config: RunConfig) -> None:
    """Check everything about `config` that needs nothing but its values.

    Raises:
        ConfigError: a setting is missing, out of range or contradicts another; the first one found is named.
    """
    _check_required(config)
    _check_ranges(config)
    _check_data(config.data)
    _check_recomputation(config.model)
    _check_zero(config)
    _check_precision(config)
    _check_loss(config.loss)
    _check_plan(config)


def _check_required(config: RunConfig) -> None:
    trains = not config.plan.gpu
    for flag, value, example in (
        ("--model.path", config.model.path, "a model folder or hub id"),
        ("--data.train", config.data.train or not trains, "one or more files or hub ids"),
        ("--output", config.output or not trains, "the run folder"),
    ):
        if not value:
            raise ConfigError(f"is missing: give {example}.", flag=flag)


def _check_data(data: DataConfig) -> None:
    for name, opening, closing in (
        ("think", data.think_open, data.think_close),
        ("target", data.target_open, data.target_close),
    ):
        if opening and closing and (opening == MARKS.open) != (closing == MARKS.close):
            raise ConfigError(
                f"is {opening!r} and --data.{name}-close {closing!r}: marks belong together. Give both.",
                flag=f"--data.{name}-open",
            )
    if bool(data.answer_open) != bool(data.answer_close):
        raise ConfigError("and --data.answer-close belong together: give both or none.", flag="--data.answer-open")
    try:
        variables = json.loads(data.chat_template_kwargs or "{}")
    except ValueError:
        variables = None
    if not isinstance(variables, dict):
        raise ConfigError(
            f"is {data.chat_template_kwargs!r}: it must be a JSON object, as in '{{\"enable_thinking\": true}}'.",
            flag="--data.chat-template-kwargs",
        )
    try:
        date.fromisoformat(data.date)
    except ValueError:
        raise ConfigError(f"is {data.date!r}: it must be a date as in 2026-01-31.", flag="--data.date") from None


def _check_ranges(config: RunConfig) -> None:
    optim, schedule = config.optim, config.schedule
    at_least_one = "must be at least 1"
    at_least_zero = "must be 0 or more"
    positive = "must be a positive number"
    fraction = "must be at least 0 and below 1"
    for flag, value, is_right, rule in (
        (
            "--model.recomputed-layers",
            config.model.recomputed_layers,
            config.model.recomputed_layers >= 0,
            at_least_zero,
        ),
        ("--batch.pack-tokens", config.batch.pack_tokens, config.batch.pack_tokens >= 1, at_least_one),
        ("--batch.examples", config.batch.examples, config.batch.examples >= 0, at_least_zero),
        ("--batch.tokens", config.batch.tokens, config.batch.tokens >= 0, at_least_zero),
        ("--optim.lr", optim.lr, 0 < optim.lr < math.inf, positive),
        ("--optim.betas", optim.betas, all(0 <= beta < 1 for beta in optim.betas), fraction),
        ("--optim.weight-decay", optim.weight_decay, 0 <= optim.weight_decay < math.inf, at_least_zero),
        ("--optim.max-grad-norm", optim.max_grad_norm, 0 <= optim.max_grad_norm < math.inf, at_least_zero),
        ("--schedule.epochs", schedule.epochs, schedule.epochs >= 0, at_least_zero),
        ("--schedule.steps", schedule.steps, schedule.steps >= 0, at_least_zero),
        ("--schedule.warmup-steps", schedule.warmup_steps, schedule.warmup_steps >= 0, at_least_zero),
        ("--checkpoint.every", config.checkpoint.every, config.checkpoint.every >= 0, at_least_zero),
        ("--checkpoint.keep", config.checkpoint.keep, config.checkpoint.keep >= 1, at_least_one),
        ("--eval.every", config.eval.every, config.eval.every >= 0, at_least_zero),
        ("--seed", config.seed, 0 <= config.seed < 2**63, "must be 0 or more and below 2^63"),
    ):
        if not is_right:
            raise ConfigError(f"is {value}: it {rule}.", flag=flag)
    if config.batch.examples == 0 and config.batch.tokens == 0:
        raise ConfigError(
            "is 0 and batch.tokens is 0 too: give one of them, the size of a step.", flag="--batch.examples"
        )
    if config.batch.tokens and not schedule.steps and schedule.epochs > MAX_EPOCHS:
        raise ConfigError(
            f"is {schedule.epochs}, and with --batch.tokens every epoch is planned before the first step, at most "
            f"{MAX_EPOCHS}. Say --schedule.steps instead.",
            flag="--schedule.epochs",
        )
    if config.eval.every and not config.data.eval:
        raise ConfigError(
            f"is {config.eval.every} and --data.eval is empty, so nothing would be evaluated. Name held-out rows, or "
            "leave it out.",
            flag="--eval.every",
        )
    if schedule.epochs == 0 and schedule.steps == 0:
        raise ConfigError(
            "is 0 and schedule.steps is 0 too: give one of them, the length of the run.", flag="--schedule.epochs"
        )


def _check_recomputation(model: ModelConfig) -> None:
    if model.recomputed_layers and model.checkpointing in ("auto", "off"):
        why = "which recomputes nothing" if model.checkpointing == "off" else "which chooses the number itself"
        raise ConfigError(
            f"is {model.recomputed_layers} with --model.checkpointing {model.checkpointing}, {why}. Leave it out, or "
            "use --model.checkpointing full.",
            flag="--model.recomputed-layers",
        )


def _check_zero(config: RunConfig) -> None:
    stage, offload = config.zero.stage, config.zero.offload
    if stage not in (0, 1, 2, 3):
        raise ConfigError(f"is {stage}: it must be 0, 1, 2 or 3.", flag="--zero.stage")
    if stage == 0 and config.model.dtype == "bfloat16":
        raise ConfigError(
            "0 with --model.dtype bfloat16: DeepSpeed cannot accumulate gradients in float32 there. "
            "Use --zero.stage 1, which costs nothing on one GPU.",
            flag="--zero.stage",
        )
    if offload == "optimizer" and stage == 0:
        raise ConfigError("optimizer needs --zero.stage 1, 2 or 3; this run says 0.", flag="--zero.offload")
    if offload == "all" and stage != 3:
        raise ConfigError(f"all needs --zero.stage 3; this run says {stage}.", flag="--zero.offload")
    if stage == 3 and config.model.checkpointing == "selective":
        # DeepSpeed's linear layer adds its bias in place to the matrix product that selective checkpointing keeps, and
        # gathers weights inside the checkpointed region.
        raise ConfigError(
            "selective with --zero.stage 3: DeepSpeed changes the products that it keeps, and "
            "gradients would be wrong. Use full or off, or a lower --zero.stage.",
            flag="--model.checkpointing",
        )


def _check_precision(config: RunConfig) -> None:
    """Float32 weights are their own master, and their gradients and products have no other dtype."""
    if config.model.fp8 != "off" and config.model.dtype == "float32":
        raise ConfigError(
            f"is {config.model.fp8} with --model.dtype float32: float8 products have bfloat16 results. Leave it out, "
            "or use --model.dtype bfloat16.",
            flag="--model.fp8",
        )
    for name, value in (("master", config.optim.master), ("gradients", config.optim.gradients)):
        if value == "bfloat16" and config.model.dtype == "float32":
            raise ConfigError(
                "is bfloat16 with --model.dtype float32: it is for bfloat16 weights. Leave it out, or use "
                "--model.dtype bfloat16.",
                flag=f"--optim.{name}",
            )


def _check_loss(loss: LossConfig) -> None:
    weights = loss.weights()
    for role, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ConfigError(f"is {weight}: a weight must be a number, 0 or more.", flag=f"--loss.{role}")
    if not any(weights.values()):
        raise ConfigError(
            "every {flag} weight is 0: at least one role must have weight, or nothing is trained.", flag="--loss"
        )


def _check_plan(config: RunConfig) -> None:
    plan = config.plan
    for name, value in (("gpus", plan.gpus), ("nodes", plan.nodes)):
        if value < 1:
            raise ConfigError(f"is {value}: it must be at least 1.", flag=f"--plan.{name}")
    if not 0 <= plan.price < math.inf:
        raise ConfigError(f"is {plan.price}: it must be 0 or more.", flag="--plan.price")
    if not plan.gpu:
        return
    if config.model.dtype != "bfloat16":
        raise ConfigError(
            f"is given with --model.dtype {config.model.dtype}: only bfloat16 weights are planned for. Leave one out.",
            flag="--plan.gpu",
        )
    if config.model.fp8 != "off":
        raise ConfigError(
            f"is given with --model.fp8 {config.model.fp8}: float8 products are not planned for. Leave one out.",
            flag="--plan.gpu",
        )
    if config.zero.offload != "none":
        raise ConfigError(
            f"is given with --zero.offload {config.zero.offload}: host memory is not planned for. Leave one out.",
            flag="--plan.gpu",
        )
