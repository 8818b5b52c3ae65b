"""Laws of restructuring: the same prompts, answers and sentences in every structure, in another order."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from alttrain.engine.errors import DataError
from alttrain.engine.report.model_card import ALTTRAIN
from alttrain.engine.restructure import phrases
from alttrain.engine.restructure.config import BenignConfig, SourceConfig
from alttrain.engine.restructure.structures import (
    ORDER,
    Structure,
    TemplateAssessor,
    Trace,
    restructure,
    split_understanding,
    write_decision,
    write_refusal,
)
from alttrain.engine.restructure.traces import read_ordinary
from alttrain.engine.restructure.wording import built_in
from alttrain.engine.trace.roles import FORM, Message, Row
from alttrain.engine.trace.roles import STRUCTURES as NAMES
from alttrain.engine.trace.rules import Rules
from alttrain.engine.trace.segment import segment
from alttrain.engine.trace.sentences import is_filler, split_sentences

STRUCTURES: tuple[Structure, ...] = get_args(Structure)
STAR_CATEGORIES = (
    "Harassment / Hate / Discrimination",
    "Illicit / Criminal Behavior",
    "Intellectual Property",
    "Misinformation / Disinformation",
    "Privacy / Personal Data",
    "Self-Harm",
    "Sexual / Adult",
    "Violence / Physical Harm",
)

HARMFUL = Trace(
    id="made-1",
    label="harmful",
    categories=("Privacy / Personal Data",),
    messages=(Message("user", "Where does my neighbour keep the key?"),),
    think="Okay.\n\nThe user wants to know where a neighbour keeps a key. That is private. I should not guess.",
    answer="Please ask your neighbour.",
    source="made",
    where="made.jsonl:1",
)
BENIGN = Trace(
    id="made-2",
    label="benign",
    categories=("mathematics",),
    messages=(Message("user", "What is 2 + 2?"),),
    think="We need the sum of two and two.\n\nCounting on from two gives three, then four. So it is 4.",
    answer="4",
    source="made",
    where="made.jsonl:2",
)

# What is asked, and the trace without the sentences that this engine writes.
HARMFUL_THINKING = (
    ("Where is it kept?", "Okay.\n\nThe user wants to know where it is kept. That is private. I should not guess."),
    ("How is it done?", "Hmm, so the user asks how it is done. First, who is asking?\n\n- nobody says\n- it may hurt"),
    ("怎么做？", "用户想知道怎么做。这样做会伤害别人。我不能帮忙。"),
    ("Why not?", "The user asks why not, i.e. for a reason. Dr. Lee would not say. It would harm people."),
)
BENIGN_THINKING = (
    ("What is 2 + 2?", "We need the sum of two and two.\n\nCounting on from two gives three, then four. So it is 4."),
    ("What is n?", "We use\n\\[\nn = 4!.\n\\]\nHere n is 24. Done."),
    ("三加五等于几？", "好的，用户在问加法。三加五是八。"),
    ("Which is it?", "Okay. Let me see. The list has three items:\n1. one\n2. two\n3. three\nIt is the last."),
)


def rows_of(traces: list[Trace], seed: int = 0) -> dict[Structure, list[Row]]:
    assess = TemplateAssessor(seed)
    return {name: [restructure(trace, name, assess, seed) for trace in traces] for name in STRUCTURES}


def text_of(row: Row, role: str) -> str:
    return "".join(span.text for span in row.spans if span.role == role)


@pytest.fixture(scope="module")
def made_traces(tmp_path_factory: pytest.TempPathFactory) -> list[Trace]:
    """Ordinary traces of both labels, written here: English and Chinese, fillers, lists, formulas, every category."""
    folder = tmp_path_factory.mktemp("traces")
    harmful = [
        {
            "prompt": f"{asked} ({category})",
            "response": f"<think>\n{think}\n</think>\n\nI can't help.",
            "category": [category],
        }
        for category in STAR_CATEGORIES
        for asked, think in HARMFUL_THINKING
    ]
    benign = [
        {"prompt": f"{asked} ({number})", "response": f"<think>\n{think}\n</think>\n\n<answer>{number}</answer>"}
        for number in range(12)
        for asked, think in BENIGN_THINKING
    ]
    for name, records in (("harmful", harmful), ("benign", benign)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    tags = {"answer_open": "<answer>", "answer_close": "</answer>"}
    sources = (SourceConfig(f"{folder}/harmful.jsonl"), BenignConfig(f"{folder}/benign.jsonl", **tags))
    return [trace for source in sources for trace in read_ordinary(source).traces]


@pytest.fixture(scope="module")
def real_traces(shared_data: Path) -> list[Trace]:
    train = shared_data / "train"
    harmful = SourceConfig(str(train / "STAR-1.json"), name="STAR-1")
    benign = BenignConfig(
        str(train / "benign_math_think_deepseekchat_460.jsonl"),
        columns="prompt=question",
        answer_open="<answer>",
        answer_close="</answer>",
        category="mathematics",
    )
    return read_ordinary(harmful).traces + read_ordinary(benign).traces


@pytest.fixture(scope="module", params=["made", "real"])
def traces(request: pytest.FixtureRequest) -> list[Trace]:
    return list(request.getfixturevalue(f"{request.param}_traces"))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_each_structure_has_its_roles_in_its_order(structure: Structure) -> None:
    for trace in (HARMFUL, BENIGN):
        row = restructure(trace, structure, TemplateAssessor(), seed=0)
        assert tuple(span.role for span in row.spans) == ORDER[structure]
        assert (row.id, row.label, row.messages, row.source) == (trace.id, trace.label, trace.messages, trace.source)


def test_harmful_trace_stops_at_a_refusal_and_benign_trace_goes_on() -> None:
    harmful = restructure(HARMFUL, "full", TemplateAssessor(), seed=0)
    assert text_of(harmful, "understanding") == "The user wants to know where a neighbour keeps a key."
    assert "private" not in text_of(harmful, "reasoning")
    assert text_of(harmful, "answer") != HARMFUL.answer
    benign = restructure(BENIGN, "full", TemplateAssessor(), seed=0)
    assert text_of(benign, "understanding") == "We need the sum of two and two."
    assert text_of(benign, "reasoning") == "\n\nCounting on from two gives three, then four. So it is 4."
    assert text_of(benign, "answer") == "4"


def test_without_the_conditional_the_whole_trace_stays() -> None:
    row = restructure(HARMFUL, "no-conditional", TemplateAssessor(), seed=0)
    whole = text_of(row, "understanding") + text_of(row, "reasoning")
    assert whole == HARMFUL.think.removeprefix("Okay.\n\n")
    assert text_of(row, "answer") == write_refusal(HARMFUL, seed=0)


def test_structures_share_ids_prompts_answers_and_sentences(traces: list[Trace]) -> None:
    by_structure = rows_of(traces)
    wrong = [
        (structure, full.id)
        for structure, rows in by_structure.items()
        for row, full in zip(rows, by_structure["full"], strict=True)
        if not is_control_of(row, full, structure)
    ]
    assert wrong == []


def is_control_of(row: Row, full: Row, structure: Structure) -> bool:
    """Whether `row` has the prompt and answer of `full`, and no sentence that is not there but the original trace's."""
    if (row.id, row.label, row.messages) != (full.id, full.label, full.messages):
        return False
    if structure in ("assessment-last", "after-answer"):
        # A Chinese sentence has a space before it only where an English one stands there.
        return Counter((s.role, s.text.lstrip(" ")) for s in row.spans) == Counter(
            (s.role, s.text.lstrip(" ")) for s in full.spans
        )
    texts = {span.role: span.text.lstrip() for span in full.spans}
    kept = {span.role: span.text.lstrip() for span in row.spans}
    if structure == "no-conditional" and row.label == "harmful":
        kept["reasoning"] = texts["reasoning"]
    return kept.items() <= texts.items() and kept["answer"] == texts["answer"]


def test_spans_of_rows_are_clean(traces: list[Trace]) -> None:
    wrong = [(structure, row.id) for structure, rows in rows_of(traces).items() for row in rows if not is_clean(row)]
    assert wrong == []


def is_clean(row: Row) -> bool:
    """Whether no span holds a tag or nothing, and no two sentences are glued together."""
    texts = [span.text for span in row.spans]
    return (
        all(text.strip() for text in texts)
        and not any(tag in text for text in texts for tag in ("<think>", "</think>", "<answer>"))
        and not texts[0][0].isspace()
        and all(_stands_apart(span.text) for span in row.spans[1:] if span.role != "answer")
    )


def _stands_apart(text: str) -> bool:
    """Whether a sentence may follow another: after a space, or in Chinese, which has none between two."""
    return text[0].isspace() or "\u4e00" <= text[0] <= "\u9fff"


@pytest.mark.parametrize(
    ("structure", "text"),
    [
        ("full", "用户在问加法。 {assessment} 三加五是八。"),
        ("assessment-last", "用户在问加法。三加五是八。 {assessment}"),
        ("no-assessment", "用户在问加法。三加五是八。"),
        ("no-understanding", "{assessment} 三加五是八。"),
    ],
)
def test_a_space_stands_between_chinese_and_english_and_nowhere_else(structure: Structure, text: str) -> None:
    trace = replace(BENIGN, think="用户在问加法。三加五是八。")
    row = restructure(trace, structure, TemplateAssessor(), seed=0)
    assessment = TemplateAssessor()(trace)
    assert "".join(span.text for span in row.spans[:-1]) == text.format(assessment=assessment)
    chinese = restructure(trace, structure, lambda trace: "这个问题无害。", seed=0)
    assert " " not in "".join(span.text for span in chinese.spans)


def test_what_follows_in_the_source_follows_as_it_does_there() -> None:
    trace = replace(BENIGN, think="用户在问加法。Three and five are eight.")
    row = restructure(trace, "no-assessment", TemplateAssessor(), seed=0)
    assert [span.text for span in row.spans] == ["用户在问加法。", "Three and five are eight.", "4"]


def test_rules_find_in_a_harmful_row_what_was_written_there(traces: list[Trace]) -> None:
    rows = rows_of([trace for trace in traces if trace.label == "harmful"])["full"]
    wrong = [r.id for r in rows if tuple(segment("".join(s.text for s in r.spans[:-1]))[0]) != r.spans[:-1]]
    assert wrong == []


def test_the_understanding_of_a_trace_is_one_sentence(traces: list[Trace]) -> None:
    wrong, longer = [], 0
    for trace in traces:
        understanding, rest = split_understanding(trace)
        if is_filler(understanding) or not trace.think.endswith(understanding + rest):
            wrong.append(trace.id)
        if understanding.count("\\[") > understanding.count("\\]"):
            wrong.append(trace.id)
        longer += len(split_sentences(understanding)) > 1 and "\\[" not in understanding
    assert wrong == []
    assert longer <= 0.02 * len(traces)  # but for those that open a formula


def test_understanding_goes_on_until_its_formula_is_closed() -> None:
    trace = replace(BENIGN, think="We use\n\\[\nn = 4!.\n\\]\nHere n is 24. Done.")
    understanding, rest = split_understanding(trace)
    assert understanding == "We use\n\\[\nn = 4!.\n\\]\nHere n is 24."
    assert rest == " Done."


@pytest.mark.parametrize("think", ["", "Okay.", "Hmm.\n\nAlright."])
def test_trace_that_says_nothing_is_refused(think: str) -> None:
    with pytest.raises(DataError, match=r"made.jsonl:2: the trace has no sentence"):
        restructure(replace(BENIGN, think=think), "full", TemplateAssessor(), seed=0)


def test_trace_of_one_sentence_has_no_reasoning_span() -> None:
    row = restructure(replace(BENIGN, think="Two and two make four."), "full", TemplateAssessor(), seed=0)
    assert [span.role for span in row.spans] == ["understanding", "assessment", "answer"]


def test_another_assessor_may_judge_and_must_say_something() -> None:
    row = restructure(BENIGN, "full", lambda trace: f"I find {trace.label} what is asked.\n", seed=0)
    assert text_of(row, "assessment") == " I find benign what is asked."
    with pytest.raises(DataError, match=r"made.jsonl:2: the assessor returned an empty text"):
        restructure(BENIGN, "full", lambda trace: " ", seed=0)


@pytest.mark.parametrize("category", [*STAR_CATEGORIES, "no such category"])
def test_every_assessment_is_one_sentence_with_a_verdict(category: str) -> None:
    for label, topic, frames in (
        ("harmful", built_in().topic("harmful", (category,)), phrases.HARMFUL_FRAMES),
        ("benign", built_in().topic("benign", (category,)), phrases.BENIGN_FRAMES),
    ):
        sentences = [f.format(kind=kind, reason=why) for f in frames for kind in topic.kinds for why in topic.reasons]
        assert len(set(sentences)) == len(sentences) >= 40, label
        for sentence in sentences:
            assert (found := Rules.default().label(sentence)).label == "assessment", sentence
            assert found.verdict == label, sentence
            assert len(split_sentences(sentence)) == 1, sentence
            assert sentence[0].isupper(), sentence
            assert sentence.endswith("."), sentence


def test_every_category_of_star1_has_phrases_of_its_own() -> None:
    topics = {category: built_in().topic("harmful", (category,)) for category in STAR_CATEGORIES}
    assert len(set(topics.values())) == len(STAR_CATEGORIES)
    assert built_in().topic("harmful", ("no such category",)) not in topics.values()
    # Care comes first, in whatever order a row names its categories.
    assert built_in().topic("harmful", ("Illicit / Criminal Behavior", "Self-Harm")) == topics["Self-Harm"]
    assert all("crisis line" in offer for offer in topics["Self-Harm"].offers)


@pytest.mark.parametrize("category", STAR_CATEGORIES)
def test_decisions_and_refusals_pass_no_judgement(category: str) -> None:
    rules = Rules.default()
    for number in range(60):
        trace = replace(HARMFUL, id=f"made-{number}", categories=(category,))
        decision, refusal = write_decision(trace, seed=0), write_refusal(trace, seed=0)
        assert rules.label(decision).label == "refusal", decision
        assert all(rules.label(text).label != "assessment" for text in rules.split(refusal)), refusal


def test_sentences_vary_over_real_rows(real_traces: list[Trace]) -> None:
    full = rows_of(real_traces)["full"]
    harmful = [row for row in full if row.label == "harmful"]
    benign = [row for row in full if row.label == "benign"][:100]
    assert len({text_of(row, "assessment") for row in harmful}) > 0.5 * len(harmful)
    assert len({text_of(row, "assessment") for row in benign}) > 0.5 * len(benign)
    assert len({text_of(row, "reasoning") for row in harmful}) > 50
    assert len({text_of(row, "answer") for row in harmful}) > 80


def test_sentences_depend_on_seed_and_id_alone() -> None:
    assert rows_of([HARMFUL, BENIGN]) == rows_of([HARMFUL, BENIGN])
    assert rows_of([HARMFUL], seed=1) != rows_of([HARMFUL], seed=0)
    alone, among_others = rows_of([BENIGN])["full"][0], rows_of([HARMFUL, BENIGN])["full"][1]
    assert alone == among_others


def test_a_row_names_its_structure_and_every_name_can_be_read() -> None:
    assert tuple(ORDER) == NAMES
    assert FORM.join(ORDER["full"]) == ALTTRAIN
