"""The jobs of a study: training a base, and aligning it with an arm and evaluating that; and where each writes."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from alttrain.nano.alignment import alignment_rows, num_words
from alttrain.nano.arms import FACTS, TREATMENT, Arm, ArmOrBase
from alttrain.nano.config import StudyConfig, Training
from alttrain.nano.evaluation import Item, evaluation_items
from alttrain.nano.world import World

# Tokens that rendering adds to a row's words: user, assistant, the two tags of the reasoning, the end.
NUM_MARKS = 5
ANSWERS_PER_INTERVENTION = 4
"""A harmful request and a benign one, each under the true assessment and under its opposite."""
SHIPPED = Path(__file__).with_name("base.safetensors")
SHIPPED_SEED = 0


@dataclass(frozen=True)
class BaseJob:
    """Pre-train the base of a world, or take its weights from the shipped file."""

    config: StudyConfig
    world: World
    is_shipped: bool
    threads: int

    @property
    def folder(self) -> Path:
        """The run folder; the model folder that the run starts from stands beside it."""
        return Path(self.config.output) / "runs" / str(self.world.seed) / "base"

    @property
    def num_steps(self) -> int:
        """Optimizer steps."""
        return 0 if self.is_shipped else self.config.base.schedule.steps

    @property
    def num_answers(self) -> int:
        """Answers that the model has to give."""
        return 0


@dataclass(frozen=True)
class ArmJob:
    """Align the base with one arm (`base`: do not align it), then run the evaluation."""

    config: StudyConfig
    world: World
    arm: ArmOrBase
    weight: float

    @property
    def folder(self) -> Path:
        """The run folder."""
        name = "base-asked" if self.arm == "base" else f"{self.arm}-w{self.weight:g}"
        return Path(self.config.output) / "runs" / str(self.world.seed) / name

    @property
    def items(self) -> list[Item]:
        """The prompts of the evaluation."""
        return evaluation_items(self.world, self.config.evaluation, self.config.examples)

    @property
    def training(self) -> Training:
        """The training of the alignment, with more steps for an arm that gets as many tokens as AltTrain."""
        training = self.config.alignment
        if self.arm == "base" or not FACTS[self.arm].has_as_many_tokens:
            return training
        own, treatment = (self._num_tokens(arm) for arm in (self.arm, TREATMENT))
        steps = round(self._num_steps(training) * treatment / own)
        return dataclasses.replace(training, schedule=dataclasses.replace(training.schedule, epochs=0, steps=steps))

    @property
    def num_steps(self) -> int:
        """Optimizer steps."""
        return 0 if self.arm == "base" else self._num_steps(self.training)

    def _num_steps(self, training: Training) -> int:
        rows = len(alignment_rows(self.world, self.config.examples, TREATMENT))  # the number is the same in every arm
        return training.schedule.steps or training.schedule.epochs * -(-rows // training.batch.examples)

    def _num_tokens(self, arm: Arm) -> int:
        rows = alignment_rows(self.world, self.config.examples, arm)
        return num_words(rows) + NUM_MARKS * len(rows)

    @property
    def num_answers(self) -> int:
        """Answers that the model has to give, those after interventions included."""
        return len(self.items) + ANSWERS_PER_INTERVENTION * self.config.evaluation.interventions


Job = BaseJob | ArmJob


def record_of(job: Job) -> Path:
    """Return the file that a job writes last: what runs.jsonl and study.json say of it."""
    return job.folder.with_name(f"{job.folder.name}.record.json")


def start_of(job: BaseJob) -> Path:
    """Return the model folder without weights that a base starts from."""
    return job.folder.with_name("base-start")
