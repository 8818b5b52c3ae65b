"""What a run says, wherever it goes: to a console that may go away (`... | head`), or to a file, which wants lines."""

import os
import sys
from typing import Any, TextIO, cast


class LastingStream:
    """A text stream that writes to nowhere, without an error, once its reader is gone."""

    def __init__(self, stream: TextIO) -> None:
        """Wrap `stream`."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, if anybody reads."""
        try:
            return self._stream.write(text)
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, if anybody reads."""
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def __getattr__(self, name: str) -> Any:
        """Return everything else of the stream."""
        return getattr(self._stream, name)

    def _let_go(self) -> None:
        """Give the stream's file, which libraries write to as well, a reader that never goes."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def outlive_readers() -> None:
    """Make the two standard streams of this process lasting."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, LastingStream):
            setattr(sys, name, cast(TextIO, LastingStream(stream)))


class LineStream:
    """A text stream for a progress bar whose output is no terminal: every state of the bar is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a state of the bar, which begins with a carriage return and ends in blanks, as a line."""
        line = text.strip()
        if line:
            self._stream.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Return everything else of the stream."""
        return getattr(self._stream, name)


def bar_stream() -> TextIO:
    """Return where a progress bar writes to: stderr, by lines where that is a file or a pipe."""
    return sys.stderr if sys.stderr.isatty() else cast(TextIO, LineStream(sys.stderr))
