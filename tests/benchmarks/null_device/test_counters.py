"""Counts of calls: read from the library's own log where there is a C compiler, and what they come to."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from null_device.counters import Call, NullDevice, Total, Waits, most_called, short_name, since, summary, where
from skips import NO_COMPILER

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks" / "null_device"
# The log keeps the addresses of names, which have to last: literals of C, elsewhere.
ANOTHER_MEMSET, A_WAIT = (ctypes.create_string_buffer(name) for name in (b"memset", b"cudaStreamSynchronize"))
COUNTS = {
    Call("kernel", "fill"): Total(5, 50),
    Call("triton", "_forward"): Total(2, 20),
    Call("product", "gemm"): Total(3, 600),
    Call("to_device", "pinned"): Total(4, 64),
    Call("to_host", "pageable"): Total(1, 8),
    Call("on_device", "copy"): Total(6, 1000),
    Call("fill", "memset"): Total(7, 70),
    Call("wait", "cudaFree"): Total(2, 0),
    Call("stub", "cudnnCreate"): Total(1, 1),
}


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> NullDevice:
    """The log, with the products of cuBLAS, in a library of its own: no header of NVIDIA's is needed for these."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip(NO_COMPILER)
    folder = tmp_path_factory.mktemp("lib")
    sources = [str(FOLDER / name) for name in ("log.c", "cublas.c", "cublaslt.c")]
    flags = ["-std=gnu2x", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", f"-I{FOLDER}"]
    subprocess.run([compiler, *flags, *sources, "-o", str(folder / "libcudart.so.13"), "-lpthread"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NULL_DEVICE_LIBRARIES", str(folder))
        return NullDevice()


def test_calls_are_counted_by_kind_and_name(device: NullDevice) -> None:
    library = device.library
    library.null_name.restype = ctypes.c_void_p
    before = device.counts()
    names = [library.null_name(b"memset"), ctypes.addressof(ANOTHER_MEMSET)]
    fill, on_device = device.kinds.index("fill"), device.kinds.index("on_device")
    for name, amount in ((names[0], 10), (names[0], 5), (names[1], 1)):
        library.null_count(fill, ctypes.c_void_p(name), ctypes.c_uint64(amount))
    library.null_count(on_device, ctypes.c_void_p(names[0]), ctypes.c_uint64(2**40))
    found = since(before, device.counts())
    assert found == {Call("fill", "memset"): Total(3, 16), Call("on_device", "memset"): Total(1, 2**40)}


def test_equal_names_have_one_address(device: NullDevice) -> None:
    device.library.null_name.restype = ctypes.c_void_p
    texts = [f"gemm {number}".encode() for number in range(5000)]
    first = [device.library.null_name(text) for text in texts]
    assert len(set(first)) == len(texts)
    assert [device.library.null_name(text) for text in texts] == first


def test_a_product_is_named_by_shape_and_type_and_its_flops_are_counted(device: NullDevice) -> None:
    before, beta = device.counts(), ctypes.c_float(1.0)
    none = ctypes.c_void_p()
    arguments = [none, 1, 0, 8, 4, 2, none, none, 14, 2, none, 14, 2, ctypes.byref(beta), none, 0, 8, 0, 0]
    assert device.library.cublasGemmEx(*arguments) == 0
    found = since(before, device.counts())
    assert found == {Call("product", "gemm TN 8x4x2 fp32, added"): Total(1, 2 * 8 * 4 * 2)}


def test_a_wait_is_noted_with_the_lines_that_made_it(device: NullDevice) -> None:
    source = "def read(library):\n    library.null_wait(A_WAIT)\n"
    space: dict[str, object] = {"A_WAIT": A_WAIT}
    exec(compile(source, "/somewhere/engine/run/invented.py", "exec"), space)
    with Waits(device) as waits:
        space["read"](device.library)  # type: ignore[operator]
    device.library.null_wait(A_WAIT)
    assert dict(waits.found) == {"cudaStreamSynchronize: engine/run/invented.py:2 read": 1}


def test_a_stack_without_lines_of_ours_says_so() -> None:
    assert where(None) == "no line of the engine's"
    assert where(sys._getframe()) == "no line of the engine's"


@pytest.mark.parametrize(
    ("mangled", "short"),
    [
        (
            "_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_11FillFunctorIfEESt5arrayIPcLm1EEEEviT0_T1_",
            "vectorized_elementwise_kernel FillFunctor",
        ),
        (
            "_ZN2at6native13reduce_kernelILi512ELi1ENS0_8ReduceOpIfNS0_10NormTwoOpsIffffEEjfLi4ELi4EEEEEvT1_",
            "reduce_kernel ReduceOp NormTwoOps",
        ),
        ("_ZN13pytorch_flash16flash_fwd_kernelILb0EEEvNS_16Flash_fwd_paramsE", "pytorch_flash flash_fwd_kernel"),
        ("_forward_kernel", "_forward_kernel"),
        ("_Z", "_Z"),
    ],
)
def test_mangled_names_are_shortened_to_the_words_that_tell_them_apart(mangled: str, short: str) -> None:
    assert short_name(mangled).startswith(short)


def test_what_a_step_comes_to() -> None:
    found = summary(COUNTS)
    assert (found["kernels"], found["triton"], found["products"], found["product_flops"]) == (10, 2, 3, 600)
    assert (found["fills"], found["copies"], found["copies_pageable"], found["waits"]) == (7, 11, 1, 2)
    assert (found["bytes_to_device"], found["bytes_to_host"], found["bytes_on_device"]) == (64, 8, 1000)
    assert found["uncounted"] == []
    assert most_called(COUNTS, ("kernel", "triton"), 1) == {"fill": 5}


@pytest.mark.parametrize(
    "stub", ["cudaLaunchKernelNew", "cublasHgemm", "cudaMemcpy3DAsync", "cuCtxSynchronize", "cudaMallocFromPoolAsync"]
)
def test_work_that_no_stand_in_counts_is_named(stub: str) -> None:
    assert summary({Call("stub", stub): Total(1, 1)})["uncounted"] == [stub]


def test_only_what_happened_in_between_counts() -> None:
    after = {**COUNTS, Call("kernel", "fill"): Total(9, 90), Call("fill", "new"): Total(1, 3)}
    assert since(COUNTS, after) == {Call("kernel", "fill"): Total(4, 40), Call("fill", "new"): Total(1, 3)}
