"""One rule, the labels that it may give, and a labelled sentence.

english.py and chinese.py list the patterns of each language; rules.py makes them into rules and applies these.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from alttrain.engine.errors import ConfigError

LABELS: tuple[str, ...] = ("understanding", "assessment", "refusal", "solving", "other")
"""understanding: says what is asked; assessment: judges it; refusal: says no; solving: works on the reply; other."""

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
    """The conclusion of an assessment; None where the sentence only asks, or names the policy to judge by."""
    language: str = ""
    """For the reader only: every rule is tried on every sentence, since traces mix languages."""

    def __post_init__(self) -> None:
        """Check the rule.

        Raises:
            ConfigError: the label or verdict does not exist, a label other than assessment has a verdict, or the
                pattern is no regular expression.
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
    """One sentence of a trace, unchanged, with its label; the text may be harmful and stays out of the repr."""

    text: str = field(repr=False)
    label: str
    verdict: Verdict | None = None
