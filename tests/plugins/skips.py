"""Every reason for which a test of this project may be skipped, and a plug-in that lets a run pass with no other.

A skipped test proves nothing: at the end of a run the skips are counted by reason, and a reason that is not listed here
fails the run.
"""

from collections import Counter, defaultdict

import pytest

NO_GPU = "needs a CUDA device"
LITTLE_GPU_MEMORY = "needs 20 GiB of GPU memory"
HAS_GPU = "there is a GPU here"
NO_REAL_DATA = "real data not found beside the project: data/ is missing"
IS_ROOT = "root may write anywhere"
NO_GIT = "git is not installed"
NO_OTHER_TRANSFORMERS = "ALTTRAIN_READERS names no Python with another transformers"
NO_NULL_DEVICE = "the null device is not here (make test-cuda fetches it)"
NO_COMPILER = "no C compiler is installed"
KNOWN_REASONS = frozenset(
    {
        NO_GPU, LITTLE_GPU_MEMORY, HAS_GPU, NO_REAL_DATA, IS_ROOT, NO_GIT,
        NO_OTHER_TRANSFORMERS, NO_NULL_DEVICE, NO_COMPILER,
    },
)  # fmt: skip


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Return why the test or the file of `report` was skipped; None where it was not. An expected failure is none."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    message = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return message.removeprefix("Skipped: ")


class SkipCount:
    """Counts skips by reason; under pytest-xdist the controller's instance sees the reports of every worker."""

    def __init__(self) -> None:
        self.tests: defaultdict[str, list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._add(report)

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = skip_reason(report)
        if reason is not None:
            self.tests[reason].append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.tests.keys() - KNOWN_REASONS and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = Counter({reason: len(tests) for reason, tests in self.tests.items()})
        for reason, count in counts.most_common():
            terminalreporter.write_line(f"skipped {count}: {reason}")
        for reason in sorted(self.tests.keys() - KNOWN_REASONS):
            line = f"NOT A KNOWN REASON TO SKIP: {reason!r} ({', '.join(self.tests[reason])})"
            terminalreporter.write_line(line, red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Count where the reports come together: in the one process, or in pytest-xdist's controller."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipCount(), "skip-count")
