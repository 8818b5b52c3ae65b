"""Rows for whole runs: their tests start torchrun, so that one process holds one engine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., Path]:
    """Return a function that writes rows of very unequal lengths in the native format."""
    return _write_rows


def _write_rows(file: Path, count: int = 12) -> Path:
    rows: list[dict[str, Any]] = []
    for index in range(count):
        spans = [
            {"role": "understanding", "text": f"The user asks about thing {index}."},
            {"role": "assessment", "text": " It is harmless." if index % 3 else " It is harmful, as it hurts people."},
            {"role": "reasoning", "text": " So we go on." * (1 + (index * 7) % 11)},
            {"role": "answer", "text": "Here it is. " * (1 + index % 4)},
        ]
        rows.append({"id": f"row-{index}", "label": "", "prompt": f"thing {index}?", "spans": spans, "source": "test"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file
