"""The marks around a model's reasoning, `<think>` and `</think>` by default, and how they are written.

All code that reads responses, renders rows or splits generated text takes the marks from here.
"""

from dataclasses import dataclass

from alttrain.engine.errors import ConfigError


@dataclass(frozen=True)
class Thinking:
    """The opening and the closing mark of the reasoning."""

    open: str = "<think>"
    close: str = "</think>"

    def __post_init__(self) -> None:
        """Check the marks.

        Raises:
            ConfigError: one of them is empty.
        """
        for mark, name, verb in ((self.open, "open", "opens"), (self.close, "close", "closes")):
            if not mark:
                raise ConfigError(f"is empty: it must hold what {verb} the reasoning.", flag=f"--data.think-{name}")

    @property
    def tags(self) -> tuple[str, str]:
        """The texts that no span may hold."""
        return self.close, self.open

    def write_opening(self, written: str) -> str:
        """Return what is missing at the end of `written` of the opening mark and a line break."""
        if written.endswith(f"{self.open}\n"):
            return ""
        return "\n" if written.endswith(self.open) else f"{self.open}\n"

    def write_closing(self, *, on_new_line: bool, has_answer: bool) -> str:
        """Return the closing mark: after a line break if `on_new_line`, before a blank line if `has_answer`."""
        return ("\n" if on_new_line else "") + self.close + ("\n\n" if has_answer else "")


MARKS = Thinking()
"""The marks that every rendered row is written with."""
