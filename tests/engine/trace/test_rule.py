"""What makes a rule, and what a sentence shows of itself."""

import pytest

from alttrain.engine.errors import ConfigError
from alttrain.engine.trace.rule import Rule, Sentence


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label": "musing", "pattern": "a"}, "musing"),
        ({"label": "refusal", "pattern": "a", "verdict": "harmful"}, "only an assessment"),
        ({"label": "assessment", "pattern": "a", "verdict": "bad"}, "'bad'"),
        ({"label": "refusal", "pattern": "("}, "not a regular expression"),
    ],
)
def test_a_rule_that_is_none(values: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rule(**values)  # type: ignore[arg-type]


def test_the_text_of_a_sentence_stays_out_of_its_repr() -> None:
    assert "secret" not in repr(Sentence("a secret", "assessment", "harmful"))
