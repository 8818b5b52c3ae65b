"""Every benchmark's list of cases, and what they assume of others."""

import importlib

import pytest
from bench_linear_cross_entropy import chunk_rows

from harness.measuring import Case
from harness.rival_losses import Size, liger_budget
from harness.shapes import MODELS

NAMES = (
    "linear_cross_entropy", "weighted_cross_entropy", "attention", "adamw", "rms_norm", "swiglu", "rope", "products",
    "float8",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_device_has_cases_with_labels_of_their_own(name: str, device: str) -> None:
    plans = importlib.import_module(f"bench_{name}").plans(device, False)
    assert len({plan.label for plan in plans}) == len(plans) > 1


@pytest.mark.parametrize("name", NAMES)
def test_every_tiny_case_is_right(name: str) -> None:
    """Ours and every other implementation that runs here agree with fp64, at tiny sizes on every device."""
    from harness.measuring import _check

    for plan in importlib.import_module(f"bench_{name}").plans("cpu", True):
        if plan.label.startswith(("memory", "sustained")):
            continue
        case = plan.make()
        assert isinstance(case, Case)
        errors, refused = _check(case)
        assert refused == {}
        assert any(way.startswith("ours") for way in errors) or errors.keys() == {"torch"}


@pytest.mark.parametrize("tokens", [1024, 8192, 32_768])
@pytest.mark.parametrize("model", MODELS)
def test_liger_in_our_memory_has_chunks_that_fit_and_would_not_twice(model: str, tokens: int) -> None:
    shape = MODELS[model]
    size = Size(model, tokens, shape.hidden, shape.vocabulary, "bfloat16")
    # Liger's own rule for its chunk.
    parts = -(-shape.vocabulary // (liger_budget(size) * shape.hidden))
    chunk = min(tokens, 1 << (-(-tokens // parts) - 1).bit_length())
    slab = 1280 << 20
    assert chunk * shape.vocabulary * 2 <= slab
    assert chunk == tokens or 2 * chunk * shape.vocabulary * 2 > slab


def test_the_products_are_chunked_as_ours_are() -> None:
    from alttrain.kernels.linear_cross_entropy import SLAB_BYTES

    size = Size("R1-7B", 8192, 3584, 152_064, "bfloat16")
    assert chunk_rows(size) * 152_064 * 2 <= max(SLAB_BYTES.values())
