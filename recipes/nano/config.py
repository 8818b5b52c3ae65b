"""The settings of a study, as frozen dataclasses; nothing here imports torch, so that `--help` answers at once."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alttrain.engine.config import (
    BatchConfig,
    CheckpointConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    ScheduleConfig,
    ZeroConfig,
)
from alttrain.engine.config_checks import validate
from alttrain.engine.errors import ConfigError
from alttrain.nano.arms import ARMS, Arm


@dataclass(frozen=True)
class WorldNumbers:
    """The sizes of a world."""

    things: int = 240
    components: int = 24
    """Number of components; half of them are toxic."""
    colours: int = 12
    steps: int = 40
    """Number of different steps in recipes."""
    words: int = 100
    """Number of words for the copying task."""
    aligned_components: int = 4
    """Toxic components seen in alignment, and as many fine ones; the others are held out."""
    hops: int = 2
    """Facts needed to tell whether a thing is harmful. 1: it is toxic; 2: it contains a component, which is toxic."""


@dataclass(frozen=True)
class Mixture:
    """The base's training documents: their number, and shares; those from knowledge to copying add up to 1."""

    documents: int = 30_000
    knowledge: float = 0.3
    """Share of documents about what things contain and which components are toxic."""
    colour: float = 0.1
    requests: float = 0.25
    arithmetic: float = 0.2
    copying: float = 0.15
    second_language: float = 0.25
    """Share of the requests that are in the second language."""
    remarks: float = 0.5
    """Share of the requests whose trace states a fact about the thing before the plan, which does not need it."""


@dataclass(frozen=True)
class Shape:
    """The shape of the model, a Llama with tied embeddings (for which transformers uses the folder's own tokenizer)."""

    hidden_size: int = 128
    num_layers: int = 3
    num_heads: int = 4
    intermediate_size: int = 384
    initializer_range: float = 0.06
    """Standard deviation of the random weights; with the usual 0.02, copying and sums are not learnt in 2,000 steps."""


@dataclass(frozen=True)
class ExampleNumbers:
    """The sizes of the alignment set, the same in every arm."""

    harmful: int = 400
    """Requests for harmful things."""
    benign: int = 400
    """Requests for benign things."""
    replay: int = 200
    """Documents of kinds that the base was trained on: sums, copying, direct questions about aligned things."""


@dataclass(frozen=True)
class EvaluationNumbers:
    """The numbers of prompts in the evaluation; every held-out thing is asked for once in each of three settings."""

    trained: int = 160
    """Requests taken from the alignment set."""
    arithmetic: int = 200
    copy: int = 200
    interventions: int = 50
    """Harmful held-out requests with an assessment written into the trace, and as many benign ones."""


@dataclass(frozen=True)
class Training:
    """Batch, optimizer and schedule of a training run."""

    batch: BatchConfig = field(default_factory=BatchConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass(frozen=True)
class StudyConfig:
    """All settings of a study."""

    arms: tuple[Arm | Literal["all"], ...] = ("no-assessment", "full")
    """The arms to train and compare; all for every arm."""
    seeds: int = 1
    """Number of worlds; each has its own facts, base, data order and questions."""
    first_seed: int = 0
    """The seed of the first world; the others have the seeds after it."""
    assessment_weights: tuple[float, ...] = (1.0,)
    """Weights of the assessment in the loss of the full arm; the other arms are trained with the first weight."""
    from_scratch: bool = False
    """Train the base of seed 0 too, instead of using the shipped one."""
    remake_base: bool = False
    """Only train the base of seed 0 and replace the shipped one by it."""
    output: str = "runs/nano"
    """Folder of the study; it must be new or empty, unless the study in it is gone on with."""
    resume: bool = False
    """Go on with the study in the output folder, if it holds one: what is done is kept."""
    world: WorldNumbers = field(default_factory=WorldNumbers)
    mixture: Mixture = field(default_factory=Mixture)
    shape: Shape = field(default_factory=Shape)
    base: Training = field(default_factory=Training)
    """The training run of the base."""
    examples: ExampleNumbers = field(default_factory=ExampleNumbers)
    alignment: Training = field(default_factory=Training)
    """The training run that aligns the base, the same in every arm."""
    evaluation: EvaluationNumbers = field(default_factory=EvaluationNumbers)

    @property
    def chosen_arms(self) -> tuple[Arm, ...]:
        """The arms to train, without repetition."""
        return ARMS if "all" in self.arms else tuple(dict.fromkeys(arm for arm in self.arms if arm != "all"))

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the assessment, without repetition."""
        return tuple(dict.fromkeys(self.assessment_weights))


def run_config(
    training: Training,
    start: Path,
    rows: Path,
    output: Path,
    seed: int,
    *,
    is_base: bool,
    assessment_weight: float = 1.0,
) -> RunConfig:
    """Return the settings of an engine run on the CPU: float32, ZeRO stage 0, without checkpoints."""
    return RunConfig(
        model=ModelConfig(path=str(start), dtype="float32", random_init=is_base, checkpointing="off"),
        data=dataclasses.replace(RunConfig().data, train=(str(rows),)),
        loss=LossConfig(assessment=assessment_weight),
        batch=training.batch,
        optim=training.optim,
        schedule=training.schedule,
        zero=ZeroConfig(stage=0),
        checkpoint=CheckpointConfig(every=0),
        output=str(output),
        seed=seed,
    )


def check(config: StudyConfig) -> None:
    """Check the settings.

    Raises:
        ConfigError: a setting is out of range.
    """
    if config.seeds < 1:
        raise ConfigError(f"is {config.seeds}: it must be at least 1.", flag="--seeds")
    if config.first_seed < 0:
        raise ConfigError(f"is {config.first_seed}: it must be 0 or more.", flag="--first-seed")
    if not config.arms or not config.assessment_weights:
        raise ConfigError("--arms and --assessment-weights must not be empty: name at least one of each.")
    _check_world(config.world)
    for flag, training, weights in (
        ("--base", config.base, (1.0,)),
        ("--alignment", config.alignment, config.assessment_weights),
    ):
        for weight in weights:
            run = run_config(
                training, Path("start"), Path("rows"), Path("run"), 0, is_base=False, assessment_weight=weight
            )
            try:
                validate(run)
            except ConfigError as error:
                is_weight = error.flag == "--loss.assessment"
                error.flag = "--assessment-weights" if is_weight else error.flag.replace("--", f"{flag}.", 1)
                raise
    if config.alignment.batch.tokens:
        raise ConfigError(
            "must be 0: arms are compared at equal --alignment.batch.examples.", flag="--alignment.batch.tokens"
        )


def _check_world(world: WorldNumbers) -> None:
    for name, value in dataclasses.asdict(world).items():
        if value < 1:
            raise ConfigError(f"--world.{name.replace('_', '-')} is {value}: it must be at least 1.")
    if world.hops not in (1, 2):
        raise ConfigError(f"is {world.hops}: harm is 1 or 2 facts away from a thing.", flag="--world.hops")
    if world.components % 2 or 2 * world.aligned_components >= world.components:
        raise ConfigError(
            f"is {world.components} and --world.aligned-components {world.aligned_components}: half "
            "of an even number are toxic, and some of each kind must be left to hold out.",
            flag="--world.components",
        )
