"""Where the null device's parts lie, and the two sets of versions that it is built for.

Everything is under .null_device/ at the project's root, which git ignores, or in another folder that several checkouts
share and ALTTRAIN_NULL_DEVICE names:

    SET/venv      the set's packages, torch built for CUDA, without NVIDIA's libraries
    SET/lib       the stand-ins for those
    SET/triton    compiled kernels
    headers       those of the CUDA runtime

The project itself stands under its import names in .null_device/names of the checkout.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("ALTTRAIN_NULL_DEVICE") or ROOT / ".null_device").absolute()
HEADERS = FOLDER / "headers"
NAMES = ROOT / ".null_device" / "names"
# Its libraries are never loaded: its headers give the structures of the CUDA 13.0 runtime their layout.
CUDA_RUNTIME = "13.0.96"
# What a step imports of the engine's requirements, beside torch and deepspeed, and what those need.
SET_BY_THE_RECIPE = ("torch", "triton", "transformers", "deepspeed")


class Failure(Exception):
    """The null device cannot be made or used; the message says why, and what to do."""


class VersionSet(NamedTuple):
    """One end of the range of versions that the engine supports."""

    name: str
    packages: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where the set lies."""
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        """The interpreter that has the set's packages."""
        return self.folder / "venv" / "bin" / "python"

    @property
    def site(self) -> Path:
        """The folder of the set's packages."""
        found = sorted((self.folder / "venv" / "lib").glob("python3.*"))
        if not found:
            raise Failure(f"{self.folder} holds no packages: python benchmarks/null_suite.py fetch gets them.")
        return found[0] / "site-packages"

    @property
    def libraries(self) -> Path:
        """The folder of the stand-ins."""
        return self.folder / "lib"

    @property
    def listing(self) -> str:
        """The packages in lines, as they are noted where they have been fetched."""
        return "".join(f"{name}=={version}\n" for name, version in sorted(self.packages.items()))

    @property
    def fetched(self) -> Path:
        """The file in which it is noted that all packages are there."""
        return self.folder / "venv" / "fetched"

    @property
    def built(self) -> Path:
        """The file in which it is noted from what the stand-ins have been built."""
        return self.libraries / "built"

    @property
    def is_fetched(self) -> bool:
        """Whether these very versions are there."""
        return self.fetched.is_file() and self.fetched.read_text(encoding="utf-8") == self.listing

    @property
    def is_ready(self) -> bool:
        """Whether the set has been fetched and built whole."""
        return self.is_fetched and self.built.is_file()

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that is to see the null device."""
        kept = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "PYTHONHOME")}
        return kept | {
            "LD_LIBRARY_PATH": str(self.libraries),
            "NULL_DEVICE_LIBRARIES": str(self.libraries),
            "PYTHONPATH": f"{NAMES}:{ROOT / 'benchmarks'}",
            "TRITON_CACHE_DIR": str(self.folder / "triton"),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",  # threads that spin would count as the host's time
        }


def link_names() -> None:
    """Make the checkout importable as alttrain.engine and alttrain.kernels from NAMES."""
    (NAMES / "alttrain").mkdir(parents=True, exist_ok=True)
    for folder in ("engine", "kernels"):
        link = NAMES / "alttrain" / folder
        if not link.is_symlink():
            link.symlink_to(ROOT / folder)


def read_pins(text: str) -> dict[str, str]:
    """Return the versions that a constraints file gives by package."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


def version_sets() -> dict[str, VersionSet]:
    """Return both sets by name: `oldest`, the lower end of the range, and `pinned`, what constraints.txt has."""
    pins = read_pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    pinned = {name: pins[name] for name in SET_BY_THE_RECIPE}
    oldest = {"torch": "2.11.0", "triton": "3.6.0", "transformers": "5.17.0", "deepspeed": pins["deepspeed"]}
    return {"oldest": VersionSet("oldest", oldest), "pinned": VersionSet("pinned", pinned)}
