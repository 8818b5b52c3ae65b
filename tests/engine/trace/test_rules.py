"""How rules are asked, on whatever text, and rules of one's own: in Python and in a file."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alttrain.engine.errors import ConfigError
from alttrain.engine.restructure.phrases import DECISIONS, REFUSALS, TURNS
from alttrain.engine.restructure.wording import built_in
from alttrain.engine.trace.rule import LABELS, Rule
from alttrain.engine.trace.rules import Rules, read_rules

RULES = Rules.default()
CATEGORIES = (
    "",
    "suicide",
    "adult",
    "weapon",
    "hate",
    "privacy",
    "false",
    "copyright",
    "fraud",
    "math",
    "code",
    "science",
)


def test_what_build_dataset_writes_is_read_as_what_it_is() -> None:
    """Every sentence that the templates can write."""
    for name, frames in built_in().frames.items():
        for topic in {built_in().topic(name, (category,)) for category in CATEGORIES}:
            for frame, kind, reason in product(frames, topic.kinds, topic.reasons):
                found = RULES.label(frame.format(kind=kind, reason=reason))
                assert (found.label, found.verdict) == ("assessment", name), (frame, kind, reason)
    for topic in {built_in().topic("harmful", (category,)) for category in CATEGORIES}:
        for decision, turn in product(DECISIONS, topic.turns or TURNS):
            assert RULES.label(decision + turn).label == "refusal", (decision, turn)
        for refusal, offer in product(REFUSALS, topic.offers):
            assert RULES.is_refusal(f"{refusal} {offer}"), (refusal, offer)


@given(st.text(alphabet="ab .?!\n。用I'\u2019(", max_size=60), st.sampled_from(["", r"[.?](?=\s)", "b", ""]))
def test_every_sentence_has_a_label_and_they_join_to_the_reasoning(think: str, sentence_end: str) -> None:
    rules = Rules(RULES.sentences, RULES.openings, sentence_end=sentence_end)
    sentences = rules.read(think)
    assert "".join(sentence.text for sentence in sentences) == think
    assert all(sentence.text and sentence.label in LABELS for sentence in sentences)
    assert all(sentence.label == "assessment" for sentence in sentences if sentence.verdict)


def test_a_model_that_repeats_itself_without_end_is_read_at_once() -> None:
    for words in ("the ", "so, okay ", "policy says consider ", "would could be used and which the response "):
        assert RULES.label(words * 5000).label in LABELS


def test_own_rules_are_asked_first() -> None:
    rules = RULES.extended([Rule("assessment", r"\bnot on my watch\b", "harmful")])
    assert RULES.label("Not on my watch.").label == "solving"
    assert rules.label("Not on my watch.").verdict == "harmful"
    assert rules.label("Hmm.").label == "other"


def test_a_file_of_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    german = {"label": "assessment", "pattern": r"\bes schadet\b", "verdict": "harmful", "language": "de"}
    refusal = {"label": "refusal", "pattern": "^Das mache ich nicht"}
    file.write_text(json.dumps({"sentences": [german], "refusals": [refusal]}), encoding="utf-8")
    rules = read_rules(file)
    assert rules.label("Ich finde, es schadet allen.").verdict == "harmful"
    assert rules.is_refusal("Das mache ich nicht.")
    assert rules.label("So I can't help.").label == "refusal"
    settings = {"extends": "nothing", "otherwise": "other", "sentence_end": ";", "num_answer_sentences": 1}
    file.write_text(json.dumps(settings), encoding="utf-8")
    assert [s.text for s in read_rules(file).read("a;b")] == ["a;", "b"]
    assert read_rules(file).label("So I can't help.").label == "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "the file is not an object"),
        ('{"rules": []}', "'rules'"),
        ('{"extends": "mine"}', "'mine'"),
        ('{"sentences": {}}', "sentences is not a list"),
        ('{"sentences": [{"label": "other"}]}', r"sentences\[0\] lacks its label or pattern"),
        ('{"openings": [{"label": "other", "pattern": "("}]}', r"openings\[0\]: the pattern"),
        (
            '{"refusals": [{"label": "refusal", "pattern": "a", "language": 1}]}',
            r"refusals\[0\] has a verdict or language",
        ),
        ('{"otherwise": "musing"}', "otherwise is 'musing'"),
        ('{"num_answer_sentences": true}', "must be a whole number"),
        ('{"num_answer_sentences": 0}', "1 or more"),
    ],
)
def test_a_file_that_holds_no_rules(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "rules.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as raised:
        read_rules(file)
    assert str(raised.value).startswith(f"--rules {file}: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_rules(tmp_path / "none.json")


def test_importing_is_cheap() -> None:
    program = (
        "import sys, alttrain.engine.evaluate.structure_sets\n"
        "from alttrain.engine.trace.rules import Rules; Rules.default().label('a')\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
