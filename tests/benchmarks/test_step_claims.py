"""What whole steps are to reach, from the figures of a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.step_claims import check_step_claims


def row(model: str, tokens: int, milliseconds: float, **more: Any) -> dict[str, Any]:
    sizes = {"model": model, "tokens": tokens, "checkpointing": "off", "master": "float32"}
    return {"case": "train_step", "sizes": sizes, "implementation": "ours", "median_ms": milliseconds} | more


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"rows": rows}))


def test_claims_have_a_figure_and_what_was_predicted(tmp_path: Path) -> None:
    ours = [
        row(
            "R1-7B",
            8192,
            600.0,
            mfu=0.58,
            predicted_mfu=0.6,
            predicted_ms=580.0,
            predicted_gib=100.0,
            peak_memory_gib=101.0,
        ),
        row("R1-8B", 1340, 150.0, predicted_ms=149.0),
    ]
    write(tmp_path, "train_step", ours)
    others = [
        row("R1-7B", 8192, ms, predicted_ms=ms - 5) | {"implementation": name}
        for name, ms in (("A", 660.0), ("B", 590.0))
    ]
    write(tmp_path, "rival_steps", others)
    found = {claim.claim: claim for claim in check_step_claims(tmp_path)}
    mfu = found["R1-7B, 8,192 tokens a step: MFU, at least 0.56"]
    assert (mfu.figure, mfu.predicted, mfu.holds) == (0.58, 0.6, True)
    assert found["R1-7B, 16,384 tokens a step: MFU, at least 0.65"].holds is None
    run = found["R1-8B, 1,875 steps of the published batch: seconds, at most 300.0"]
    assert run.figure == pytest.approx(281.25)
    assert run.holds is True
    best = next(claim for name, claim in found.items() if "fastest other trainer (B, off)" in name)
    assert best.figure == pytest.approx(590 / 600)
    assert best.predicted == pytest.approx(585 / 580)
    assert best.holds is False
    peak = next(claim for name, claim in found.items() if "peak over the plan's" in name and claim.holds is not None)
    assert peak.figure == pytest.approx(1.01)


def test_a_run_without_figures_has_every_claim_and_no_outcome(tmp_path: Path) -> None:
    claims = check_step_claims(tmp_path)
    assert len(claims) == 13
    assert all(claim.holds is None and claim.predicted is None for claim in claims)
