"""Which stand-in library answers which function: the undefined symbols of torch and Triton, sorted by their names.

Pure functions over text; `building.py` runs the tools whose output they read.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Symbol(NamedTuple):
    """A function that a library of torch or Triton looks for elsewhere."""

    name: str
    version: str
    """The version that it asks for, as in cudaMalloc@libcudart.so.13; empty where it asks for none."""


class Library(NamedTuple):
    """A library of NVIDIA's, by the name under which it is looked for."""

    soname: str
    pattern: str
    """What the names of its functions begin with."""
    sources: tuple[str, ...] = ()
    """The C files that give some of them a body; all others answer 0."""


# libcudart.so is linked into every other one, and comes first. A function belongs to the first pattern that fits.
LIBRARIES = (
    Library("libcudart.so.13", r"cuda[A-Z]|__cuda[A-Z]", ("log.c", "memory.c", "runtime.c")),
    Library("libcuda.so.1", r"cu(?!File)[A-Z]", ("driver.c",)),
    Library("libcublasLt.so.13", r"cublasLt", ("cublaslt.c",)),
    Library("libcublas.so.13", r"cublas", ("cublas.c",)),
    Library("libnvidia-ml.so.1", r"nvml[A-Z]", ("nvml.c",)),
    Library("libnccl.so.2", r"nccl|pnccl", ("nccl.c",)),
    Library("libcudnn.so.9", r"cudnn"),
    Library("libcufft.so.12", r"cufft"),
    Library("libcurand.so.10", r"curand"),
    Library("libcusparseLt.so.0", r"cusparseLt"),
    Library("libcusparse.so.12", r"cusparse"),
    Library("libcusolver.so.12", r"cusolver"),
    Library("libcufile.so.0", r"cuFile"),
    Library("libcupti.so.13", r"cupti"),
    Library("libnvrtc.so.13", r"nvrtc"),
    Library("libnvshmem_host.so.3", r"nvshmem"),
)
# A library that torch needs and whose name begins so is one of NVIDIA's.
NVIDIAS = re.compile(r"lib(cu[a-z]|nccl|nv)")


def parse_undefined(listing: str) -> set[Symbol]:
    """Return the symbols in a listing of `nm -D --undefined-only --with-symbol-versions`."""
    return {Symbol(*match) for match in re.findall(r"^\s*[Uwv] ([\w.$]+)(?:@+(\S+))?$", listing, re.MULTILINE)}


def parse_defined(listing: str) -> set[str]:
    """Return the names in a listing of `nm --defined-only --extern-only` over object files."""
    return set(re.findall(r"^[0-9a-f]+ [TDBR] (\w+)$", listing, re.MULTILINE))


def parse_needed(listing: str) -> set[str]:
    """Return the libraries of NVIDIA's that a listing of `readelf -d` says are needed."""
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", listing)
    return {name for name in needed if NVIDIAS.match(name)}


def driver_functions(source: str) -> set[Symbol]:
    """Return the functions of the driver that a C source names, as Triton's launcher, which is compiled as it runs."""
    return {Symbol(name, "") for name in re.findall(r"\bcu[A-Z]\w*", source)}


def sort_symbols(symbols: Iterable[Symbol]) -> tuple[dict[Library, list[Symbol]], list[Symbol]]:
    """Return each library's symbols in the order of their names, and those whose version is ours but whose name is not.

    Whatever fits no pattern is the C library's, or another library's of torch; it is left out.
    """
    ours: dict[Library, list[Symbol]] = {library: [] for library in LIBRARIES}
    strays = []
    versions = {library.soname for library in LIBRARIES}
    for symbol in sorted(set(symbols)):
        library = next((library for library in LIBRARIES if re.match(library.pattern, symbol.name)), None)
        if library is not None:
            ours[library].append(symbol)
        elif symbol.version in versions:
            strays.append(symbol)
    return ours, strays


def stub_source(symbols: Iterable[Symbol], written: set[str]) -> str:
    """Return C in which every function without a body of its own is counted and answers 0."""
    names = sorted({symbol.name for symbol in symbols} - written)
    lines = ["// Made by symbols.py: functions that nothing was written for.", '#include "core.h"', ""]
    lines += [f'API int {name}(void) {{ null_count(STUB, "{name}", 1); return 0; }}' for name in names]
    return "\n".join(lines) + "\n"


def version_script(symbols: Iterable[Symbol]) -> str:
    """Return the linker's script that gives each symbol the version that is asked for; empty where none is.

    Functions that are not listed are exported without a version.
    """
    by_version: defaultdict[str, list[str]] = defaultdict(list)
    for symbol in symbols:
        if symbol.version:
            by_version[symbol.version].append(symbol.name)
    return "".join(
        f"{version} {{ global: {'; '.join(sorted(names))}; }};\n" for version, names in sorted(by_version.items())
    )


def read_kinds(header: str) -> list[str]:
    """Return the names of the kinds of calls in core.h, in lower case, by their numbers."""
    body = re.search(r"enum null_kind \{(.*?)\};", header, re.DOTALL)
    assert body, "core.h has the enum"
    names = re.findall(r"^\s*([A-Z_]+),", body[1], re.MULTILINE)
    return [name.lower() for name in names if name != "NUM_KINDS"]


def missing_libraries(needed: Iterable[str], made: Mapping[Library, list[Symbol]]) -> list[str]:
    """Return the libraries of NVIDIA's that torch needs and that no stand-in is made for."""
    return sorted(set(needed) - {library.soname for library in made})
