"""The trainers of others, set up as their users would, over given packs: transformers' Trainer, TRL's SFTTrainer.

Both train the whole model in bfloat16 with torch's fused AdamW, whose two moments are bfloat16 too: 8 bytes a
parameter, no float32 master, and updates that are rounded to nearest, below which a weight stands still. A step is one
pack without padding, of the same documents as ours, with the plain loss of fine-tuning: neither has weights for spans.
"""

import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.documents import IGNORED
from harness.rivals import Absent
from harness.shapes import Model, transformers_config

KEEPS = "8 bytes a parameter: bfloat16 weights, gradients and moments, no master"
# What attention is called with transformers where flash_attn is missing and torch's own FlashAttention takes its place.
VARLEN = "torch_varlen"


class Rival(NamedTuple):
    """A trainer in a setting."""

    trainer: str
    """transformers or trl."""
    has_liger: bool
    """Whether Liger's kernels take the place of the layers' (and, for transformers' Trainer, of the loss)."""
    checkpointing: bool
    is_dense: bool = False
    """Whether attention is transformers' default, SDPA with a mask over the whole pack, and not FlashAttention."""

    @property
    def name(self) -> str:
        """What its rows are called."""
        names = {"transformers": "transformers Trainer", "trl": "TRL SFTTrainer"}
        return f"{names[self.trainer]}{', Liger' if self.has_liger else ''}"

    @property
    def label(self) -> str:
        """The name and the setting."""
        checkpointing = "full" if self.checkpointing else "off"
        return f"{self.name}, checkpointing {checkpointing}{', SDPA' if self.is_dense else ''}"

    @property
    def loss(self) -> str:
        """The way of its loss, a key of predictions.LOGIT_BYTES."""
        return "trl" if self.trainer == "trl" else "liger" if self.has_liger else "logits"

    def missing(self) -> str:
        """Return why it cannot run here; empty if it can."""
        wanted = ["accelerate", *(["trl", "datasets"] if self.trainer == "trl" else [])]
        wanted += ["liger_kernel"] * self.has_liger
        for package in wanted:
            if importlib.util.find_spec(package) is None:
                return f"{package} is not installed"
        if not torch.cuda.is_available() and (self.has_liger or not self.is_dense):
            return "Liger's kernels and FlashAttention run on CUDA only"
        return ""


def attention_of(rival: Rival) -> tuple[str, str]:
    """Return transformers' name of the attention that the rival runs with here, and what it is in words.

    Raises:
        Absent: neither flash_attn nor torch's own FlashAttention over packs is here.
    """
    if rival.is_dense:
        return "sdpa", "SDPA with a mask over the whole pack, transformers' default"
    if importlib.util.find_spec("flash_attn") is not None:
        return "flash_attention_2", "FlashAttention 2, of flash_attn"
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        raise Absent("neither flash_attn nor torch.nn.attention.varlen is here") from None
    from transformers import AttentionInterface

    has_groups = "enable_gqa" in inspect.signature(varlen_attn).parameters

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, cu_seq_lens_q: Tensor,
        max_length_q: int, scaling: float | None = None, **_: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        """Transformers' interface: (1, heads, tokens, width) in, (1, tokens, heads, width) out."""
        groups = query.shape[1] // key.shape[1]
        if groups > 1 and not has_groups:
            key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
        tensors = [tensor.transpose(1, 2).squeeze(0) for tensor in (query, key, value)]
        options: dict[str, Any] = {"enable_gqa": True} if groups > 1 and has_groups else {}
        ends = (cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q)
        return varlen_attn(*tensors, *ends, scale=scaling, window_size=(-1, 0), **options).unsqueeze(0), None

    AttentionInterface.register(VARLEN, attend)
    return VARLEN, "FlashAttention 2 of torch.nn.attention.varlen, as flash_attn is not installed"


def build_model(model: Model, attention: str, device: str) -> Any:
    """Return transformers' own model in bfloat16, its weights drawn on the device by its own rule."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            transformers_config(model), dtype=torch.bfloat16, attn_implementation=attention
        )


def build_trainer(rival: Rival, model: Any, rows: list[dict[str, list[int]]], folder: Path, callback: Any) -> Any:
    """Return the trainer whose train() takes a step over each row, in order."""
    import transformers

    arguments: dict[str, Any] = {
        "output_dir": str(folder), "max_steps": len(rows), "per_device_train_batch_size": 1, "learning_rate": 1e-6,
        "optim": "adamw_torch_fused", "bf16": True, "gradient_checkpointing": rival.checkpointing,
        "use_liger_kernel": rival.has_liger, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
        "train_sampling_strategy": "sequential", "use_cpu": not torch.cuda.is_available(),
    }  # fmt: skip
    if rival.trainer == "trl":
        return _sft_trainer(arguments, model, rows, callback)
    collator = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**arguments, remove_unused_columns=False),
        train_dataset=rows,
        data_collator=lambda batch: collator([document for row in batch for document in documents(row)]),
        callbacks=[callback],
    )


def documents(row: dict[str, list[int]]) -> list[dict[str, list[int]]]:
    """Return the documents of a packed row, each with its own input_ids and labels."""
    found, first = [], 0
    for length in row["seq_lengths"]:
        part = slice(first, first + length)
        found.append({"input_ids": row["input_ids"][part], "labels": row["labels"][part]})
        first += length
    return found


def _sft_trainer(arguments: dict[str, Any], model: Any, rows: list[dict[str, list[int]]], callback: Any) -> Any:
    """TRL's trainer with packing and without padding, given packs as its own packer makes them."""
    datasets, trl = importlib.import_module("datasets"), importlib.import_module("trl")
    most = max(len(row["input_ids"]) for row in rows)
    settings = trl.SFTConfig(**arguments, packing=True, max_length=most, dataset_kwargs={"skip_prepare_dataset": True})
    return trl.SFTTrainer(
        model=model,
        args=settings,
        # With a fingerprint: making one pickles pyarrow, which fails where that is not below a folder site-packages.
        train_dataset=datasets.Dataset(datasets.table.InMemoryTable.from_pylist(rows), fingerprint="packs"),
        processing_class=_tokenizer(),
        callbacks=[callback],
    )


def _tokenizer() -> Any:
    """Return a tokenizer for a trainer that asks for one and has nothing to tokenize."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<end>": 0, "<unknown>": 1}, unk_token="<unknown>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>", unk_token="<unknown>")


def labelled(row: dict[str, list[int]]) -> int:
    """Return how many tokens of a packed row have a loss."""
    return sum(label != IGNORED for label in row["labels"])
