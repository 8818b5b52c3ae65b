"""Every kernel by its name, and its trials."""

from collections.abc import Callable, Iterable, Mapping

import torch

from alttrain.engine.proof import layer_trials, step_trials
from alttrain.engine.proof.shapes import KernelShapes
from alttrain.engine.proof.trial import Trial, Verdict, judge_kernel

Trials = Callable[[KernelShapes, torch.device], Iterable[Trial]]

# The quickest to compile come first, so that the line of progress moves.
TRIALS: Mapping[str, Trials] = {
    "rms_norm": layer_trials.rms_norm_trials,
    "rope": layer_trials.rope_trials,
    "swiglu": layer_trials.swiglu_trials,
    "attention": layer_trials.attention_trials,
    "weighted_cross_entropy": step_trials.weighted_cross_entropy_trials,
    "linear_cross_entropy": step_trials.linear_cross_entropy_trials,
    "float8": layer_trials.float8_trials,
    "span_weights": step_trials.span_weights_trials,
    "adamw": step_trials.adamw_trials,
}


def try_kernel(name: str, shapes: KernelShapes, device: torch.device) -> Verdict:
    """Run the trials of one kernel on `device` in this process; whatever goes wrong is its verdict."""
    return judge_kernel(lambda: TRIALS[name](shapes, device))
