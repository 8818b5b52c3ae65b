"""The cost of a document in FLOPs, by the shape of the model: packs and ranks are balanced by it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkModel:
    """Work of a document, in FLOPs: per_token * length + per_token_squared * length^2."""

    per_token: float
    per_token_squared: float

    @classmethod
    def from_shape(
        cls,
        hidden_size: int,
        intermediate_size: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        vocab_size: int,
    ) -> "WorkModel":
        """Return the work of one forward and backward: 6 FLOPs a token for each weight of a matrix product.

        The output head counts; the embedding is a lookup and does not. Attention is causal, so a layer's forward takes
        half of 4 * length^2 * num_heads * head_dim, and forward and backward take 3 times that. Recomputation does not
        count.
        """
        attention = hidden_size * head_dim * (2 * num_heads + 2 * num_kv_heads)  # q and o, k and v
        num_weights = num_layers * (attention + 3 * hidden_size * intermediate_size) + hidden_size * vocab_size
        return cls(6.0 * num_weights, 6.0 * num_layers * num_heads * head_dim)

    def work(self, length: int) -> float:
        """Return the work of one document of `length` tokens."""
        return (self.per_token + self.per_token_squared * length) * length

    def flops(self, lengths: Sequence[int]) -> float:
        """Return the work of several documents that do not attend to each other."""
        return sum(map(self.work, lengths))
