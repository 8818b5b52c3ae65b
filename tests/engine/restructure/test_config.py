"""What a source is called, and what a data set is made of where nobody says otherwise."""

import dataclasses

import pytest

from alttrain.engine.restructure.config import BenignConfig, BuildConfig, SourceConfig


@pytest.mark.parametrize(
    ("source", "title", "slug"),
    [
        (SourceConfig("traces/STAR-1.json"), "STAR-1", "star1"),
        (SourceConfig("owner/Some_Traces"), "Some_Traces", "sometraces"),
        (SourceConfig("a/train.v2.jsonl"), "train.v2", "trainv2"),
        (SourceConfig("a/STAR-1.jsonl.gz"), "STAR-1", "star1"),
        (SourceConfig("traces/STAR-1.json", name="Star (1K)"), "Star (1K)", "star1k"),
        (BenignConfig("数学/题目.jsonl", answer_open="<answer>"), "题目", "题目"),
    ],
)
def test_a_source_is_called_by_its_name_or_by_its_file(source: SourceConfig, title: str, slug: str) -> None:
    assert (source.title, source.slug) == (title, slug)


def test_both_labels_are_read_by_the_same_settings() -> None:
    """A benign source has the marks of an answer beside them, as its answers alone are kept."""
    own = {field.name for field in dataclasses.fields(BenignConfig)} - {
        field.name for field in dataclasses.fields(SourceConfig)
    }
    assert own == {"answer_open", "answer_close"}
    assert isinstance(BuildConfig().benign, BenignConfig)
    assert not isinstance(BuildConfig().harmful, BenignConfig)


def test_the_default_is_the_published_mixture() -> None:
    config = BuildConfig()
    assert (config.num_harmful, config.num_benign, config.structure) == (900, 100, "full")
    assert (config.assess.phrases, config.overwrite) == ("", False)
