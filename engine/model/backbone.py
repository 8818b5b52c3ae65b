"""Checking a model folder before anything is built: config, tokenizer and weights are whole and belong together.

A folder that would fail an hour into a run, or whose weights do not match its config, is refused here with a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from alttrain.engine.config import ModelConfig, RunConfig
from alttrain.engine.data.work import WorkModel
from alttrain.engine.errors import ConfigError, ModelError
from alttrain.engine.model.weights import RandomWeights, SafetensorsWeights, Shape, WeightSource

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

FAMILIES = ("llama", "qwen2", "qwen3")
HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.txt")


@dataclass(frozen=True)
class Backbone:
    """A model folder that has been checked and is whole; no weight has been read yet."""

    folder: Path
    config: "PretrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"
    weights: WeightSource

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(self.config.max_position_embeddings)

    @property
    def architecture(self) -> str:
        """The name of the transformers class."""
        from transformers import AutoModelForCausalLM

        name: str = AutoModelForCausalLM._model_mapping[type(self.config)].__name__
        return name

    @property
    def work(self) -> WorkModel:
        """FLOPs of forward and backward by a document's length."""
        shape = self.config
        head_dim = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
        return WorkModel.from_shape(
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_layers=shape.num_hidden_layers,
            num_heads=shape.num_attention_heads,
            num_kv_heads=shape.num_key_value_heads,
            head_dim=head_dim,
            vocab_size=shape.vocab_size,
        )


def open_backbone(config: RunConfig) -> Backbone:
    """Check the model folder, after fetching it if it is a hub id, and return what training needs of it.

    Raises:
        ConfigError: there is no such folder and the hub does not have it or cannot be reached.
        ModelError: the folder lacks a part, a file is cut short, or the model's family is not supported.
    """
    from transformers import AutoConfig, AutoTokenizer

    folder = _folder(config.model)
    _require(folder, "config.json")
    _require(folder, "tokenizer_config.json")
    _require(folder, "tokenizer.json")
    with _reading(folder, "config"):
        model_config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _check_config(folder, model_config)
    with _reading(folder, "config"):
        expected = _expected_shapes(model_config)
    with _reading(folder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    _check_end_token(folder, tokenizer)
    if config.data.chat_template:
        tokenizer.chat_template = _chat_template(config.data.chat_template)
    if len(tokenizer) > model_config.vocab_size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} ids, the model {model_config.vocab_size} embedding rows: "
            "every id needs a row. Use the tokenizer that belongs to the model.",
            where=folder,
        )
    weights: WeightSource
    if config.model.random_init:
        weights = RandomWeights(config.seed, float(model_config.initializer_range))
    else:
        weights = SafetensorsWeights(folder)
        weights.check(expected)
    return Backbone(folder, model_config, tokenizer, weights)


def _expected_shapes(model_config: "PretrainedConfig") -> dict[str, Shape]:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(model_config)
    skeleton.tie_weights()
    return {name: tuple(parameter.shape) for name, parameter in skeleton.named_parameters()}


def _folder(config: ModelConfig) -> Path:
    if Path(config.path).is_dir():
        return Path(config.path)
    parts = config.path.split("/")
    if len(parts) != 2 or not all(parts) or config.path.startswith((".", "~")):
        raise ConfigError(
            f"{config.path}: no such folder. Give a model folder, or a hub id as owner/name.", flag="--model.path"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [pattern for pattern in HUB_FILES if not (config.random_init and "safetensors" in pattern)]
    try:
        return Path(snapshot_download(config.path, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ConfigError(
            f"{config.path}: no such folder here, and the hub gave {type(error).__name__}. "
            "Check the id and the network, or give a folder that holds the model.",
            flag="--model.path",
        ) from error


def _require(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise ModelError(
            f"no {name}. A model folder holds config.json, the tokenizer's files and safetensors.", where=folder
        )


@contextmanager
def _reading(folder: Path, part: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a broken file makes its readers fail in dozens of ways
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:200]
        raise ModelError(
            f"transformers cannot read its {part} ({type(error).__name__}: {reason}). "
            "Fetch the model again, or mend the file.",
            where=folder,
        ) from error


def _check_end_token(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Refuse an end token that is only a default of transformers' tokenizer class: the model has never seen it."""
    from tokenizers import Tokenizer

    end = tokenizer.eos_token
    if end and Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(end) is None:
        raise ModelError(
            f"transformers takes {end!r} for the end-of-sequence token, and tokenizer.json does not hold it. "
            "Name the model's own as eos_token in tokenizer_config.json.",
            where=folder,
        )


def _check_config(folder: Path, model_config: "PretrainedConfig") -> None:
    family = model_config.model_type
    if family not in FAMILIES:
        raise ModelError(
            f"model_type {family} is not supported; it must be one of {', '.join(FAMILIES)}.", where=folder
        )
    if getattr(model_config, "quantization_config", None) is not None:
        raise ModelError("the model is quantised; full fine-tuning needs its unquantised files.", where=folder)
    if getattr(model_config, "use_sliding_window", False):
        raise ModelError(
            "use_sliding_window is true; packed attention is causal over whole documents only.", where=folder
        )
    if getattr(model_config, "attention_dropout", 0.0):
        raise ModelError(f"attention_dropout is {model_config.attention_dropout}; it must be 0.", where=folder)


def _chat_template(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: cannot be read as UTF-8 text. Give a Jinja file.", flag="--data.chat-template"
        ) from error
