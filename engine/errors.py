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

import re
from pathlib import Path
from typing import Self


class AlttrainError(Exception):
    """Something the user can mend. Its message is put together from its parts only when it is shown."""

    def __init__(self, reason: str, *, where: str | Path = "", flag: str = "") -> None:
        """Keep the parts of the message.

        Args:
            reason: one or two sentences; `{flag}` in them stands for the flag, which otherwise comes before them.
            where: the file, or `file:line`, that they are about.
            flag: the command line's name of the setting that is wrong, or that mends it.
        """
        super().__init__(reason)
        self.reason = reason
        self.where = str(where)
        self.flag = flag

    @property
    def sentence(self) -> str:
        """The message without the place."""
        if "{flag}" in self.reason:
            return self.reason.replace("{flag}", self.flag)
        return f"{self.flag} {self.reason}" if self.flag else self.reason

    def __str__(self) -> str:
        """Return the whole message."""
        return f"{self.where}: {self.sentence}" if self.where else self.sentence

    def at(self, where: str) -> Self:
        """Say where it is, for a caller who knows; a place that is already known stands within this one."""
        self.where = f"{where}: {self.where}" if self.where else where
        return self

    def in_section(self, section: str) -> Self:
        """Name the flag as a command line does that has `section` in the place of the flag's own section."""
        self.flag = re.sub(r"^--[\w-]+\.", f"--{section}.", self.flag)
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
