"""One progress bar for a whole study, which counts the lines that the runs write to their files."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from alttrain.engine.console import bar_stream
from alttrain.nano.jobs import Job
from alttrain.nano.running import ANSWERED

# Relative durations of a training step and an answer.
STEP, ANSWER = 8, 1
BAR = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} to go"


class Progress:
    """The share of the work that is done, by the lines of metrics and answers of each job that is under way."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        from tqdm import tqdm

        self._work = {job.folder: STEP * job.num_steps + ANSWER * job.num_answers for job in jobs}
        self._done = dict.fromkeys(self._work, 0)
        self._names = {job.folder: f"seed {job.world.seed}: {job.folder.name}" for job in jobs}
        self._bar = tqdm(
            file=bar_stream(),
            total=sum(self._work.values()),
            bar_format=BAR,
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 10.0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def look(self, finished: Sequence[Job] = ()) -> None:
        """Update the bar; finished jobs count in full."""
        for job in finished:
            self._done[job.folder] = self._work.pop(job.folder)
        under_way = []
        for folder, work in self._work.items():
            lines = STEP * _lines(folder / "metrics.jsonl") + ANSWER * _lines(folder / ANSWERED)
            self._done[folder] = max(self._done[folder], min(lines, work))
            if folder.with_name(f"{folder.name}.log").exists():
                under_way.append(self._names[folder])
        description = ", ".join(under_way) or ("starting" if self._work else "all runs done")
        self._bar.set_description_str(description, refresh=False)
        self._bar.update(sum(self._done.values()) - self._bar.n)


def _lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
