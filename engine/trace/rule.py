"""One rule, and what it may call a sentence; the rules of a language (english.py, chinese.py) are made of these.

rules.py puts rules together and reads traces by them.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from alttrain.engine.errors import ConfigError

LABELS: tuple[str, ...] = ("understanding", "assessment", "refusal", "solving", "other")
"""What a sentence may do: say what is asked; weigh it; say no; work on the reply; none of these."""

VERDICTS: tuple[str, ...] = ("harmful", "benign")

Verdict = Literal["harmful", "benign"]

Patterns = tuple[tuple[str, Verdict | None, str], ...]
"""Label, verdict and pattern of each rule of a language."""


@dataclass(frozen=True)
class Rule:
    """One regular expression, searched for in a sentence without regard to case, and what finding it means."""

    label: str
    """One of LABELS."""
    pattern: str
    verdict: Verdict | None = None
    """What an assessment comes to; None where it only asks, or names what it will be judged by."""
    language: str = ""
    """For the reader; every rule is tried on every sentence, since traces mix languages."""

    def __post_init__(self) -> None:
        """Check the rule.

        Raises:
            ConfigError: the label or verdict does not exist, another label has a verdict, or the pattern is broken.
        """
        if self.label not in LABELS:
            raise ConfigError(f"a rule has the label {self.label!r}; it must be one of {', '.join(LABELS)}.")
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise ConfigError(f"a rule has the verdict {self.verdict!r}; it must be harmful, benign or left out.")
        if self.verdict is not None and self.label != "assessment":
            raise ConfigError(f"a rule for {self.label} has a verdict; only an assessment may have one. Leave it out.")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"the pattern {self.pattern!r} is not a regular expression: {error}. Mend it.") from None


@dataclass(frozen=True)
class Sentence:
    """One sentence of a trace, to the letter, with what it does; the text may be harmful and stays out of the repr."""

    text: str = field(repr=False)
    label: str
    verdict: Verdict | None = None
