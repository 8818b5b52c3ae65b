"""The claims about the kernels' speed and memory, checked against the JSON of a run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]
MEMORY_BOUND = ("weighted_cross_entropy", "adamw", "rms_norm", "swiglu", "rope")


class Claim(NamedTuple):
    """A claim; `holds` is None where the run has no figure for it, `predicted` where nothing was predicted."""

    claim: str
    figure: float | None
    holds: bool | None
    predicted: float | None = None


def check_claims(folder: Path) -> list[Claim]:
    """Return every claim with its figure from the JSON files of `folder`."""
    loss = read_rows(folder, "linear_cross_entropy")
    ours = _find(loss, "ours")
    one = _find(loss, "ours", weights="one")
    memory = _find(loss, "ours", case="linear_cross_entropy, memory")
    liger, liger_in_our_memory = (_find(loss, f"liger, sum{how}", weights="one") for how in ("", ", our memory"))
    claims = [
        _ratio("loss over its three products, at most", ours, _find(loss, "products"), most=1.15),
        _ratio("loss over the same products in chunks, at most", ours, _find(loss, "products, chunked"), most=1.10),
        _ratio("Liger over ours, at least", liger, one, least=2.0),
        _ratio("Liger in our memory over ours, at least", liger_in_our_memory, one, least=2.0),
        _ratio("Liger by token over ours, at least", _find(loss, "liger, by token"), ours, least=1.0),
        _ratio("Liger scaled over ours, at least", _find(loss, "liger, scaled"), ours, least=1.0),
        _ratio("TRL's head over ours, at least", _find(loss, "trl"), ours, least=1.0),
        bounded("GiB of the loss's forward beyond gradients and fp32 dW, at most", memory.get("forward_gib"), most=1.5),
    ]
    for share in (0.3, 0.6, 0.9):
        claims.append(_proportion(share, _find(loss, "ours, rows given", weightless=share), ours))
    for name in MEMORY_BOUND:
        for row in _first_sizes(read_rows(folder, name)):
            claim = f"{row['case']}, {row['implementation']}: share of the memory's limit, at least"
            claims.append(bounded(claim, row.get("share_of_limit"), least=0.9))
    return claims


def read_rows(folder: Path, name: str) -> list[Row]:
    """Return the rows of a benchmark's JSON; none where it did not run."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []


def _find(
    rows: list[Row], name: str, case: str = "linear_cross_entropy", weights: str = "drawn", weightless: float = 0.0
) -> Row:
    """Return the first row with these values, which has the headline size; an empty row where there is none."""
    wanted = (case, name, weights, weightless)
    return next(
        (
            row
            for row in rows
            if (row["case"], row["implementation"], row["sizes"]["weights"], row["sizes"]["weightless"]) == wanted
        ),
        {},
    )


def _first_sizes(rows: list[Row]) -> Iterator[Row]:
    """Yield the rows of our implementations at the first size of each case."""
    seen = set()
    for row in rows:
        key = (row["case"], row["implementation"])
        if row["implementation"].startswith("ours") and "median_ms" in row and key not in seen:
            seen.add(key)
            yield row


def _ratio(claim: str, above: Row, below: Row, **limit: float) -> Claim:
    return bounded(claim, above["median_ms"] / below["median_ms"] if above and below else None, **limit)


def _proportion(share: float, part: Row, whole: Row) -> Claim:
    """Return the claim that time falls with the share of rows, within 1.25: dW's (V, H) traffic does not fall."""
    claim = f"time over time of all rows, over the share of rows, {share:.0%} weightless: at most"
    if not part or not whole:
        return Claim(claim, None, None)
    of_rows = part["sizes"]["rows"] / whole["sizes"]["rows"]
    return bounded(claim, part["median_ms"] / whole["median_ms"] / of_rows, most=1.25)


def bounded(
    claim: str,
    figure: float | None,
    *,
    least: float = float("-inf"),
    most: float = float("inf"),
    predicted: float | None = None,
) -> Claim:
    """Return the claim that a figure is at least, or at most, so much."""
    limit = most if least == float("-inf") else least
    holds = None if figure is None else least <= figure <= most
    return Claim(f"{claim} {limit}", figure, holds, predicted)
