r"""Rules that say what a sentence of a reasoning trace does, and how to write one's own.

A rule is a regular expression with a label, tried in the order listed on one sentence at a time: the first that is
found gives the sentence its label, and an assessment its verdict. A sentence that no rule finds gets the label
`otherwise`. So to extend the rules is to put one's own before those that exist:

    rules = Rules.default().extended([Rule("assessment", r"\bnot on my watch\b", "harmful")])

or, in a file for `recipes/measure_structure.py --rules`, all keys optional:

    {"extends": "default",
     "sentences": [{"label": "assessment", "pattern": "\\bes schadet\\b", "verdict": "harmful", "language": "de"}],
     "refusals": [{"label": "refusal", "pattern": "^Das mache ich nicht", "language": "de"}]}

A language of its own starts from nothing (`"extends": "nothing"`) and says where its sentences end, if not as in prose:

    Rules(sentences=(Rule("understanding", r"^the user wants"), Rule("assessment", r"^is it harmful"),
                     Rule("assessment", r"^so it is harmful", "harmful"), Rule("refusal", r"^i must refuse")),
          refusals=(Rule("refusal", r"^sorry"),), otherwise="solving", sentence_end=r"[.?](?=\s)")
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from alttrain.engine.errors import ConfigError
from alttrain.engine.trace import chinese, english, refusals
from alttrain.engine.trace.rule import LABELS, Patterns, Rule, Sentence
from alttrain.engine.trace.sentences import is_filler, split_sentences

# A sentence is judged by its start: a model that repeats itself without end would take the patterns minutes.
_LONGEST_SENTENCE = 600

_LISTS = ("openings", "sentences", "refusals")
_SETTINGS: Mapping[str, type] = {"otherwise": str, "sentence_end": str, "num_answer_sentences": int}

_Compiled = list[tuple[re.Pattern[str], Rule]]


@dataclass(frozen=True)
class Rules:
    """How traces and answers are read."""

    sentences: tuple[Rule, ...] = ()
    """For the sentences of the reasoning, the first that is found deciding."""
    openings: tuple[Rule, ...] = ()
    """For the first sentence that is not `other`: what they find overrules the others."""
    refusals: tuple[Rule, ...] = ()
    """For the answer: with label refusal they make it one, with any other they say that a sentence is none."""
    otherwise: str = "solving"
    """The label of a sentence that no rule finds."""
    sentence_end: str = ""
    """A regular expression after which a sentence ends; empty for prose, which `split_sentences` cuts."""
    num_answer_sentences: int = 3
    """How many of an answer's first sentences may refuse: what comes later qualifies an answer that was given."""

    def __post_init__(self) -> None:
        """Check the rules.

        Raises:
            ConfigError: `otherwise` is no label, `sentence_end` is broken, or no sentence of an answer would be read.
        """
        if self.otherwise not in LABELS:
            raise ConfigError(f"otherwise is {self.otherwise!r}; it must be one of {', '.join(LABELS)}.")
        if self.num_answer_sentences < 1:
            raise ConfigError(f"num_answer_sentences is {self.num_answer_sentences}: it must be 1 or more.")
        Rule("other", self.sentence_end)

    @classmethod
    @cache
    def default(cls) -> "Rules":
        """Return the rules for traces of real models, in English and Chinese; they are compiled once."""
        return cls(
            sentences=_rules("en", english.SENTENCES) + _rules("zh", chinese.SENTENCES),
            openings=_rules("en", english.OPENINGS) + _rules("zh", chinese.OPENINGS),
            refusals=_rules("en", refusals.ENGLISH) + _rules("zh", refusals.CHINESE),
        )

    def extended(
        self, sentences: Sequence[Rule] = (), openings: Sequence[Rule] = (), refusals: Sequence[Rule] = ()
    ) -> "Rules":
        """Return these rules with others before them, which are therefore asked first."""
        return replace(
            self,
            sentences=(*sentences, *self.sentences),
            openings=(*openings, *self.openings),
            refusals=(*refusals, *self.refusals),
        )

    def split(self, text: str) -> list[str]:
        """Cut `text` into sentences that join to it exactly."""
        if not self.sentence_end:
            return split_sentences(text)
        ends = [match.end() for match in re.finditer(self.sentence_end, text)]
        cuts = [0, *(end for end in ends if text[:end].strip() and text[end:].strip()), len(text)]
        return [text[start:end] for start, end in pairwise(cuts) if end > start]

    def read(self, think: str) -> tuple[Sentence, ...]:
        """Return the sentences of a reasoning; they join to it exactly."""
        sentences = [self.label(text) for text in self.split(think)]
        first = next((index for index, sentence in enumerate(sentences) if sentence.label != "other"), None)
        if first is not None and (rule := _find(self._openings, sentences[first].text)):
            sentences[first] = Sentence(sentences[first].text, rule.label, rule.verdict)
        return tuple(sentences)

    def label(self, text: str) -> Sentence:
        """Return one sentence with its label, and its verdict where it has one, wherever it stands."""
        if rule := _find(self._sentences, text):
            return Sentence(text, rule.label, rule.verdict)
        return Sentence(text, "other" if is_filler(text) else self.otherwise)

    def is_refusal(self, answer: str) -> bool:
        """Return whether one of the first sentences of `answer` says that the request is not fulfilled."""
        found = (_find(self._refusals, text) for text in self.split(answer)[: self.num_answer_sentences])
        return any(rule is not None and rule.label == "refusal" for rule in found)

    @cached_property
    def _sentences(self) -> _Compiled:
        return _compile(self.sentences)

    @cached_property
    def _openings(self) -> _Compiled:
        return _compile(self.openings)

    @cached_property
    def _refusals(self) -> _Compiled:
        return _compile(self.refusals)


def _rules(language: str, patterns: Patterns) -> tuple[Rule, ...]:
    return tuple(Rule(label, pattern, verdict, language) for label, verdict, pattern in patterns)


def _compile(rules: Sequence[Rule]) -> _Compiled:
    return [(re.compile(rule.pattern, re.IGNORECASE), rule) for rule in rules]


def _find(rules: _Compiled, text: str) -> Rule | None:
    """Return the first rule found in `text`, seen without white space around it and with apostrophes as typed."""
    plain = text.strip()[:_LONGEST_SENTENCE].replace("\u2019", "'")
    return next((rule for pattern, rule in rules if pattern.search(plain)), None)


def read_rules(path: Path) -> Rules:
    """Read a file of rules in the form that the top of this file describes.

    Raises:
        ConfigError: the file cannot be read, is not such an object, or holds a rule that is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name a JSON file of rules.", flag="--rules"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}). Mend the file.", flag="--rules") from None
    try:
        return _parse_rules(value)
    except ConfigError as error:
        raise error.at(f"--rules {path}") from None


def _parse_rules(value: Any) -> Rules:
    values = _checked(value, ("extends", *_LISTS, *_SETTINGS), "the file")
    extends = values.get("extends", "default")
    if extends not in ("default", "nothing"):
        raise ConfigError(f"extends is {extends!r}; it must be 'default' or 'nothing'.")
    lists: dict[str, list[Rule]] = {}
    for key in _LISTS:
        items = values.get(key, [])
        if not isinstance(items, list):
            raise ConfigError(f"{key} is not a list; it must be a list of rules.")
        lists[key] = [_parse_rule(item, f"{key}[{index}]") for index, item in enumerate(items)]
    settings = {key: values[key] for key in _SETTINGS if key in values}
    for key, setting in settings.items():
        if type(setting) is not _SETTINGS[key]:
            wanted = "text" if _SETTINGS[key] is str else "a whole number"
            raise ConfigError(f"{key} is {setting!r}; it must be {wanted}.")
    rules = Rules.default() if extends == "default" else Rules()
    return replace(rules.extended(**lists), **settings)


def _parse_rule(item: Any, name: str) -> Rule:
    values = _checked(item, ("label", "pattern", "verdict", "language"), name)
    if not all(isinstance(values.get(key), str) for key in ("label", "pattern")):
        raise ConfigError(f"{name} lacks its label or pattern; a rule has both, as text.")
    if not isinstance(values.get("language", ""), str) or not isinstance(values.get("verdict", ""), str | None):
        raise ConfigError(f"{name} has a verdict or language that is no text; write it as text or leave it out.")
    try:
        return Rule(**values)
    except ConfigError as error:
        raise error.at(name) from None


def _checked(value: Any, keys: Sequence[str], name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{name} is not an object; write it as {{...}} with the keys {', '.join(keys)}.")
    unknown = next((key for key in value if key not in keys), None)
    if unknown is not None:
        raise ConfigError(f"{name} has the key {unknown!r}; the keys are {', '.join(keys)}.")
    return value
