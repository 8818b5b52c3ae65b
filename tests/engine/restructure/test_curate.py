"""Which traces stay, and with which reason the others go."""

from dataclasses import replace

from alttrain.engine.restructure.curate import choose, curate
from alttrain.engine.restructure.structures import Trace
from alttrain.engine.trace.roles import Message

BENIGN = Trace(
    "made-2", "benign", (), (Message("user", "What is 2 + 2?"),), "Two and two.", "4", "made", "made.jsonl:2"
)
OTHER = replace(BENIGN, id="made-1", messages=(Message("user", "What is 2 + 3?"),), where="made.jsonl:1")


def test_curate_drops_duplicates_and_avoided_prompts() -> None:
    again = replace(BENIGN, id="made-3", where="made.jsonl:3")
    kept, dropped = curate([OTHER, BENIGN, again], {"a.csv": {"what is 2 + 2"}, "b.csv": {"what is 2 + 2"}})
    assert kept == [OTHER]
    assert [(one.where, one.label, one.avoided_in) for one in dropped] == [
        ("made.jsonl:2", "benign", "a.csv"),
        ("made.jsonl:3", "benign", ""),
    ]
    assert dropped[1].reason == "its prompt has come before"


def test_a_prompt_with_both_labels_is_kept_with_neither() -> None:
    harmful = replace(BENIGN, id="bad-1", label="harmful", messages=(Message("user", "what is  2 + 2"),), where="bad:1")
    again = replace(harmful, id="bad-2", where="bad:2")
    kept, dropped = curate([harmful, again, OTHER, BENIGN], {"a.csv": {"what is 2 + 2"}})
    assert kept == [OTHER]
    assert [(one.where, one.label) for one in dropped] == [
        ("bad:1", "harmful"), ("bad:2", "harmful"), ("made.jsonl:2", "benign"),
    ]  # fmt: skip
    assert {one.reason for one in dropped} == {"its prompt stands among the harmful and among the benign rows"}


def test_prompts_are_compared_turn_by_turn() -> None:
    system = Message("system", "Be kind.")
    others = [
        replace(BENIGN, messages=messages)
        for messages in (
            (system, *BENIGN.messages),
            (Message("system", "Be brief."), *BENIGN.messages),
            (Message("user", "Be kind."), Message("assistant", "Yes."), *BENIGN.messages),
            (Message("user", "Sum up.\n\n2, 3"),),
            (Message("user", "Sum up.\n\n4, 5"),),
        )
    ]
    assert curate([BENIGN, *others], {}) == ([BENIGN, *others], [])
    kept, dropped = curate(others, {"a.csv": {"what is 2 + 2", "be kind"}})
    assert kept == others[3:]
    assert len(dropped) == 3


def test_a_smaller_choice_is_the_beginning_of_a_larger_one() -> None:
    traces = [replace(BENIGN, id=f"made-{number}") for number in range(20)]
    chosen = choose(traces, 12, seed=3)
    assert choose(traces[::-1], 5, seed=3) == chosen[:5]
    assert choose(traces, 99, seed=3)[:12] == chosen
    assert choose(traces, 12, seed=4) != chosen
    assert chosen != traces[:12]


def test_prompts_whose_earlier_turns_call_other_tools_differ() -> None:
    traces = [
        replace(BENIGN, messages=(Message("assistant", "", {"tool_calls": [name]}), *BENIGN.messages))
        for name in ("a", "b", "a")
    ]
    kept, dropped = curate(traces, {})
    assert (kept, len(dropped)) == (traces[:2], 1)
