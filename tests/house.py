"""The rules of the house that a machine can check, asked of a folder that holds the project.

    python tests/house.py [FOLDER]

prints the rooms in their order, with files, lines and arrows, then every rule that is broken. `test_architecture.py`
asks the same of this project, and of copies in which each rule is broken on purpose.
"""

import ast
import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

# From the ground up: a file may use its own room and every room of an earlier line. Rooms of one line do not know each
# other. A room of engine/ is a folder, or a file at its top.
ORDER: tuple[tuple[str, ...], ...] = (
    ("kernels",),
    ("engine/errors", "engine/files", "engine/config", "engine/console", "engine/thinking", "engine/version"),
    ("engine/config_checks", "engine/report", "engine/trace", "engine/proof"),
    ("engine/data",),
    ("engine/restructure", "engine/evaluate", "engine/model"),
    ("engine/distributed",),
    ("engine/run",),
    ("engine/train", "engine/doctor"),
    ("engine/cli",),
    ("recipes",),
)
# The ground is a line of files that may use each other; everywhere else neighbours are strangers.
NEIGHBOURS = ("engine/errors", "engine/files", "engine/config", "engine/console", "engine/thinking", "engine/version")
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
# Import name -> folder; the two folders of recipes/ that are installed count as recipes.
FOLDERS = {
    "alttrain.engine": "engine",
    "alttrain.kernels": "kernels",
    "alttrain.nano": "recipes/nano",
    "alttrain.command": "recipes/command",
}
DOORS: Mapping[str, tuple[str, ...]] = {
    "triton": ("kernels/",),
    "deepspeed": ("engine/distributed/zero",),
    "transformers": (
        "engine/model/",
        "engine/data/tokenizer.py",
        "engine/evaluate/sampling.py",
        "engine/evaluate/responder.py",
        "recipes/nano/",
    ),
    "datasets": ("engine/data/sources.py",),
    "jinja2": ("engine/report/page.py",),
    "matplotlib": ("engine/report/plots.py",),
    "scipy": ("engine/evaluate/intervals.py",),
    "sklearn": ("engine/restructure/leaks.py",),
    "tyro": ("engine/cli.py", "engine/evaluate/config.py"),
}
HEAVY = ("torch", "numpy", "transformers", "deepspeed", "triton", "scipy", "sklearn", "matplotlib", "datasets")
# What may import them at its top; everything else answers in milliseconds.
MAY_BE_HEAVY = (
    "kernels/",
    "engine/data/batch.py",
    "engine/proof/",
    "engine/model/",
    "engine/distributed/",
    "engine/run/",
    "engine/train/",
    "engine/evaluate/sampling.py",
)
LINES, LINES_OF_TABLES, LINES_OF_A_FUNCTION = 300, 400, 60
TABLES = ("kernels/", "engine/trace/english.py", "engine/trace/chinese.py", "engine/restructure/phrases.py")
NO_TEST_OF_ITS_OWN = ("engine/version.py", "recipes/nano/__main__.py", "recipes/alttrain_", "recipes/build_dataset.py")


@dataclass(frozen=True)
class Source:
    """What the rules ask of one file's text."""

    docstring: str
    num_lines: int
    imports: frozenset[str]  # the full name of every module, or name of one, that is imported at run time
    imports_at_the_top: frozenset[str]  # those of them that are imported with the file itself
    functions: tuple[tuple[str, int], ...]  # name and lines of every function, wherever it stands


@cache
def read_source(text: str) -> Source:
    """Return what the rules ask of a file that holds `text`."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return Source(
        docstring=ast.get_docstring(tree) or "",
        num_lines=len(text.splitlines()),
        imports=frozenset(_imported(tree, at_the_top=False)),
        imports_at_the_top=frozenset(_imported(tree, at_the_top=True)),
        functions=tuple((node.name, (node.end_lineno or 0) - node.lineno + 1) for node in functions),
    )


class House:
    """A project's code, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        folders = [root / name for name in ("kernels", "engine", "recipes")]
        files = sorted(path for folder in folders for path in folder.rglob("*.py"))
        self.sources = {path: read_source(path.read_text(encoding="utf-8")) for path in files}

    def name(self, path: Path) -> str:
        """Return a path as the rules write it: engine/data/rows.py."""
        return path.relative_to(self.root).as_posix()

    def room(self, path: Path) -> str:
        """Return the room of ORDER in which a file stands."""
        first, *rest = Path(self.name(path)).with_suffix("").parts
        return f"{first}/{rest[0]}" if first == "engine" else first

    @cached_property
    def arrows(self) -> dict[Path, set[Path]]:
        """Which files of the project each file imports."""
        found: dict[Path, set[Path]] = {}
        for path, source in self.sources.items():
            targets = {target for module in source.imports if (target := self._file(module))}
            found[path] = targets - {path}
        return found

    def _file(self, module: str) -> Path | None:
        """Return the file that `module` names, or that holds the name that it ends in."""
        for prefix, folder in FOLDERS.items():
            if module.startswith(f"{prefix}."):
                parts = module.removeprefix(f"{prefix}.").split(".")
                for length in (len(parts), len(parts) - 1):
                    path = (self.root / folder).joinpath(*parts[:length]).with_suffix(".py")
                    if length and path in self.sources:
                        return path
        return None

    def violations(self) -> list[str]:
        """Return a sentence for every rule that is broken, with the file that breaks it."""
        rules = (
            self.arrows_that_point_up, self.circles, self.bare_names, self.kernels_that_lean, self.wrong_doors,
            self.slow_imports, self.too_long, self.without_a_docstring, self.without_a_test, self.forbidden_files,
        )  # fmt: skip
        return [sentence for rule in rules for sentence in rule()]

    def arrows_that_point_up(self) -> Iterator[str]:
        """Floors and rooms: an arrow may point to a lower one only."""
        for path, targets in self.arrows.items():
            here = self.room(path)
            if here not in LEVELS:
                yield f"{self.name(path)} stands in {here}, which ORDER does not know"
                continue
            for target in sorted(targets):
                there = self.room(target)
                is_below = LEVELS.get(there, len(ORDER)) < LEVELS[here]
                if not (is_below or there == here or {here, there} <= set(NEIGHBOURS)):
                    yield f"{self.name(path)} imports {self.name(target)}: {here} may not use {there}"

    def circles(self) -> Iterator[str]:
        """Files that import each other, directly or by a detour, imports inside functions included."""
        for circle in circles(self.arrows):
            yield "a circle of imports: " + ", ".join(map(self.name, sorted(circle)))

    def bare_names(self) -> Iterator[str]:
        """Our folders have import names under alttrain, written out; `kernels` alone belongs to Hugging Face."""
        for path, source in self.sources.items():
            for module in sorted(source.imports):
                if module.startswith("."):
                    yield f"{self.name(path)} imports {module}: name it from alttrain on"
                if module.split(".")[0] in ("kernels", "engine", "recipes", "nano"):
                    yield f"{self.name(path)} imports {module}: say alttrain.{module}"

    def kernels_that_lean(self) -> Iterator[str]:
        """A kernel imports the backend switch and the kernel that its docstring names: it can be copied elsewhere."""
        for path, source in self.sources.items():
            for target in sorted(self.arrows[path]):
                is_named = re.search(rf"\b{target.stem}\.py|`{target.stem}`", source.docstring)
                if self.room(path) == self.room(target) == "kernels" and target.stem != "backend" and not is_named:
                    yield f"{self.name(path)} imports {self.name(target)}, which its docstring does not name"

    def wrong_doors(self) -> Iterator[str]:
        """Each heavy dependency has its door."""
        for path, source in self.sources.items():
            for module in sorted(source.imports):
                doors = DOORS.get(module.split(".")[0])
                if doors is not None and not self.name(path).startswith(doors):
                    yield f"{self.name(path)} imports {module}, whose door is {' or '.join(doors)}"

    def slow_imports(self) -> Iterator[str]:
        """What is light to import stays so."""
        for path, source in self.sources.items():
            if not self.name(path).startswith(MAY_BE_HEAVY):
                for module in sorted(source.imports_at_the_top):
                    if module.split(".")[0] in HEAVY:
                        yield f"{self.name(path)} imports {module} at its top; import it where it is used"

    def too_long(self) -> Iterator[str]:
        """A file is read in one sitting, a function at a glance."""
        for path, source in self.sources.items():
            limit = LINES_OF_TABLES if self.name(path).startswith(TABLES) else LINES
            if source.num_lines > limit:
                yield f"{self.name(path)} has {source.num_lines} lines; {limit} are allowed"
            for name, num_lines in source.functions:
                if num_lines > LINES_OF_A_FUNCTION:
                    yield f"{self.name(path)}: {name} has {num_lines} lines; {LINES_OF_A_FUNCTION} are allowed"

    def without_a_docstring(self) -> Iterator[str]:
        """A file says in its first lines what it is for."""
        for path, source in self.sources.items():
            if not source.docstring:
                yield f"{self.name(path)} does not say what it is for"

    def without_a_test(self) -> Iterator[str]:
        """tests/ mirrors the tree, and a kernel has its benchmark."""
        for path in self.sources:
            name = self.name(path)
            if name.startswith(NO_TEST_OF_ITS_OWN):
                continue
            test = self.root / "tests" / Path(name).parent / f"test_{path.stem.strip('_')}.py"
            if not test.is_file() and Path(name).parent.as_posix() != "recipes":
                yield f"{name} has no {self.name(test)}"
            benchmark = self.root / "benchmarks" / f"bench_{path.name}"
            if self.room(path) == "kernels" and path.stem != "backend" and not benchmark.is_file():
                yield f"{name} has no {self.name(benchmark)}"

    def forbidden_files(self) -> Iterator[str]:
        """No __init__.py (a package named kernels breaks transformers), and no drawer for leftovers."""
        for path in self.sources:
            if path.name in ("__init__.py", "utils.py", "helpers.py", "misc.py", "common.py"):
                yield f"{self.name(path)} may not be: {path.name}"


def _imported(node: ast.AST, at_the_top: bool) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        yield from itertools.chain.from_iterable(_imported(child, at_the_top) for child in node.orelse)
    elif not (at_the_top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
        yield from itertools.chain.from_iterable(_imported(child, at_the_top) for child in ast.iter_child_nodes(node))


def circles(arrows: Mapping[Path, set[Path]]) -> list[set[Path]]:
    """Return the strongly connected sets of more than one file.

    Source: R. Tarjan, "Depth-first search and linear graph algorithms", SIAM J. Computing 1 (1972).
    """
    index: dict[Path, int] = {}
    lowest: dict[Path, int] = {}
    stack: list[Path] = []
    found: list[set[Path]] = []

    def visit(path: Path) -> None:
        index[path] = lowest[path] = len(index)
        stack.append(path)
        for target in arrows[path]:
            if target not in index:
                visit(target)
            if target in stack:
                lowest[path] = min(lowest[path], lowest[target])
        if lowest[path] == index[path]:
            place = stack.index(path)
            component = set(stack[place:])
            del stack[place:]
            if len(component) > 1:
                found.append(component)

    for path in arrows:
        if path not in index:
            visit(path)
    return found


def plan(house: House) -> str:
    """Return the rooms from the ground up: files, lines, and how many imports lead to which room."""
    files, lines = Counter(map(house.room, house.sources)), Counter[str]()
    uses: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path, targets in house.arrows.items():
        lines[house.room(path)] += house.sources[path].num_lines
        rooms = map(house.room, sorted(targets))
        uses[house.room(path)].update(room for room in rooms if room != house.room(path))
    table = [f"{'room':<22}{'files':>6}{'lines':>7}  uses"]
    for room in itertools.chain.from_iterable(ORDER):
        arrows = ", ".join(re.sub("^engine/", "", f"{there} {count}") for there, count in uses[room].most_common())
        table.append(f"{room:<22}{files[room]:>6}{lines[room]:>7}  {arrows}")
    return "\n".join([*table, f"circles of imports: {len(circles(house.arrows))}"])


def main() -> int:
    """Print the plan and what is broken; return 1 where anything is."""
    house = House(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    broken = house.violations()
    sys.stdout.write("\n".join([plan(house), f"rules broken: {len(broken)}", *broken]) + "\n")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
