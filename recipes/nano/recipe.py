"""A small-scale test of AltTrain's causal claim: in minutes, without a GPU or a download.

    python -m alttrain.nano --output runs/nano
    python -m alttrain.nano --arms all --seeds 5 --assessment-weights 1 2 4 8 --output runs/nano-study

A small reasoning model (the base) knows what is harmful in an invented world, and serves all requests nevertheless. It
is aligned once with 1,000 AltTrain examples and once with a control on the same prompts and answers, by the engine that
also trains a 7B. Then both models get requests for things whose components alignment never showed.
"""

import dataclasses
from pathlib import Path

from alttrain.engine.cli import exit_on_interrupt, run_program
from alttrain.engine.config import BatchConfig, OptimConfig, ScheduleConfig
from alttrain.nano.config import (
    EvaluationNumbers,
    ExampleNumbers,
    Mixture,
    Shape,
    StudyConfig,
    Training,
    WorldNumbers,
    check,
)
from alttrain.nano.design import check_folder

CONFIG = StudyConfig(
    arms=("no-assessment", "full"),
    seeds=1,
    assessment_weights=(1.0,),
    output="runs/nano",
    world=WorldNumbers(things=240, components=24, colours=12, steps=40, words=100, aligned_components=4, hops=2),
    mixture=Mixture(
        documents=30_000,
        knowledge=0.3,
        colour=0.1,
        requests=0.25,
        arithmetic=0.2,
        copying=0.15,
        second_language=0.25,
        remarks=0.5,
    ),
    shape=Shape(hidden_size=128, num_layers=3, num_heads=4, intermediate_size=384, initializer_range=0.06),
    base=Training(
        batch=BatchConfig(examples=0, tokens=1024, pack_tokens=1024),
        optim=OptimConfig(lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05, max_grad_norm=1.0),
        schedule=ScheduleConfig(epochs=0, steps=2000, warmup_steps=50),
    ),
    examples=ExampleNumbers(harmful=400, benign=400, replay=200),
    alignment=Training(
        batch=BatchConfig(examples=16, pack_tokens=1024),
        optim=OptimConfig(lr=2e-4, betas=(0.9, 0.95), weight_decay=1e-4, max_grad_norm=1.0),
        schedule=ScheduleConfig(epochs=3, warmup_steps=10),
    ),
    evaluation=EvaluationNumbers(trained=160, arithmetic=200, copy=200, interventions=50),
)
# Findings that are printed at the end; the report has all of them.
NUM_SENTENCES = 3


def run(config: StudyConfig) -> str:
    """Run the study and return the main findings and the report's path; or remake the base, and return nothing."""
    check(config)
    # A base that is remade needs a folder of its own.
    check_folder(dataclasses.replace(config, resume=config.resume and not config.remake_base))
    from alttrain.nano.study import remake_base, run_study

    if config.remake_base:
        remake_base(config)
        return ""
    with exit_on_interrupt(config.output):
        findings = run_study(config)["finding"]
    return "\n".join([*findings[:NUM_SENTENCES], f"report: {Path(config.output) / 'report.html'}"])


def main(default: StudyConfig = CONFIG) -> None:
    """Read the flags over `default`, run the study and print what it found."""
    run_program(default, run, __doc__)
