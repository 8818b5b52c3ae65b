"""Every recipe is a run that could start: valid settings, and the published hyper-parameters."""

import runpy
from pathlib import Path

import pytest

from alttrain.engine.config import RunConfig
from alttrain.engine.config_checks import validate

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
