"""What whole steps are to reach, checked against a run's JSON, beside what the engine's model of time predicts."""

from pathlib import Path

from harness.claims import Claim, Row, bounded, read_rows
from harness.shapes import HEADLINE_TOKENS, PUBLISHED_TOKENS

# Model, tokens a step, and the least MFU: the lower end of what was forecast, where the products reach 650 TFLOP/s, but
# at 16,384 tokens the forecast itself.
LEAST_MFU = (
    ("R1-7B", HEADLINE_TOKENS, 0.56),
    ("R1-7B", 2 * HEADLINE_TOKENS, 0.65),
    ("R1-8B", HEADLINE_TOKENS, 0.55),
)
# The published run: the 8B, 1,000 examples in batches of 8 for 15 epochs.
PUBLISHED_STEPS, PUBLISHED_SECONDS = 1875, 300.0
MODELS = ("R1-7B", "R1-8B", "R1-1.5B")
SIZES = (HEADLINE_TOKENS, 2 * HEADLINE_TOKENS, PUBLISHED_TOKENS)


def check_step_claims(folder: Path) -> list[Claim]:
    """Return every claim about whole steps with its figure from the JSON files of `folder`."""
    ours, rivals = read_rows(folder, "train_step"), read_rows(folder, "rival_steps")
    claims = []
    for model, tokens, least in LEAST_MFU:
        row = _ours(ours, model, tokens)
        claim = f"{model}, {tokens:,} tokens a step: MFU, at least"
        claims.append(bounded(claim, row.get("mfu"), least=least, predicted=row.get("predicted_mfu")))
    row = _ours(ours, "R1-8B", PUBLISHED_TOKENS)
    seconds, predicted = (
        None if row.get(name) is None else row[name] * 1e-3 * PUBLISHED_STEPS for name in ("median_ms", "predicted_ms")
    )
    claim = f"R1-8B, {PUBLISHED_STEPS:,} steps of the published batch: seconds, at most"
    claims.append(bounded(claim, seconds, most=PUBLISHED_SECONDS, predicted=predicted))
    for model in MODELS:
        claims += [_against_the_best(ours, rivals, model, tokens) for tokens in SIZES]
    return [*claims, *(_memory(row) for row in ours if row["sizes"].get("model") in MODELS)]


def _ours(rows: list[Row], model: str, tokens: int) -> Row:
    """Return our row with 10 bytes a parameter, the default; an empty one where there is none."""
    wanted = {"model": model, "tokens": tokens, "master": "float32"}
    return next((row for row in rows if wanted.items() <= row["sizes"].items()), {})


def _against_the_best(ours: list[Row], rivals: list[Row], model: str, tokens: int) -> Claim:
    """Return the claim that no other trainer of that model takes less time, in whatever setting it ran."""
    row = _ours(ours, model, tokens)
    others = [each for each in rivals if (each["sizes"]["model"], each["sizes"]["tokens"]) == (model, tokens)]
    figures = {}
    for name in ("median_ms", "predicted_ms"):
        least = min((each[name] for each in others if each.get(name)), default=None)
        figures[name] = least / row[name] if least and row.get(name) else None
    best = min(others, key=lambda each: float(each["median_ms"]), default=None)
    who = f" ({best['implementation']}, {best['sizes']['checkpointing']})" if best else ""
    claim = f"{model}, {tokens:,} tokens a step: time of the fastest other trainer{who} over ours, at least"
    return bounded(claim, figures["median_ms"], least=1.0, predicted=figures["predicted_ms"])


def _memory(row: Row) -> Claim:
    """Return the claim that a peak is within 3% of what the plan says."""
    sizes, predicted = row["sizes"], row.get("predicted_gib")
    claim = f"{sizes['model']}, {sizes['tokens']:,} tokens, master {sizes['master']}: peak over the plan's, at most"
    ratio = row["peak_memory_gib"] / predicted if predicted and row.get("peak_memory_gib") else None
    return bounded(claim, ratio, most=1.03, predicted=1.0 if predicted else None)
