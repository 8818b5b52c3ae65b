"""The sizes at which the kernels of a model run: their trials are made of them, and their verdicts kept under them."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class KernelShapes:
    """What of a model's config decides how its kernels are compiled and launched."""

    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    dtype: str
    """bfloat16 or float32: of weights and activations."""
    eps: float = 1e-6
    """What the norms add to the mean square."""
    has_qkv_bias: bool = False
    """Whether queries, keys and values have a bias, as Qwen2's have."""
    normalises_heads: bool = False
    """Whether each head's query and key is normalised, as Qwen3's are."""

    def as_dict(self) -> dict[str, Any]:
        """Return the sizes by name."""
        return asdict(self)


# DeepSeek-R1-Distill-Qwen-7B's.
DEFAULT_NAME = "a 7B (DeepSeek-R1-Distill-Qwen-7B)"
DEFAULT_SHAPES = KernelShapes(
    hidden_size=3584, intermediate_size=18944, num_heads=28, num_kv_heads=4, head_dim=128, vocab_size=152064,
    dtype="bfloat16", has_qkv_bias=True,
)  # fmt: skip
# For Triton's interpreter, which takes a millisecond an instruction: everything small and nothing a round number. In
# float32, because the interpreter cuts bfloat16 off where a GPU rounds it.
SMALL_NAME = "a small model"
SMALL_SHAPES = KernelShapes(
    hidden_size=76, intermediate_size=156, num_heads=6, num_kv_heads=2, head_dim=20, vocab_size=613, dtype="float32",
    has_qkv_bias=True, normalises_heads=True,
)  # fmt: skip
