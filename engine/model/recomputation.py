"""What the backward of a model computes a second time, so that the forward need not keep it.

The layers that are recomputed are the first ones. The backward begins at the last layer, when everything that the
forward has kept is still there, and whichever layers are recomputed, that is as much. A recomputed layer needs, while
it is at work, what it would have kept: the last one needs it on top of all that; the first ones need it when the
layers above them have given up theirs, and so raise no peak. Where the peak is a layer's backward and not the loss,
which has the head's gradient beside everything that is kept, that spares up to one layer's memory: for a 7B from packs
of 23,000 tokens on, 1.3 GiB at 32,768. Below, it makes no difference which layers they are.
"""

import functools
from typing import TYPE_CHECKING, Any

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from alttrain.engine.config import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The products that selective checkpointing keeps: those of torch's dtypes, and of float8 in both spellings.
PRODUCTS = tuple(f"aten.{name}.default" for name in ("mm", "addmm", "bmm", "_scaled_mm", "_scaled_mm_v2"))


def set_recomputation(causal_lm: "PreTrainedModel", config: ModelConfig) -> None:
    """Have the layers recomputed that `config` says; its checkpointing is settled, and not auto.

    Every layer of transformers has a switch of its own, in all versions that are supported: all are switched on as
    transformers does it, and then those that keep everything off again.
    """
    checkpointing, count = config.checkpointing, config.recomputed_layers
    assert checkpointing != "auto", "what auto comes to is settled before a model is built"
    if checkpointing == "off":
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if checkpointing == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _keep_products)
    if hasattr(causal_lm, "activation_checkpointing_enable"):  # from transformers 5.2x on, where the older name warns
        causal_lm.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        causal_lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    layers = causal_lm.model.layers
    assert 0 <= count <= len(layers), (count, len(layers))
    for layer in layers[count or len(layers) :]:
        assert layer.gradient_checkpointing is True
        layer.gradient_checkpointing = False


def _keep_products(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Keep matrix products and attention, recompute the cheap rest (norms, rotary, activation)."""
    name = str(operation)
    is_product = name in PRODUCTS or "attention" in name
    return CheckpointPolicy.MUST_SAVE if is_product or "varlen_attn" in name else CheckpointPolicy.PREFER_RECOMPUTE
