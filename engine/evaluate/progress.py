"""How far a long run of questions is, said on stderr with the time left."""

import sys
import time

SECONDS_BETWEEN_NEWS = 15.0


class Progress:
    """Says on stderr how many prompts are answered, how fast, and for how long it will go on."""

    def __init__(self, num_prompts: int, num_kept: int) -> None:
        self._total, self._done, self._tokens = num_prompts, 0, 0
        self._started = self._said = time.monotonic()
        if num_kept:
            sys.stderr.write(f"{num_kept} prompts are answered already and kept\n")

    def tick(self, num_tokens: int) -> None:
        """Count tokens; say where things stand if it was not said for a while."""
        self._tokens += num_tokens
        if time.monotonic() - self._said > SECONDS_BETWEEN_NEWS:
            self._say()

    def answered(self, num_prompts: int) -> None:
        """Count prompts that are answered, and say so."""
        self._done += num_prompts
        self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        seconds = max(self._said - self._started, 1e-9)
        left = f", about {_duration(seconds / self._done * (self._total - self._done))} left" if self._done else ""
        rate = f"{self._tokens / seconds:,.0f} tokens a second"
        sys.stderr.write(f"{self._done} of {self._total} prompts answered, {rate}{left}\n")
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else (f"{seconds / 3600:.1f} h")
    )
