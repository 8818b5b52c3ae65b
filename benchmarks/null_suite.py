"""The engine's whole CUDA path on a machine without a GPU: counted, compared with what was counted before, tabled.

    python benchmarks/null_suite.py fetch      fetch and build what it needs, into .null_device/
    python benchmarks/null_suite.py check      run the path at both ends of the range of versions; what may not grow
                                               is compared with null_device/limits.json, which --remake writes
    python benchmarks/null_suite.py table --name before
                                               count whole models, into results/null/NAME-SET.json; goes on where it
                                               stopped
    python benchmarks/null_suite.py show --name before
                                               print that table in Markdown
    python benchmarks/null_suite.py steps --set oldest --packages FOLDER
                                               run gpu_suite.py --part step whole, with the trainers of others that the
                                               folder holds, into results/null/steps-SET.json, and print its table
    python benchmarks/null_suite.py case '{"model": "7B", "stage": 3, "world": 8}'

The real CUDA builds of torch, Triton and DeepSpeed run over stand-ins for NVIDIA's libraries (`null_device/*.c`), which
answer as an H200 would and compute nothing. What comes out is exact: refusals of arguments, shapes, dtypes and
launches; memory, by torch's own allocator; launches, copies, and where the host would wait for the device. Values are
zeros, kernels take no time. Needs Linux on x86-64, Python 3.11 to 3.13 and a C compiler, and of this project's
requirements nothing: 1.5 GB to download for both sets of versions.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from null_device.building import build
from null_device.cases import Case, check_cases, short_cases, table_cases
from null_device.fetching import fetch
from null_device.places import ROOT, Failure, VersionSet, version_sets
from null_device.running import LIMITS, Runner, fallen, limits_of, objections, read_limits
from null_device.tables import line, markdown
from null_device.whole_steps import markdown as whole_steps_table
from null_device.whole_steps import run_whole_steps

RESULTS = ROOT / "benchmarks" / "results" / "null"


def check(chosen: Iterable[VersionSet], cases: list[Case], *, remake: bool) -> int:
    """Run the cases on each set; print a line for each, and return 1 where something speaks against one of them."""
    limits = read_limits() if LIMITS.is_file() else {}
    is_good = True
    for versions in chosen:
        recorded = limits.setdefault(versions.name, {})
        with Runner(versions) as runner:
            for case in cases:
                figures = runner.run(case)
                if remake and "refused" not in figures:
                    recorded[case.name] = limits_of(figures)
                    LIMITS.write_text(json.dumps(limits, indent=1) + "\n", encoding="utf-8")
                against = objections(figures, recorded.get(case.name))
                is_good = is_good and not against
                print(f"{versions.name}: {line(case, figures)}", flush=True)
                for sentence in [*against, *fallen(figures, recorded.get(case.name))]:
                    print(f"    {sentence}", flush=True)
    return 0 if is_good else 1


def table(versions: VersionSet, name: str, cases: Iterable[Case]) -> None:
    """Count the cases that results/null/NAME-SET.json does not hold yet, and write it after each."""
    file = table_file(versions, name)
    RESULTS.mkdir(parents=True, exist_ok=True)
    written: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    rows = [row for row in written if "step" in row]  # what failed is tried again
    done = {Case(**row["case"]) for row in rows}
    with Runner(versions) as runner:
        for case in cases:
            if case in done:
                continue
            figures = runner.run_or_tell_what_it_takes(case)
            print(f"{versions.name}: {line(case, figures)}", flush=True)
            rows.append({"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit()} | figures)
            text = json.dumps({"device": "null device", "set": versions.name, "rows": rows}, indent=1)
            file.write_text(text + "\n", encoding="utf-8")


def steps(versions: VersionSet, packages: Path | None, cache: Path | None) -> None:
    """Count whole steps, ours and others', into results/null/steps-SET.json, and print their table in Markdown."""
    found = run_whole_steps(versions, packages, cache)
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"device": "null device", "set": versions.name} | found, indent=1)
    table_file(versions, "steps").write_text(text + "\n", encoding="utf-8")
    print(whole_steps_table(found["rows"]))


def table_file(versions: VersionSet, name: str) -> Path:
    """Return the file of a set's table."""
    return RESULTS / f"{name}-{versions.name}.json"


def shown(versions: VersionSet, name: str) -> str:
    """Return a set's table in Markdown, below its versions."""
    file = table_file(versions, name)
    if not file.is_file():
        raise Failure(f"{file} is not there: python benchmarks/null_suite.py table --name {name} makes it.")
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    packages = ", ".join(f"{package} {version}" for package, version in rows[0]["versions"].items())
    return f"{packages}:\n\n{markdown(rows)}"


def commit() -> str:
    """Return the commit of the code that is counted, with -dirty where it has been changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; what is missing is said in a sentence, with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("fetch", "check", "table", "show", "steps", "case"))
    parser.add_argument("case", nargs="?", default="{}", help="of `case`: the fields that differ from their defaults")
    parser.add_argument("--set", choices=tuple(version_sets()), help="one set of versions; both if not given")
    parser.add_argument("--short", action="store_true", help="of `check`: two layers and one GPU")
    parser.add_argument("--remake", action="store_true", help="of `check`: record the figures, as they are meant to be")
    parser.add_argument("--name", default="now", help="of `table`: what its file is called")
    parser.add_argument("--packages", type=Path, help="of `steps`: the folder that pip install --target filled")
    parser.add_argument("--triton-cache", type=Path, help="of `steps`: a folder for what Triton compiles")
    options = parser.parse_args(arguments)
    chosen = [versions for name, versions in version_sets().items() if options.set in (None, name)]
    try:
        if options.command == "show":
            print("\n\n".join(shown(versions, options.name) for versions in chosen))
            return 0
        for versions in chosen:
            if not versions.is_fetched:
                fetch(versions)
            build(versions)
        if options.command == "check":
            return check(chosen, list(short_cases() if options.short else check_cases()), remake=options.remake)
        for versions in chosen:
            if options.command == "table":
                table(versions, options.name, table_cases())
            elif options.command == "steps":
                steps(versions, options.packages, options.triton_cache)
            elif options.command == "case":
                with Runner(versions) as runner:
                    print(json.dumps(runner.run_or_tell_what_it_takes(Case(**json.loads(options.case))), indent=1))
    except Failure as failure:
        sys.stderr.write(f"null device: {failure}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
