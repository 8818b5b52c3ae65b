"""The phrases themselves: whole, distinct, of the form that their place asks for, and of the right side."""

import dataclasses
import re
import string

import pytest

from alttrain.engine.restructure import phrases
from alttrain.engine.restructure.phrases import Topic

HARMFUL = (*phrases.HARMFUL_TOPICS, phrases.ANY_HARM)
BENIGN = (*phrases.BENIGN_TOPICS, phrases.ANY_QUESTION)
FRAMES = {"harmful": phrases.HARMFUL_FRAMES, "benign": phrases.BENIGN_FRAMES}
# Words that judge: of a benign request nothing may say them but a frame, which denies them.
JUDGEMENT = re.compile(
    r"harm(?!less)|danger|unsafe|illegal|illicit|crim|unethical|malicious|refus|declin|violen|weapon|abus|threat", re.I
)
DENIAL = re.compile(r"\b(?:not|nothing) harmful|\bnothing (?:about|in) this is harmful|\bcheck for harm\b", re.I)


def topic_id(topic: Topic) -> str:
    return topic.names[0] if topic.names else "any"


@pytest.mark.parametrize("name", ["HARMFUL_FRAMES", "BENIGN_FRAMES", "DECISIONS", "TURNS", "REFUSALS"])
def test_every_list_has_several_phrases_and_none_twice(name: str) -> None:
    listed = getattr(phrases, name)
    assert isinstance(listed, tuple)
    assert len(set(listed)) == len(listed) > 1
    assert all(phrase == phrase.rstrip() and "  " not in phrase for phrase in listed)


@pytest.mark.parametrize("label", FRAMES)
def test_a_frame_asks_for_kind_and_reason_and_for_nothing_else(label: str) -> None:
    for frame in FRAMES[label]:
        names = [name for _, name, _, _ in string.Formatter().parse(frame) if name is not None]
        assert sorted(names) == ["kind", "reason"], frame
        assert not set("{}") & set(frame.format(kind="a kind", reason="a reason")), frame


@pytest.mark.parametrize("topic", [*HARMFUL, *BENIGN], ids=topic_id)
def test_the_phrases_of_a_topic_fit_where_they_are_put(topic: Topic) -> None:
    """Kinds and reasons stand inside a sentence, an offer is one, and a turn is the end of one."""
    assert len(set(topic.kinds)) == len(topic.kinds) >= 1
    assert len(set(topic.reasons)) == len(topic.reasons) >= 1
    for phrase in (*topic.kinds, *topic.reasons):
        assert phrase[0].islower() or phrase.startswith("I "), phrase
        assert phrase[-1].isalnum(), phrase
        assert not set("{}") & set(phrase), phrase
    for offer in topic.offers:
        assert offer[0].isupper(), offer
        assert offer.endswith("."), offer
    for turn in (*topic.turns, *phrases.TURNS):
        assert turn.startswith((", ", " ")), turn
        assert turn.endswith("."), turn


def test_only_a_refusal_is_followed_by_an_offer_and_it_always_can_be() -> None:
    assert all(topic.offers for topic in HARMFUL)
    assert not any(topic.offers or topic.turns for topic in BENIGN)


@pytest.mark.parametrize("topic", BENIGN, ids=topic_id)
def test_nothing_said_of_a_benign_request_judges_it(topic: Topic) -> None:
    for phrase in (*topic.kinds, *topic.reasons):
        assert not JUDGEMENT.search(phrase), phrase


def test_a_benign_frame_speaks_of_harm_only_to_deny_it_and_a_harmful_one_never_denies() -> None:
    for frame in phrases.BENIGN_FRAMES:
        assert not JUDGEMENT.search(DENIAL.sub("", frame)), frame
    for frame in phrases.HARMFUL_FRAMES:
        assert "harmful" in frame, frame
        assert not re.search(r"\bnot\b|\bnothing\b|n't|benign|harmless", frame), frame


@pytest.mark.parametrize("topic", [*HARMFUL, *BENIGN], ids=topic_id)
def test_every_name_of_a_topic_leads_to_it(topic: Topic) -> None:
    """A name in capitals would match no category, and one that an earlier topic has too would never be reached."""
    topics = phrases.HARMFUL_TOPICS if topic in HARMFUL else phrases.BENIGN_TOPICS
    for name in topic.names:
        assert name == name.lower()
        assert next(one for one in topics if one.is_named((name,))) is topic
        assert next(one for one in topics if one.is_named(("something else", f"A {name.upper()} category"))) is topic


def test_a_general_topic_has_no_names() -> None:
    assert phrases.ANY_HARM.names == phrases.ANY_QUESTION.names == ()
    assert not any(topic.is_named(()) or topic.is_named(("no such",)) for topic in (*HARMFUL, *BENIGN))
    assert [field.name for field in dataclasses.fields(Topic)] == ["names", "kinds", "reasons", "offers", "turns"]
