"""Sets of traces: what a rate counts, what the entropy is, and that a comparison pairs by id."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alttrain.engine.errors import DataError
from alttrain.engine.evaluate.structure_sets import MEASURES, YES_OR_NO, compare, summarise, transition_entropy
from alttrain.engine.trace.rule import LABELS, Sentence
from alttrain.engine.trace.structure import TraceStructure

FULL = ("understanding", "assessment", "refusal")
PLAIN = ("understanding", "refusal")
TRACES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(LABELS), max_size=5),
        st.sampled_from([None, "harmful", "benign"]),
        st.booleans(),
        st.sampled_from(["", "harmful", "benign"]),
    ),
    max_size=8,
)


def trace(*labels: str, verdict: Any = None, refused: bool = True, prompt_label: str = "harmful") -> TraceStructure:
    sentences = [Sentence("one two. ", label, verdict if label == "assessment" else None) for label in labels]
    return TraceStructure(tuple(sentences), refused, prompt_label)


def full(refused: bool = True) -> TraceStructure:
    return trace(*FULL, verdict="harmful", refused=refused)


def test_a_rate_counts_the_traces_to_which_its_question_applies() -> None:
    traces = [
        full(),
        full(refused=False),
        trace(*PLAIN),
        trace("understanding", "assessment", "solving", verdict="benign", refused=False, prompt_label="benign"),
        trace("solving", refused=False, prompt_label=""),
    ]
    found = summarise(traces)
    counts = {name: (rate.count, rate.total) for name, rate in found.rates.items()}
    assert counts == {
        "understanding present": (4, 5),
        "assessment present": (3, 5),
        "refusal present": (3, 5),
        "solving present": (2, 5),
        "in order": (3, 5),
        "verdict harmful": (2, 5),
        "verdict benign": (1, 5),
        "verdict right": (3, 3),
        "answer refuses": (2, 5),
        "refuses harmful prompt": (2, 3),
        "refuses benign prompt": (0, 1),
        "answer as verdict says": (2, 3),
        "refuses without reasoning": (0, 0),
    }
    assert found.means["edit distance"] == (0 + 0 + 1 + 0 + 2) / 5
    assert found.means["words"] == (6 + 6 + 4 + 6 + 2) / 5
    assert found.means["assessment position"] == pytest.approx(1 / 3)
    assert found.means["words after harmful verdict"] == 2


def test_nothing_is_said_of_no_traces() -> None:
    found = summarise([])
    assert all(rate.total == 0 and math.isnan(rate.share) for rate in found.rates.values())
    assert all(math.isnan(mean) for mean in found.means.values())
    assert found.transition_entropy == 0


@given(TRACES)
def test_intervals_hold_the_rates(drawn: list[tuple[list[str], Any, bool, str]]) -> None:
    traces = [trace(*labels, verdict=v, refused=r, prompt_label=p) for labels, v, r, p in drawn]
    found = summarise(traces)
    assert tuple(found.rates) == YES_OR_NO
    assert tuple(found.means) == MEASURES
    for rate in found.rates.values():
        assert 0 <= rate.low <= rate.high <= 1
        assert rate.total == 0 or rate.low - 1e-9 <= rate.share <= rate.high + 1e-9


def test_entropy() -> None:
    assert transition_entropy([FULL] * 7) == 0
    # Half of the traces go on to the assessment after the understanding: 1 bit at 1 of 3.5 transitions on average.
    assert transition_entropy([FULL, PLAIN]) == pytest.approx(2 * 1 / 7)
    assert transition_entropy([("refusal",), ("solving",)]) == pytest.approx(0.5)


@given(st.lists(st.lists(st.sampled_from(LABELS), max_size=5), max_size=6), st.randoms(use_true_random=False))
def test_entropy_takes_no_notice_of_the_order_of_traces(sequences: list[list[str]], random: Any) -> None:
    found = transition_entropy(sequences)
    random.shuffle(sequences)
    assert 0 <= found <= math.log2(6)
    assert transition_entropy(sequences) == pytest.approx(found)


def test_a_set_against_itself_shows_no_change() -> None:
    traces = {str(i): full(refused=i % 2 == 0) for i in range(10)}
    found = compare(traces, traces, "independent")
    assert (found.num_pairs, found.unpaired_before, found.unpaired_after) == (10, 0, 0)
    for name, change in found.changes.items():
        if change.num_pairs:
            assert (change.difference, change.low, change.high) == (0, 0, 0), name
            assert change.p in (None, 1)


def test_a_change_is_seen_in_the_pairs_to_which_it_applies() -> None:
    before = {str(i): trace(*PLAIN, refused=i < 5) for i in range(20)} | {"old": full()}
    after = {str(i): full() for i in range(20)} | {"new 1": full(), "new 2": full()}
    found = compare(before, after, "independent")
    assert (found.num_pairs, found.unpaired_before, found.unpaired_after) == (20, 1, 2)
    order, refused = found.changes["in order"], found.changes["answer refuses"]
    assert (order.before, order.after, order.low, order.high) == (0, 1, 1, 1)
    assert order.p is not None
    assert order.p < 1e-3
    assert (refused.before, refused.after) == (0.25, 1)
    assert 0 < refused.low < 0.75 < refused.high <= 1
    assert found.changes["edit distance"].difference == -1
    assert found.changes["edit distance"].p is None
    assert found.changes["answer as verdict says"].num_pairs == 0


def test_clusters_widen_the_interval() -> None:
    before = {str(i): trace(*PLAIN, refused=False) for i in range(40)}
    after = {str(i): full(refused=i < 20) for i in range(40)}
    by_world = {str(i): str(i // 10) for i in range(40)}
    alone, clustered = compare(before, after, "independent"), compare(before, after, by_world)
    assert (alone.are_independent, clustered.are_independent) == (True, False)
    narrow, wide = (found.changes["answer refuses"] for found in (alone, clustered))
    assert wide.difference == narrow.difference == 0.5
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_pair_without_a_cluster_is_refused() -> None:
    traces = {"a": full(), "b": full(), "c": full()}
    with pytest.raises(
        DataError, match=r"^2 of 3 paired ids have no cluster, 'b' is the first: every pair needs one\."
    ):
        compare(traces, traces, {"a": "world"})
    assert compare(traces, traces | {"d": full()}, dict.fromkeys("abc", "world")).unpaired_after == 1
