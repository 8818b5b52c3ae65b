"""A console that goes away ends no run; a bar in a file is lines."""

import io
import subprocess
import sys

import pytest
from tqdm import tqdm

from alttrain.engine.console import bar_stream


def test_a_stream_outlives_its_reader() -> None:
    code = (
        "import os, sys\nfrom alttrain.engine.console import outlive_readers\noutlive_readers()\noutlive_readers()\n"
        "print('first', flush=True)\nsys.stdin.readline()\n"
        "for _ in range(100):\n    print('x' * 10000, flush=True)\n    sys.stderr.write('y' * 10000)\n"
        "    sys.stderr.flush()\n"
        "os.write(2, b'z')\nos._exit(7)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 7


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def bar_of(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with tqdm(total=3, file=bar_stream(), mininterval=0.0, ncols=60) as bar:
        for _ in range(3):
            bar.update(1)
    return stream.getvalue()


def test_a_bar_in_a_file_is_a_line_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    text = bar_of(io.StringIO(), monkeypatch)
    assert "\r" not in text
    assert text.endswith("\n")
    states = text.splitlines()
    counts = [state.split("|")[2].split()[0] for state in states]
    assert list(dict.fromkeys(counts)) == ["0/3", "1/3", "2/3", "3/3"]  # the last is drawn again at the end
    assert all(state == state.strip() for state in states)


def test_a_bar_on_a_terminal_stays_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = bar_of(Terminal(), monkeypatch)
    assert (text.count("\n"), text.count("\r")) == (1, 5)
