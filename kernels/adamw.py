"""AdamW over a flat tensor, in one pass and in place, in four layouts of 6 to 12 bytes per parameter.

    g = clip * grad                    clip: one scalar on the device; t: number of the step, from 1
    m = m + (1 - beta1) * (g - m)      v = beta2 * v + (1 - beta2) * g * g
    p = p - ( lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps) + lr * weight_decay * p )

This is Loshchilov & Hutter 2019 (arXiv:1711.05101). torch.optim.AdamW differs in the last line: torch scales p by
1 - lr * weight_decay first, and for lr * weight_decay = 1e-7 that factor's rounding in fp32 changes the decay by a
fifth; here both parts are subtracted at once.

Everything is computed in fp32, whatever the stored dtypes, and each operation is rounded separately (no fused
multiply-add, IEEE division and square root). So a GPU, Triton's interpreter and the PyTorch path give the same bits in
every layout. The exception is sm_100 under triton 3.6, whose ptxas (12.9) fuses packed products and sums although
fusion is disabled.

Layouts  N elements of p, grad, m, v; all 1-D and contiguous, as ZeRO's flat partitions are. Bytes per parameter:

                                     p     grad  m, v     kept without grad   moved by a step
    fp32                             4     4     4 + 4    12                  28
    bf16 and low bits, fp32 moments  2 + 2 2     4 + 4    12                  26
    bf16 and low bits                2 + 2 2     2 + 2     8                  18
    bf16, stochastic rounding        2     2     2 + 2     6                  14

  grad, m and v may each be fp32 or bf16 in every layout.
  Low bits: an fp32 master in two halves, master = (bits of the bf16 << 16) + low, low int16. The bf16 is the master
  rounded to nearest, ties away from zero, because then low is in [-2^15, 2^15) and the pair can hold every fp32
  exactly; ties to even would need low = +2^15. A step on the pair gives the same bits as a step on the fp32 master.
  NaNs become 0x7fc00000: rounding up the GPU's own NaN, 0x7fffffff, would overflow to -0. For the largest fp32 values
  the bf16 is inf, as with any rounding, but the master stays finite.
  Stochastic rounding: up in magnitude with the probability of the part cut off (Zamirai et al. 2020, arXiv:2010.06192),
  by adding 16 random bits below the bf16. Rounded to nearest, p at 0.02 would not change at lr = 1e-5, as bf16 values
  there are 1.2e-4 apart.
  bf16 moments are always rounded stochastically: rounded to nearest, v could not fall if 1 - beta2 is below 2^-9. This
  is unbiased but noisy: 0.2 to 0.3% a step, in the long run under 1% of v at beta2 = 0.95 and up to 7% at 0.999.

Random   Philox 4x32-10 (Salmon et al. 2011, SC11) under the key `seed` at the counter (element // 4, step, 0): one call
         for four elements, one 32-bit word each. m takes its low half, v its high half, p the exclusive or of both:
         pairwise independent. The bits depend only on the element's place among all parameters (`offset`), never on how
         these are split into tensors, blocks or ranks. The rounding of the fp32 result is unbiased; the fp32 result
         itself has a relative error of up to 2^-24.

Traffic  the last column above: every stream is read once and written once, 16 bytes a thread. Step, rates and seed are
         kernel arguments without specialisation: no step waits for the device, and none recompiles.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from alttrain.kernels.backend import Backend, runs_triton

# Eight elements a thread: 16 bytes of a bf16 stream.
BLOCK = 1024
NUM_WARPS = 4
# Rounds of Philox: as many as its authors, CUDA and Triton use.
ROUNDS = 10
# Elements that the PyTorch path takes at a time: few enough for a core's cache, or enough to keep a GPU busy.
CHUNK_CPU, CHUNK_GPU = 1 << 16, 1 << 24


def adamw_reference(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float = 1e-8,
    clip: Tensor | float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the new param, exp_avg and exp_avg_sq, computed in their dtype: the definition."""
    grad = grad.to(param.dtype) * clip
    exp_avg = betas[0] * exp_avg + (1 - betas[0]) * grad
    exp_avg_sq = betas[1] * exp_avg_sq + (1 - betas[1]) * grad * grad
    update = exp_avg / (1 - betas[0] ** step) / ((exp_avg_sq / (1 - betas[1] ** step)).sqrt() + eps)
    return param - lr * (update + weight_decay * param), exp_avg, exp_avg_sq


def split_master(master: Tensor) -> tuple[Tensor, Tensor]:
    """Return an fp32 tensor rounded to bf16, and the low bits (int16) that make the pair exact; see `join_master`."""
    bits = _canonical_bits(master)
    high = (bits + 0x8000) >> 16
    return high.to(torch.int16).view(torch.bfloat16), (bits - (high << 16)).to(torch.int16)


def join_master(param: Tensor, low_bits: Tensor) -> Tensor:
    """Return the fp32 tensor whose halves are `param` (bf16) and `low_bits` (int16): exactly what was split."""
    return ((param.view(torch.int16).to(torch.int32) << 16) + low_bits).view(torch.float32)


@torch.no_grad()
def adamw_step(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    low_bits: Tensor | None = None,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float = 1e-8,
    clip: Tensor | None = None,
    seed: int = 0,
    offset: int = 0,
    backend: Backend = "auto",
) -> None:
    """Apply step number `step` to `param`, `exp_avg`, `exp_avg_sq` and `low_bits`, in place; `grad` is only read.

    Args:
        param: parameters, (N,), contiguous, fp32 or bf16. bf16 without `low_bits` is rounded stochastically.
        grad: gradient, (N,), contiguous, fp32 or bf16.
        exp_avg: first moment, (N,), contiguous, fp32 or bf16 (stochastically rounded), zeros before step 1.
        exp_avg_sq: second moment, as `exp_avg`.
        low_bits: low half of the fp32 master whose high half is `param`, (N,), contiguous, int16; see `split_master`.
        step: number of this step, from 1.
        lr: learning rate of this step.
        betas: decay rates of the two moments, in [0, 1).
        weight_decay: decay of the parameters a step, times `lr`.
        eps: added to the root of the second moment, after bias correction.
        clip: factor on every gradient, (), fp32, on the device of `param`; it is not read on the host. 1 where None.
        seed: key of the random bits, in [0, 2^63). The same seed, step and offset give the same bits.
        offset: place of the first element among all trained parameters, a multiple of 4, so that no two tensors or
            ranks share random bits.
        backend: `auto` is Triton on CUDA and PyTorch elsewhere, `triton` on CPU needs Triton's interpreter. The results
            are the same.

    Raises:
        ValueError: shapes, dtypes, devices or numbers are not as above.
    """
    streams = _Streams(param, low_bits, grad, exp_avg, exp_avg_sq)
    _check(streams, clip)
    _check_numbers(step, lr, betas, eps, weight_decay, seed, offset)
    rates = _rates(step, lr, betas, eps, weight_decay)
    if runs_triton(backend, param.device):
        _launch(streams, clip, offset, step, seed, rates)
        torch.autograd.graph.increment_version([x for x in streams if x is not None and x is not grad])
        return
    size = CHUNK_GPU if param.is_cuda else CHUNK_CPU
    for first in range(0, param.numel(), size):
        _chunk_step(streams.part(first, first + size), clip, offset + first, step, seed, rates)


class _Streams(NamedTuple):
    """The tensors of a step, in the kernel's order."""

    param: Tensor
    low_bits: Tensor | None
    grad: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    def part(self, first: int, last: int) -> "_Streams":
        return _Streams(*(None if x is None else x[first:last] for x in self))  # type: ignore[arg-type]


class _Rates(NamedTuple):
    """The scalars of a step, computed in fp64 on the host and rounded to fp32 once."""

    one_minus_beta1: float
    beta2: float
    one_minus_beta2: float
    root_scale: float
    eps: float
    step_size: float
    decay: float


def _rates(step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> _Rates:
    beta1, beta2 = betas
    root_scale = 1 / math.sqrt(1 - beta2**step)
    return _Rates(1 - beta1, beta2, 1 - beta2, root_scale, eps, lr / (1 - beta1**step), lr * weight_decay)


@triton.jit  # type: ignore[untyped-decorator]
def _philox_words(quads, step, seed, ROUNDS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return four random words, uint32, for each of `quads`, int64."""
    c0, c1 = quads.to(tl.uint32), (quads >> 32).to(tl.uint32)
    c3 = tl.zeros_like(c0)
    c2 = c3 + step.to(tl.uint32)
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    for _ in tl.static_range(ROUNDS):
        # A 64-bit product is one instruction; tl.philox computes its two halves separately.
        x, y = c0.to(tl.uint64) * 0xD2511F53, c2.to(tl.uint64) * 0xCD9E8D57
        c0, c1 = (y >> 32).to(tl.uint32) ^ c1 ^ k0, y.to(tl.uint32)
        c2, c3 = (x >> 32).to(tl.uint32) ^ c3 ^ k1, x.to(tl.uint32)
        k0 = tl.add(k0, 0x9E3779B9, sanitize_overflow=False)
        k1 = tl.add(k1, 0xBB67AE85, sanitize_overflow=False)
    return c0, c1, c2, c3


@triton.jit  # type: ignore[untyped-decorator]
def _random_words(first, step, seed, BLOCK: tl.constexpr, ROUNDS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the random words of the elements from `first` on, a multiple of 4: (BLOCK,), uint32."""
    # Two calls for the eight elements of a thread, so that no word has to move between threads.
    quads = first // 4 + 2 * tl.arange(0, BLOCK // 8)
    a0, a1, a2, a3 = _philox_words(quads, step, seed, ROUNDS)
    b0, b1, b2, b3 = _philox_words(quads + 1, step, seed, ROUNDS)
    even = tl.join(tl.join(a0, b0), tl.join(a2, b2))
    odd = tl.join(tl.join(a1, b1), tl.join(a3, b3))
    return tl.reshape(tl.join(even, odd), (BLOCK,))  # from (BLOCK // 8, 2, 2, 2): a0, a1, a2, a3, b0, ... in a row


@triton.jit
def _bits(value):  # type: ignore[no-untyped-def]
    """Return the bits of fp32 as int32; a GPU's NaN, 2^31 - 1, is lowered so that rounding up cannot overflow."""
    return tl.minimum(value.to(tl.int32, bitcast=True), 0x7FC00000)


@triton.jit
def _store(pointer, offsets, value, mask, random_bits):  # type: ignore[no-untyped-def]
    """Store fp32 unchanged, or as bf16, rounded by adding `random_bits` in [0, 2^16)."""
    if pointer.dtype.element_ty == tl.bfloat16:
        value = ((_bits(value) + random_bits) >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)
    tl.store(pointer + offsets, value, mask=mask)


@triton.jit(do_not_specialize=["offset", "step", "seed"])  # type: ignore[untyped-decorator]
def _adamw_kernel(  # type: ignore[no-untyped-def]
    param_ptr,  # (N,) fp32 or bf16
    low_ptr,  # (N,) int16 or None
    grad_ptr,  # (N,) fp32 or bf16
    exp_avg_ptr,  # (N,) fp32 or bf16
    exp_avg_sq_ptr,  # (N,) fp32 or bf16
    clip_ptr,  # () fp32 or None
    num_elements: tl.int64,
    offset: tl.int64,
    step: tl.int32,
    seed: tl.int64,
    one_minus_beta1: tl.float32,
    beta2: tl.float32,
    one_minus_beta2: tl.float32,
    root_scale: tl.float32,
    eps: tl.float32,
    step_size: tl.float32,
    decay: tl.float32,
    MASKED: tl.constexpr,
    BLOCK: tl.constexpr,
    ROUNDS: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    i = first + tl.arange(0, BLOCK)  # (BLOCK,) int64
    mask = i < num_elements if MASKED else None

    p = tl.load(param_ptr + i, mask=mask).to(tl.float32)
    g = tl.load(grad_ptr + i, mask=mask).to(tl.float32)
    m = tl.load(exp_avg_ptr + i, mask=mask).to(tl.float32)
    v = tl.load(exp_avg_sq_ptr + i, mask=mask).to(tl.float32)
    if low_ptr is not None:
        p_bits = p.to(tl.int32, bitcast=True) + tl.load(low_ptr + i, mask=mask).to(tl.int32)
        p = p_bits.to(tl.float32, bitcast=True)
    if clip_ptr is not None:
        g = g * tl.load(clip_ptr)

    m = m + (g - m) * one_minus_beta1
    v = v * beta2 + g * g * one_minus_beta2
    update = tl.div_rn(m * step_size, tl.sqrt_rn(v) * root_scale + eps)
    p = p - (update + p * decay)

    stochastic_param: tl.constexpr = low_ptr is None and param_ptr.dtype.element_ty == tl.bfloat16
    stochastic_moments: tl.constexpr = (
        exp_avg_ptr.dtype.element_ty == tl.bfloat16 or exp_avg_sq_ptr.dtype.element_ty == tl.bfloat16
    )
    m_random, v_random = 0, 0
    if stochastic_param or stochastic_moments:
        words = _random_words(offset + first, step, seed, BLOCK, ROUNDS)
        m_random, v_random = (words & 0xFFFF).to(tl.int32), (words >> 16).to(tl.int32)
    _store(exp_avg_ptr, i, m, mask, m_random)
    _store(exp_avg_sq_ptr, i, v, mask, v_random)
    if low_ptr is None:
        _store(param_ptr, i, p, mask, m_random ^ v_random)
    else:
        bits = _bits(p)
        high = (bits + 0x8000) >> 16
        tl.store(param_ptr + i, high.to(tl.int16).to(tl.bfloat16, bitcast=True), mask=mask)
        tl.store(low_ptr + i, (bits - (high << 16)).to(tl.int16), mask=mask)


def _launch(streams: _Streams, clip: Tensor | None, offset: int, step: int, seed: int, rates: _Rates) -> None:
    """Launch the whole blocks without masks, so that accesses stay 16 bytes wide, then the remainder with masks."""
    num_elements = streams.param.numel()
    whole = num_elements // BLOCK * BLOCK
    with torch.cuda.device_of(streams.param):  # type: ignore[no-untyped-call]
        for first, last in ((0, whole), (whole, num_elements)):
            if first == last:
                continue
            _adamw_kernel[(triton.cdiv(last - first, BLOCK),)](
                *streams.part(first, last),
                clip,
                last - first,
                offset + first,
                step,
                seed,
                *rates,
                MASKED=first == whole,
                BLOCK=BLOCK,
                ROUNDS=ROUNDS,
                num_warps=NUM_WARPS,
                enable_fp_fusion=False,
            )


def _chunk_step(streams: _Streams, clip: Tensor | None, offset: int, step: int, seed: int, rates: _Rates) -> None:
    """Do what `_adamw_kernel` does in PyTorch; temporaries have the size of a chunk."""
    param, low_bits, grad, exp_avg, exp_avg_sq = streams
    g = grad.to(torch.float32, copy=True)
    if clip is not None:
        g *= clip
    m, v = exp_avg.float(), exp_avg_sq.float()  # float() returns the moments themselves if they are fp32
    p = param.float() if low_bits is None else join_master(param, low_bits)
    scratch = (g - m).mul_(rates.one_minus_beta1)
    m += scratch
    v *= rates.beta2
    v += g.mul_(g).mul_(rates.one_minus_beta2)
    # The square root is taken in fp64, because torch.sqrt is not correctly rounded in fp32 on every CPU.
    scratch.copy_(v.double().sqrt_()).mul_(rates.root_scale).add_(rates.eps)
    torch.mul(m, rates.step_size, out=g).div_(scratch)
    g += torch.mul(p, rates.decay, out=scratch)
    p -= g

    if low_bits is not None:
        for target, half in zip((param, low_bits), split_master(p), strict=True):
            target.copy_(half)
    stored = [(exp_avg, m), (exp_avg_sq, v)] + ([(param, p)] if low_bits is None else [])
    if any(target.dtype == torch.bfloat16 for target, _ in stored):
        words = _philox(param.numel(), offset // 4, step, seed, param.device)
        low_word, high_word = (words & 0xFFFF).int(), (words >> 16).int()
        for (target, value), random_bits in zip(stored, (low_word, high_word, low_word ^ high_word), strict=False):
            if target.dtype == torch.bfloat16:
                rounded = (_canonical_bits(value) + random_bits) >> 16
                target.copy_(rounded.to(torch.int16).view(torch.bfloat16))


def _philox(num_elements: int, first_quad: int, step: int, seed: int, device: torch.device) -> Tensor:
    """Return the random words that `_random_words` gives, in [0, 2^32), (num_elements,), int64."""
    word = (1 << 32) - 1
    quads = torch.arange(first_quad, first_quad + -(-num_elements // 4), device=device)
    c0, c1 = quads & word, quads >> 32
    c2, c3 = torch.full_like(quads, step), torch.zeros_like(quads)
    k0, k1 = seed & word, seed >> 32
    for _ in range(ROUNDS):
        # A product may exceed 2^63 and wrap: its 64 bits are correct, and the mask removes the sign of the high word.
        x, y = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0 = (y >> 32).bitwise_and_(word).bitwise_xor_(c1).bitwise_xor_(k0)
        c2 = (x >> 32).bitwise_and_(word).bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3 = y.bitwise_and_(word), x.bitwise_and_(word)
        k0, k1 = (k0 + 0x9E3779B9) & word, (k1 + 0xBB67AE85) & word
    return torch.stack((c0, c1, c2, c3), 1).view(-1)[:num_elements]


def _canonical_bits(value: Tensor) -> Tensor:
    """Return a copy of an fp32 tensor's bits as int32, with the same bits for every NaN."""
    return torch.where(value.isnan(), 0x7FC00000, value.view(torch.int32))


def _check(streams: _Streams, clip: Tensor | None) -> None:
    param = streams.param
    for name, tensor in zip(streams._fields, streams, strict=True):
        if tensor is None:
            continue
        allowed = (torch.int16,) if name == "low_bits" else (torch.float32, torch.bfloat16)
        if tensor.dtype not in allowed:
            raise ValueError(f"{name} is {tensor.dtype}: it must be {' or '.join(map(str, allowed))}.")
        if tensor.dim() != 1 or tensor.shape != param.shape:
            shapes = f"{tuple(tensor.shape)}, param {tuple(param.shape)}"
            raise ValueError(f"{name} has shape {shapes}: all must be flat, (N,), and alike.")
        if not tensor.is_contiguous():
            raise ValueError(f"{name} has stride {tensor.stride(0)}: it must be contiguous, as it is changed in place.")
        if tensor.device != param.device:
            raise ValueError(f"{name} is on {tensor.device}, param on {param.device}: use one device.")
    if streams.low_bits is not None and param.dtype != torch.bfloat16:
        raise ValueError(f"low_bits given and param is {param.dtype}: only a bfloat16 param has low bits beside it.")
    if clip is not None and (clip.dtype != torch.float32 or clip.dim() != 0 or clip.device != param.device):
        found = f"{clip.dtype} of shape {tuple(clip.shape)} on {clip.device}"
        raise ValueError(f"clip is {found}: it must be torch.float32 of shape () on {param.device}, as param is.")


def _check_numbers(
    step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, seed: int, offset: int
) -> None:
    if step < 1:
        raise ValueError(f"step = {step}: steps are counted from 1.")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas = {betas}: each must be in [0, 1).")
    for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} = {value}: it must be a finite number, 0 or more.")
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed = {seed}: it must be in [0, 2^63).")
    if offset < 0 or offset % 4:
        raise ValueError(f"offset = {offset}: it must be a multiple of 4, 0 or more.")
