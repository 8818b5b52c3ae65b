"""The benchmark of whole steps: its documents, its table of kernels, and a dry run from the command line."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from bench_products import shapes

from harness.documents import draw_examples
from harness.kernel_times import kind_of, summarise
from harness.shapes import PUBLISHED_TOKENS, R1_DISTILL

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_train_step.py"


@pytest.mark.parametrize("num_tokens", [1, 19, PUBLISHED_TOKENS, 8192])
def test_documents_fill_the_step_to_the_token_and_three_quarters_have_weight(num_tokens: int) -> None:
    examples = draw_examples(num_tokens, 100, random.Random(0))
    assert sum(len(example.input_ids) for example in examples) == num_tokens
    assert all(len(example.input_ids) == len(example.span_ids) > 0 for example in examples)
    if num_tokens == 8192:
        assert 40 < len(examples) < 60
        prompts = sum(example.span_ids.count(min(example.span_ids)) for example in examples)
        assert prompts == pytest.approx(num_tokens / 4, rel=0.02)


def test_kernels_are_summed_by_kind_and_by_name() -> None:
    table = summarise(
        [("nvjet_tst_128x256", 2000.0), ("nvjet_tst_128x256", 1000.0), ("rms_norm._forward_kernel", 500.0)]
    )
    assert table["launches"] == 3
    assert table["device_ms"] == 3.5
    assert table["kinds"] == {"products": {"launches": 2, "ms": 3.0}, "norms": {"launches": 1, "ms": 0.5}}
    assert list(table["kernels"]) == ["nvjet_tst_128x256", "rms_norm._forward_kernel"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("swiglu._backward_kernel", "swiglu"),
        ("_swiglu_forward_kernel", "swiglu"),
        ("_rms_norm_backward_kernel", "norms"),
        ("_triton_rope", "rotary"),
        ("chunked_logprob._forward_kernel", "loss, rows"),
        ("liger_cross_entropy_kernel", "loss, rows"),
        ("lt 3584x8192x3584, epilogue", "products"),
        ("weighted_cross_entropy._forward_kernel", "loss, rows"),
        ("void flash::flash_fwd_kernel<cutlass::bfloat16_t>", "attention"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "products"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add>", "elementwise"),
        ("void at::native::reduce_kernel<512, 1>", "reductions"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("Memset (Device)", "fills"),
        ("something new", "other"),
    ],
)
def test_kind_of_a_kernel(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_products_of_the_7b() -> None:
    assert shapes(R1_DISTILL["R1-7B"]) == {
        "gate, up": (3584, 18_944), "down": (18_944, 3584), "q, o": (3584, 3584), "k, v": (3584, 512),
        "gate+up": (3584, 37_888), "q+k+v": (3584, 4608), "head": (3584, 152_064),
    }  # fmt: skip


def test_dry_run_takes_steps_of_the_engine_and_leaves_its_json(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads((tmp_path / "train_step.json").read_text())
    assert (written["dry_run"], written["cut"], written["refused"]) == (True, [], [])
    assert [row["sizes"]["tokens"] for row in written["rows"]] == [96, 48]
    for row in written["rows"]:
        assert row["samples"] == 6
        assert 0 < row["low_ms"] <= row["median_ms"] <= row["high_ms"]
        assert row["tokens_per_second"] > 0
        assert 4 < row["loss"] < 9  # about log(512)
        assert row["peak_memory_gib"] > 0
