"""Errors that the user can fix, one class for each kind of thing that is wrong.

    AlttrainError
      ConfigError        a setting
      DataError          a row, or a file of rows
      ModelError         a model folder or a tokenizer
      CheckpointError    a run folder or a checkpoint
      DivergenceError    a run whose numbers stopped being finite

A message says in one or two sentences what is wrong, its value, the rule, and how to fix it. The command line prints
the message without a traceback and exits with code 2.
"""

import re
from pathlib import Path
from typing import Self


class AlttrainError(Exception):
    """Something that the user can fix. The message is put together from its parts when the error is printed."""

    def __init__(self, reason: str, *, where: str | Path = "", flag: str = "") -> None:
        """Keep the parts of the message.

        Args:
            reason: one or two sentences. The flag is put in the place of `{flag}`, or before the sentences without one.
            where: the file, or `file:line`, that the sentences are about.
            flag: the command line's name of the setting that is wrong, or that fixes the error.
        """
        super().__init__(reason)
        self.reason = reason
        self.where = str(where)
        self.flag = flag

    @property
    def sentence(self) -> str:
        """The message without `where`."""
        if "{flag}" in self.reason:
            return self.reason.replace("{flag}", self.flag)
        return f"{self.flag} {self.reason}" if self.flag else self.reason

    def __str__(self) -> str:
        """Return the message, after `where` if that is given."""
        return f"{self.where}: {self.sentence}" if self.where else self.sentence

    def at(self, where: str) -> Self:
        """Put `where` before the place that the error already names, if any, and return the error."""
        self.where = f"{where}: {self.where}" if self.where else where
        return self

    def in_section(self, section: str) -> Self:
        """Replace the section of the flag: --data.columns becomes --harmful.columns for `harmful`. Return the error."""
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
