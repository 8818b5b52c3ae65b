"""What this machine is, what it reaches, and which kernels are right on it, as text to paste into an issue.

Every kernel is tried anew, in a process of its own, against PyTorch and its definition; --model.kernels auto does the
same at the first start of a run, and takes the verdicts from here if the shapes are the same. Neither names of users
nor folders stand in the text. The exit code is 1 where a kernel failed, or the GPU cannot be used.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alttrain.engine.doctor.ceilings import ceiling_rows
from alttrain.engine.doctor.config import MODEL_FLAG, DoctorConfig
from alttrain.engine.doctor.machine import Rows, disk_rows, gpu_rows, machine_rows, variable_rows, version_rows
from alttrain.engine.doctor.problems import Problem, problems
from alttrain.engine.files import write_output
from alttrain.engine.report.public import without_paths
from alttrain.engine.report.tables import Table, markdown_table, markdown_text

if TYPE_CHECKING:
    from alttrain.engine.proof.shapes import KernelShapes
    from alttrain.engine.proof.trial import Verdict

UNTRIED = (
    "There is no GPU here, so --model.kernels auto runs PyTorch's path of every kernel, the lean one. "
    "TRITON_INTERPRET=1 alttrain doctor tries Triton's kernels under its interpreter, at small shapes."
)
# How a reason names want of memory.
NO_MEMORY = "OutOfMemoryError"


class Section(NamedTuple):
    """The kernels on one kind of device: where, what they gave, which of them `auto` takes, and what is wrong."""

    title: str
    verdicts: Mapping[str, "Verdict"]
    choice: str
    problems: list[Problem]


def doctor(config: DoctorConfig) -> str:
    """Return the report, or write it to --output; the process ends with 1 where something is grave.

    Raises:
        AlttrainError: the model, or the file for the report, is not what it should be.
    """
    shapes, name = _shapes(config)
    sections = _sections(shapes, name)
    found = [problem for section in sections for problem in section.problems] + problems()
    text = without_paths(_report(sections, found), str(Path.home()))
    if config.output:
        write_output(Path(config.output), f"{text}\n")
        sys.stderr.write(f"report: {config.output}\n")
        text = ""
    if any(problem.is_grave for problem in found):
        sys.stdout.write(f"{text}\n" if text else "")
        sys.stdout.flush()
        raise SystemExit(1)
    return text


def _shapes(config: DoctorConfig) -> tuple["KernelShapes", str]:
    import dataclasses

    from alttrain.engine.model.kernel_shapes import read_shapes
    from alttrain.engine.proof.shapes import DEFAULT_NAME, DEFAULT_SHAPES

    if not config.model:
        return dataclasses.replace(DEFAULT_SHAPES, dtype=config.dtype), DEFAULT_NAME
    return read_shapes(config.model, MODEL_FLAG, config.dtype), Path(config.model).name or "the model"


def _sections(shapes: "KernelShapes", name: str) -> list[Section]:
    """Try the kernels on one GPU of each kind, or under the interpreter; nothing is tried where neither is there."""
    import torch

    from alttrain.engine.model.kernel_choice import choose_kernels
    from alttrain.engine.proof.kernels import TRIALS
    from alttrain.engine.proof.proving import ProgressLine, prove
    from alttrain.engine.proof.shapes import SMALL_NAME, SMALL_SHAPES
    from alttrain.engine.proof.trying import try_kernels
    from alttrain.kernels.backend import INTERPRETED

    if INTERPRETED:
        line = ProgressLine(sys.stderr, f"trying {len(TRIALS)} kernels under Triton's interpreter:")
        verdicts = try_kernels(list(TRIALS), SMALL_SHAPES, "cpu", line.add)
        line.end()
        choice = choose_kernels("auto", torch.device("cpu")).reason
        title = f"Kernels under Triton's interpreter, at the shapes of {SMALL_NAME}"
        return [Section(title, verdicts, choice, _failures(verdicts, "under the interpreter"))]
    kinds: dict[str, int] = {}
    for index in range(torch.cuda.device_count()):
        kinds.setdefault(torch.cuda.get_device_name(index), index)
    sections = []
    for gpu, index in kinds.items():
        device = torch.device("cuda", index)
        proof = prove(device, shapes, anew=True)
        choice = choose_kernels("auto", device, proof.verdicts, gpu).reason
        found = _failures(proof.verdicts, f"on {gpu}") + ([Problem(proof.note)] if proof.note else [])
        title = f"Kernels on {gpu}, at the shapes of {name} in {shapes.dtype}"
        sections.append(Section(title, proof.verdicts, choice, found))
    return sections


def _failures(verdicts: Mapping[str, "Verdict"], where: str) -> list[Problem]:
    failed = {name: verdict for name, verdict in verdicts.items() if not verdict.passed}
    without_memory = [name for name, verdict in failed.items() if NO_MEMORY in verdict.reason]
    wrong = [name for name in failed if name not in without_memory]
    found = []
    if without_memory:
        found.append(
            Problem(
                f"{', '.join(without_memory)} could not be tried {where} for want of memory. End what else runs there, "
                "or name a smaller model (--model).",
                is_grave=True,
            )
        )
    if wrong:
        found.append(
            Problem(
                f"{', '.join(wrong)} {'fails' if len(wrong) == 1 else 'fail'} {where}. Runs with --model.kernels auto "
                "leave them to PyTorch there; please open an issue with this report.",
                is_grave=True,
            )
        )
    if both := [name for name in wrong if failed[name].torch_failed]:
        found.append(
            Problem(
                f"PyTorch's own path of {', '.join(both)} fails {where} as well: no run can go on there. Update "
                "the driver, or install another torch of those that are supported.",
                is_grave=True,
            )
        )
    return found


def _report(sections: list[Section], found: list[Problem]) -> str:
    import torch

    number = f"{len(found)} problem{'s' if len(found) > 1 else ''}" if found else "nothing found wrong"
    devices = [f"cuda:{index}" for index in range(min(1, torch.cuda.device_count()))] or ["cpu"]
    parts = [f"## alttrain doctor: {number}"]
    if found:
        parts.append("\n".join(f"{place}. {markdown_text(problem.text)}" for place, problem in enumerate(found, 1)))
    parts += [_table("machine", machine_rows() + gpu_rows() + disk_rows()), _table("version", version_rows())]
    if variables := variable_rows():
        parts.append(_table("variable", variables))
    parts += [_table(f"measured on {device}", ceiling_rows(device)) for device in devices]
    for section in sections:
        parts += [f"### {markdown_text(section.title)}", _verdict_table(section.verdicts)]
        parts.append(f"--model.kernels auto here: {markdown_text(section.choice)}.")
    return "\n\n".join(parts if sections else [*parts, UNTRIED])


def _table(heading: str, rows: Rows) -> str:
    return markdown_table(Table((heading, ""), rows))


def _verdict_table(verdicts: Mapping[str, "Verdict"]) -> str:
    rows = [
        (name, "passed" if verdict.passed else f"{verdict.outcome}: {verdict.reason}", f"{verdict.seconds:.1f}")
        for name, verdict in verdicts.items()
    ]
    return markdown_table(Table(("kernel", "verdict", "seconds"), rows))
