"""Checking a model folder before anything is built: config, tokenizer and weights are whole and belong together.

A folder that would fail an hour into a run, or whose weights do not match its config, is refused here with a message.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from alttrain.engine.config import RunConfig
from alttrain.engine.data.model_folder import fetch_folder, read_template
from alttrain.engine.data.tokenizer import load_tokenizer, reading
from alttrain.engine.data.work import WorkModel
from alttrain.engine.errors import ModelError
from alttrain.engine.model.config_files import (
    check_end_ids,
    exported_config,
    exported_generation_config,
    read_generation_config,
    read_object,
)
from alttrain.engine.model.templates import templates_of
from alttrain.engine.model.tokenizer_files import tokenizer_files
from alttrain.engine.model.weight_files import Shape
from alttrain.engine.model.weights import RandomWeights, SafetensorsWeights, WeightSource

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

FAMILIES = ("llama", "qwen2", "qwen3")
GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Backbone:
    """A model folder that has been checked and is whole; no weight has been read yet."""

    folder: Path
    config: "PretrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"
    weights: WeightSource
    companions: Mapping[str, bytes] = field(default_factory=dict)
    """What an exported model gets beside its weights, by name: config, tokenizer and generation config."""
    notes: tuple[str, ...] = ()
    """Sentences that the user is told at the start: what is not taken from the folder as it stands there."""
    num_parameters: int = 0
    """Parameters of the model, those that it uses twice counted once."""

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(self.config.max_position_embeddings)

    @property
    def architecture(self) -> str:
        """The name of the transformers class."""
        return _architecture(self.config)

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
    from transformers import AutoConfig

    folder = fetch_folder(config.model.path, "--model.path", with_weights=not config.model.random_init)
    _require(folder, "config.json")
    _require(folder, "tokenizer_config.json")
    _require(folder, "tokenizer.json")
    with reading(folder, "config"):
        model_config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _check_config(folder, model_config)
    with reading(folder, "config"):
        expected = _expected_shapes(model_config)
    tokenizer = load_tokenizer(folder)
    if config.data.chat_template:
        tokenizer.chat_template = read_template(config.data.chat_template, "--data.chat-template")
    _check_ids(folder, tokenizer, model_config.vocab_size)
    companions, notes = _companions(folder, model_config, tokenizer, config)
    weights: WeightSource
    if config.model.random_init:
        weights = RandomWeights(config.seed, _initializer_range(folder, model_config))
    else:
        weights = SafetensorsWeights(folder)
        notes += weights.check(expected)
    num_parameters = sum(map(math.prod, expected.values()))
    return Backbone(folder, model_config, tokenizer, weights, companions, notes, num_parameters)


def _companions(
    folder: Path, model_config: "PretrainedConfig", tokenizer: Any, config: RunConfig
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the files that an export gets beside its weights, and what the user is to be told about them.

    They are made before training: a source that cannot be exported is refused here, not after the last step.
    """
    from transformers import GenerationConfig

    source, end_id = read_object(folder / "config.json"), tokenizer.eos_token_id
    check_end_ids(folder, source)
    facts = {"architecture": _architecture(model_config), "dtype": config.model.dtype, "end_id": end_id}
    exported = exported_config(source, model_config, **facts)
    generation = exported_generation_config(read_generation_config(folder, end_id), exported, end_id)
    with reading(folder, GENERATION):
        GenerationConfig.from_dict(generation)
    text = _as_json(exported)
    variables = json.loads(config.data.chat_template_kwargs or "{}")
    asked = bool(config.data.chat_template)
    files = tokenizer_files(folder, tokenizer, config=text, asked_template=asked, variables=variables)
    notes = list(files.notes)
    if "auto_map" in source:
        notes.append("config.json names code of its own (auto_map), which is not run: OUT/model is without it.")
    contents = {"config.json": text.encode(), GENERATION: _as_json(generation).encode()}
    return {**files.contents, **contents}, tuple(notes)


def _as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _architecture(model_config: "PretrainedConfig") -> str:
    from transformers import AutoModelForCausalLM

    name: str = AutoModelForCausalLM._model_mapping[type(model_config)].__name__
    return name


def _expected_shapes(model_config: "PretrainedConfig") -> dict[str, Shape]:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(model_config)
    skeleton.tie_weights()
    return {name: tuple(parameter.shape) for name, parameter in skeleton.named_parameters()}


def _require(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise ModelError(
            f"no {name}. A model folder holds config.json, the tokenizer's files and safetensors.", where=folder
        )


def _check_ids(folder: Path, tokenizer: Any, num_rows: int) -> None:
    """Refuse a beginning or an end that no text is given as one token, and ids of tokenizer.json without a row.

    They may be only defaults of transformers' tokenizer class, which the model has never seen.
    """
    raw, end = tokenizer.backend_tokenizer, tokenizer.eos_token
    if not end:
        raise ModelError(
            "the tokenizer has no end-of-sequence token, which every row ends in. "
            "Name its eos_token in tokenizer_config.json.",
            where=folder,
        )
    end_id = raw.token_to_id(end)
    if end_id is None:
        raise ModelError(
            f"transformers takes {end!r} for the end-of-sequence token, and tokenizer.json does not hold it. "
            "Name the model's own as eos_token in tokenizer_config.json.",
            where=folder,
        )
    for text in (end, f"a{end}"):
        if raw.encode(text, add_special_tokens=False).ids[-1:] != [end_id]:
            raise ModelError(
                f"the end-of-sequence token {end!r} is id {end_id}, but tokenizer.json cuts it up in a text. List it "
                "among added_tokens there, or name another eos_token in tokenizer_config.json.",
                where=folder,
            )
    start = tokenizer.bos_token
    if (
        start
        and raw.token_to_id(start) is None
        and any("bos_token" in text for text in templates_of(tokenizer).values())
    ):
        raise ModelError(
            f"its bos_token {start!r}, which the chat template writes, is no token of tokenizer.json. "
            "Name the model's own in tokenizer_config.json, or null.",
            where=folder,
        )
    largest = max(raw.get_vocab(with_added_tokens=True).values())
    if largest >= num_rows:
        raise ModelError(
            f"tokenizer.json holds id {largest}, and the model has {num_rows} embedding rows: "
            "every id needs a row. Use the tokenizer that belongs to the model.",
            where=folder,
        )


def _initializer_range(folder: Path, model_config: "PretrainedConfig") -> float:
    value = model_config.initializer_range
    if not 0 < value < math.inf:
        raise ModelError(
            f"initializer_range is {value}; to draw weights it must be a positive number.", where=folder / "config.json"
        )
    return float(value)


def _check_config(folder: Path, model_config: "PretrainedConfig") -> None:
    family = model_config.model_type
    if family not in FAMILIES:
        raise ModelError(
            f"model_type {family} is not supported; it must be one of {', '.join(FAMILIES)}.", where=folder
        )
    if getattr(model_config, "quantization_config", None) is not None:
        raise ModelError("the model is quantised; full fine-tuning needs its unquantised files.", where=folder)
    named = getattr(model_config, "transformers_weights", None)
    if named is not None:
        raise ModelError(
            f"transformers_weights names the file of weights {str(named)[:80]!r}, which only some programs look for. "
            "Rename that file to model.safetensors and take the key out.",
            where=folder / "config.json",
        )
    if getattr(model_config, "use_sliding_window", False):
        raise ModelError(
            "use_sliding_window is true; packed attention is causal over whole documents only.", where=folder
        )
    turned = model_config.rope_parameters.get("partial_rotary_factor", 1.0)
    if turned != 1.0:
        raise ModelError(
            f"partial_rotary_factor is {turned}; it must be 1: in this family every version of transformers but the "
            "newest turns whole heads.",
            where=folder,
        )
    if getattr(model_config, "attention_dropout", 0.0):
        raise ModelError(f"attention_dropout is {model_config.attention_dropout}; it must be 0.", where=folder)
