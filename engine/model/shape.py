"""The widths of a model, read from its config.json without torch or transformers, and what follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alttrain.engine.data.work import WorkModel
from alttrain.engine.errors import ModelError

FAMILIES = ("llama", "qwen2", "qwen3")


@dataclass(frozen=True)
class ModelShape:
    """A Llama, Qwen2 or Qwen3 model by its widths."""

    family: str
    hidden: int
    inner: int
    """Of the MLP."""
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    is_tied: bool = False
    """Whether the head is the embedding."""
    qkv_bias: bool = False
    output_bias: bool = False
    """Of the product after the attention."""
    mlp_bias: bool = False
    context: int = 131_072
    """The longest sequence, in tokens."""

    @classmethod
    def from_config(cls, values: Mapping[str, Any], where: Path) -> "ModelShape":
        """Return the shape that a config.json, read from the file `where`, describes.

        Raises:
            ModelError: the family is none of FAMILIES, or a width is missing or no whole number above 0.
        """
        family = values.get("model_type")
        if family not in FAMILIES:
            raise ModelError(
                f"model_type {family} is not supported; it must be one of {', '.join(FAMILIES)}.", where=where
            )
        heads = _width(values, "num_attention_heads", where)
        hidden = _width(values, "hidden_size", where)
        # What a family's class takes where its config.json says nothing.
        head_dim = values.get("head_dim") or (128 if family == "qwen3" else hidden // heads)
        has_bias = bool(values.get("attention_bias", False))
        return cls(
            family=family,
            hidden=hidden,
            inner=_width(values, "intermediate_size", where),
            layers=_width(values, "num_hidden_layers", where),
            heads=heads,
            kv_heads=_width({"num_key_value_heads": heads} | dict(values), "num_key_value_heads", where),
            head_dim=_width({"head_dim": head_dim}, "head_dim", where),
            vocabulary=_width(values, "vocab_size", where),
            is_tied=bool(values.get("tie_word_embeddings", False)),
            qkv_bias=family == "qwen2" or has_bias,
            output_bias=family != "qwen2" and has_bias,
            mlp_bias=family == "llama" and bool(values.get("mlp_bias", False)),
            context=_width({"max_position_embeddings": cls.context} | dict(values), "max_position_embeddings", where),
        )

    @property
    def query_width(self) -> int:
        """Width of all queries together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all keys, or of all values, together."""
        return self.kv_heads * self.head_dim

    @property
    def products(self) -> tuple[tuple[int, int], ...]:
        """The matrix products of a layer: (width of the output, width of the input)."""
        query, kv = (self.query_width, self.hidden), (self.kv_width, self.hidden)
        up, down = (self.inner, self.hidden), (self.hidden, self.inner)
        return query, kv, kv, (self.hidden, self.query_width), up, up, down

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: products, biases and norms."""
        count = sum(out * into for out, into in self.products) + 2 * self.hidden
        count += self.qkv_bias * (self.query_width + 2 * self.kv_width) + self.output_bias * self.hidden
        count += self.mlp_bias * (2 * self.inner + self.hidden)
        return count + (2 * self.head_dim if self.family == "qwen3" else 0)

    @property
    def head_parameters(self) -> int:
        """Parameters of the head, and of the embedding."""
        return self.vocabulary * self.hidden

    @property
    def num_parameters(self) -> int:
        """Parameters of the model, a tied head counted once."""
        ends = self.head_parameters * (1 if self.is_tied else 2) + self.hidden
        return self.layers * self.layer_parameters + ends

    @property
    def work(self) -> WorkModel:
        """FLOPs of forward and backward by a document's length."""
        return WorkModel.from_shape(
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_layers=self.layers,
            num_heads=self.heads,
            num_kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            vocab_size=self.vocabulary,
        )


def _width(values: Mapping[str, Any], name: str, where: Path) -> int:
    value = values.get(name)
    if type(value) is not int or value < 1:
        raise ModelError(f"{name} is {str(value)[:80]}; it must be a whole number, 1 or more. Mend it.", where=where)
    return value


def _distilled(family: str, hidden: int, inner: int, layers: int, heads: int, kv_heads: int, rows: int) -> ModelShape:
    return ModelShape(family, hidden, inner, layers, heads, kv_heads, 128, rows, qkv_bias=family == "qwen2")


# The backbones of the recipes, as their config.json on the hub describes them, by hub id.
PUBLISHED: Mapping[str, ModelShape] = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _distilled("qwen2", 1536, 8960, 28, 12, 2, 151_936),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _distilled("qwen2", 3584, 18_944, 28, 28, 4, 152_064),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": _distilled("llama", 4096, 14_336, 32, 32, 8, 128_256),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": _distilled("qwen2", 5120, 13_824, 48, 40, 8, 152_064),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": _distilled("qwen2", 5120, 27_648, 64, 40, 8, 152_064),
}
