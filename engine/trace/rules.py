r"""Rules that label the sentences of a reasoning trace by what they do, and how to add your own.

A rule is a regular expression with a label. The rules are tried in the order listed on one sentence at a time, and the
first that matches gives the sentence its label, and an assessment its verdict. A sentence that no rule matches gets the
label `otherwise`. To extend the rules, put your own before the existing ones:

    rules = Rules.default().extended([Rule("assessment", r"\bnot on my watch\b", "harmful")])

or, in a file for `recipes/measure_structure.py --rules`, all keys optional:

    {"extends": "default",
     "sentences": [{"label": "assessment", "pattern": "\\bes schadet\\b", "verdict": "harmful", "language": "de"}],
     "refusals": [{"label": "refusal", "pattern": "^Das mache ich nicht", "language": "de"}]}

Rules for another language start from none (`"extends": "nothing"`), and say where its sentences end if they do not end
as in ordinary prose:

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

# Characters of a sentence that the rules look at: so any rule, one of a user too, takes time linear in the trace.
_LONGEST_SENTENCE = 600

_LISTS = ("openings", "sentences", "refusals")
_SETTINGS: Mapping[str, type] = {"otherwise": str, "sentence_end": str, "num_answer_sentences": int}

_Compiled = list[tuple[re.Pattern[str], Rule]]


@dataclass(frozen=True)
class Rules:
    """The rules by which traces and answers are labelled."""

    sentences: tuple[Rule, ...] = ()
    """Tried on each sentence of the reasoning; the first that matches decides."""
    openings: tuple[Rule, ...] = ()
    """Tried on the first sentence that is not `other`; a match overrules `sentences`."""
    refusals: tuple[Rule, ...] = ()
    """Tried on the answer: the label refusal makes it a refusal; any other label says that a sentence is none."""
    otherwise: str = "solving"
    """The label of a sentence that no rule matches."""
    sentence_end: str = ""
    """A regular expression after which a sentence ends; empty for prose, which `split_sentences` splits."""
    num_answer_sentences: int = 3
    """How many of an answer's first sentences may make it a refusal: later ones only qualify the answer given."""

    def __post_init__(self) -> None:
        """Check the rules.

        Raises:
            ConfigError: `otherwise` is not a label, `sentence_end` is no regular expression, or
                `num_answer_sentences` is below 1.
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
        """Return these rules with the given ones before them, so that the given ones are tried first."""
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
        first, last = len(text) - len(text.lstrip()), len(text.rstrip())
        ends = [match.end() for match in re.finditer(self.sentence_end, text)]
        cuts = [0, *(end for end in ends if first < end < last), len(text)]
        return [text[start:end] for start, end in pairwise(cuts) if end > start]

    def read(self, think: str) -> tuple[Sentence, ...]:
        """Return the labelled sentences of a trace's reasoning; their texts join to `think` exactly."""
        sentences = [self.label(text) for text in self.split(think)]
        first = next((index for index, sentence in enumerate(sentences) if sentence.label != "other"), None)
        if first is not None and (rule := _find(self._openings, sentences[first].text)):
            sentences[first] = Sentence(sentences[first].text, rule.label, rule.verdict)
        return tuple(sentences)

    def label(self, text: str) -> Sentence:
        """Return one sentence with its label and verdict, by the rules that do not depend on its place in the trace.

        The rules look at its first 600 characters; a longer sentence is one that a model never ended.
        """
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
    """Return the first rule that matches `text` without surrounding white space and with straight apostrophes."""
    plain = text.strip()[:_LONGEST_SENTENCE].replace("\u2019", "'")
    for pattern, rule in rules:
        if pattern.search(plain):
            return rule
    return None


def read_rules(path: Path) -> Rules:
    """Read a file of rules in the form described at the top of this file.

    Raises:
        ConfigError: the file cannot be read, is not an object of that form, or holds an invalid rule.
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
