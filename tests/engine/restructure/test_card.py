"""The card of a built data set: what it states, and that no name or reason can break its tables."""

import re
import runpy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from alttrain.engine.restructure.card import DataFacts, Lengths, Taken, data_card, summary
from alttrain.engine.restructure.traces import BenignConfig, Dropped, Ordinary, SourceConfig

Reader = runpy.run_path(str(Path(__file__).parents[2] / "html_reader.py"))["Reader"]
HOSTILE = "<script>alert(1)</script> & |\n| `<b>`"
IN_CELL = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \\| \\| \\`&lt;b&gt;\\`"
HARMFUL = Ordinary(SourceConfig("data/star.json", licence="CC0"), "harmful", "ab12", [], [])
BENIGN = Ordinary(BenignConfig("data/maths.jsonl", name="maths"), "benign", "cd34", [], [])
FACTS = DataFacts(
    file="train.jsonl",
    sha256="ef56",
    structure="full",
    order=("understanding", "assessment", "reasoning", "answer"),
    seed=3,
    sources=[Taken(HARMFUL, 5, 2, 2), Taken(BENIGN, 1, 1, 4)],
    dropped=[Dropped("star.json:4", "star", "its prompt stands in held_out.csv", "held_out.csv")],
    avoid={"held_out.csv": "0a0b"},
    lengths=Lengths("tokens", [Counter(prompt=10, answer=20), Counter(prompt=4, answer=2), Counter(prompt=6)]),
)


def hostile_facts() -> DataFacts:
    """Return facts in which every name, licence and reason is hostile."""
    config = BenignConfig(f"data/{HOSTILE.replace('/', '')}", name=HOSTILE, licence=HOSTILE)
    return replace(
        FACTS,
        file=HOSTILE,
        sources=[Taken(replace(BENIGN, config=config), 1, 1, 1)],
        dropped=[Dropped("where", HOSTILE, HOSTILE, HOSTILE)],
        avoid={HOSTILE: "0a0b"},
    )


def test_what_the_card_states() -> None:
    card = data_card(FACTS)
    assert card.startswith("# train.jsonl\n\n3 rows for supervised fine-tuning of a reasoning model")
    assert "structure `full` (understanding, assessment, reasoning, answer), seed 3, sha256 `ef56`." in card
    assert "Of 4 benign rows asked for, 1 remain: all are taken." in card
    assert (
        "| source | label | licence | file | sha256 | read | remain | taken |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| star | harmful | CC0 | star.json | ab12 | 0 | 5 | 2 |\n"
        "| maths | benign | not stated | maths.jsonl | cd34 | 0 | 1 | 1 |\n"
    ) in card
    assert "| star | its prompt stands in held_out.csv | 1 |" in card
    assert "| held_out.csv | 0a0b | 1 |" in card
    assert (
        "| role | rows | tokens | tokens / all rows |\n"
        "| --- | --- | --- | --- |\n"
        "| prompt | 3 | 20 | 6.7 |\n"
        "| answer | 2 | 22 | 7.3 |\n"
        "| all | 3 | 42 | 14.0 |\n\n"
        "The longest row has 30 tokens."
    ) in card


def test_nothing_left_out_is_said() -> None:
    card = data_card(replace(FACTS, dropped=[], avoid={}))
    assert "## Left out\n\nNothing was left out.\n\n## Lengths" in card


def test_the_summary_has_the_same_numbers() -> None:
    assert summary(FACTS).splitlines() == [
        "train.jsonl: 3 rows (2 harmful of 5, 1 benign of 1), structure full; "
        "tokens a row: 14.0 on average, 30 at most.",
        "Of 4 benign rows asked for, 1 remain: all are taken.",
        "Left out: 1 of star: its prompt stands in held_out.csv",
    ]


def test_the_same_facts_give_the_same_text() -> None:
    assert data_card(FACTS) == data_card(FACTS)


def test_names_and_reasons_stay_in_their_cells() -> None:
    card = data_card(hostile_facts())
    assert card.startswith(f"# {IN_CELL}\n\n")
    assert f"| {IN_CELL} | benign | {IN_CELL} | {IN_CELL.replace('/', '')} | cd34 | 0 | 1 | 1 |" in card
    assert f"| {IN_CELL} | {IN_CELL} | 1 |" in card
    assert f"| {IN_CELL} | 0a0b | 1 |" in card
    assert "<" not in card
    for table in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_a_reader_of_markdown_sees_names_and_no_markup() -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    page, plain = (Reader(markdown.render(data_card(facts))) for facts in (hostile_facts(), FACTS))
    assert page.elements.keys() == plain.elements.keys()
    assert page.elements["table"] == 4
    assert page.text.count(" ".join(HOSTILE.split())) == 6
