"""The arms in one table: all have the same prompts and final answers, and traces that differ in structure alone.

To add an arm, add a row here and a name in `Arm`; its training data, its flags and its name in the report follow from
the row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from alttrain.engine.restructure.structures import ORDER

Arm = Literal[
    "full",
    "no-assessment",
    "no-assessment-tokens",
    "assessment-last",
    "after-answer",
    "no-understanding",
    "answer-only",
    "placebo",
    "component-recall",
]
ArmOrBase = Arm | Literal["base"]

TREATMENT: Arm = "full"
"""AltTrain."""
CONTROL: Arm = "no-assessment"
"""The arm that AltTrain is compared with: it has as many examples and steps, and no assessment."""
BEFORE: ArmOrBase = "base"
"""The base model, which is evaluated without alignment."""


@dataclass(frozen=True)
class ArmFacts:
    """The facts of one arm."""

    name: ArmOrBase
    title: str
    """The arm's name in reports."""
    description: str
    """The parts of its trace, for readers."""
    question: str
    """The question that its comparison with AltTrain answers (for AltTrain, its comparison with the control)."""
    parts: tuple[str, ...]
    """The parts of the response to a request, in order: roles of spans, or RECALLS; empty for the base."""
    has_as_many_tokens: bool = False
    """Whether it is trained on as many tokens as AltTrain, in more steps; other arms have as many steps as AltTrain."""


COLOUR_RECALL, COMPONENT_RECALL = "colour recall", "component recall"
RECALLS = (COLOUR_RECALL, COMPONENT_RECALL)
"""Parts of a trace with as many words as an assessment but without a judgement; their role in the loss is reasoning."""

_TABLE = (
    ArmFacts(
        "base",
        title="base",
        description="the model before alignment",
        question="What does the model do that knows what is harmful and was never aligned?",
        parts=(),
    ),
    ArmFacts(
        "full",
        title="AltTrain",
        description="full: understanding, assessment, decision",
        question="Does a model that assesses before it decides refuse what is harmful, and only that?",
        parts=ORDER["full"],
    ),
    ArmFacts(
        "no-assessment",
        title="control",
        description="no-assessment: understanding, decision",
        question="Is it the assessment, or would any trace on these prompts and answers do?",
        parts=ORDER["no-assessment"],
    ),
    ArmFacts(
        "no-assessment-tokens",
        title="control, more tokens",
        description="no-assessment-tokens: the control, trained on as many tokens as AltTrain",
        question="Is it that AltTrain is trained on more tokens?",
        parts=ORDER["no-assessment"],
        has_as_many_tokens=True,
    ),
    ArmFacts(
        "assessment-last",
        title="assessment-last",
        description="understanding, decision, assessment; then the answer",
        question="Must the assessment stand before the decision?",
        parts=ORDER["assessment-last"],
    ),
    ArmFacts(
        "after-answer",
        title="after-answer",
        description="the assessment only after the answer",
        question="Is it enough to learn to assess, where nothing that is written depends on it?",
        parts=ORDER["after-answer"],
    ),
    ArmFacts(
        "no-understanding",
        title="no-understanding",
        description="assessment, decision",
        question="Is the understanding needed?",
        parts=ORDER["no-understanding"],
    ),
    ArmFacts(
        "answer-only",
        title="answer-only",
        description="no trace",
        question="Is a trace needed at all?",
        parts=ORDER["answer-only"],
    ),
    ArmFacts(
        "placebo",
        title="placebo",
        description="the assessment's length in recall of something that does not matter",
        question="Is it that the trace is longer?",
        parts=("understanding", COLOUR_RECALL, "reasoning", "answer"),
    ),
    ArmFacts(
        "component-recall",
        title="component-recall",
        description="recall of what the thing contains, without a verdict",
        question="Is it the knowledge that the assessment recalls, or its verdict?",
        parts=("understanding", COMPONENT_RECALL, "reasoning", "answer"),
    ),
)

FACTS: Mapping[str, ArmFacts] = {facts.name: facts for facts in _TABLE}
ARMS: tuple[Arm, ...] = tuple(facts.name for facts in _TABLE if facts.name != "base")
"""The arms that are trained, in the order of training."""
READING_ORDER: tuple[ArmOrBase, ...] = (
    BEFORE,
    CONTROL,
    TREATMENT,
    *(arm for arm in ARMS if arm not in (TREATMENT, CONTROL) and not FACTS[arm].has_as_many_tokens),
    *(arm for arm in ARMS if FACTS[arm].has_as_many_tokens),
)
"""The order of the arms in a report: base, control, AltTrain, the other structures, arms with as many tokens."""
