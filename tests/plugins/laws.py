"""The laws that the README promises, each with the tests that prove it, and a plug-in that asks whether they ran.

After a run of the whole suite every test that a law names must have passed in at least one of its cases. A law whose
line says "needs a GPU" may be skipped where there is none. Parts of the suite are run without being asked.
"""

import re
from collections import Counter, defaultdict
from typing import NamedTuple

import pytest

from skips import NO_GPU, skip_reason

HEADING = "## What is promised, and tested"
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py::\w+)`")
# Options by which a run leaves tests out.
# pyproject.toml leaves out what takes minutes; no law may rest on it.
WITHOUT_LONG = "not long"
SELECTIONS = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")


class Law(NamedTuple):
    """One line of the README's table."""

    promise: str
    tests: tuple[str, ...]
    needs_gpu: bool


def read_laws(readme: str) -> list[Law]:
    """Return the laws of the table below HEADING, whose columns are the law, its bound and the tests that prove it."""
    _, _, section = readme.partition(f"{HEADING}\n")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    laws = []
    for line in lines[2:]:
        promise, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        proof = rest[1] if len(rest) == 2 else ""
        laws.append(Law(promise, tuple(TEST_NAME.findall(proof)), "needs a GPU" in proof))
    return laws


def unproven(laws: list[Law], outcomes: dict[str, Counter[str]]) -> list[str]:
    """Return a sentence for each test that a law names and that did not pass.

    Args:
        laws: what was read from the README.
        outcomes: how many cases of a test, by its name without parameters, have `passed`, or were skipped for a reason.
    """
    problems = []
    for law in laws:
        if not law.tests:
            problems.append(f"no test is named for: {law.promise}")
        for test in law.tests:
            found = outcomes.get(test, Counter())
            if found["passed"] or (law.needs_gpu and set(found) == {NO_GPU}):
                continue
            happened = f"was skipped ({', '.join(sorted(found))})" if found else "did not run"
            problems.append(f"{test} {happened}, which is to prove: {law.promise}")
    return problems


class LawCheck:
    """Collects outcomes by test; under pytest-xdist the controller's instance sees the reports of every worker."""

    def __init__(self) -> None:
        self.outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.verdict: list[str] | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reason = skip_reason(report)
        if reason is not None or (report.when == "call" and report.passed):
            self.outcomes[report.nodeid.partition("[")[0]][reason or "passed"] += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        readme = session.config.rootpath / "README.md"
        if session.exitstatus != pytest.ExitCode.OK or not is_whole(session.config) or not readme.is_file():
            return
        self.verdict = unproven(read_laws(readme.read_text(encoding="utf-8")), self.outcomes)
        if self.verdict:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.verdict is not None:
            terminalreporter.write_line("laws: all proven" if not self.verdict else "laws: NOT ALL PROVEN")
            for problem in self.verdict:
                terminalreporter.write_line(problem, red=True)


def is_whole(config: pytest.Config) -> bool:
    """Return whether everything under `testpaths` was asked for, without a selection."""
    asked = {(config.invocation_params.dir / argument).resolve() for argument in config.args}
    whole = {(config.rootpath / path).resolve() for path in config.getini("testpaths")}
    chosen = [value for name in SELECTIONS if (value := config.getoption(name, default=None))]
    return asked == whole and set(map(str, chosen)) <= {WITHOUT_LONG}


def pytest_configure(config: pytest.Config) -> None:
    """Ask where the reports come together: in the one process, or in pytest-xdist's controller."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(LawCheck(), "law-check")
