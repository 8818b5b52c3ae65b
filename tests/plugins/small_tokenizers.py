"""Small tokenizers of every kind that the engine meets, trained in well under a second on the rows of tests/assets.

Each is written as the tokenizer files of a model folder, and loaded from there as the engine loads it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ROWS = Path(__file__).resolve().parents[1] / "assets" / "rows.jsonl"

# Qwen's: where a text may be cut before anything is merged.
BYTE_LEVEL_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nOPENING{% endif %}"
)
# Zephyr's: a Llama 2 tokenizer, to which the marks of the roles are ordinary text.
ZEPHYR = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{{ eos_token }}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\nOPENING{% endif %}"
)


@dataclass(frozen=True)
class SmallTokenizer:
    """What distinguishes one of them."""

    is_byte_level: bool
    """Byte-level BPE, as GPT-2's, Qwen's and Llama 3's; else pieces with marked spaces and bytes for the rest."""
    has_think_tokens: bool
    """Whether `<think>` and `</think>` are one token each; else they fall into pieces."""
    opening: str
    """What the chat template writes of the reasoning's opening."""


SMALL_TOKENIZERS = {
    "bytes-opened": SmallTokenizer(is_byte_level=True, has_think_tokens=True, opening="<think>\n"),
    "bytes": SmallTokenizer(is_byte_level=True, has_think_tokens=True, opening=""),
    "bytes-plain-tags": SmallTokenizer(is_byte_level=True, has_think_tokens=False, opening="<think>\n"),
    "pieces-plain-tags": SmallTokenizer(is_byte_level=False, has_think_tokens=False, opening=""),
    "pieces-half-opened": SmallTokenizer(is_byte_level=False, has_think_tokens=True, opening="<think>"),
}


@pytest.fixture(scope="session")
def asset_rows() -> Path:
    """Thirty neutral rows in every format that is read, in several scripts, with what is easily got wrong."""
    return ROWS


@pytest.fixture(scope="session")
def small_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of one of SMALL_TOKENIZERS, written at the first call."""
    parent = tmp_path_factory.mktemp("small-tokenizers")

    def folder(name: str) -> Path:
        if not (parent / name).exists():
            write_small_tokenizer(parent / name, SMALL_TOKENIZERS[name])
        return parent / name

    return folder


def write_small_tokenizer(folder: Path, kind: SmallTokenizer) -> None:
    """Train a tokenizer of that kind and write its files, with its chat template, into `folder`."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = _train_byte_level() if kind.is_byte_level else _train_pieces()
    marks = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    if not kind.is_byte_level:
        marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)
    if kind.has_think_tokens:
        wrapped.add_tokens(["<think>", "</think>"])
    wrapped.chat_template = (CHATML if kind.is_byte_level else ZEPHYR).replace("OPENING", kind.opening)
    wrapped.save_pretrained(folder)


def _train_byte_level() -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(BYTE_LEVEL_PIECES), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, as_bytes])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def _train_pieces() -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    as_text = decoders.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), as_text, decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    # Only Latin letters have pieces: line breaks and every other script fall into bytes, as in Llama 2's.
    plain = ["".join(c if " " <= c < "\x7f" else " " for c in text) for text in _texts()]
    tokenizer.train_from_iterator(plain, trainer)
    # The bytes were special only to be in the vocabulary: they are not looked for in texts.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def _texts() -> list[str]:
    """Return every text of the rows, in order, without the tags of the reasoning, which no piece is to be made of."""

    def walk(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value.replace("<think>", "").replace("</think>", "")]
        parts = value.values() if isinstance(value, dict) else value
        return [text for part in parts for text in walk(part)]

    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    columns = ("prompt", "question", "instruction", "messages", "spans", "response", "text")
    return [text for row in rows for name in columns if name in row for text in walk(row[name])]
