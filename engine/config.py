"""What a run is: frozen dataclasses, one section a flag group, and the checks that need nothing but the values.

A recipe is one `RunConfig(...)` literal; the command line is made from these classes (`cli.py`). Nothing here imports
torch, so that `--help` answers at once.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from alttrain.engine.errors import ConfigError
from alttrain.engine.thinking import MARKS


@dataclass(frozen=True)
class ModelConfig:
    """The backbone."""

    path: str = ""
    """Folder or hub id of a Qwen2/2.5, Qwen3 or Llama model."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Dtype of the weights in forward and backward; masters and moments are float32."""
    random_init: bool = False
    """Read config and tokenizer only and draw the weights from --seed."""
    kernels: Literal["auto", "triton", "torch"] = "auto"
    """Triton's kernels where they are proven on the GPU at hand; always; or transformers' layers and torch alone."""
    checkpointing: Literal["off", "selective", "full"] = "full"
    """What the backward recomputes: nothing, everything but matrix products and attention, or whole layers."""


@dataclass(frozen=True)
class DataConfig:
    """Rows of traces; the format is described in the README."""

    train: tuple[str, ...] = ()
    """Files (.jsonl, .json, .parquet) or hub ids."""
    eval: tuple[str, ...] = ()
    """Held-out rows, in the same formats; empty for no evaluation."""
    columns: str = ""
    """Names in the source, as in prompt=question,response=answer."""
    think_open: str = MARKS.open
    """What opens the reasoning in the source's responses."""
    think_close: str = MARKS.close
    """What closes the reasoning in the source's responses."""
    chat_template: str = ""
    """A Jinja file that takes the place of the tokenizer's chat template."""
    too_long: Literal["error", "skip", "cut"] = "error"
    """A row longer than a pack or than the model's context."""
    on_bad_row: Literal["error", "skip"] = "error"
    """A row that breaks a rule; skipped rows are counted and listed."""


@dataclass(frozen=True)
class LossConfig:
    """The weight of each role's tokens in the loss; all 1 is plain SFT."""

    prompt: float = 0.0
    """System, user and earlier turns."""
    opening: float = 0.0
    """What the template writes for the assistant."""
    think: float = 1.0
    """A <think> that we add because the template does not."""
    understanding: float = 1.0
    """What the problem is."""
    assessment: float = 1.0
    """Whether it is harmful, and why: the safety-reasoning span."""
    reasoning: float = 1.0
    """What follows from the assessment."""
    closing: float = 1.0
    """The </think> between reasoning and answer."""
    answer: float = 1.0
    """What the user reads."""
    end: float = 1.0
    """The end-of-sequence token."""
    unsegmented: float = 1.0
    """Supervised text that no rule could place."""
    per: Literal["weight", "token", "example"] = "weight"
    """The denominator: sum of weights, number of weighted tokens, or examples (each scaled to weight 1)."""

    def weights(self) -> dict[str, float]:
        """Return the weight of every role."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "per"}


@dataclass(frozen=True)
class BatchConfig:
    """How many examples share a step, and how they are packed."""

    examples: int = 16
    """Examples a step over all ranks; 0 where --batch.tokens says how many."""
    tokens: int = 0
    """Real tokens a step over all ranks, at most; takes the place of --batch.examples where it is not 0."""
    pack_tokens: int = 8192
    """Capacity of a pack in tokens."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with decoupled weight decay (none on norms and biases)."""

    lr: float = 1e-5
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the two moments."""
    weight_decay: float = 1e-4
    """Decay a step, times the learning rate."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 for no clipping."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How long the run is: linear warm-up, then cosine to 0."""

    epochs: int = 15
    """Passes over the data; 0 where --schedule.steps says how long."""
    steps: int = 0
    """Optimizer steps; takes the place of --schedule.epochs where it is not 0."""
    warmup_steps: int = 5
    """Steps to the peak learning rate."""


@dataclass(frozen=True)
class ZeroConfig:
    """DeepSpeed ZeRO."""

    stage: int = 2
    """0: nothing is partitioned; 1: optimizer states; 2: and gradients; 3: and weights."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What lives in host memory: nothing, the optimizer's states (stage 1 to 3), or these and the weights (stage 3)."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Whole-state checkpoints under OUTPUT/checkpoints."""

    every: int = 100
    """Steps between checkpoints; 0 for none."""
    keep: int = 2
    """How many of the newest stay."""


@dataclass(frozen=True)
class EvalConfig:
    """Held-out nll by role, before the first step, every so many steps, and after the last."""

    every: int = 0
    """Steps between evaluations; 0 for before and after only."""


@dataclass(frozen=True)
class RunConfig:
    """A run, whole."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    output: str = ""
    """Run folder."""
    seed: int = 0
    """Seed of the data order and of random weights."""
    resume: bool = False
    """Go on from the newest whole checkpoint of the run folder, or say that there is none and start."""

    def as_dict(self) -> dict[str, Any]:
        """Return the sections as plain dictionaries, for config.json."""
        return dataclasses.asdict(self)


def validate(config: RunConfig) -> None:
    """Check everything about `config` that its values alone can tell.

    Raises:
        ConfigError: a setting is missing, out of range or contradicts another; the first one found is named.
    """
    _check_required(config)
    _check_ranges(config)
    _check_zero(config)
    _check_loss(config.loss)


def _check_required(config: RunConfig) -> None:
    for flag, value, example in (
        ("--model.path", config.model.path, "a model folder or hub id"),
        ("--data.train", config.data.train, "one or more files or hub ids"),
        ("--output", config.output, "the run folder"),
    ):
        if not value:
            raise ConfigError(f"{flag} is missing: give {example}.")


def _check_ranges(config: RunConfig) -> None:
    optim, schedule = config.optim, config.schedule
    at_least_one = "must be at least 1"
    at_least_zero = "must be 0 or more"
    positive = "must be a positive number"
    fraction = "must be at least 0 and below 1"
    for flag, value, is_right, rule in (
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
            raise ConfigError(f"{flag} is {value}: it {rule}.")
    if config.batch.examples == 0 and config.batch.tokens == 0:
        raise ConfigError("--batch.examples and --batch.tokens are both 0: give one of them, the size of a step.")
    if schedule.epochs == 0 and schedule.steps == 0:
        raise ConfigError("--schedule.epochs and --schedule.steps are both 0: give one of them, the length of the run.")


def _check_zero(config: RunConfig) -> None:
    stage, offload = config.zero.stage, config.zero.offload
    if stage not in (0, 1, 2, 3):
        raise ConfigError(f"--zero.stage is {stage}: it must be 0, 1, 2 or 3.")
    if stage == 0 and config.model.dtype == "bfloat16":
        raise ConfigError(
            "--zero.stage 0 with --model.dtype bfloat16: DeepSpeed cannot accumulate gradients in float32 there. "
            "Use --zero.stage 1, which costs nothing on one GPU."
        )
    if offload == "optimizer" and stage == 0:
        raise ConfigError("--zero.offload optimizer needs --zero.stage 1, 2 or 3; this run says 0.")
    if offload == "all" and stage != 3:
        raise ConfigError(f"--zero.offload all needs --zero.stage 3; this run says {stage}.")
    if stage == 3 and config.model.checkpointing == "selective":
        # DeepSpeed's linear adds its bias in place, to the very product that is kept, and gathers inside the region.
        raise ConfigError(
            "--model.checkpointing selective with --zero.stage 3: DeepSpeed changes the products that it keeps, and "
            "gradients would be wrong. Use full or off, or a lower --zero.stage."
        )


def _check_loss(loss: LossConfig) -> None:
    weights = loss.weights()
    for role, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ConfigError(f"--loss.{role} is {weight}: a weight must be a number, 0 or more.")
    if not any(weights.values()):
        raise ConfigError("every --loss weight is 0: at least one role must have weight, or nothing is trained.")
