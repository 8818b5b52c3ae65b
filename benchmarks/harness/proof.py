"""What tests.json of a GPU must show before the engine trusts its kernels there (PROVEN_GPUS in engine/model).

That no test failed says nothing of tests that never ran. So the tests below must be in the file, each with all its
cases passed: values and gradients of every kernel against fp64, attention in half precision with grouped heads, our
layers in a model, the batch, and one ZeRO-1 step, natively.
"""

from collections.abc import Mapping
from typing import Any

REQUIRED: dict[str, tuple[str, ...]] = {
    "tests/kernels/test_linear_cross_entropy.py": (
        "test_loss_and_gradients",
        "test_any_chunk_size",
        "test_confident_logits",
        "test_rows_of_weight_0_may_be_left_out",
        "test_no_rows_give_a_connected_zero",
        "test_bitwise_repeatable",
    ),
    "tests/kernels/test_weighted_cross_entropy.py": (
        "test_fp32_is_as_near_to_fp64_as_torch",
        "test_half_precision_loses_one_rounding",
        "test_confident_rows_keep_their_digits",
        "test_rows_beyond_two_to_the_31_elements",
        "test_on_cuda_nothing_waits_and_a_bad_label_is_loud",
    ),
    "tests/kernels/test_attention.py": (
        "test_sdpa_equals_the_definition",
        "test_varlen_equals_the_definition",
        "test_varlen_takes_views_and_waits_for_nothing",
        "test_varlen_runs_where_it_can",
        "test_documents_do_not_see_each_other_in_varlen",
    ),
    "tests/kernels/test_adamw.py": (
        "test_error_against_fp64_is_at_most_twice_torchs",
        "test_split_master_equals_an_unsplit_one_to_the_bit",
        "test_triton_equals_pytorch_to_the_bit",
        "test_elements_beyond_the_range_of_int32",
        "test_no_step_waits_for_the_device_or_compiles_anew",
    ),
    "tests/kernels/test_rms_norm.py": (
        "test_forward_and_backward",
        "test_an_element_of_bf16_is_within_its_roundings",
        "test_strided_rows",
        "test_offsets_beyond_32_bits",
    ),
    "tests/kernels/test_swiglu.py": (
        "test_forward_and_backward",
        "test_with_the_projection",
        "test_in_place_uses_no_memory_and_runs_once",
        "test_offsets_beyond_32_bits",
    ),
    "tests/kernels/test_rope.py": (
        "test_forward_and_backward",
        "test_the_tables_and_the_function_of_transformers",
        "test_in_place_means_in_place",
        "test_offsets_beyond_32_bits",
    ),
    "tests/kernels/test_backend.py": ("test_auto_is_triton_on_cuda_only", "test_torch_is_torch_everywhere"),
    "tests/kernels/test_span_weights.py": (
        "test_the_kernel_is_the_definition",
        "test_both_paths_agree_to_the_bit",
        "test_on_cuda_without_a_host_sync",
    ),
    "tests/engine/data/test_batch.py": (
        "test_two_documents_by_hand",
        "test_packing_and_ranks_change_no_weight_and_no_sum",
        "test_on_cuda_without_a_host_sync",
    ),
    "tests/engine/model/test_attention.py": ("test_a_pack_through_a_model_equals_its_documents_apart",),
    "tests/engine/model/test_layers.py": (
        "test_loss_and_gradients_are_those_of_the_definition[triton]",
        "test_forward_and_backward_wait_for_nothing",
    ),
    "tests/distributed/test_gradients.py": ("test_first_step_of_one_process_on_this_device",),
}
"""Test functions by file; `test_f[word]` means those of its cases that have `word` in their brackets."""


def objections(results: Mapping[str, Any], gpu: str) -> list[str]:
    """Return why the content of a tests.json is no proof for `gpu`; nothing where it is one."""
    found = []
    if results["environment"].get("gpu") != gpu:
        found.append(f"it ran on {results['environment'].get('gpu')}, not on {gpu}")
    if results["dry_run"]:
        found.append("it was a dry run")
    found += [f"cut: {name}" for name in results["cut"]]
    outcomes = {test["name"]: test["outcome"] for test in results["tests"]}
    found += [f"failed: {name}" for name, outcome in outcomes.items() if outcome == "failed"]
    for file, functions in REQUIRED.items():
        for function in functions:
            cases = {name: outcomes[name] for name in outcomes if _is_case(name, file, function)}
            if not cases:
                found.append(f"lacks {file}::{function}")
            found += [f"{outcome}: {name}" for name, outcome in cases.items() if outcome not in ("passed", "failed")]
    return found


def _is_case(name: str, file: str, function: str) -> bool:
    """Return whether `name`, as pytest writes it, is `file::function`, or a case of it that is meant."""
    wanted, _, word = function.removesuffix("]").partition("[")
    its_file, _, rest = name.partition("::")
    its_function, _, brackets = rest.removesuffix("]").partition("[")
    words = brackets.split("-")
    return its_file == file and its_function == wanted and (not word or word in words)
