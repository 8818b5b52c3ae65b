"""The figures of cases as text: a line for a terminal, and a table in Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from null_device.cases import Case

GIB, GB = 2**30, 10**9
HEAD = (
    "case", "fits", "GiB after start / between steps", "peak / reserved GiB", "kernels", "fills", "copies", "waits",
    "sent, GB", "host CPU ms (of a million additions)",
)  # fmt: skip


def line(case: Case, figures: Mapping[str, Any]) -> str:
    """Return a case's figures in a line."""
    if "step" not in figures:
        return f"{case.name}: {figures['refused'][:200]}"
    step = figures["step"]
    fits = "" if figures.get("fits", True) else " DOES NOT FIT;"
    return (
        f"{case.name}:{fits} peak {gib(figures['peak_bytes'])} GiB ({gib(figures['reserved_bytes'])} reserved), "
        f"held {gib(figures['bytes_after_start'])} to {gib(figures['bytes_between_steps'])}; "
        f"{step['kernels']} kernels, {step['fills']} fills, {step['copies']} copies, {step['waits']} waits; "
        f"host {figures['host_cpu_ms']['step']:.0f} ms"
    )


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows of a results file as a table; rows without figures of a step are left out."""
    lines = [" | ".join(HEAD), "|".join("---" for _ in HEAD)]
    lines += [" | ".join(_cells(row)) for row in rows if "step" in row]
    return "\n".join(f"| {text} |" if "---" not in text else f"|{text}|" for text in lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    step = row["step"]
    sent = sum(amount for name, amount in row["collectives"].items() if name.endswith(" bytes"))
    return [
        Case(**row["case"]).name,
        "yes" if row["fits"] else f"no (step {row['out_of_memory']['step']})",
        f"{gib(row['bytes_after_start'])} / {gib(row['bytes_between_steps'])}",
        f"{gib(row['peak_bytes'])} / {gib(row['reserved_bytes'])}",
        *(f"{step[name]:,}" for name in ("kernels", "fills", "copies", "waits")),
        f"{sent / GB:.1f}" if row["case"]["world"] > 1 else "",
        f"{row['host_cpu_ms']['step']:.0f} ({row['yardstick_cpu_ms']:.0f})",
    ]


def gib(number: int) -> str:
    """Return bytes in GiB."""
    return f"{number / GIB:.2f}"
