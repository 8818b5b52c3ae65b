"""The settings of a run: frozen dataclasses, one for each group of flags.

A recipe is one `RunConfig(...)` literal; the command line is made from these classes (`cli.py`). Nothing here imports
torch, so that `--help` answers at once. The rules for the values are in `config_checks.py`.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from alttrain.engine.thinking import MARKS


@dataclass(frozen=True)
class ModelConfig:
    """The backbone."""

    path: str = ""
    """Folder or hub id of a Qwen2/2.5, Qwen3 or Llama model."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Dtype of the weights in forward and backward; --optim says what the optimizer holds."""
    random_init: bool = False
    """Read config and tokenizer only and draw the weights from --seed."""
    kernels: Literal["auto", "triton", "torch"] = "auto"
    """auto: on a GPU each kernel of Triton that passes its trial there; triton: all, untried; torch: PyTorch."""
    fp8: Literal["off", "tensorwise", "rowwise"] = "off"
    """float8 products in the decoder's linear layers, with a scale for each tensor or row; not for weight gradients."""
    checkpointing: Literal["auto", "off", "selective", "full"] = "auto"
    """What the backward recomputes. auto: as few layers as the GPU's memory asks for, on a CPU none; off: nothing;
    selective: all but products and attention, which spares memory with PyTorch's layers only; full: whole layers."""
    recomputed_layers: int = 0
    """With selective or full, how many layers, the first ones, are recomputed; the others keep all. 0: every layer."""


@dataclass(frozen=True)
class DataConfig:
    """Rows of traces; the format is described in the README."""

    train: tuple[str, ...] = ()
    """Files (.jsonl, .json, .csv, .tsv, also .gz or .zst; .parquet), or hub ids: owner/name:configuration@split."""
    eval: tuple[str, ...] = ()
    """Held-out rows, in the same formats; empty for no evaluation."""
    columns: str = ""
    """The source's names of our columns, as in prompt=question,reasoning=trace,response=answer."""
    ignore: str = ""
    """Columns, and keys of turns, that are left unread on purpose, as in images,weight."""
    turns: Literal["last", "all"] = "last"
    """The assistant's turns that are trained, each as a row; weights in the turns themselves come before this."""
    think_open: str = MARKS.open
    """The mark that opens the reasoning in the source's responses."""
    think_close: str = MARKS.close
    """The mark that closes the reasoning in the source's responses."""
    answer_open: str = ""
    """The mark that opens the answer in the source's responses, as in <answer>; it is taken off."""
    answer_close: str = ""
    """The mark that closes the answer in the source's responses; it is taken off."""
    foreign_marks: Literal["error", "keep"] = "error"
    """A known mark of another format in text that would be trained. error: the row is bad; keep: it is text."""
    target_open: str = MARKS.open
    """The mark that the model opens its reasoning with; a known family's white space is written around it."""
    target_close: str = MARKS.close
    """The mark that the model closes its reasoning with."""
    chat_template: str = ""
    """A Jinja file that replaces the tokenizer's chat template."""
    chat_template_kwargs: str = ""
    """Variables for the chat template, as a JSON object; a row's own come before these."""
    date: str = "2026-01-01"
    """The date that a chat template is given that reads the clock."""
    too_long: Literal["error", "skip", "cut"] = "error"
    """A row longer than a pack or the model's context. error: stop the run; skip: leave it out; cut: drop its end."""
    on_bad_row: Literal["error", "skip"] = "error"
    """A row that breaks a rule. error: stop the run; skip: leave the row out, count it and list it."""


@dataclass(frozen=True)
class LossConfig:
    """The weight of each role's tokens in the loss; all 1 is plain SFT."""

    prompt: float = 0.0
    """System, user and earlier turns."""
    opening: float = 0.0
    """The text with which the chat template opens the assistant's turn."""
    think: float = 1.0
    """A <think> that we add where the chat template does not write it."""
    understanding: float = 1.0
    """The span that says what the problem is."""
    assessment: float = 1.0
    """The span that says whether the request is harmful, and why."""
    reasoning: float = 1.0
    """The span that refuses or solves, as the assessment says."""
    closing: float = 1.0
    """The </think> between reasoning and answer."""
    answer: float = 1.0
    """The text after </think>, which the user reads."""
    end: float = 1.0
    """The end-of-sequence token."""
    unsegmented: float = 1.0
    """Response text that no rule could assign to a span."""
    per: Literal["weight", "token", "example"] = "weight"
    """Divides the loss. weight: sum of weights; token: tokens with weight; example: examples, each scaled to 1."""

    def weights(self) -> dict[str, float]:
        """Return the weight of every role."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "per"}


@dataclass(frozen=True)
class BatchConfig:
    """How many examples share a step, and how they are packed."""

    examples: int = 16
    """Examples per step over all ranks; 0 where --batch.tokens sets the size of a step."""
    tokens: int = 0
    """Most real tokens per step over all ranks; overrides --batch.examples where it is not 0."""
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
    """Decay per step, times the learning rate."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 for no clipping."""
    moments: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype of the moments; auto: that of the weights, but float32 with --zero.offload."""
    master: Literal["float32", "bfloat16"] = "float32"
    """float32: bfloat16 weights are the rounded ones of a float32 master; bfloat16: no master, rounded at random."""
    gradients: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype in which a step's gradients are summed; auto: that of the weights in one process, float32 on several."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How long the run is: linear warm-up, then cosine to 0."""

    epochs: int = 15
    """Passes over the data; 0 where --schedule.steps sets the length."""
    steps: int = 0
    """Optimizer steps; overrides --schedule.epochs where it is not 0."""
    warmup_steps: int = 5
    """Steps until the learning rate reaches its peak."""


@dataclass(frozen=True)
class ZeroConfig:
    """DeepSpeed ZeRO."""

    stage: int = 2
    """What is partitioned over the ranks. 0: nothing; 1: optimizer states; 2: gradients too; 3: weights too."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What host memory holds. none: nothing; optimizer: its states (stages 1 to 3); all: weights too (stage 3)."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints of the whole training state under OUTPUT/checkpoints."""

    every: int = 100
    """Steps between checkpoints; 0 for none."""
    keep: int = 2
    """How many of the newest checkpoints are kept."""


@dataclass(frozen=True)
class EvalConfig:
    """Held-out nll by role, before the first step, every so many steps, and after the last."""

    every: int = 0
    """Steps between evaluations; 0 for before and after only."""


@dataclass(frozen=True)
class PlanConfig:
    """What a run takes, said without a GPU and without reading weights; nothing is trained then."""

    gpu: Literal["", "h200", "h100-80", "a100-80", "a100-40", "l40s", "rtx4090", "b200"] = ""
    """Print the memory, time and cost of the run on this GPU, and the fastest setting that fits; empty: train."""
    gpus: int = 1
    """GPUs of a node, one process on each."""
    nodes: int = 1
    """Nodes of the machine."""
    price: float = 0.0
    """Price of one GPU for an hour, in any currency; 0 for no cost."""


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    output: str = ""
    """Run folder."""
    seed: int = 0
    """Seed of the data order and of random weights."""
    resume: bool = False
    """Continue from the newest checkpoint of the run folder; where there is none, say so and start from step 1."""

    def as_dict(self) -> dict[str, Any]:
        """Return the sections as plain dictionaries, for config.json: all but `plan`, which trains nothing."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "plan"}
