"""The rules of the house that a machine can check hold here, and each is seen to be broken where it is.

The rules are `house.py`'s. What breaks each of them is planted, one at a time, in a copy of the code.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load_house() -> ModuleType:
    """Return tests/house.py, without tests/ on sys.path: its folder `kernels` would hide Hugging Face's package."""
    spec = importlib.util.spec_from_file_location("house", Path(__file__).with_name("house.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


house = load_house()
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").glob("*.py"))
Plant = Callable[..., list[str]]


def test_every_rule_holds_here() -> None:
    assert house.House(ROOT).violations() == []


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the code, with the names of its tests and benchmarks."""
    copy: Path = tmp_path_factory.mktemp("house")
    for folder in ("engine", "kernels", "recipes", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            to = copy / path.relative_to(ROOT)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(b"" if folder in ("tests", "benchmarks") else path.read_bytes())
    return copy


@pytest.fixture(scope="module")
def broken_already(copied: Path) -> list[str]:
    broken: list[str] = house.House(copied).violations()
    return broken


@pytest.fixture
def plant(copied: Path, broken_already: list[str]) -> Iterator[Plant]:
    """Return a function that adds files to the copy and returns the rules that are broken from then on.

    Every file gets a docstring, and the test and benchmark that it must have, but for those named as left out.
    """
    written: list[Path] = []

    def write(name: str, text: str) -> None:
        path = copied / name
        assert not path.exists(), name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)

    def add(files: Mapping[str, str], without: tuple[str, ...] = ()) -> list[str]:
        for name, code in files.items():
            write(name, code if "docstring" in without else f'"""What it is for."""\n\n{code}')
            if "test" not in without:
                write(f"tests/{Path(name).parent}/test_{Path(name).stem.strip('_')}.py", "")
            if name.startswith("kernels/") and "benchmark" not in without:
                write(f"benchmarks/bench_{Path(name).name}", "")
        now = house.House(copied).violations()
        assert set(broken_already) <= set(now)
        return sorted(set(now) - set(broken_already))

    yield add
    for path in written:
        path.unlink()


def test_the_code_as_it_is_and_a_file_that_keeps_every_rule(plant: Plant) -> None:
    code = (
        "import typing\nfrom typing import TYPE_CHECKING\n\nfrom alttrain.engine.errors import DataError\n\n"
        "if TYPE_CHECKING:\n    import torch\n    from alttrain.engine.train.loop import train\n\n"
        "if typing.TYPE_CHECKING:\n    import deepspeed\n\n"
        "def measure() -> None:\n    import torch\n"
    )
    assert plant({"engine/data/planted.py": code}) == []
    assert plant({"kernels/planted.py": "from alttrain.kernels import backend"}) == []


@pytest.mark.parametrize(
    ("room", "code", "arrow"),
    [
        ("kernels", "import alttrain.engine.files", "engine/files.py: kernels may not use engine/files"),
        ("engine/run", "from alttrain.engine import cli", "engine/cli.py: engine/run may not use engine/cli"),
        (
            "engine/trace",
            "from alttrain.engine.data.rows import read_rows",
            "engine/data/rows.py: engine/trace may not use engine/data",
        ),
        (
            "engine/report",
            "from alttrain.engine.trace.roles import ROLES",
            "engine/trace/roles.py: engine/report may not use engine/trace",
        ),
        (
            "engine/evaluate",
            "def load():\n    from alttrain.engine.model.layers import fuse",
            "engine/model/layers.py: engine/evaluate may not use engine/model",
        ),
        (
            "engine/train",
            "from alttrain.nano.config import StudyConfig",
            "recipes/nano/config.py: engine/train may not use recipes",
        ),
        (
            "engine/train",
            "def start():\n    import alttrain.command.__main__",
            "recipes/command/__main__.py: engine/train may not use recipes",
        ),
        (
            "engine/run",
            "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    from alttrain.engine.cli import main",
            "engine/cli.py: engine/run may not use engine/cli",
        ),
    ],
    ids=[
        "floors", "rooms", "names-of-a-module", "neighbours", "neighbours-in-a-function", "nano", "command",
        "not-type-checking",
    ],
)  # fmt: skip
def test_an_arrow_that_points_up(plant: Plant, room: str, code: str, arrow: str) -> None:
    assert plant({f"{room}/planted.py": code}) == [f"{room}/planted.py imports {arrow}"]


@pytest.mark.parametrize(
    ("name", "room"), [("engine/planning/planted.py", "engine/planning"), ("engine/planted.py", "engine/planted")]
)
def test_a_file_in_a_room_that_is_not_in_the_order(plant: Plant, name: str, room: str) -> None:
    assert plant({name: ""}) == [f"{name} stands in {room}, which ORDER does not know"]


@pytest.mark.parametrize("inside_a_function", [False, True])
@pytest.mark.parametrize("length", [2, 3])
def test_a_circle(plant: Plant, length: int, inside_a_function: bool) -> None:
    names = [f"planted_{index}" for index in range(length)]
    imports = [f"from alttrain.engine.data.{name} import anything\n" for name in [*names[1:], names[0]]]
    if inside_a_function:
        imports[-1] = f"def later():\n    {imports[-1]}"
    files = {f"engine/data/{name}.py": code for name, code in zip(names, imports, strict=True)}
    assert plant(files) == [f"a circle of imports: {', '.join(files)}"]


def test_a_chain_is_no_circle(plant: Plant) -> None:
    code = "from alttrain.engine.data.{} import anything\n"
    to_both = code.format("planted_1") + code.format("planted_2")
    files = {"planted_0": to_both, "planted_1": code.format("planted_2"), "planted_2": ""}
    assert plant({f"engine/data/{name}.py": code for name, code in files.items()}) == []


@pytest.mark.parametrize(
    ("room", "code", "rule"),
    [
        ("kernels", "import alttrain.kernels.adamw", "kernels/adamw.py, which its docstring does not name"),
        ("engine/data", "from kernels.adamw import adamw_step", "kernels.adamw.adamw_step: say alttrain.{}"),
        ("recipes/nano", "import engine.files", "engine.files: say alttrain.{}"),
        ("engine/data", "from .rows import read_rows", ".rows.read_rows: name it from alttrain on"),
        ("engine/data", "from .. import cli", "...cli: name it from alttrain on"),
        ("engine/model", "import triton.language as tl", "triton.language, whose door is kernels/"),
        ("engine/run", "def f():\n    import deepspeed", "deepspeed, whose door is engine/distributed/zero"),
        ("engine/data", "import torch", "torch at its top; import it where it is used"),
        ("engine/trace", "from numpy import ndarray", "numpy.ndarray at its top; import it where it is used"),
        ("engine/trace", "if True:\n    import torch", "torch at its top; import it where it is used"),
        ("recipes/nano", "class World:\n    import torch", "torch at its top; import it where it is used"),
    ],
)  # fmt: skip
def test_an_import_that_may_not_be(plant: Plant, room: str, code: str, rule: str) -> None:
    said = rule.format(rule.split(":")[0])
    assert plant({f"{room}/planted.py": code}) == [f"{room}/planted.py imports {said}"]


LEANING = "kernels/leaning.py imports kernels/planted_rope.py, which its docstring does not name"


@pytest.mark.parametrize(
    ("named", "sentences"),
    [
        ("planted_rope.py", []),
        ("`planted_rope`", []),
        (
            "wide_planted_rope.py",
            ["kernels/leaning.py imports kernels/planted_rope.py, which its docstring does not name"],
        ),
    ],
)
def test_a_kernel_names_the_kernel_that_it_builds_on(plant: Plant, named: str, sentences: list[str]) -> None:
    plant({"kernels/planted_rope.py": ""})
    leaning = f'"""Builds on {named}, and on nothing else."""\nimport alttrain.kernels.planted_rope\n'
    assert plant({"kernels/leaning.py": leaning}, without=("docstring",)) == sentences


@pytest.mark.parametrize(
    ("name", "lines", "sentences"),
    [
        ("engine/data/planted.py", 300, []),
        ("engine/data/planted.py", 301, ["engine/data/planted.py has 301 lines; 300 are allowed"]),
        ("recipes/nano/planted.py", 301, ["recipes/nano/planted.py has 301 lines; 300 are allowed"]),
        ("kernels/planted.py", 400, []),
        ("kernels/planted.py", 401, ["kernels/planted.py has 401 lines; 400 are allowed"]),
    ],
)
def test_a_file_that_is_too_long(plant: Plant, name: str, lines: int, sentences: list[str]) -> None:
    assert plant({name: "\n" * (lines - 2)}) == sentences


@pytest.mark.parametrize("opening", ["def long():\n", "async def long():\n", "class It:\n  def long():\n"])
def test_a_function_that_is_too_long(plant: Plant, opening: str) -> None:
    code = opening + "    x = 0\n" * 60
    assert plant({"engine/data/planted.py": code}) == ["engine/data/planted.py: long has 61 lines; 60 are allowed"]


def test_a_function_that_is_just_short_enough(plant: Plant) -> None:
    assert plant({"engine/data/planted.py": "def short():\n" + "    x = 0\n" * 59}) == []


@pytest.mark.parametrize(
    ("name", "without", "sentence"),
    [
        ("engine/data/planted.py", "docstring", "engine/data/planted.py does not say what it is for"),
        ("engine/data/planted.py", "test", "engine/data/planted.py has no tests/engine/data/test_planted.py"),
        ("recipes/nano/_planted.py", "test", "recipes/nano/_planted.py has no tests/recipes/nano/test_planted.py"),
        ("kernels/planted.py", "test", "kernels/planted.py has no tests/kernels/test_planted.py"),
        ("kernels/planted.py", "benchmark", "kernels/planted.py has no benchmarks/bench_planted.py"),
        ("kernels/__init__.py", "", "kernels/__init__.py may not be: __init__.py"),
        ("engine/data/__init__.py", "", "engine/data/__init__.py may not be: __init__.py"),
        ("engine/data/utils.py", "", "engine/data/utils.py may not be: utils.py"),
        ("recipes/nano/helpers.py", "", "recipes/nano/helpers.py may not be: helpers.py"),
    ],
)
def test_a_file_that_may_not_be_as_it_is(plant: Plant, name: str, without: str, sentence: str) -> None:
    assert plant({name: "import os\n"}, without=(without,)) == [sentence]


def test_the_program_prints_the_plan_and_what_is_broken(plant: Plant, copied: Path) -> None:
    plant({"engine/data/utils.py": ""})
    command = [sys.executable, str(ROOT / "tests" / "house.py"), str(copied)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "engine/data/utils.py may not be: utils.py"
    rooms = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert rooms[: rooms.index("circles")] == [room for rooms in house.ORDER for room in rooms]


def test_every_light_file_imports_without_what_is_heavy() -> None:
    light = [
        "alttrain." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in sorted((ROOT / "engine").rglob("*.py"))
        if not path.relative_to(ROOT).as_posix().startswith(house.MAY_BE_HEAVY)
    ]
    assert "alttrain.engine.data.packs" in light
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = sorted({set(house.HEAVY)} & set(sys.modules))\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *light], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_answers_without_torch(recipe: str) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{recipe!r}, '--help']\n"
        "sys.path.insert(0, 'recipes')\n"  # as Python does for a script
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout
