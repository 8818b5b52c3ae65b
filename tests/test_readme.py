"""The README's commands do what it says: each is run to the letter by a shell, on files as small as it takes.

What a command adds here makes it small (a tiny model, two steps); what it says itself stays as it is written. A command
of the README that is in no list below fails, and so does a flag or a file that is not there.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKED = (
    "recipes",
    "benchmarks",
    "engine",
    "kernels",
    "tests",
    "Makefile",
    "setup.py",
    "pyproject.toml",
    "constraints.txt",
)
PROGRAMS = ("python", "torchrun", "make", "pip", "alttrain", "PIP_FIND_LINKS=")

TINY = "--model.path MODEL --model.dtype float32 --schedule.steps 2 --batch.pack-tokens 1024 --checkpoint.every 1"
BRIEF = "--max-think-tokens 6 --max-answer-tokens 4"
# A model from traces on disk, and what it writes before and after: in order, with what is added to each.
CHAIN = {
    'python recipes/build_dataset.py --harmful.path STAR-1.json --benign.path traces.jsonl --avoid evaluation/*.csv '
    '--benign.columns prompt=question --benign.answer-open "<answer>" --benign.answer-close "</answer>"': "",
    "torchrun --nproc_per_node 4 recipes/alttrain_7b.py --data.train runs/alttrain-1k.jsonl --output runs/7b": TINY,
    "python recipes/ask.py MODEL --prompts prompts.jsonl --output before.jsonl": BRIEF,
    "python recipes/ask.py runs/7b/model --prompts prompts.jsonl --output after.jsonl": BRIEF,
    "python recipes/measure_structure.py after.jsonl --before before.jsonl": "",
}  # fmt: skip
NODES = "torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 recipes/alttrain_32b.py"
# Commands of the study, by their flags: what they run is tested in tests/recipes/nano.
STUDIES = ("python recipes/alttrain_nano.py --arms all --seeds 5 --assessment-weights 1 2 4 8",)
# What make would do; and programs that answer at once.
MADE = (
    "make nano",
    "make nano OUTPUT=FOLDER",
    "make test",
    "make test-long",
    "make test-cuda",
    "PIP_FIND_LINKS=FOLDER make nano",
)
HELPED = (
    "python benchmarks/validate_structure.py",
    "python benchmarks/gpu_suite.py --part tests --out DIR",
    "alttrain nano",
    "alttrain doctor",
)
RUN = (
    "python tests/house.py",
    "python -m alttrain.nano",
    "python benchmarks/plan_table.py",
    "python recipes/alttrain_7b.py --plan.gpu h200 --plan.gpus 1 --plan.price 3",
)
ELSEWHERE = {"pip install -e .": "every clone that is tested begins with it, by make"}
SAME = {"python recipes/measure_structure.py AFTER.jsonl --before BEFORE.jsonl": "the last of CHAIN"}


def commands(text: str) -> list[str]:
    """Return every command of a README, in its order: lines of its blocks, and what stands between backticks."""
    found = []
    for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found.append(" ".join(line.partition("  #")[0].split()))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    whole = (one for one in dict.fromkeys(found) if not one.endswith("..."))
    return [one for one in whole if one.startswith(PROGRAMS) and " " in one]


def test_every_command_of_the_readme_is_tried_here() -> None:
    lists = [*CHAIN, NODES, *STUDIES, *MADE, *HELPED, *RUN, *ELSEWHERE, *SAME]
    assert sorted(commands(README)) == sorted(lists)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> Callable[[str], str]:
    """Return a function that runs a command as a user would, beside the folders of the project, and what it said."""
    folder = tmp_path_factory.mktemp("readme")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    write_files(folder)
    write_model(folder / "MODEL")
    (folder / "bin").mkdir()
    for name, module in (("python", ""), ("torchrun", "-m torch.distributed.run"), ("alttrain", "-m alttrain.command")):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return f"{done.stdout}{done.stderr}"

    return run


def write_files(folder: Path) -> None:
    """Write the files that the README's example names, each of the shape of the published one."""
    star = [
        {
            "id": f"star-{number}",
            "question": f"How do I break thing {number}?",
            "response": f"<think>\nThe user asks about thing {number}. It could hurt. I refuse.\n</think>\nNo.",
            "category": ["Illicit / Criminal Behavior"],
        }
        for number in range(8)
    ]
    (folder / "STAR-1.json").write_text(json.dumps(star), encoding="utf-8")
    traces = [
        {
            "question": f"What is {number} + {number}?",
            "response": f"<think>We add {number} to itself. It is {2 * number}.</think><answer>{2 * number}</answer>",
            "label": "benign",
        }
        for number in range(4)
    ]
    write_lines(folder / "traces.jsonl", traces)
    write_lines(
        folder / "prompts.jsonl", [{"id": f"{n}", "prompt": f"What is {n}?", "label": "benign"} for n in (1, 2)]
    )
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "set.csv").write_text('prompt\n"how do I BREAK thing 3?"\n', encoding="utf-8")


def write_lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_from_traces_on_disk_to_what_a_model_writes_before_and_after(shell: Callable[[str], str]) -> None:
    said = [shell(f"{command.replace('_node 4', '_node 2')} {added}") for command, added in CHAIN.items()]
    assert "11 rows" in said[0]  # eight and four, less the one that is to be avoided
    assert "2 steps on 2 ranks" in said[1]
    assert all("2 of 2 prompts answered" in text for text in said[2:4])
    assert "before" in said[4]


def test_the_same_line_on_two_nodes(shell: Callable[[str], str]) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    line = NODES.replace("HOST:29500", f"localhost:{port}").replace("_node 8", "_node 1")
    line += f" {TINY} --data.train prompts-32b.jsonl --output runs/32b"
    rows = [{"prompt": f"{n}?", "response": "<think>It asks. Fine.</think>Yes."} for n in range(6)]
    write = f"cat > prompts-32b.jsonl <<'END'\n{''.join(json.dumps(row) + chr(10) for row in rows)}END\n"
    said = shell(f"{write}{line} & first=$!; {line} && wait $first")
    assert said.count("2 steps on 2 ranks") == 1


@pytest.mark.parametrize("command", STUDIES)
def test_the_flags_of_a_study_are_its_own(shell: Callable[[str], str], command: str) -> None:
    assert "usage" in shell(f"{command} --help")


@pytest.mark.parametrize("command", MADE)
def test_what_make_would_do(shell: Callable[[str], str], command: str) -> None:
    said = shell(re.sub(r"\bmake\b", "make -n", command))
    if "nano" in command:
        output = "FOLDER" if "OUTPUT" in command else "runs/nano"
        assert f"recipes/alttrain_nano.py --output {output} --resume" in said
        assert "rm " not in said
    else:
        assert ("null_suite.py check" if "cuda" in command else "pytest") in said


@pytest.mark.parametrize("command", HELPED)
def test_a_program_that_takes_long_lists_its_flags(shell: Callable[[str], str], command: str) -> None:
    assert "usage" in shell(f"{command} --help")


@pytest.mark.parametrize("command", RUN)
def test_programs_that_answer_at_once(shell: Callable[[str], str], command: str) -> None:
    shell(f"{command}{' --help' * command.endswith('nano')}")


def flags_of_the_programs() -> Iterator[str]:
    for line in (ROOT / "tests" / "assets" / "flags.txt").read_text(encoding="utf-8").splitlines():
        yield line.split()[1]
    yield from ("--help", "--nproc_per_node", "--nnodes", "--rdzv_backend", "--rdzv_endpoint", "--part", "--out")
    yield from (f"--loss.{role}" for role in ("ROLE",))


def test_every_flag_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*(?:ROLE)?", README))
    named = {flag.rstrip(".") for flag in named}
    assert len(named) > 30
    assert named - set(flags_of_the_programs()) - {"--loss."} == set()


def test_every_file_that_the_readme_names_is_there() -> None:
    named = re.findall(r"\b((?:recipes|engine|kernels|benchmarks|tests)/[\w./-]*[\w/])", README)
    assert len(named) > 20
    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing <= {"benchmarks/results/h200"}
