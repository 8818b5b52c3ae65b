"""Roles and rows: every role that a row may name is one that a token may have, and texts stay out of the repr."""

from alttrain.engine.trace.roles import ROLES, SPAN_ROLES, Message, Row, Span


def test_every_role_of_a_row_is_a_role_and_stands_once() -> None:
    assert set(SPAN_ROLES) < set(ROLES)
    assert len(set(ROLES)) == len(ROLES)


def test_the_texts_of_a_row_stay_out_of_its_repr() -> None:
    row = Row("a", "harmful", (Message("user", "a secret"),), (Span("answer", "a secret"),), "hand", "f.jsonl:7")
    assert "secret" not in repr(row)
    assert "f.jsonl:7" in repr(row)
