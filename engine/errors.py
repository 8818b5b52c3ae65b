"""Errors that a user can mend, one class for each kind of thing that has to be mended.

    AlttrainError
      ConfigError        a setting
      DataError          a row, or a file of rows
      ModelError         a model folder or a tokenizer
      CheckpointError    a run folder or a checkpoint
      DivergenceError    a run whose numbers stopped being finite

A message says what is wrong, with its value, the rule, and a way out that works, in one or two sentences. The command
line prints it without a traceback and exits with 2.
"""

from typing import Self


class AlttrainError(Exception):
    """Something the user can mend; `str` of it is the whole message: the place or the flag, then the reason."""

    def __init__(self, reason: str, *, where: str = "", flag: str = "") -> None:
        """Keep the parts of the message.

        Args:
            reason: one or two sentences.
            where: the file, or `file:line`, that they are about.
            flag: the command line's name of the setting that they are about; not given together with `where`.
        """
        super().__init__(reason)
        self.reason = reason
        self.where = where
        self.flag = flag

    def __str__(self) -> str:
        """Return the message."""
        if self.where:
            return f"{self.where}: {self.reason}"
        return f"{self.flag} {self.reason}" if self.flag else self.reason

    def at(self, where: str) -> Self:
        """Say where it is, for a caller who knows; a place that is already known stays."""
        self.where = self.where or where
        return self


class ConfigError(AlttrainError):
    """A setting is out of range, or two settings contradict each other."""


class DataError(AlttrainError):
    """A row, or a file of rows, breaks a rule of the data format."""


class ModelError(AlttrainError):
    """A model folder or tokenizer is incomplete, or does not fit its config."""


class CheckpointError(AlttrainError):
    """A run folder or checkpoint cannot be used by this run."""


class DivergenceError(AlttrainError):
    """Loss or gradient norm is no longer a finite number."""
