"""Every recipe could start, has the published hyper-parameters, and says what is planned for its machine.

Where a plan has changed: python tests/recipes/test_recipes.py writes its sentences into the recipes anew.
"""

import dataclasses
import re
import runpy
import textwrap
from pathlib import Path

import pytest

from alttrain.engine.config import RunConfig
from alttrain.engine.config_checks import validate
from alttrain.engine.train.plan import make_plan
from alttrain.engine.train.plan_text import figures

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SIZES = ("1p5b", "7b", "8b", "14b", "32b")


def config_of(name: str) -> RunConfig:
    config = runpy.run_path(str(RECIPES / f"alttrain_{name}.py"))["CONFIG"]
    assert isinstance(config, RunConfig)
    return config


@pytest.mark.parametrize("name", SIZES)
def test_recipe_is_valid_and_weights_the_assessment(name: str) -> None:
    config = config_of(name)
    validate(config)
    assert config.loss.assessment == 2.0
    assert (config.loss.prompt, config.loss.opening) == (0.0, 0.0)


@pytest.mark.parametrize("name", SIZES)
def test_published_hyper_parameters(name: str) -> None:
    config = config_of(name)
    assert config.schedule.epochs == 15
    assert config.schedule.warmup_steps == 5
    assert (config.optim.lr, config.optim.betas, config.optim.weight_decay) == (1e-5, (0.9, 0.95), 1e-4)
    assert config.batch.examples == (16 if name in ("1p5b", "32b") else 8)
    assert config.model.path.startswith("deepseek-ai/DeepSeek-R1-Distill-")


PLANNED = re.compile(
    r"^Planned by --plan\.gpu (?P<gpu>\S+), predicted and not measured: .*?\.$(?=\n[A-Z])", re.M | re.S
)


def planned(name: str) -> tuple[str, str]:
    """Return what the docstring of a recipe says of its plan, and what it should say."""
    source = (RECIPES / f"alttrain_{name}.py").read_text(encoding="utf-8")
    found = PLANNED.search(source)
    assert found is not None
    config = config_of(name)
    # The rows that the recipe names may be here; its figures are for those that are assumed.
    data = dataclasses.replace(config.data, train=("runs/no-such-file.jsonl",))
    plan = make_plan(dataclasses.replace(config, data=data, plan=dataclasses.replace(config.plan, gpu=found["gpu"])))  # type: ignore[arg-type]
    text = f"Planned by --plan.gpu {found['gpu']}, predicted and not measured: {figures(plan)}"
    return found[0], textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False)


@pytest.mark.parametrize("name", SIZES)
def test_a_recipe_says_what_is_planned_and_fits_its_machine(name: str) -> None:
    said, right = planned(name)
    assert said == right
    assert "does not fit" not in said


if __name__ == "__main__":
    for each in SIZES:
        file = RECIPES / f"alttrain_{each}.py"
        old, new = planned(each)
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
