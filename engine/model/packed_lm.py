"""The backbone: a transformers causal LM that takes packed documents and gives the weighted loss.

This file makes all changes to the model. Attention is our packed attention, registered with transformers under a name
of its own. The head computes the loss inside its own forward, so that ZeRO-3 gathers its weight and reduces its
gradient as for any other layer, and no logits are kept. Where --model.kernels selects them, our kernels compute norms,
rotary embedding, MLP and residual sums (`PATCHES` in `model/layers.py`).
"""

import copy
import dataclasses
import functools
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from alttrain.engine.config import ModelConfig
from alttrain.engine.model.attention import packed_attention_forward
from alttrain.engine.model.backbone import Backbone
from alttrain.engine.model.kernel_choice import Kernels, choose_kernels
from alttrain.engine.model.layers import fuse, use_products
from alttrain.engine.model.products import choose_products, told
from alttrain.engine.model.recomputation import set_recomputation
from alttrain.engine.model.weight_gradients import WeightGradient
from alttrain.engine.trace.roles import ROLES
from alttrain.kernels.backend import Backend
from alttrain.kernels.linear_cross_entropy import weighted_linear_cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Our attention under the names that transformers knows it by: by the path that it takes.
ATTENTION: dict[Backend, str] = {"auto": "alttrain_packed", "torch": "alttrain_packed_sdpa"}


class LossHead(nn.Linear):
    """The head of a causal LM, whose forward is the loss."""

    backend: Backend
    weight_gradient: WeightGradient | None = None

    def forward(  # type: ignore[override]
        self, hidden: Tensor, labels: Tensor, loss_weights: Tensor, label_span_ids: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weighted loss sum (), and for each role the sum of nll and the number of tokens (num_roles,)."""
        assert self.weight.shape == (self.out_features, self.in_features), self.weight.shape
        into = self.weight_gradient
        sums = weighted_linear_cross_entropy(
            hidden,
            self.weight,
            labels,
            loss_weights,
            label_span_ids,
            rows,
            num_spans=len(ROLES),
            add_weight_gradient=None if into is None else into.add_scaled,
            backend=self.backend,
        )
        return sums.loss_sum, sums.nll_sums, sums.token_counts


class PackedCausalLM(nn.Module):
    """A causal LM over packs of documents: tokens in, loss sums out."""

    def __init__(self, causal_lm: "PreTrainedModel", kernels: Kernels) -> None:
        super().__init__()
        self.causal_lm = causal_lm
        self.kernels = kernels

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        labels: Tensor,
        loss_weights: Tensor,
        label_span_ids: Tensor,
        rows: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums of `LossHead` for one pack; shapes as in `PackedBatch`."""
        hidden = self.causal_lm.model(
            input_ids=input_ids,  # (1, N)
            position_ids=position_ids,  # (1, N), restarting at each document
            attention_mask=None,
            use_cache=False,
            cu_seq_lens_q=cu_seqlens,
            cu_seq_lens_k=cu_seqlens,
            max_length_q=max_seqlen,
            max_length_k=max_seqlen,
        ).last_hidden_state
        head = self.causal_lm.lm_head
        loss_sums: tuple[Tensor, Tensor, Tensor] = head(hidden.squeeze(0), labels, loss_weights, label_span_ids, rows)
        return loss_sums


def build_model(
    config: ModelConfig,
    backbone: Backbone,
    device: torch.device,
    construction: AbstractContextManager[Any],
    kernels: Kernels | None = None,
) -> PackedCausalLM:
    """Build the model on `device` inside `construction` (ZeRO-3's partitioning, or nothing); weights are not set.

    It runs `kernels`, or what --model.kernels selects where nothing has been tried.
    """
    from transformers import AttentionInterface, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    kernels = kernels or choose_kernels(config.kernels, device)
    for path, name in ATTENTION.items():
        AttentionInterface.register(name, functools.partial(packed_attention_forward, backend=path))
    model_config = copy.deepcopy(backbone.config)  # the export writes the original
    model_config.use_cache = False
    with no_init_weights(), device, construction:
        causal_lm = AutoModelForCausalLM.from_config(
            model_config,
            dtype=getattr(torch, config.dtype),
            attn_implementation=ATTENTION[kernels.paths.attention],
        )
    causal_lm.tie_weights()
    causal_lm.lm_head.__class__ = LossHead
    causal_lm.lm_head.backend = kernels.paths.linear_cross_entropy
    # The frequencies are computed again outside of `construction`: inside it, ZeRO-3 makes every new float tensor
    # bfloat16, and rotary angles at position 8,000 need float32.
    rotary = causal_lm.model.rotary_emb
    causal_lm.model.rotary_emb = type(rotary)(config=model_config).to(device)
    assert causal_lm.model.rotary_emb.inv_freq.dtype == torch.float32
    if kernels.fuses_layers:
        unfit = fuse(causal_lm, kernels.paths, keeps_products=config.checkpointing == "selective")
        if unfit:
            kernels = dataclasses.replace(
                kernels, fuses_layers=False, reason=f"{kernels.reason}, but not in the layers: {unfit}"
            )
    if config.fp8 != "off":
        use_products(causal_lm.model, choose_products(config.fp8, causal_lm.model, kernels, device))
        kernels = dataclasses.replace(kernels, products=told(config.fp8))
    set_recomputation(causal_lm, config)
    return PackedCausalLM(causal_lm.train(), kernels)
