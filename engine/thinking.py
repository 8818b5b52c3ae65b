"""The marks that stand around a model's reasoning: what they are, and how they are written.

Whoever reads a response, writes a row or cuts what a model says takes them from here.
"""

from dataclasses import dataclass

from alttrain.engine.errors import ConfigError


@dataclass(frozen=True)
class Thinking:
    """A pair of marks."""

    open: str = "<think>"
    close: str = "</think>"

    def __post_init__(self) -> None:
        """Check the marks.

        Raises:
            ConfigError: one is empty.
        """
        for mark, name, does in ((self.open, "open", "opens"), (self.close, "close", "closes")):
            if not mark:
                raise ConfigError(f"is empty: it must hold what {does} the reasoning.", flag=f"--data.think-{name}")

    @property
    def tags(self) -> tuple[str, str]:
        """What no span may hold."""
        return self.close, self.open

    def write_opening(self, written: str) -> str:
        """Return what opens the reasoning after `written`: the mark and a line break, or what of them is missing."""
        if written.endswith(f"{self.open}\n"):
            return ""
        return "\n" if written.endswith(self.open) else f"{self.open}\n"

    def write_closing(self, *, on_new_line: bool, has_answer: bool) -> str:
        """Return what closes the reasoning: the mark, with a blank line after it where an answer follows."""
        return ("\n" if on_new_line else "") + self.close + ("\n\n" if has_answer else "")


MARKS = Thinking()
"""Those that every row is written with."""
