"""transformers' layers with our kernels: the forward of each class below replaces the forward of one of transformers'.

The modules keep their parameters, names and hooks; only their class changes, to a subclass of ours and of the original
one. The docstring of each class says what its forward computes. `PATCHES` lists all replacements, with what the
original classes must look like; if one of them looks different, nothing is replaced.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from alttrain.engine.model.attention import packed_attention_forward
from alttrain.engine.model.joint_linear import Normalised, can_join, joint_linear
from alttrain.engine.model.kernel_choice import KernelPaths
from alttrain.engine.model.products import PLAIN, Products
from alttrain.engine.model.weight_gradients import DirectLinear, WeightGradient
from alttrain.kernels.rms_norm import add_rms_norm, rms_norm, rms_norm_and_input
from alttrain.kernels.rope import rope, rope_, rotary_tables
from alttrain.kernels.swiglu import swiglu_linear

Pair = tuple[Tensor, Tensor]


class FusedModule(nn.Module):
    """Attributes of all fused modules."""

    paths: KernelPaths = KernelPaths()
    # True under selective checkpointing, which keeps the projections' outputs: these must not be overwritten then.
    keeps_products: bool = False


class FusedNorm(FusedModule):
    """weight * normalised(x); with a residual, weight * normalised(x + residual), and x + residual."""

    weight: Tensor
    variance_epsilon: float

    def forward(
        self, hidden_states: Tensor, residual: Tensor | None = None, *, passes_on: bool = False
    ) -> Tensor | Pair:
        """Return the norm; with a residual, the norm of the sum and the sum; with `passes_on`, the norm and the input.

        The backward of a norm that passes its input on also adds up the input's two gradients.
        """
        options: dict[str, Any] = {"backend": self.paths.rms_norm}
        if residual is not None:
            return add_rms_norm(hidden_states, residual, self.weight, self.variance_epsilon, **options)
        norm = rms_norm_and_input if passes_on else rms_norm
        return norm(hidden_states, self.weight, self.variance_epsilon, **options)

    def origin(self, stream: Tensor) -> Normalised:
        """Return what this norm's output for the input `stream` is computed from."""
        return Normalised(stream, self.weight, self.variance_epsilon, self.paths.rms_norm)


class FusedRotary(FusedModule):
    """Tables of cosines and sines in fp32, computed once a forward for all layers."""

    inv_freq: Tensor
    attention_scaling: float

    def forward(self, x: Tensor, position_ids: Tensor) -> Pair:
        """Return cosines and sines, (1, N, head_dim / 2); `x` is not read."""
        return rotary_tables(position_ids, self.inv_freq, self.attention_scaling)


class FusedAttention(FusedModule):
    """o_proj(attention(rotated q, rotated k, v)), with Qwen3's norms of q and k where the module has them."""

    head_dim: int
    scaling: float
    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    o_proj: nn.Module
    q_norm: nn.Module
    k_norm: nn.Module

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: Pair,
        attention_mask: Tensor | None,
        past_key_values: object = None,
        *,
        source: Normalised | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Return what the attention adds to the stream, and None for the attention weights.

        Where `source` is given, `hidden_states` is not kept for the backward, which computes it again from there.
        """
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)  # (1, N, heads, head_dim)
        # Norms of q and k would have to copy heads that lie side by side with others.
        in_one = not hasattr(self, "q_norm")
        made = _project(hidden_states, (self.q_proj, self.k_proj, self.v_proj), source, in_one=in_one)
        query, key, value = (x.view(shape) for x in made)
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        rotate = rope if self.keeps_products else rope_
        query, key = rotate(query, key, *position_embeddings, backend=self.paths.rope)
        options = {"scaling": self.scaling, "backend": self.paths.attention, **kwargs}
        out, _ = packed_attention_forward(self, query, key, value, attention_mask, **options)
        return self.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), None


class FusedDown(FusedModule):
    """down_proj(silu(gate) * up); neither silu(gate) nor its product with up is kept for the backward."""

    weight: Tensor
    weight_gradient: WeightGradient | None = None
    products: Products = PLAIN

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return what the MLP adds to the stream; unless products are kept, the backward overwrites gate and up."""
        into = self.weight_gradient
        return swiglu_linear(
            gate,
            up,
            self.weight,
            in_place_backward=not self.keeps_products,
            add_weight_gradient=None if into is None else into.add_product,
            product=self.products.forward,
            input_gradient=self.products.input_gradient,
            backend=self.paths.swiglu,
        )


class FusedMLP(FusedModule):
    """down_proj(act_fn(gate_proj(x)) * up_proj(x)), where act_fn is SiLU."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor, source: Normalised | None = None) -> Tensor:
        """Return what the MLP adds to the stream; `source` is as for the attention."""
        added: Tensor = self.down_proj(*_project(x, (self.gate_proj, self.up_proj), source))
        return added


class FusedLayer(FusedModule):
    """h + attention(norm(h)), then h + mlp(norm(h)); the second norm also computes the first sum.

    Neither norm's output is kept for the backward, unless the backward computes the whole layer again.
    """

    gradient_checkpointing: bool

    self_attn: nn.Module
    mlp: nn.Module
    input_layernorm: nn.Module
    post_attention_layernorm: nn.Module

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: object = None,
        use_cache: bool | None = False,
        position_embeddings: Pair | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the residual stream after this layer, (1, N, hidden_size)."""
        normalised, hidden_states = self.input_layernorm(hidden_states, passes_on=True)
        added, _ = self.self_attn(
            normalised,
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            source=self._source(self.input_layernorm, hidden_states),
            **kwargs,
        )
        normalised, hidden_states = self.post_attention_layernorm(added, hidden_states)
        source = self._source(self.post_attention_layernorm, hidden_states)
        after: Tensor = hidden_states + self.mlp(normalised, source)
        return after

    def _source(self, norm: nn.Module, stream: Tensor) -> Normalised | None:
        assert isinstance(norm, FusedNorm)
        return None if self.gradient_checkpointing else norm.origin(stream)


def _project(
    x: Tensor, layers: tuple[nn.Module, ...], source: Normalised | None, *, in_one: bool = True
) -> tuple[Tensor, ...]:
    """Return the outputs of linear layers that read `x`; layers that are of no plain kind each keep it."""
    if can_join(layers):
        return joint_linear(x, layers, source, in_one=in_one)
    return tuple(layer(x) for layer in layers)


@dataclass(frozen=True)
class Patch:
    """A class of transformers, by the end of its name, what it must look like, and our class that replaces it."""

    suffix: str
    fused: type[FusedModule]
    parameters: tuple[str, ...]
    """The names of its forward's parameters, in order."""
    children: tuple[frozenset[str], ...]
    """The names of its submodules must be one of these sets."""
    fits: Callable[[Any], bool] = lambda module: True
    """A further condition on the module."""


def _is_silu_without_bias(mlp: Any) -> bool:
    projections = (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    return mlp.config.hidden_act == "silu" and all(type(p) is nn.Linear and p.bias is None for p in projections)


_CALL = ("attention_mask", "past_key_values", "kwargs")
_PROJECTIONS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
PATCHES: tuple[Patch, ...] = (
    Patch("RMSNorm", FusedNorm, ("self", "hidden_states"), (frozenset(),)),
    Patch(
        "RotaryEmbedding", FusedRotary, ("self", "x", "position_ids"), (frozenset(),),
        # Other rope types change their frequencies from step to step.
        lambda module: module.rope_type in ("default", "linear", "llama3", "yarn"),
    ),
    Patch(
        "Attention", FusedAttention, ("self", "hidden_states", "position_embeddings", *_CALL),
        (_PROJECTIONS, _PROJECTIONS | {"q_norm", "k_norm"}),
        lambda module: getattr(module, "sliding_window", None) is None,
    ),
    Patch(
        "MLP", FusedMLP, ("self", "x"),
        (frozenset({"gate_proj", "up_proj", "down_proj", "act_fn"}),), _is_silu_without_bias,
    ),
    Patch(
        "DecoderLayer", FusedLayer,
        ("self", "hidden_states", "attention_mask", "position_ids", "past_key_values", "use_cache",
         "position_embeddings", "kwargs"),
        (frozenset({"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}),),
    ),
)  # fmt: skip


def fuse(causal_lm: nn.Module, paths: KernelPaths, *, keeps_products: bool) -> str:
    """Replace the forwards of `causal_lm` by ours; if one module does not fit, replace none.

    Args:
        causal_lm: a transformers model of a family whose classes are named in `PATCHES`.
        paths: the path that each kernel takes.
        keeps_products: whether checkpointing keeps the projections' outputs.

    Returns:
        The reason why nothing was replaced, as a clause; empty where everything was.
    """
    found = [(module, patch) for module in causal_lm.modules() for patch in PATCHES if _is_target(module, patch)]
    missing = {patch.suffix for patch in PATCHES} - {patch.suffix for _, patch in found}
    reasons = [reason for module, patch in found if (reason := _mismatch(module, patch))]
    reasons += [f"the model has no {suffix}" for suffix in sorted(missing)]
    if reasons:
        return reasons[0]
    for module, patch in found:
        _become(module, patch.fused, paths, keeps_products)
        if isinstance(module, FusedMLP):
            _become(module.down_proj, FusedDown, paths, keeps_products)
    return ""


def use_products(decoder: nn.Module, products: Products) -> None:
    """Let `products` compute the products of every linear layer of `decoder`, after `fuse`."""
    for module in decoder.modules():
        if type(module) is nn.Linear:
            module.__class__ = DirectLinear
        if isinstance(module, DirectLinear | FusedDown):
            module.products = products


def _is_target(module: nn.Module, patch: Patch) -> bool:
    return type(module).__module__.startswith("transformers.") and type(module).__name__.endswith(patch.suffix)


def _mismatch(module: nn.Module, patch: Patch) -> str:
    name = type(module).__name__
    parameters = tuple(inspect.signature(type(module).forward).parameters)
    if parameters != patch.parameters:
        return f"{name}.forward takes ({', '.join(parameters)})"
    children = frozenset(child for child, _ in module.named_children())
    if children not in patch.children:
        return f"{name} holds {', '.join(sorted(children)) or 'nothing'}"
    return "" if patch.fits(module) else f"{name} is of another kind"


def _become(module: nn.Module, fused: type[FusedModule], paths: KernelPaths, keeps_products: bool) -> None:
    # The original class stays a base: transformers, DeepSpeed and checkpointing recognise modules by their class.
    original = type(module)
    names = {"paths": paths, "keeps_products": keeps_products, "__module__": __name__}
    module.__class__ = type(f"Fused{original.__name__}", (fused, original), names)
