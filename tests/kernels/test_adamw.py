"""AdamW on flat tensors: its definition, torch's own, and the laws of its four layouts."""

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from alttrain.kernels import adamw
from alttrain.kernels.adamw import adamw_reference, adamw_step, join_master, split_master
from skips import LITTLE_GPU_MEMORY, NO_GPU

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
FP32, BF16 = torch.float32, torch.bfloat16
BACKENDS = ("torch", "triton")
RATES: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1}


def normal(num_elements: int, scale: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(num_elements, generator=generator) * scale).to(DEVICE)


def state(num_elements: int, layout: str, moments: torch.dtype) -> dict[str, Tensor]:
    """A tensor in the midst of training: keyword arguments of a step."""
    master = normal(num_elements, 0.02, 0)
    tensors = {
        "exp_avg": normal(num_elements, 1e-3, 1).to(moments),
        "exp_avg_sq": normal(num_elements, 1e-3, 2).square().to(moments),
    }
    if layout == "split":
        tensors["param"], tensors["low_bits"] = split_master(master)
    else:
        tensors["param"] = master.to(BF16 if layout == "stochastic" else FP32)
    return tensors


def moments_of(kept: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return kept["exp_avg"], kept["exp_avg_sq"]


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def bits(tensor: Tensor) -> Tensor:
    """The tensor as integers, every NaN the same: x86 and GPUs sign theirs differently."""
    if tensor.is_floating_point():
        tensor = tensor.where(~tensor.isnan(), torch.nan)
    return tensor.view(torch.int32 if tensor.dtype == FP32 else torch.int16)


def assert_same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name in ours:
        assert torch.equal(bits(ours[name]), bits(theirs[name])), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("lr", "weight_decay"), [(1e-3, 0.1), (1e-5, 1e-4)])
def test_error_against_fp64_is_at_most_twice_torchs(backend: Any, lr: float, weight_decay: float) -> None:
    param, exp_avg, exp_avg_sq = normal(1500, 0.02, 0), *torch.zeros(2, 1500, device=DEVICE)
    truth = [tensor.double() for tensor in (param, exp_avg, exp_avg_sq)]
    theirs = torch.nn.Parameter(param.clone())
    rates: dict[str, Any] = {"lr": lr, "betas": (0.9, 0.95), "weight_decay": weight_decay}
    optimizer = torch.optim.AdamW([theirs], foreach=False, **rates)
    for step in range(1, 51):
        grad = normal(1500, 1e-3, step)
        theirs.grad = grad
        optimizer.step()
        adamw_step(param, grad, exp_avg, exp_avg_sq, step=step, backend=backend, **rates)
        truth = list(adamw_reference(truth[0], grad, *truth[1:], step=step, **rates))
    torchs = (theirs.detach(), *moments_of(optimizer.state[theirs]))
    for ours, other, exact in zip((param, exp_avg, exp_avg_sq), torchs, truth, strict=True):
        assert 0 < (ours - exact).norm() <= 2 * (other - exact).norm()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_is_within_two_ulp_of_torchs(backend: Any, fused: bool) -> None:
    theirs = torch.nn.Parameter(normal(1500, 0.02, 0))
    optimizer = torch.optim.AdamW([theirs], fused=fused, foreach=False, **RATES)
    theirs.grad = normal(1500, 1e-3, 1)
    optimizer.step()
    for step in range(2, 52):
        kept = optimizer.state[theirs]
        before = (theirs.detach().clone(), *(tensor.clone() for tensor in moments_of(kept)))
        param, exp_avg, exp_avg_sq = (tensor.clone() for tensor in before)
        theirs.grad = normal(1500, 1e-3, step)
        optimizer.step()
        adamw_step(param, theirs.grad, exp_avg, exp_avg_sq, step=step, backend=backend, **RATES)
        triples = zip(before, (param, exp_avg, exp_avg_sq), (theirs.detach(), *moments_of(kept)), strict=True)
        for (old, ours, other), step_size in zip(triples, (RATES["lr"], 0.0, 0.0), strict=True):
            # Of the largest of old, new and step: where a step all but cancels a value, few of its digits are left.
            # A weight smaller than its step is made of the step, in which each version has some rounding of its own.
            largest = torch.maximum(old.abs(), other.abs()).clamp(min=step_size)
            ulp = torch.nextafter(largest, torch.tensor(torch.inf, device=DEVICE)) - largest
            limit = torch.where(old.abs() >= step_size, 2, 4)
            assert ((ours - other).abs() <= limit * ulp).all()


def two_hundred_steps() -> list[Any]:
    cases = []
    for backend in BACKENDS:
        for moments in (FP32, BF16):
            for grads in (FP32, BF16):
                # Random bits take the interpreter 10 ms a step; the step itself is held to PyTorch's below.
                if backend == "torch" or ON_GPU or moments == FP32:
                    cases.append((backend, moments, grads))
    return cases


@pytest.mark.parametrize(("backend", "moments", "grads"), two_hundred_steps())
def test_split_master_equals_an_unsplit_one_to_the_bit(backend: Any, moments: torch.dtype, grads: torch.dtype) -> None:
    whole, split = state(1300, "fp32", moments), state(1300, "split", moments)
    first = whole["param"].clone()
    for step in range(1, 201):
        grad = normal(1300, 1e-3, step).to(grads)
        for tensors in (whole, split):
            adamw_step(**tensors, grad=grad, step=step, backend=backend, seed=7, **RATES)
    assert (whole["param"] != first).all()
    joined = join_master(split["param"], split.pop("low_bits"))
    assert_same_bits(split | {"param": joined}, whole)
    assert ((split["param"].float() - whole["param"]).abs() <= whole["param"].abs() * 2**-8).all()


@pytest.mark.parametrize("layout", ["fp32", "split", "stochastic"])
@pytest.mark.parametrize("moments", [FP32, BF16])
@pytest.mark.parametrize("grads", [FP32, BF16])
@pytest.mark.usefixtures("poison")
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_triton_equals_pytorch_to_the_bit(layout: str, moments: torch.dtype, grads: torch.dtype) -> None:
    for num_elements in (1, 1023, 1024, 2053):
        start = state(num_elements, layout, moments)
        ours, theirs = copies(start), copies(start)
        for step in (1, 2, 1000):
            grad = normal(num_elements, 1e-3, step).to(grads)
            for index, value in enumerate((0.0, 1e-45, 1e-30, 3e38, -3e38, torch.inf, torch.nan)):
                grad[index * 7 % num_elements] = value
            options = {**RATES, "clip": torch.tensor(0.3, device=DEVICE), "seed": 0x7EDCBA9876543210}
            for tensors, backend in ((ours, "triton"), (theirs, "torch")):
                adamw_step(**tensors, grad=grad, step=step, offset=2**34 - 8, backend=backend, **options)
        assert_same_bits(ours, theirs)
        assert 0 < ours["param"].isnan().sum() < 4
        assert not any(torch.equal(ours[name], start[name]) for name in start)


def test_both_moments_may_have_a_dtype_of_their_own() -> None:
    start = state(100, "stochastic", FP32)
    start["exp_avg"] = start["exp_avg"].to(BF16)
    ours, theirs = copies(start), copies(start)
    for tensors, backend in ((ours, "triton"), (theirs, "torch")):
        adamw_step(**tensors, grad=normal(100, 1e-3, 0), step=3, backend=backend, **RATES)
    assert_same_bits(ours, theirs)


def within_three_standard_errors(errors: Tensor) -> bool:
    return bool(errors.mean().abs() <= 3 * errors.std() / len(errors) ** 0.5)


def test_stochastic_rounding_does_not_drift() -> None:
    num_elements, rates = 2048, {"lr": 1e-5, "betas": (0.9, 0.95), "weight_decay": 0.0}
    param = normal(num_elements, 0.02, 0).to(BF16)
    grad = normal(num_elements, 1e-3, 1)
    zeros = torch.zeros_like(grad)
    exact, ours = (param.double(), zeros.double(), zeros.double()), (param, zeros.clone(), zeros.clone())
    nearest = adamw_reference(param.float(), grad, zeros, zeros, step=1, **rates)[0].to(BF16)
    assert (nearest == param).float().mean() > 0.8, "rounding to nearest would do as well"
    for step in range(1, 10_001):
        adamw_step(ours[0], grad, *ours[1:], step=step, seed=3, **rates)
        exact = adamw_reference(exact[0], grad, *exact[1:], step=step, **rates)
    toward_zero = exact[0].sign()
    for errors in (ours[0] - exact[0], (ours[0] - exact[0]) * toward_zero, (ours[0] - exact[0]) * grad.sign()):
        assert within_three_standard_errors(errors)
    assert (exact[0] - normal(num_elements, 0.02, 0).to(BF16)).abs().mean() > 0.09  # it has moved, by 10,000 * lr


def test_bf16_second_moment_decays_at_the_rate_it_should() -> None:
    """A beta2 of 0.999 takes off less than half a step of bf16: rounded to nearest, nothing would ever move."""
    exp_avg_sq = torch.full((4096,), 1e-6, dtype=BF16, device=DEVICE)
    start = float(exp_avg_sq[0])
    zeros = torch.zeros(4096, device=DEVICE)
    for step in range(1, 1001):
        adamw_step(
            zeros.clone(), zeros, zeros.clone(), exp_avg_sq, step=step, lr=0.0, betas=(0.9, 0.999), weight_decay=0.0
        )
    assert within_three_standard_errors(exp_avg_sq.double() / start - 0.999**1000)


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_bits_come_from_seed_step_and_place_alone(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk in ("CHUNK_CPU", "CHUNK_GPU"):
        monkeypatch.setattr(adamw, chunk, 256)
    start = state(1100, "stochastic", BF16)
    grad = normal(1100, 1e-3, 5)

    def step(first: int = 0, last: int = 1100, **changed: int) -> dict[str, Tensor]:
        tensors = {name: tensor[first:last].clone() for name, tensor in start.items()}
        options: dict[str, Any] = {"step": 2, "seed": 1, "offset": 8 + first, "backend": backend, **RATES, **changed}
        adamw_step(**tensors, grad=grad[first:last], **options)
        return tensors

    whole = step()
    assert_same_bits(whole, step())
    pieces = [step(0, 20), step(20, 1060), step(1060, 1100)]
    assert_same_bits(whole, {name: torch.cat([piece[name] for piece in pieces]) for name in whole})
    for changed in ({"seed": 2}, {"seed": 1 + 2**32}, {"offset": 12}, {"offset": 8 + 2**34}):
        for name, other in step(**changed).items():
            assert 0.05 < (bits(other) != bits(whole[name])).float().mean() < 0.95, (changed, name)
    words = adamw._philox(1100, 2, 2, 1, DEVICE)
    assert len(words.unique()) == 1100


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x32-10 as the paper has it, in integers without a size."""
    for _ in range(10):
        x, y = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [y >> 32 ^ counter[1] ^ key[0], y % 2**32, x >> 32 ^ counter[3] ^ key[1], x % 2**32]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


def test_random_bits_are_philox() -> None:
    # The known answers of Random123, the authors' own library.
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]
    assert philox(pi[:4], pi[4:]) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    for quad, step, seed in ((0, 0, 0), (2**32 - 1, 2**31 - 1, 2**63 - 1), (2**40 + 5, 7, 2**32 + 9)):
        words = adamw._philox(6, quad, step, seed, DEVICE).tolist()
        key = [seed % 2**32, seed >> 32]
        wanted = [philox([place % 2**32, place >> 32, step, 0], key) for place in (quad, quad + 1)]
        assert words == [*wanted[0], *wanted[1][:2]]


def test_the_three_draws_of_an_element_are_uniform_and_pairwise_independent() -> None:
    num_elements = 1 << 18
    words = adamw._philox(num_elements, 0, 1, 0, DEVICE)
    draws = torch.stack((words & 0xFFFF, words >> 16, (words & 0xFFFF) ^ (words >> 16))).double() / 2**16 - 0.5
    scaled = draws * 12**0.5  # variance 1
    assert (scaled.mean(1).abs() < 3.5 / num_elements**0.5).all()
    products = scaled @ scaled.t() / num_elements - torch.eye(3, device=DEVICE)
    assert (products.abs() < 3.5 / num_elements**0.5).all()


@given(st.integers(0, 2**32 - 1))
@example(0x00000001)  # the least subnormal
@example(0x807FFFFF)  # the largest, negative
@example(0x3F808000)  # a tie that goes up from an even half
@example(0x3F818000)  # and from an odd one
@example(0x3F807FFF)
@example(0xBF808000)
@example(0x7F7FFFFF)  # the largest finite
@example(0x7F800000)
@example(0xFF800000)
@example(0x7FFFFFFF)  # a GPU's NaN
@example(0xFFFFFFFF)
@example(0x80000000)
def test_every_fp32_survives_splitting(pattern: int) -> None:
    master = torch.tensor([pattern], dtype=torch.int64).to(torch.int32).view(FP32)
    param, low_bits = split_master(master)
    joined = join_master(param, low_bits)
    if master.isnan():
        assert param.isnan()
        assert joined.isnan()
        return
    assert torch.equal(joined.view(torch.int32), master.view(torch.int32))
    is_tie = pattern & 0xFFFF == 0x8000
    if is_tie:
        assert param.float().abs() > master.abs()
    else:
        assert torch.equal(param, master.to(BF16))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_is_never_hidden(backend: Any) -> None:
    """The GPU's own NaN, rounded as if it were a number, would read as -0."""
    for layout in ("fp32", "split", "stochastic"):
        tensors = state(8, layout, BF16)
        grad = torch.tensor([0x7FFFFFFF] * 8, dtype=torch.int32, device=DEVICE).view(FP32)
        for step in (1, 2):
            adamw_step(**tensors, grad=grad, step=step, backend=backend, **RATES)
        for name in ("param", "exp_avg", "exp_avg_sq"):
            assert tensors[name].isnan().all(), (layout, name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_clip_scales_the_gradient_before_anything_else(backend: Any) -> None:
    clipped, scaled = state(50, "fp32", FP32), state(50, "fp32", FP32)
    grad = normal(50, 1.0, 3)
    adamw_step(**clipped, grad=grad, step=1, clip=torch.tensor(0.25, device=DEVICE), backend=backend, **RATES)
    adamw_step(**scaled, grad=grad * 0.25, step=1, backend=backend, **RATES)
    assert_same_bits(clipped, scaled)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["fp32", "split", "stochastic"])
def test_nothing_to_do_and_views_at_odd_addresses(backend: Any, layout: str) -> None:
    empty = state(0, layout, BF16)
    adamw_step(**empty, grad=torch.zeros(0, device=DEVICE), step=1, backend=backend, **RATES)
    aligned, shifted = state(1030, layout, BF16), {}
    for name, tensor in aligned.items():
        shifted[name] = torch.cat((tensor[:1], tensor))[1:]
    for tensors in (aligned, shifted):
        adamw_step(**tensors, grad=normal(1030, 1e-3, 0), step=1, backend=backend, **RATES)
    assert_same_bits(aligned, shifted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_parameter_is_stepped_and_autograd_knows(backend: Any) -> None:
    param = torch.nn.Parameter(normal(5, 0.02, 0))
    before = param.detach().clone()
    loss = param.square().sum()
    adamw_step(param, normal(5, 1.0, 1), *torch.zeros(2, 5, device=DEVICE), step=1, backend=backend, **RATES)
    assert (param != before).all()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


REFUSALS = {
    r"^param is torch.float64: it must be torch.float32 or torch.bfloat16\.$": {"param": torch.zeros(4).double()},
    r"^grad is torch.float16: it must be": {"grad": torch.zeros(4).half()},
    r"^exp_avg_sq is torch.int16: it must be": {"exp_avg_sq": torch.zeros(4).short()},
    r"^low_bits is torch.int32: it must be torch.int16\.$": {"low_bits": torch.zeros(4).int()},
    r"^low_bits given and param is torch.float32: only a bfloat16 param": {"low_bits": torch.zeros(4).short()},
    r"^grad has shape \(5,\), param \(4,\): all must be flat, \(N,\), and alike\.$": {"grad": torch.zeros(5)},
    r"^param has shape \(2, 2\), param \(2, 2\): all must be flat": {"param": torch.zeros(2, 2)},
    r"^exp_avg has stride 2: it must be contiguous": {"exp_avg": torch.zeros(8)[::2]},
    r"^grad is on meta, param on cpu: use one device\.$": {"grad": torch.zeros(4, device="meta")},
    r"^clip is torch.float64 of shape \(\) on cpu: it must be torch.float32": {"clip": torch.tensor(1.0).double()},
    r"^clip is torch.float32 of shape \(1,\) on cpu: it must be": {"clip": torch.ones(1)},
    r"^step = 0: steps are counted from 1\.$": {"step": 0},
    r"^betas = \(0.9, 1.0\): each must be in \[0, 1\)\.$": {"betas": (0.9, 1.0)},
    r"^lr = nan: it must be a finite number": {"lr": float("nan")},
    r"^weight_decay = -1.0: it must be a finite number": {"weight_decay": -1.0},
    r"^seed = -1: it must be in \[0, 2\^63\)\.$": {"seed": -1},
    r"^offset = 6: it must be a multiple of 4": {"offset": 6},
}


@pytest.mark.parametrize("message", REFUSALS)
def test_what_does_not_fit_is_refused_by_name(message: str) -> None:
    good = {name: torch.zeros(4) for name in ("param", "grad", "exp_avg", "exp_avg_sq")}
    arguments: dict[str, Any] = {**good, "step": 1, **RATES, **REFUSALS[message]}
    with pytest.raises(ValueError, match=message):
        adamw_step(**arguments)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason=NO_GPU)
def test_elements_beyond_the_range_of_int32() -> None:
    if torch.cuda.mem_get_info()[0] < 20 << 30:
        pytest.skip(LITTLE_GPU_MEMORY)
    end, grad = state(2053, "stochastic", BF16), normal(2053, 1e-3, 0).to(BF16)
    whole = {name: torch.cat((tensor.new_zeros(2**31), tensor)) for name, tensor in end.items()}
    adamw_step(**whole, grad=torch.cat((grad.new_zeros(2**31), grad)), step=1, **RATES)
    adamw_step(**end, grad=grad, step=1, offset=2**31, **RATES)
    assert_same_bits({name: tensor[2**31 :] for name, tensor in whole.items()}, end)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason=NO_GPU)
def test_no_step_waits_for_the_device_or_compiles_anew() -> None:
    tensors = state(4096 + 5, "split", BF16)
    grad, clip = normal(4096 + 5, 1e-3, 0).to(BF16), torch.ones((), device=DEVICE)
    adamw_step(**tensors, grad=grad, step=1, clip=clip, **RATES)
    compiled = adamw._adamw_kernel.device_caches[torch.cuda.current_device()][0]
    before = len(compiled)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in (2, 16, 17):
            rates = {"lr": 1.0 / step, "betas": (0.9, 0.95), "weight_decay": 0.0}
            adamw_step(**tensors, grad=grad, step=step, clip=clip, seed=step, offset=16 * step, **rates)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(compiled) == before
