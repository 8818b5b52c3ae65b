"""A console that may go away: a run goes on to its end when nobody reads what it says any more (`... | head`)."""

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
