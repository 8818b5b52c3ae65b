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
from alttrain.engine.errors import ConfigError
from alttrain.engine.files import PARTIAL, write_whole
from alttrain.engine.run.provenance import git_commit, library_versions
from alttrain.engine.run.resuming import changes_of, check_same_run, earlier_starts, new_start

LOCK = "run.lock"
"""The file by which a run holds its folder."""


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
            CheckpointError: the folder holds a run with other settings, data, model or world size, which this run
                cannot continue; data and model may lie elsewhere than they did.
        """
        nearest = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise ConfigError(f"{self.path}: {nearest} is a file; give a folder.", flag="--output")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise ConfigError(f"{self.path}: {nearest} may not be written to; give another folder.", flag="--output")
        # A run that was killed during its very first write leaves only a .partial file, which may be overwritten.
        if not self.path.is_dir() or all(path.name.endswith((PARTIAL, LOCK)) for path in self.path.iterdir()):
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
        check_same_run(self.path, before, _as_json({"run": config.as_dict(), **facts}))

    def create(self, config: RunConfig, facts: Mapping[str, Any], step: int = 0) -> list[str]:
        """Make the folder, and write config.json: the resolved run, `facts`, and a record of this start.

        Args:
            config: the resolved run.
            facts: the world size, the steps, the data and the model, as `check` compares them; and what computes.
            step: the step after which the run goes on; 0 where it begins.

        Returns:
            What differs from the start before this one and may: paths, versions, the commit; one phrase for each.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        record = _as_json(
            {"run": config.as_dict(), **facts, "versions": library_versions(), "git_commit": git_commit()}
        )
        before = self._read_config()
        changes = [] if before is None else changes_of(before, record)
        starts = [*earlier_starts(before), _as_json(new_start(record, step, changes))]
        write_whole(self.path / "config.json", json.dumps({**record, "starts": starts}, indent=2) + "\n")
        return changes

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
