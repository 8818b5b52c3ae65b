"""The card of a built data set: what it states, and that no name or reason can break its tables."""

import re
import runpy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from alttrain.engine.data.labels import Verdict
from alttrain.engine.restructure.card import Compared, DataFacts, Lengths, Taken, data_card, summary
from alttrain.engine.restructure.config import BenignConfig, SourceConfig
from alttrain.engine.restructure.leaks import Leak
from alttrain.engine.restructure.traces import Dropped, Ordinary

Reader = runpy.run_path(str(Path(__file__).parents[2] / "html_reader.py"))["Reader"]
HOSTILE = "<script>alert(1)</script> & |\n| `<b>`"
IN_CELL = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \\| \\| \\`&lt;b&gt;\\`"
HARMFUL = Ordinary(SourceConfig("data/star.json", licence="CC0"), "harmful", "ab12", [], [])
LABELS: Counter[Verdict] = Counter({"benign": 3, "harmful": 2, "not understood": 1})
BENIGN = Ordinary(
    BenignConfig("data/maths.jsonl", name="maths"),
    "benign",
    "cd34",
    [],
    [],
    LABELS,
    ("label", "is_safe"),
    ("0", "'odd'"),
)
FACTS = DataFacts(
    file="train.jsonl",
    sha256="ef56",
    structure="full",
    order=("understanding", "assessment", "reasoning", "answer"),
    seed=3,
    sources=[Taken(HARMFUL, 5, 2, 2), Taken(BENIGN, 1, 1, 4)],
    dropped=[Dropped("star.json:4", "star", "harmful", "its prompt stands in held_out.csv", "held_out.csv")],
    avoid=[Compared("held_out.csv", "0a0b", 12, 5)],
    lengths=Lengths("tokens", [Counter(prompt=10, answer=20), Counter(prompt=4, answer=2), Counter(prompt=6)]),
)


def hostile_facts() -> DataFacts:
    """Return facts in which every name, licence and reason is hostile."""
    config = BenignConfig(f"data/{HOSTILE.replace('/', '')}", name=HOSTILE, licence=HOSTILE)
    return replace(
        FACTS,
        file=HOSTILE,
        sources=[Taken(replace(BENIGN, config=config), 1, 1, 1)],
        dropped=[Dropped("where", HOSTILE, "benign", HOSTILE, HOSTILE)],
        avoid=[Compared(HOSTILE, "0a0b", 12, 5)],
        wording=(HOSTILE, "c0de"),
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
    assert "| file | sha256 | cells compared | left aside | rows |" in card
    assert "| held_out.csv | 0a0b | 12 | 5 | 1 |" in card
    assert "- Labels of star (harmful): 0 rows, none has one; the flag alone says that they are harmful.\n" in card
    assert (
        "- Labels of maths (benign), in label, is_safe: 2 harmful, 3 benign, 1 not understood (0, 'odd'), 0 none; the "
        "last two are taken as benign, and --benign.where chooses among them. is_safe may speak of the response, as "
        "BeaverTails' is_safe does; name the prompt's own with --benign.columns label=NAME.\n"
    ) in card
    assert "The templates are the built-in ones of `engine/restructure/phrases.py`." in card
    assert (
        "| role | rows | tokens | tokens / all rows |\n"
        "| --- | --- | --- | --- |\n"
        "| prompt | 3 | 20 | 6.7 |\n"
        "| answer | 2 | 22 | 7.3 |\n"
        "| all | 3 | 42 | 14.0 |\n\n"
        "The longest row has 30 tokens."
    ) in card


def test_nothing_left_out_is_said() -> None:
    card = data_card(replace(FACTS, dropped=[], avoid=[]))
    assert "## Left out\n\nNothing was left out.\n\n## Lengths" in card


def test_the_summary_has_the_same_numbers() -> None:
    assert summary(FACTS).splitlines() == [
        "train.jsonl: 3 rows (2 harmful of 5, 1 benign of 1), structure full; "
        "tokens a row: 14.0 on average, 30 at most.",
        "Of 4 benign rows asked for, 1 remain: all are taken.",
        "Labels of star (harmful): 0 rows, none has one; the flag alone says that they are harmful.",
        "Labels of maths (benign), in label, is_safe: 2 harmful, 3 benign, 1 not understood (0, 'odd'), 0 none; the "
        "last two are taken as benign, and --benign.where chooses among them. is_safe may speak of the response, as "
        "BeaverTails' is_safe does; name the prompt's own with --benign.columns label=NAME.",
        "Compared with held_out.csv: 12 cells (5 short ones in columns of labels left aside).",
        "Left out: 1 of star: its prompt stands in held_out.csv",
    ]


def test_a_label_that_the_user_has_named_is_the_prompts_and_unclear_ones_are_counted() -> None:
    config = BenignConfig("data/maths.jsonl", columns="label=is_safe")
    labels: Counter[Verdict] = Counter({"benign": 3, "unclear": 2})
    source = replace(
        BENIGN, config=config, labels=labels, label_columns=("is_safe",), unknown_labels=(), unclear_labels=("0.7",)
    )
    lines = summary(replace(FACTS, sources=[Taken(source, 1, 1, 1)])).splitlines()
    assert next(line for line in lines if "is_safe" in line) == (
        "Labels of maths (benign), in is_safe: 0 harmful, 3 benign, 2 unclear and left out (0.7), 0 not "
        "understood, 0 none."
    )


def test_the_card_names_the_file_of_phrases() -> None:
    card = data_card(replace(FACTS, wording=("mine.json", "c0de")))
    assert "The templates are those of the file mine.json, sha256 `c0de`." in card


def test_a_source_of_both_labels_is_told_apart_by_them() -> None:
    both = Ordinary(BenignConfig("data/star.json"), "benign", "ab12", [], [])
    dropped = [Dropped("star.json:4", "star", label, "no use") for label in ("harmful", "benign", "benign")]
    facts = replace(FACTS, sources=[Taken(HARMFUL, 5, 2, 2), Taken(both, 1, 1, 1)], dropped=dropped)
    assert facts.reasons == [("star (benign)", "no use", 2), ("star (harmful)", "no use", 1)]


def test_the_same_facts_give_the_same_text() -> None:
    assert data_card(FACTS) == data_card(FACTS)


def test_names_and_reasons_stay_in_their_cells() -> None:
    card = data_card(hostile_facts())
    assert card.startswith(f"# {IN_CELL}\n\n")
    assert f"| {IN_CELL} | benign | {IN_CELL} | {IN_CELL.replace('/', '')} | cd34 | 0 | 1 | 1 |" in card
    assert f"| {IN_CELL} | {IN_CELL} | 1 |" in card
    assert f"| {IN_CELL} | 0a0b | 12 | 5 | 1 |" in card
    assert "<" not in card
    for table in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_a_reader_of_markdown_sees_names_and_no_markup() -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    page, plain = (Reader(markdown.render(data_card(facts))) for facts in (hostile_facts(), FACTS))
    assert page.elements.keys() == plain.elements.keys()
    assert page.elements["table"] == 4
    assert page.text.count(" ".join(HOSTILE.split())) == 8


def test_what_tells_the_label_by_itself_stands_in_card_and_summary() -> None:
    assert "Not measured: it takes 20 rows of each label." in data_card(FACTS)
    facts = replace(
        FACTS, leaks=[Leak("the words of the prompt", 0.71), Leak("the first words of the assessment", 0.96)]
    )
    card = data_card(facts)
    assert "| the words of the prompt | 0.71 |" in card
    warning = "The first words of the assessment alone tell 96% of the labels: "
    assert card.count(warning) == 1
    assert "The words of the prompt alone tell" not in card
    assert [line for line in summary(facts).splitlines() if line.startswith("Warning: ")] == [
        f"Warning: {facts.leaks[1].warning}"
    ]
