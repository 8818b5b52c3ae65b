"""What a study is: its settings and its code, written to OUT/design.json before its first run.

A study that was stopped goes on by --resume: runs that are done are kept and the others made. So that all runs of a
study are of one kind, the settings, the library versions and the code must be those with which it was begun.
"""

import dataclasses
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alttrain.engine.errors import ConfigError
from alttrain.engine.files import PARTIAL, write_whole
from alttrain.engine.run.folder import LOCK
from alttrain.engine.run.provenance import git_commit, library_versions
from alttrain.engine.run.resuming import flat_settings
from alttrain.nano.config import StudyConfig

DESIGN = "design.json"
# Settings that are no part of a study.
FREE = ("output", "resume", "remake_base")
# The import names whose files are a study's code; the shipped base is a file of the last one.
CODE = ("alttrain.kernels", "alttrain.engine", "alttrain.nano")
WAY_OUT = "Give another folder, or remove this one."


def check_folder(config: StudyConfig) -> None:
    """Check that the output folder is free, or, with --resume, that it holds this study.

    Raises:
        ConfigError: it is a file, holds something else, or a study that this one is not.
    """
    folder = Path(config.output)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; give a folder.", flag="--output")
    if not folder.is_dir() or all(path.name.endswith((LOCK, PARTIAL)) for path in folder.iterdir()):
        return
    before = _read(folder / DESIGN)
    if before is None:
        raise ConfigError(f"{folder}: not empty, and without the {DESIGN} of a study. {WAY_OUT}", flag="--output")
    if not config.resume:
        raise ConfigError(
            f"{folder}: holds a study. Go on with it by --resume, give another folder, or remove this one.",
            flag="--output",
        )
    _check_same(folder, before, _design(config))


def begin(config: StudyConfig) -> None:
    """Make the output folder and write design.json, where the study does not go on with one that is there."""
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / DESIGN).is_file():
        write_whole(folder / DESIGN, json.dumps(_design(config) | {"commit": git_commit()}, indent=1) + "\n")


def read_design(folder: Path) -> dict[str, Any]:
    """Return what `begin` wrote: settings, versions, code and commit."""
    design: dict[str, Any] = json.loads((folder / DESIGN).read_text(encoding="utf-8"))
    return design


def _design(config: StudyConfig) -> dict[str, Any]:
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in FREE}
    design = {"settings": settings, "versions": library_versions(), "code": code_digest()}
    plain: dict[str, Any] = json.loads(json.dumps(design))
    return plain


def code_digest() -> str:
    """Return a hash of the code of kernels, engine and study, and of the shipped base; a checkout is not needed."""
    digest = hashlib.sha256()
    for name in CODE:
        spec = find_spec(name)
        assert spec is not None, name
        for root in map(Path, spec.submodule_search_locations or ()):
            for file in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".safetensors")):
                digest.update(f"{name} {file.relative_to(root).as_posix()}\n".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = flat_settings(before["settings"]), flat_settings(now["settings"])
    for name, value in new.items():
        if old.get(name) != value:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"is {value}, and the study in {folder} was begun with {old.get(name)}. "
                "Take that value, or give another folder.",
                flag=flag,
            )
    for library, version in now["versions"].items():
        if before["versions"].get(library) != version:
            raise ConfigError(
                f"{folder}: its runs are of {library} {before['versions'].get(library)}, and this is {version}. "
                f"{WAY_OUT}",
                flag="--output",
            )
    if before["code"] != now["code"]:
        raise ConfigError(
            f"{folder}: its runs are of other code than this (commit {before.get('commit') or 'unknown'}). {WAY_OUT}",
            flag="--output",
        )


def _read(file: Path) -> dict[str, Any] | None:
    try:
        design = json.loads(file.read_text(encoding="utf-8"))
        return design if {"settings", "versions", "code"} <= set(design) else None
    except (OSError, ValueError, TypeError):
        return None
