"""A part that tells the label is found and named, one that does not is not, and each row is judged by others alone."""

import random

import pytest

from alttrain.engine.restructure import leaks
from alttrain.engine.restructure.leaks import FEWEST_ROWS, PARTS, SOURCE, WAYS_OUT, Leak, find_leaks
from alttrain.engine.trace.roles import Message, Row, Span

NOUNS = ["river", "ledger", "engine", "poem", "garden", "castle", "window", "sonata", "recipe", "market"]
OPENINGS = ["So the person wants", "The question asks for", "What is needed here is"]


def make_rows(count: int = 60, **changes: dict[str, str]) -> list[Row]:
    """Return as many rows of each label; nothing tells it, but for what `changes` puts into a part by label."""
    draw = random.Random(7)
    rows = []
    for number in range(2 * count):
        label = "harmful" if number % 2 else "benign"
        made = {
            "prompt": f"Tell me about a {draw.choice(NOUNS)} and a {draw.choice(NOUNS)}.",
            "understanding": f"{draw.choice(OPENINGS)} a {draw.choice(NOUNS)}.",
            "assessment": f"In my view this request is {label}.",
            "source": draw.choice(["one", "two"]),
        }
        made |= {part: by_label[label] for part, by_label in changes.items()}
        spans = tuple(Span(role, made[role]) for role in ("understanding", "assessment") if made[role])
        rows.append(Row(str(number), label, (Message("user", made["prompt"]),), spans, made["source"], "made"))
    return rows


def measured(rows: list[Row]) -> dict[str, float]:
    return {leak.part: leak.balanced_accuracy for leak in find_leaks(rows, seed=0)}


def test_rows_that_differ_in_nothing_but_the_verdict_leak_nothing() -> None:
    found = measured(make_rows())
    assert set(found) == set(PARTS)
    assert all(accuracy < 0.7 for accuracy in found.values()), found
    assert not any(leak.warning for leak in find_leaks(make_rows(), seed=0))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"prompt": {"harmful": "How do I do it?", "benign": "What is 3 + 4?"}},
            set(list(PARTS)[:2]),
        ),
        (
            {"understanding": {"harmful": "Okay, so the user asks.", "benign": "We need to find it."}},
            set(list(PARTS)[2:5]),
        ),
        ({"assessment": {"harmful": "No, it is harmful.", "benign": "Well, it is benign."}}, {list(PARTS)[5]}),
        ({"source": {"harmful": "one", "benign": "two"}}, {SOURCE}),
    ],
)
def test_what_tells_the_label_is_found(changes: dict[str, dict[str, str]], parts: set[str]) -> None:
    found = measured(make_rows(**changes))
    assert {part for part, accuracy in found.items() if accuracy > 0.9} == parts
    warned = {leak.part for leak in find_leaks(make_rows(**changes), seed=0) if leak.warning}
    assert warned == parts - {SOURCE}


def test_length_alone_is_found() -> None:
    long = " ".join(NOUNS)
    rows = [
        row if row.label == "benign" else Row(
            row.id, row.label, row.messages, (Span("understanding", f"{row.spans[0].text[:-1]} {long}."), row.spans[1]),
            row.source, row.where,
        )
        for row in make_rows()
    ]  # fmt: skip
    assert measured(rows)["length and marks of the understanding"] > 0.9


def test_a_text_that_only_its_own_row_has_tells_nothing() -> None:
    """A classifier that had seen the row would know it by its number."""
    rows = [
        Row(row.id, row.label, (Message("user", f"Number {row.id}x."),), row.spans, row.source, row.where)
        for row in make_rows()
    ]
    assert measured(rows)["the words of the prompt"] < 0.7


def test_a_part_that_no_row_has_is_left_out() -> None:
    found = measured(make_rows(understanding={"harmful": "", "benign": ""}))
    assert not any("understanding" in part for part in found)
    assert "the words of the prompt" in found


def test_too_few_rows_of_a_label_say_nothing() -> None:
    rows = make_rows()
    few = [row for row in rows if row.label == "benign"] + [row for row in rows if row.label == "harmful"][
        : FEWEST_ROWS - 1
    ]
    assert find_leaks(few, seed=0) == []
    assert find_leaks([row for row in rows if row.label == "benign"], seed=0) == []


def test_many_rows_are_sampled_and_the_numbers_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "MOST_ROWS", 80)
    rows = make_rows(prompt={"harmful": "How do I do it?", "benign": "What is 3 + 4?"})
    assert find_leaks(rows, seed=3) == find_leaks(rows, seed=3)
    assert measured(rows)["the words of the prompt"] == 1.0


def test_scripts_without_spaces_have_words() -> None:
    found = measured(make_rows(prompt={"harmful": "我怎样做这件坏事呢", "benign": "请问这条河有多长"}))
    assert found["the words of the prompt"] == 1.0


def test_every_part_of_a_text_has_a_way_out() -> None:
    assert set(WAYS_OUT) == set(PARTS) - {SOURCE}
    for part in WAYS_OUT:
        assert Leak(part, 0.97).warning.startswith(f"{part[0].upper()}{part[1:]} alone tell 97% of the labels: ")
        assert Leak(part, 0.89).warning == ""
