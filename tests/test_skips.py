"""The count of skips: a known reason passes, an unknown one fails the run, in one process and in several."""

from pathlib import Path

import pytest

from skips import KNOWN_REASONS, NO_GPU

PLUGINS = Path(__file__).with_name("plugins")
PLANTED = f"""
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_without_a_gpu(number):
    pytest.skip({NO_GPU!r})

@pytest.mark.skipif(KNOWN, reason="nobody knows why")
def test_unknown():
    pass

@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    assert False

def test_good():
    pass
"""


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str, *options: str) -> tuple[int, str]:
    pytester.makepyfile(test_planted=source)
    pytester.makeini("[pytest]\n")
    pytester.makeconftest(f"import sys\nsys.path.append({str(PLUGINS)!r})\npytest_plugins = ['skips']\n")
    # Neither hypothesis, which takes a second to load, nor whatever else is installed.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)
    return int(result.ret), result.stdout.str()


@pytest.mark.parametrize(
    "options", [(), ("-p", "xdist", "-n", "1"), ("-k", "not good")], ids=("one-process", "xdist", "part")
)
def test_an_unknown_reason_fails_the_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    code, output = run(pytester, monkeypatch, PLANTED.replace("KNOWN", "True"), *options)
    assert code == 1
    assert f"skipped 2: {NO_GPU}" in output
    assert "skipped 1: nobody knows why" in output
    assert "NOT A KNOWN REASON TO SKIP: 'nobody knows why' (test_planted.py::test_unknown)" in output


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "1")], ids=("one-process", "xdist"))
def test_known_reasons_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    code, output = run(pytester, monkeypatch, PLANTED.replace("KNOWN", "False"), *options)
    assert code == 0
    assert f"skipped 2: {NO_GPU}" in output
    assert "NOT A KNOWN REASON" not in output


@pytest.mark.parametrize(
    "beginning", ["pytest.skip('not today', allow_module_level=True)", "pytest.importorskip('a_module_nobody_has')"]
)
def test_a_skipped_file_is_counted(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, beginning: str) -> None:
    code, output = run(pytester, monkeypatch, f"import pytest\n{beginning}\ndef test_good(): pass\n")
    assert code != 0
    assert "NOT A KNOWN REASON TO SKIP: " in output
    assert "(test_planted.py)" in output


def test_a_failure_stays_a_failure(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(pytester, monkeypatch, "def test_bad(): assert False\n")
    assert code == 1
    assert "skipped" not in output


def test_reasons_are_written_in_one_place() -> None:
    assert len(KNOWN_REASONS) == len({reason.lower() for reason in KNOWN_REASONS})
