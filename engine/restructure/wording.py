r"""The wording of assessments, decisions and refusals: the built-in one of phrases.py, or that of a file.

A file for --assess.phrases is JSON of the form that --assess.write-phrases writes:

    {"harmful": {"frames": ["This request is harmful: it asks for {kind}, and {reason}.", ...],
                 "topics": [{"names": ["fraud", "scam"], "kinds": ["..."], "reasons": ["..."], "offers": ["..."],
                             "turns": [", and ..."]}, ...],
                 "otherwise": {"kinds": ["..."], "reasons": ["..."], "offers": ["..."]},
                 "decisions": ["So I will decline"], "turns": [", politely."], "refusals": ["I can't help with that."]},
     "benign": {"frames": [...], "topics": [{"names": [...], "kinds": [...], "reasons": [...]}, ...],
                "otherwise": {"kinds": [...], "reasons": [...]}}}

A topic speaks for the categories that hold one of its `names`, in lower case and NFKC; the first that fits is taken,
and `otherwise` where none does. A frame is one sentence with {kind} and {reason} once each. A harmful trace ends with
a decision and one of the topic's `turns`, or of the general ones where the topic has none, and is answered by a refusal
and one of the topic's `offers`. `topics` may be empty; no other list may. Everything is checked with the rules of the
structure metric, which know English and Chinese: they must read a harmful frame as the verdict harmful and a benign one
as benign, whatever is put into it, a decision or a refusal as no assessment, and a refusal as one.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from alttrain.engine.errors import ConfigError
from alttrain.engine.restructure import phrases
from alttrain.engine.restructure.phrases import Topic
from alttrain.engine.restructure.tags import find_tag
from alttrain.engine.trace.rules import Rules

Label = Literal["harmful", "benign"]

_HARMFUL_KEYS = ("frames", "topics", "otherwise", "decisions", "turns", "refusals")
_BENIGN_KEYS = ("frames", "topics", "otherwise")
_TOPIC_KEYS: Mapping[Label, tuple[str, ...]] = {
    "harmful": ("names", "kinds", "reasons", "offers", "turns"),
    "benign": ("names", "kinds", "reasons"),
}


@dataclass(frozen=True)
class Wording:
    """All phrases, and which of them fit a trace's categories."""

    frames: Mapping[Label, tuple[str, ...]]
    topics: Mapping[Label, tuple[Topic, ...]]
    otherwise: Mapping[Label, Topic]
    """The phrases for categories that no topic names."""
    decisions: tuple[str, ...]
    turns: tuple[str, ...]
    refusals: tuple[str, ...]

    def topic(self, label: Label, categories: Sequence[str]) -> Topic:
        """Return the first topic that one of `categories` names, or the general one."""
        return next((topic for topic in self.topics[label] if topic.is_named(categories)), self.otherwise[label])


@cache
def built_in() -> Wording:
    """Return the wording of phrases.py."""
    return Wording(
        frames={"harmful": phrases.HARMFUL_FRAMES, "benign": phrases.BENIGN_FRAMES},
        topics={"harmful": phrases.HARMFUL_TOPICS, "benign": phrases.BENIGN_TOPICS},
        otherwise={"harmful": phrases.ANY_HARM, "benign": phrases.ANY_QUESTION},
        decisions=phrases.DECISIONS,
        turns=phrases.TURNS,
        refusals=phrases.REFUSALS,
    )


def as_json(wording: Wording) -> str:
    """Return the wording as the text of a file, from which `read_wording` reads the same."""
    sides: dict[str, dict[str, Any]] = {}
    for label in wording.frames:
        topics = [_topic_record(topic, label) for topic in wording.topics[label]]
        otherwise = _topic_record(wording.otherwise[label], label)
        del otherwise["names"]
        sides[label] = {"frames": wording.frames[label], "topics": topics, "otherwise": otherwise}
    sides["harmful"] |= {"decisions": wording.decisions, "turns": wording.turns, "refusals": wording.refusals}
    return json.dumps(sides, ensure_ascii=False, indent=2) + "\n"


def _topic_record(topic: Topic, label: Label) -> dict[str, tuple[str, ...]]:
    return {key: getattr(topic, key) for key in _TOPIC_KEYS[label] if key != "turns" or topic.turns}


def read_wording(path: Path) -> Wording:
    """Return the wording of a file in the form described at the top of this file.

    Raises:
        ConfigError: the file cannot be read, lacks a key or has an unknown one, or holds a phrase that cannot stand
            where it is put; the message names its place.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name a file that --assess.write-phrases has written.",
            flag="--assess.phrases",
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}). Mend the file.", flag="--assess.phrases") from None
    except ConfigError as error:
        raise error.at(f"--assess.phrases {path}") from None
    try:
        wording = _parse(value)
        for place, problem in _problems(wording):
            raise ConfigError(f"{place} {problem}")
    except ConfigError as error:
        raise error.at(f"--assess.phrases {path}") from None
    return wording


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ConfigError(f"the key {twice!r} stands twice in one object; keep one of them.")
    return dict(pairs)


def _parse(value: Any) -> Wording:
    sides = _object(value, "the file", ("harmful", "benign"))
    harmful = _object(sides["harmful"], "harmful", _HARMFUL_KEYS)
    benign = _object(sides["benign"], "benign", _BENIGN_KEYS)
    frames: dict[Label, tuple[str, ...]] = {}
    topics: dict[Label, tuple[Topic, ...]] = {}
    otherwise: dict[Label, Topic] = {}
    both: tuple[tuple[Label, Mapping[str, Any]], ...] = (("harmful", harmful), ("benign", benign))
    for label, side in both:
        frames[label] = _texts(side["frames"], f"{label}.frames")
        if not isinstance(side["topics"], list):
            raise ConfigError(f"{label}.topics is not a list; it must be a list of topics, or [].")
        keys = _TOPIC_KEYS[label]
        topics[label] = tuple(
            _topic(topic, f"{label}.topics[{index}]", keys) for index, topic in enumerate(side["topics"])
        )
        otherwise[label] = _topic(side["otherwise"], f"{label}.otherwise", keys[1:])
    others = {key: _texts(harmful[key], f"harmful.{key}") for key in ("decisions", "turns", "refusals")}
    return Wording(frames, topics, otherwise, **others)


def _topic(value: Any, place: str, keys: Sequence[str]) -> Topic:
    record = _object(value, place, keys, optional="turns")
    return Topic(**({"names": ()} | {key: _texts(record[key], f"{place}.{key}") for key in record}))


def _object(value: Any, place: str, keys: Sequence[str], optional: str = "") -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place} is not an object; write it as {{...}} with the keys {', '.join(keys)}.")
    for key in (*value, *keys):
        if key not in keys or (key not in value and key != optional):
            verb = "has an unknown key" if key not in keys else "lacks the key"
            raise ConfigError(f"{place} {verb} {key!r}; its keys are {', '.join(keys)}.")
    return value


def _texts(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{place} is {'an empty list' if value == [] else 'not a list'}; it must list some phrases.")
    for index, text in enumerate(value):
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{place}[{index}] is empty or no text; write a phrase.")
        is_turn = place.endswith(".turns")
        if text != (text.rstrip() if is_turn else text.strip()):
            raise ConfigError(f"{place}[{index}] has white space around it; take it out.")
        if find_tag(text) or any("\ud800" <= char <= "\udfff" for char in text):
            raise ConfigError(f"{place}[{index}] holds a tag or half of a surrogate pair; take it out.")
        if not place.endswith(".frames") and set("{}") & set(text):
            raise ConfigError(f"{place}[{index}] holds a brace; only frames have places for other phrases.")
        if value.index(text) < index:
            raise ConfigError(f"{place}[{index}] repeats {place}[{value.index(text)}]; keep one of them.")
    return tuple(value)


def _problems(wording: Wording) -> Iterator[tuple[str, str]]:
    """Yield (place, what is wrong and how to mend it) for phrases that do not fit together."""
    rules = Rules.default()
    for label, frames in wording.frames.items():
        for index, frame in enumerate(frames):
            if problem := _frame_problem(frame):
                yield f"{label}.frames[{index}]", problem
                continue
            for place, topic in _places(wording, label):
                for part, kind, reason in _fillings(topic):
                    if problem := _verdict_problem(rules, label, frame.format(kind=kind, reason=reason)):
                        yield f"{label}.frames[{index}] with {place}.{part}", problem
        other = "benign" if label == "harmful" else "harmful"
        for place, topic in _places(wording, label):
            for part, kind, reason in _fillings(topic):
                if rules.label(kind if part.startswith("kinds") else reason).verdict == other:
                    yield f"{place}.{part}", f"reads as {other} by itself. Word it otherwise."
    yield from _unreached_names(wording)
    yield from _judging(wording, rules)


def _fillings(topic: Topic) -> Iterator[tuple[str, str, str]]:
    """Yield (place, kind, reason): every kind with the first reason, and every reason with the first kind."""
    yield from ((f"kinds[{index}]", kind, topic.reasons[0]) for index, kind in enumerate(topic.kinds))
    yield from ((f"reasons[{index}]", topic.kinds[0], reason) for index, reason in enumerate(topic.reasons))


def _verdict_problem(rules: Rules, label: Label, assessment: str) -> str:
    found = [rules.label(text) for text in rules.split(assessment)]
    if [(one.label, one.verdict) for one in found] == [("assessment", label)]:
        return ""
    read = "several sentences" if len(found) > 1 else (found[0].verdict or "no verdict")
    return (
        f"reads as {read} to the rules of engine/trace/rules.py; it must be one sentence that says {label}. "
        "Word it otherwise."
    )


def _frame_problem(frame: str) -> str:
    try:
        fields = [(name, spec, how) for _, name, spec, how in Formatter().parse(frame) if name is not None]
    except ValueError as error:
        return f"has braces that do not pair ({error}); write {{kind}} and {{reason}}, once each."
    if sorted(fields, key=str) != [("kind", "", None), ("reason", "", None)]:
        return "must hold {kind} and {reason}, once each, and no other place."
    return ""


def _places(wording: Wording, label: Label) -> list[tuple[str, Topic]]:
    topics = [(f"{label}.topics[{index}]", topic) for index, topic in enumerate(wording.topics[label])]
    return [*topics, (f"{label}.otherwise", wording.otherwise[label])]


def _unreached_names(wording: Wording) -> Iterator[tuple[str, str]]:
    for label, topics in wording.topics.items():
        for index, topic in enumerate(topics):
            for at, name in enumerate(topic.names):
                place = f"{label}.topics[{index}].names[{at}]"
                if name != unicodedata.normalize("NFKC", name).lower():
                    yield place, "is not in lower case (and NFKC), and would match no category; write it so."
                elif (reached := wording.topic(label, (name,))) is not topic:
                    first = topics.index(reached)
                    yield (
                        place,
                        f"is never reached, as topics[{first}] has a name that it holds. Put this topic before.",
                    )


def _judging(wording: Wording, rules: Rules) -> Iterator[tuple[str, str]]:
    """Decisions and refusals may not judge, so that a control without assessment holds none; and a refusal refuses."""
    for place, topic in _places(wording, "harmful"):
        for index, decision in enumerate(wording.decisions):
            for turn in topic.turns or wording.turns:
                if any(rules.label(text).label == "assessment" for text in rules.split(decision + turn)):
                    yield (
                        f"harmful.decisions[{index}] with the turns of {place}",
                        "judges; only a frame may. Word it otherwise.",
                    )
        for index, refusal in enumerate(wording.refusals):
            for at, offer in enumerate(topic.offers):
                named = f"harmful.refusals[{index}] with {place}.offers[{at}]"
                if any(rules.label(text).label == "assessment" for text in rules.split(f"{refusal} {offer}")):
                    yield named, "judges; only a frame may. Word it otherwise."
                if not rules.is_refusal(f"{refusal} {offer}"):
                    yield named, "does not read as a refusal to the rules of engine/trace/rules.py. Word it otherwise."
