import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLOT = Path(__file__).resolve().parents[2] / "benchmarks" / "plot.py"


def row(name: str, milliseconds: float, **sizes: Any) -> dict[str, Any]:
    band = {"median_ms": milliseconds, "low_ms": 0.9 * milliseconds, "high_ms": 1.2 * milliseconds}
    return {"case": "anything at all", "sizes": sizes, "implementation": name, **band}


@pytest.mark.parametrize("format", ["svg", "png"])
def test_bars_lines_and_memory_are_drawn_from_the_json_alone(tmp_path: Path, format: str) -> None:
    rows = [row(name, 1.0 + n, n=n, width=7) for name in ("ours", "theirs") for n in (1, 2, 3)]
    rows.append({"case": "memory", "sizes": {"n": 1}, "implementation": "ours", "added_gib": 0.5})
    source = tmp_path / "some.json"
    source.write_text(json.dumps({"environment": {"gpu": "a GPU"}, "dry_run": True, "rows": rows}))
    command = [sys.executable, str(PLOT), str(source), "--out", str(tmp_path / "plots"), "--format", format]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    names = {"some-anything-at-all", "some-anything-at-all-by-n", "some-memory"}
    assert drawn.keys() == {f"{name}.{format}" for name in names}
    assert all(len(content) > 1000 for content in drawn.values())
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert drawn == {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}


def test_only_the_sizes_that_tell_rows_apart_become_labels() -> None:
    from plot import distinguishing

    rows = [
        row("ours", 1.0, model=model, width=width, dtype="bf16", n=n)
        for model, width in (("a", 1), ("b", 2))
        for n in (4, 8)
    ]
    assert distinguishing(rows) == ["model", "n"]
