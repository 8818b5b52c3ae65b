"""The house rules that a machine can check: floors, doors, light leaves, and what every file says of itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("kernels", "engine", "recipes")  # an arrow may only point down
LEAVES = (
    "errors",
    "config",
    "trace.roles",
    "data.packs",
    "data.bins",
    "restructure.structures",
    "train.schedule",
    "trace.structure",
    "evaluate.intervals",
)
DOORS = {
    "triton": {"kernels"},
    "deepspeed": {"engine/distributed/zero.py"},
    "transformers": {
        "engine/model/backbone.py",
        "engine/model/packed_lm.py",
        "engine/run/export.py",
        "engine/evaluate/sampling.py",
        "recipes/nano",
        "recipes/build_dataset.py",
    },
    "datasets": {"engine/data/sources.py"},
    "matplotlib": {"engine/report/plots.py"},
    "jinja2": {"engine/report/page.py"},
    "scipy": {"engine/evaluate/intervals.py"},
    "tyro": {"engine/cli.py", "recipes"},
}
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Return the full names of every module that a file imports at run time, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_arrow_points_up(path: Path) -> None:
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    for module in imports(path):
        parts = module.split(".")
        assert parts[0] not in FLOORS, f"{module}: say alttrain.{module}"
        if parts[0] == "alttrain":
            assert FLOORS.index({"nano": "recipes"}.get(parts[1], parts[1])) <= floor, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_heavy_dependencies_have_one_door(path: Path) -> None:
    for module in imports(path):
        allowed = DOORS.get(module.split(".")[0])
        if allowed is not None:
            assert {name(place) for place in (path, *path.parents) if ROOT in place.parents} & allowed, module


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_says_what_it_is_for_and_fits_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize(
    "kernel", [k for k in sorted((ROOT / "kernels").glob("*.py")) if k.stem != "backend"], ids=name
)
def test_a_kernel_has_its_test_and_its_benchmark(kernel: Path) -> None:
    assert (ROOT / "tests" / "kernels" / f"test_{kernel.name}").is_file()
    assert (ROOT / "benchmarks" / f"bench_{kernel.name}").is_file()


def test_no_package_may_be_called_kernels() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "engine" / "__init__.py").exists()


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_import_without_torch(leaf: str) -> None:
    heavy = "{'torch', 'numpy', 'transformers'}"
    program = f"import sys, alttrain.engine.{leaf}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.py")), ids=name)
def test_help_answers_without_torch(recipe: Path) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{str(recipe)!r}, '--help']\n"
        f"sys.path.insert(0, {str(recipe.parent)!r})\n"  # as Python does for a script
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout
