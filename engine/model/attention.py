"""Packed attention in the form of transformers' attention interface: its arguments, checked and given to the kernel."""

import torch
from torch import Tensor, nn

from alttrain.kernels.attention import packed_attention
from alttrain.kernels.backend import Backend


def packed_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    backend: Backend = "auto",
    **_: object,
) -> tuple[Tensor, None]:
    """Return causal attention within each document, and None in the place of the attention weights.

    Nothing waits for the device where `cu_seq_lens_q` and `cu_seq_lens_k` are one and the same tensor.

    Args:
        module: the attention module that calls; not used.
        query: queries, (1, Hq, N, D).
        key: keys, (1, Hkv, N, D).
        value: values, (1, Hkv, N, D).
        attention_mask: must be None.
        scaling: factor of the scores; 1 / sqrt(D) where None.
        dropout: must be 0.
        sliding_window: must be None.
        cu_seq_lens_q: first token of each document, then N; (S + 1,), int32, on the device of `query`.
        cu_seq_lens_k: the same for the keys; must be equal.
        max_length_q: tokens of the longest document, or more.
        max_length_k: the same for the keys.
        backend: as in `packed_attention`.

    Returns:
        Out, (1, N, Hq, D), differentiable in query, key and value; None.

    Raises:
        ValueError: something is asked for that this attention does not do, or the documents are not described.
    """
    _refuse_what_is_not_done(attention_mask, dropout, sliding_window)
    if cu_seq_lens_q is None or cu_seq_lens_k is None or max_length_q is None or max_length_k is None:
        raise ValueError(
            "cu_seq_lens_q, cu_seq_lens_k, max_length_q or max_length_k is missing: without them the documents of a "
            "pack would see each other. Pass all four to the model's forward."
        )
    if query.shape[0] != 1:
        raise ValueError(f"query has batch {query.shape[0]}: a pack is one row, (1, heads, tokens, head_dim).")
    if cu_seq_lens_k is not cu_seq_lens_q and not torch.equal(cu_seq_lens_k, cu_seq_lens_q):
        raise ValueError(
            "cu_seq_lens_q and cu_seq_lens_k differ: the queries and keys of a pack are of the same documents. "
            "Pass one tensor as both."
        )
    # (N, heads, D): how the projections have written them, so that no copy is made.
    query, key, value = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    longest = max(max_length_q, max_length_k)
    out = packed_attention(query, key, value, cu_seq_lens_q, longest, scaling, backend=backend)
    return out.unsqueeze(0), None


def _refuse_what_is_not_done(attention_mask: Tensor | None, dropout: float, sliding_window: int | None) -> None:
    if attention_mask is not None:
        raise ValueError("attention_mask is given: packed attention takes its documents from cu_seq_lens; pass None.")
    if dropout != 0.0:
        raise ValueError(f"dropout = {dropout}: packed attention has none; set the model's attention_dropout to 0.")
    if sliding_window is not None:
        raise ValueError(f"sliding_window = {sliding_window}: packed attention spans whole documents; turn it off.")
