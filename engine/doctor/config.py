"""The settings of the doctor."""

from dataclasses import dataclass
from typing import Literal

# The flag of the model, for errors about it.
MODEL_FLAG = "--model"


@dataclass(frozen=True)
class DoctorConfig:
    """Which model's kernels are tried, and where the report goes."""

    model: str = ""
    """Model folder, or hub id as owner/name, at whose shapes a GPU tries the kernels; empty: those of a 7B."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of weights and activations, as --model.dtype of training."""
    output: str = ""
    """The file for the report; empty: standard output."""
