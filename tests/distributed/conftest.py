"""Ranks as real processes: each test here starts torchrun, so that one process holds one engine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Ranks = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_ranks() -> Ranks:
    """Return a function that runs a script under torchrun on `ranks` processes and gives the finished process."""

    def run(ranks: int, script: Path | str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        done = subprocess.run(
            [*command, str(script), *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr[-4000:]
        return done

    return run


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """Return a function that writes a tiny model folder: tokenizer with chat template, config and fp32 weights."""
    return _write_model


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., Path]:
    """Return a function that writes rows of very unequal lengths in the native format."""
    return _write_rows


def _write_model(folder: Path, family: str = "qwen2", *, tied: bool = False, save_weights: bool = True) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    wrapped.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    wrapped.chat_template = (
        "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    wrapped.save_pretrained(folder)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(wrapped) + 5,  # embedding rows beyond the tokenizer's
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        initializer_range=0.2,  # confident logits, so that a wrong scale shows
        bos_token_id=None,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if save_weights:
        model.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    return folder


def _write_rows(file: Path, count: int = 12) -> Path:
    rows: list[dict[str, Any]] = []
    for index in range(count):
        spans = [
            {"role": "understanding", "text": f"The user asks about thing {index}."},
            {"role": "assessment", "text": " It is harmless." if index % 3 else " It is harmful, as it hurts people."},
            {"role": "reasoning", "text": " So we go on." * (1 + (index * 7) % 11)},
            {"role": "answer", "text": "Here it is. " * (1 + index % 4)},
        ]
        rows.append({"id": f"row-{index}", "label": "", "prompt": f"thing {index}?", "spans": spans, "source": "test"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file
