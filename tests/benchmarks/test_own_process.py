"""A process of its own: rows as they come, and an end that is not its end is an error."""

import os
import time
from typing import Any

import pytest

from harness.own_process import Send, rows_of


def two(send: Send, value: int) -> None:
    send({"value": value})
    send({"value": value + 1})


def dies_after_one(send: Send) -> None:
    send({"value": 1})
    os._exit(3)


def sleeps(_: Send) -> None:
    time.sleep(60)


def test_rows_come_one_by_one_and_what_dies_or_hangs_is_an_error() -> None:
    assert list(rows_of(two, 4, name="two", most_seconds=60.0)) == [{"value": 4}, {"value": 5}]
    found: list[dict[str, Any]] = []
    with pytest.raises(RuntimeError, match="one: its process ended early"):
        found += rows_of(dies_after_one, name="one", most_seconds=60.0)
    with pytest.raises(RuntimeError, match=r"slow: no figure within 0 s\."):
        list(rows_of(sleeps, name="slow", most_seconds=0.2))
