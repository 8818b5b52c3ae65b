"""Kernels in processes of their own: what becomes of one whose process dies, hangs, or never begins."""

import sys
import textwrap
from pathlib import Path

import pytest

from alttrain.engine.proof.shapes import SMALL_SHAPES
from alttrain.engine.proof.trial import REASON_LENGTH, Verdict
from alttrain.engine.proof.trying import try_kernels

NAMES = ("rms_norm", "rope", "swiglu")
PASSED = Verdict("passed", "", 0.5)


@pytest.fixture
def child(tmp_path: Path) -> tuple[str, str]:
    """Return a process that passes every kernel, and does for rope what the file `fault` beside it holds."""
    program = tmp_path / "child.py"
    program.write_text(
        textwrap.dedent("""
        import json, os, pathlib, signal, sys, time
        fault = pathlib.Path(__file__).with_name("fault")
        def say(**line): print(json.dumps(line), flush=True)
        request = json.loads(sys.stdin.readline())
        assert request["device"] == "cuda:7" and request["shapes"]["head_dim"]
        for name in request["kernels"]:
            say(begins=name)
            if name == "rope" and fault.exists():
                exec(fault.read_text())
            else:
                say(kernel=name, verdict=dict(outcome="passed", seconds=0.5))
        """)
    )
    return sys.executable, str(program)


def tried(child: tuple[str, str], fault: str = "", seconds: tuple[float, float] = (60.0, 60.0)) -> dict[str, Verdict]:
    if fault:
        Path(child[1]).with_name("fault").write_text(fault)
    said: list[str] = []
    verdicts = try_kernels(NAMES, SMALL_SHAPES, "cuda:7", said.append, command=child, seconds=seconds, jobs=1)
    assert said == list(NAMES), "each is begun once"
    return verdicts


def test_all_are_tried_in_one_process(child: tuple[str, str]) -> None:
    assert tried(child) == dict.fromkeys(NAMES, PASSED)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its process ended by SIGSEGV"),
        ("os._exit(7)", "its process ended with code 7"),
        ("os._exit(0)", "its process ended without a word"),
        ("raise SystemError('all is lost')", "its process ended with code 1, SystemError: all is lost"),
        ("sys.stderr.write('x' * 999 + chr(10)); sys.stderr.flush(); os.abort()", "its process ended by SIGABRT, xxx"),
    ],
)
def test_a_kernel_that_ends_its_process_has_failed_and_the_others_have_not(
    child: tuple[str, str], fault: str, reason: str
) -> None:
    verdicts = tried(child, fault)
    assert verdicts["rope"].outcome == "raised"
    assert verdicts["rope"].reason.startswith(reason)
    assert len(verdicts["rope"].reason) <= REASON_LENGTH
    assert verdicts["rms_norm"] == verdicts["swiglu"] == PASSED


def test_a_kernel_that_loses_the_device_has_its_verdict_and_the_others_a_new_process(child: tuple[str, str]) -> None:
    lost = "say(kernel='rope', verdict=dict(outcome='raised', reason='an illegal address', seconds=0.1)); os._exit(3)"
    verdicts = tried(child, lost)
    assert verdicts == {"rms_norm": PASSED, "rope": Verdict("raised", "an illegal address", 0.1), "swiglu": PASSED}


def test_a_kernel_that_hangs_is_ended(child: tuple[str, str]) -> None:
    verdicts = tried(child, "time.sleep(60)", (20.0, 1.0))
    assert verdicts["rope"] == Verdict("raised", "it did not end within 1 s")
    assert verdicts["swiglu"] == PASSED


def test_what_is_no_line_of_the_protocol_is_passed_over(child: tuple[str, str]) -> None:
    noise = "print('hello'); print('[1]'); print('{\"kernel\": \"swiglu\"}'); say(kernel=name)"
    good = "say(kernel=name, verdict=dict(outcome='passed', seconds=0.5))"
    assert tried(child, f"{noise}; {good}") == dict.fromkeys(NAMES, PASSED)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_the_trying(child: tuple[str, str], jobs: int) -> None:
    fault = "signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"
    Path(child[1]).with_name("fault").write_text(fault)
    with pytest.raises(KeyboardInterrupt):
        try_kernels(NAMES, SMALL_SHAPES, "cuda:7", command=child, jobs=jobs)


@pytest.mark.parametrize("jobs", [2, 3, 9])
def test_several_processes_share_the_kernels(child: tuple[str, str], jobs: int) -> None:
    Path(child[1]).with_name("fault").write_text("os._exit(7)")
    said: list[str] = []
    verdicts = try_kernels(NAMES, SMALL_SHAPES, "cuda:7", said.append, command=child, jobs=jobs)
    assert list(verdicts) == list(NAMES)
    assert sorted(said) == sorted(NAMES)
    assert [name for name, verdict in verdicts.items() if not verdict.passed] == ["rope"]
    assert try_kernels((), SMALL_SHAPES, "cuda:7", command=child, jobs=jobs) == {}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/nowhere/python",), "could not be tried: no process could be started: No such file or directory"),
        (
            (sys.executable, "-c", "raise RuntimeError('no device')"),
            "could not be tried: its process ended with code 1",
        ),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "could not be tried: it did not end within 1 s"),
        ((sys.executable, "-c", "pass"), "could not be tried: nothing came"),
    ],
)
def test_a_process_that_never_begins_says_so_of_every_kernel(command: tuple[str, ...], reason: str) -> None:
    verdicts = try_kernels(NAMES, SMALL_SHAPES, "cuda:0", command=command, seconds=(1.0, 1.0))
    assert list(verdicts) == list(NAMES)
    assert {verdict.outcome for verdict in verdicts.values()} == {"raised"}
    assert all(verdict.reason.startswith(reason) for verdict in verdicts.values()), verdicts
