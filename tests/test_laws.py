"""The README's laws: each names tests that exist, and a run of the whole suite in which one of them did not pass fails.

Whether they ran is asked at the end of a whole run by tests/plugins/laws.py; here that asking is proven on planted
READMEs and suites.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest

from laws import HEADING, Law, read_laws, unproven
from skips import NO_GPU, NO_REAL_DATA

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ROOT / "tests" / "plugins"
LAWS = read_laws((ROOT / "README.md").read_text(encoding="utf-8"))
README = f"""# A project

{HEADING}
| law | bound | proven by |
|---|---|---|
| one is one | exact | `tests/test_few.py::test_one` |
| two is two | 1e-5 | `tests/test_few.py::test_two`, on the hardware `tests/test_few.py::test_device` |

## Another table
| this | is | no law |
|---|---|---|
| `tests/test_few.py::test_none` | | |
"""
SUITE = f"""
import pytest

def test_one(): pass

@pytest.mark.parametrize("case", ["a", "b"])
def test_two(case):
    if case == "b":
        pytest.skip({NO_REAL_DATA!r})

def test_device(): pass
"""


def test_there_are_laws() -> None:
    assert len(LAWS) >= 8
    assert all(law.promise and law.tests for law in LAWS)


@pytest.mark.parametrize("test", sorted({test for law in LAWS for test in law.tests}))
def test_the_tests_that_prove_a_law_exist(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name.startswith("test_")
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_table_is_read_and_no_other() -> None:
    assert read_laws(README) == [
        Law("one is one", ("tests/test_few.py::test_one",), False),
        Law("two is two", ("tests/test_few.py::test_two", "tests/test_few.py::test_device"), False),
    ]


def test_a_law_for_a_gpu_may_be_skipped_where_there_is_none_and_for_no_other_reason() -> None:
    law = Law("as fast", ("tests/test_few.py::test_device",), True)
    assert unproven([law], {law.tests[0]: Counter({NO_GPU: 2})}) == []
    assert unproven([law], {law.tests[0]: Counter({NO_GPU: 2, NO_REAL_DATA: 1})})
    assert unproven([law._replace(needs_gpu=False)], {law.tests[0]: Counter({NO_GPU: 2})})
    assert unproven([law], {})
    assert unproven([law._replace(tests=())], {}) == ["no test is named for: as fast"]


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, suite: str, *options: str) -> tuple[int, str]:
    pytester.makepyfile(**{"tests/test_few": suite})
    pytester.path.joinpath("README.md").write_text(README, encoding="utf-8")
    pytester.makeini("[pytest]\ntestpaths = tests\n")
    pytester.makeconftest(f"import sys\nsys.path.append({str(PLUGINS)!r})\npytest_plugins = ['laws']\n")
    # Neither hypothesis, which takes a second to load, nor whatever else is installed.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)
    return int(result.ret), result.stdout.str()


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "1"), ("tests",)], ids=("one-process", "xdist", "named"))
def test_a_whole_run_passes_where_every_law_is_proven(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    code, output = run(pytester, monkeypatch, SUITE, *options)
    assert code == 0
    assert "laws: all proven" in output


@pytest.mark.parametrize(
    ("old", "new", "happened"),
    [
        ("def test_one(): pass", "def test_won(): pass", "tests/test_few.py::test_one did not run"),
        (
            "def test_one(): pass",
            f"def test_one(): pytest.skip({NO_REAL_DATA!r})",
            f"tests/test_few.py::test_one was skipped ({NO_REAL_DATA})",
        ),
        ('["a", "b"]', '["b"]', f"tests/test_few.py::test_two was skipped ({NO_REAL_DATA})"),
        ('["a", "b"]', "[]", "tests/test_few.py::test_two was skipped (got empty parameter set"),
    ],
    ids=("renamed", "skipped", "only-the-extra-case", "no-case"),
)
def test_a_whole_run_fails_where_one_is_not(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    happened: str,
) -> None:
    code, output = run(pytester, monkeypatch, SUITE.replace(old, new))
    assert code == 1
    assert "laws: NOT ALL PROVEN" in output
    assert happened in output


def test_the_workers_outcomes_count_under_xdist(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = SUITE.replace("def test_one(): pass", f"def test_one(): pytest.skip({NO_REAL_DATA!r})")
    code, output = run(pytester, monkeypatch, suite, "-p", "xdist", "-n", "1")
    assert code == 1
    assert f"tests/test_few.py::test_one was skipped ({NO_REAL_DATA})" in output


@pytest.mark.parametrize(
    "options", [("-k", "two"), ("tests/test_few.py::test_two",), ("tests/test_few.py",), ("--co",)]
)
def test_a_part_of_the_suite_is_not_asked(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    code, output = run(pytester, monkeypatch, SUITE.replace("test_one", "test_won"), *options)
    assert code == 0
    assert "laws:" not in output
