"""Which stand-in answers which function, by listings of nm and readelf as they look."""

from pathlib import Path

import pytest

from null_device.symbols import (
    LIBRARIES,
    Symbol,
    driver_functions,
    missing_libraries,
    parse_defined,
    parse_needed,
    parse_undefined,
    read_kinds,
    sort_symbols,
    stub_source,
    version_script,
)

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks" / "null_device"
LISTING = """
libtorch_cuda.so:
                 U cudaMalloc@libcudart.so.13
                 U __cudaRegisterFunction@libcudart.so.13
                 U cublasLtMatmul@libcublasLt.so.13
                 U cublasGemmEx@libcublas.so.13
                 U cuFileHandleDeregister
                 U cuMemCreate
                 w cuptiEnable@libcupti.so.13
                 U malloc@GLIBC_2.2.5
                 U _ZN2at6Tensor3addE
                 U ncclAllReduce
                 U cusparseLtInit
                 U cusparseCreate@libcusparse.so.12
"""


def test_every_function_goes_to_the_library_in_which_it_is_looked_for() -> None:
    ours, strays = sort_symbols(parse_undefined(LISTING))
    assert {library.soname: [symbol.name for symbol in symbols] for library, symbols in ours.items() if symbols} == {
        "libcudart.so.13": ["__cudaRegisterFunction", "cudaMalloc"],
        "libcuda.so.1": ["cuMemCreate"],
        "libcublasLt.so.13": ["cublasLtMatmul"],
        "libcublas.so.13": ["cublasGemmEx"],
        "libnccl.so.2": ["ncclAllReduce"],
        "libcusparseLt.so.0": ["cusparseLtInit"],
        "libcusparse.so.12": ["cusparseCreate"],
        "libcufile.so.0": ["cuFileHandleDeregister"],
        "libcupti.so.13": ["cuptiEnable"],
    }
    assert strays == []


def test_a_function_of_our_libraries_whose_name_nobody_knows_is_a_stray() -> None:
    symbol = Symbol("newThing", "libcudart.so.13")
    assert sort_symbols([symbol, Symbol("newThing", "GLIBC_2.2.5")])[1] == [symbol]


def test_versions_are_those_that_are_asked_for() -> None:
    symbols = [Symbol("cudaMalloc", "libcudart.so.13"), Symbol("cudaFree", "libcudart.so.13"), Symbol("cuInit", "")]
    assert version_script(symbols) == "libcudart.so.13 { global: cudaFree; cudaMalloc; };\n"
    assert version_script([Symbol("cuInit", "")]) == ""


def test_what_has_a_body_gets_no_stub() -> None:
    source = stub_source([Symbol("cudaFree", "a"), Symbol("cudaMalloc", "a"), Symbol("cudaMalloc", "b")], {"cudaFree"})
    assert source.count('API int cudaMalloc(void) { null_count(STUB, "cudaMalloc", 1); return 0; }') == 1
    assert "cudaFree" not in source


def test_listings_of_the_tools_are_read() -> None:
    assert parse_defined("log.o:\n0000 T null_count\n 0010 t fail\n0000000000000020 D table\n") == {
        "null_count",
        "table",
    }
    needed = " 0x1 (NEEDED)  Shared library: [libcudart.so.13]\n 0x1 (NEEDED)  Shared library: [libc.so.6]\n"
    needed += (
        " 0x1 (NEEDED)  Shared library: [libnvshmem_host.so.3]\n 0xe (SONAME) Library soname: [libcusomething.so]\n"
    )
    assert parse_needed(needed) == {"libcudart.so.13", "libnvshmem_host.so.3"}
    made = {library: list[Symbol]() for library in LIBRARIES}
    assert missing_libraries(["libcudart.so.13", "libcudss.so.0"], made) == ["libcudss.so.0"]
    assert driver_functions('x = dlsym(lib, "cuLaunchKernelEx"); cuCtxGetCurrent(&c); cuda(); cuCtxGetCurrent();') == {
        Symbol("cuLaunchKernelEx", ""),
        Symbol("cuCtxGetCurrent", ""),
    }


def test_kinds_are_those_of_the_header_in_its_order() -> None:
    kinds = read_kinds((FOLDER / "core.h").read_text(encoding="utf-8"))
    assert kinds[:3] == ["kernel", "triton", "product"]
    assert kinds[-1] == "stub"
    assert len(kinds) == len(set(kinds)) == 12


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.soname)
def test_every_named_source_is_there(library: object) -> None:
    assert all((FOLDER / name).is_file() for name in library.sources)  # type: ignore[attr-defined]
