"""A console that goes away ends no run."""

import subprocess
import sys


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
