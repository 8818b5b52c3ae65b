"""The recipe: all numbers of a study on one screen, and a program that a checkout and a wheel both have."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from alttrain.nano.config import ExampleNumbers, Mixture, Shape, WorldNumbers, check
from alttrain.nano.documents import pretraining_rows
from alttrain.nano.recipe import CONFIG
from alttrain.nano.study import base_jobs
from alttrain.nano.world import World

SCRIPT = Path(__file__).resolve().parents[3] / "recipes" / "alttrain_nano.py"


def test_the_script_has_the_recipe_s_numbers() -> None:
    assert runpy.run_path(str(SCRIPT))["CONFIG"] is CONFIG


def test_the_defaults_are_what_the_recipe_says_on_its_screen() -> None:
    assert (CONFIG.mixture, CONFIG.world, CONFIG.shape) == (Mixture(), WorldNumbers(), Shape())
    assert CONFIG.examples == ExampleNumbers()
    mixture = CONFIG.mixture
    shares = (mixture.knowledge, mixture.colour, mixture.requests, mixture.arithmetic, mixture.copying)
    assert sum(shares) == pytest.approx(1)
    assert len(list(pretraining_rows(World(0), mixture))) == mixture.documents


def test_it_could_start_and_from_the_shipped_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(CONFIG)
    assert [job.is_shipped for job in base_jobs(CONFIG)] == [True]


@pytest.mark.parametrize("program", [("-m", "alttrain.nano"), (str(SCRIPT),)], ids=["module", "script"])
def test_help_answers_without_torch(program: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", *program, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "numpy", "transformers", "scipy"} & imported
    assert "--alignment.optim.lr" in done.stdout
    for arm in ("no-assessment-tokens", "component-recall", "all"):
        assert arm in done.stdout


def test_a_folder_in_use_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    command = [sys.executable, "-m", "alttrain.nano", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"--output {tmp_path}: not empty, and without the design.json of a study.")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
