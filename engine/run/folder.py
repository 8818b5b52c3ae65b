"""The run folder: the files of a run, which run may write to it, and what a resumed run removes from it.

A resumed run continues from a checkpoint; later lines of metrics.jsonl and eval.jsonl are removed.

OUT/config.json  metrics.jsonl  eval.jsonl  checkpoints/  model/  report.html
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alttrain.engine.config import RunConfig
from alttrain.engine.errors import CheckpointError, ConfigError
from alttrain.engine.files import PARTIAL, write_whole
from alttrain.engine.run.provenance import git_commit, library_versions

# Settings that may differ when a run is resumed, as they change no number that the run computes.
FREE_ON_RESUME = ("output", "resume", "checkpoint", "eval", "model.checkpointing")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; nothing is written before `create`."""

    path: Path

    @property
    def metrics(self) -> Path:
        """JSON lines, one for each step."""
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """JSON lines, one for each evaluation."""
        return self.path / "eval.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Holds the folders step-000050 and so on, and LATEST."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.path / "model"

    @property
    def report(self) -> Path:
        """The report of the run, in plots."""
        return self.path / "report.html"

    def check(self, config: RunConfig, facts: Mapping[str, Any]) -> None:
        """Check that this run may use the folder; `facts` as in `create`.

        Raises:
            ConfigError: the folder is a file, or holds something that is not this run.
            CheckpointError: the folder holds a run with other settings, data or world size, which this run cannot
                continue.
        """
        nearest = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise ConfigError(f"{self.path}: {nearest} is a file; give a folder.", flag="--output")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise ConfigError(f"{self.path}: {nearest} may not be written to; give another folder.", flag="--output")
        # A run that was killed during its very first write leaves only a .partial file, which may be overwritten.
        if not self.path.is_dir() or all(path.name.endswith(PARTIAL) for path in self.path.iterdir()):
            return
        before = self._read_config()
        if before is None:
            raise ConfigError(
                f"{self.path}: not empty, and without the config.json of a run. Give a new folder.", flag="--output"
            )
        if not config.resume:
            raise ConfigError(
                f"{self.path}: holds another run. Go on with it by --resume, or give a new folder.", flag="--output"
            )
        now = _as_json({"run": config.as_dict(), **facts})
        for where, old, new in _differences(before, now):
            raise CheckpointError(
                f"{self.path}: its run has {where} {old}, this one {new}; --resume needs the same. "
                "Restore the setting, or start a new run in another folder.",
                flag="--output",
            )

    def create(self, config: RunConfig, facts: Mapping[str, Any]) -> None:
        """Make the folder and write config.json: the resolved run, `facts` (data, world size), versions and commit."""
        self.path.mkdir(parents=True, exist_ok=True)
        record = {"run": config.as_dict(), **facts, "versions": library_versions(), "git_commit": git_commit()}
        write_whole(self.path / "config.json", json.dumps(_as_json(record), indent=2) + "\n")

    def cut(self, step: int) -> None:
        """Remove the lines of all steps after `step`; for 0 remove all lines, the first evaluation's too."""
        for file in (self.metrics, self.evaluations):
            if file.is_file():
                lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
                kept = [line for line in lines if line.endswith("\n") and 0 <= json.loads(line)["step"] <= step]
                write_whole(file, "".join(kept if step else []))

    def _read_config(self) -> dict[str, Any] | None:
        try:
            record = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        # A model folder has a config.json too.
        return record if isinstance(record, dict) and isinstance(record.get("run"), dict) else None


def _as_json(record: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found = []
    for name, value in _flat(now["run"]).items():
        old = _flat(before["run"]).get(name)
        is_free = name in FREE_ON_RESUME or name.split(".")[0] in FREE_ON_RESUME
        if value != old and not is_free:
            found.append((f"--{name.replace('_', '-')}", old, value))
    for fact in now:
        if fact != "run":
            found += _fact_differences(fact.replace("_", " "), before.get(fact), now[fact])
    return found


def _flat(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by their flags' names: {"optim.lr": 1e-5, ...}."""
    flat: dict[str, Any] = {}
    for section, value in run.items():
        is_section = isinstance(value, dict)
        flat |= {f"{section}.{name}": item for name, item in value.items()} if is_section else {section: value}
    return flat


def _fact_differences(where: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = {**old, **new}
        return [found for key in keys for found in _fact_differences(f"{where} {key}", old.get(key), new.get(key))]
    return [] if old == new else [(where, _short(old), _short(new))]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
