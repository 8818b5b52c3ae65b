"""Compiling the stand-in libraries of a set from the C files of this folder, and a stub for whatever they leave out."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from null_device.places import FOLDER, HEADERS, HERE, Failure, VersionSet
from null_device.symbols import (
    LIBRARIES,
    Library,
    Symbol,
    driver_functions,
    missing_libraries,
    parse_defined,
    parse_needed,
    parse_undefined,
    sort_symbols,
    stub_source,
    version_script,
)

WARNINGS = ("-Wall", "-Wextra", "-Werror")


def build(versions: VersionSet) -> None:
    """Make the set's libraries, unless they have been made from these very C files.

    Raises:
        Failure: there is no C compiler or no binutils, a file does not compile, or this torch needs a library that no
            stand-in is made for.
    """
    key = _key(versions)
    if versions.built.is_file() and versions.built.read_text(encoding="utf-8") == key:
        return
    compiler = _compiler()
    shutil.rmtree(versions.libraries, ignore_errors=True)
    versions.libraries.mkdir(parents=True)
    symbols, needed = _wanted(versions)
    by_library, strays = sort_symbols(symbols)
    if strays:
        raise Failure(f"no stand-in knows {strays[0].name}, which torch takes from {strays[0].version}.")
    if missing := missing_libraries(needed, by_library):
        raise Failure(f"torch needs {', '.join(missing)}, and no stand-in is made for it: add it to symbols.py.")
    include = [f"-I{HERE}", f"-I{_include(HEADERS)}", f"-I{versions.site / 'triton/backends/nvidia/include'}"]
    for library, wanted in by_library.items():
        _make(compiler, include, library, wanted, versions.libraries)
    (versions.libraries / "libcuda.so").symlink_to("libcuda.so.1")  # what Triton's launchers are linked with
    versions.built.write_text(key, encoding="utf-8")


def _key(versions: VersionSet) -> str:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted([*HERE.glob("*.[ch]"), HERE / "symbols.py"]))
    return hashlib.sha256((text + versions.listing).encode()).hexdigest()


def _compiler() -> str:
    missing = [tool for tool in ("nm", "readelf") if shutil.which(tool) is None]
    compiler = next(
        (found for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and (found := shutil.which(name))), None
    )
    if compiler is None:
        raise Failure("there is no C compiler here (cc, gcc or clang; CC names another): the null device is made of C.")
    if missing:
        raise Failure(
            f"{' and '.join(missing)} of binutils is not installed: the null device reads torch's symbols by it."
        )
    return compiler


def _include(headers: Path) -> Path:
    found = next(headers.rglob("cuda_runtime_api.h"), None)
    if found is None:
        raise Failure(f"no cuda_runtime_api.h under {headers}: delete {FOLDER.name}/headers and fetch again.")
    return found.parent


def _wanted(versions: VersionSet) -> tuple[set[Symbol], set[str]]:
    """Return the symbols that torch and Triton look for, and the libraries of NVIDIA's in which torch does."""
    libraries = sorted((versions.site / "torch" / "lib").glob("*.so*"))
    symbols, needed = set[Symbol](), set[str]()
    for path in libraries:
        symbols |= parse_undefined(_run("nm", "-D", "--undefined-only", "--with-symbol-versions", path))
        needed |= parse_needed(_run("readelf", "-d", path))
    for source in (versions.site / "triton" / "backends" / "nvidia").glob("driver.*"):
        symbols |= driver_functions(source.read_text(encoding="utf-8"))
    return symbols, needed - {path.name for path in libraries}


def _make(compiler: str, include: list[str], library: Library, wanted: list[Symbol], folder: Path) -> None:
    objects: list[str | Path] = [folder / f"{library.soname}.{Path(name).stem}.o" for name in library.sources]
    flags = ("-std=gnu2x", "-O2", "-fPIC")
    for name, target in zip(library.sources, objects, strict=True):
        _run(compiler, *flags, *WARNINGS, *include, "-c", HERE / name, "-o", target)
    written = parse_defined(_run("nm", "--defined-only", "--extern-only", *objects)) if objects else set()
    stubs = folder / f"{library.soname}.stubs.c"
    stubs.write_text(stub_source(wanted, written), encoding="utf-8")
    # A stub is no declaration of the function's own: some names are known to the compiler.
    _run(compiler, *flags, *include, "-c", stubs, "-o", stubs.with_suffix(".o"))
    linked: list[str | Path] = ["-shared", f"-Wl,-soname,{library.soname}", "-o", folder / library.soname]
    linked += [*objects, stubs.with_suffix(".o"), *_version_flags(library, wanted, folder)]
    if library is not LIBRARIES[0]:
        linked += [f"-L{folder}", f"-l:{LIBRARIES[0].soname}"]
    _run(compiler, *linked, "-lpthread", "-ldl")


def _version_flags(library: Library, wanted: list[Symbol], folder: Path) -> Iterator[str]:
    text = version_script(wanted)
    if text:
        script = folder / f"{library.soname}.versions"
        script.write_text(text, encoding="utf-8")
        yield f"-Wl,--version-script,{script}"


def _run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{Path(command[0]).name} failed: {done.stderr.strip()[:800]}")
    return done.stdout
