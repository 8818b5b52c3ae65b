"""What tells a row's label before its assessment does: measured by a plain classifier, each part of a row by itself.

A model that is trained on harmful rows of one make and benign rows of another may learn the make: a set whose benign
rows are all mathematics taught one to refuse whatever is not mathematics, with every structure in order. So the label
is predicted from one part of the rows at a time, by a classifier that has not seen the row (five folds). Balanced
accuracy is the mean of the shares of harmful and of benign rows that are recognised: 0.5 where the part tells nothing.
What the prompt asks may tell it, as harmful requests are about harm; that almost every row is told by it says that
benign requests which sound harmful, and ordinary ones, are missing. The form of a text should tell nothing.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from alttrain.engine.trace.roles import Row

# A word is a run of letters and digits, one character of a script without spaces, or a mark.
WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]")
FOLDS = 5
# Fewer rows of a label than this say too little: with 20, an accuracy of 0.5 may look like one of 0.7.
FEWEST_ROWS = 20
# A part that recognises nine rows of ten by itself can stand in for the assessment.
SUFFICIENT = 0.9
OPENING_WORDS = 3
# More rows than this add seconds and no insight; a random sample of them is taken.
MOST_ROWS = 4000
PROMPT_WORDS, PROMPT_FORM = "the words of the prompt", "length and marks of the prompt"
UNDERSTANDING, UNDERSTANDING_OPENING = "the words of the understanding", "the first words of the understanding"
UNDERSTANDING_FORM, ASSESSMENT_OPENING = "length and marks of the understanding", "the first words of the assessment"
# It is no part of what a model reads; what tells two sources apart shows in the other parts.
SOURCE = "the name of the source"
_ONE_MAKER = "the form may be learnt in the place of an assessment. Let one writer make the traces of both labels"
WAYS_OUT: Mapping[str, str] = {
    PROMPT_WORDS: "their topics may be learnt in the place of an assessment, and every other topic be refused. Add "
    "benign requests of many kinds, and such as sound harmful",
    PROMPT_FORM: "how requests are written may be learnt in the place of an assessment. Add benign requests that are "
    "written like the harmful ones",
    UNDERSTANDING: _ONE_MAKER,
    UNDERSTANDING_OPENING: _ONE_MAKER,
    UNDERSTANDING_FORM: _ONE_MAKER,
    ASSESSMENT_OPENING: "the verdict falls with its first words. Give --assess.phrases frames that begin alike",
}
Features = Mapping[str, float]


class Leak(NamedTuple):
    """How well one part of the rows tells the label."""

    part: str
    balanced_accuracy: float

    @property
    def warning(self) -> str:
        """A sentence for the user about a part that can stand in for the assessment; empty for others."""
        if self.balanced_accuracy < SUFFICIENT or self.part not in WAYS_OUT:
            return ""
        part = f"{self.part[0].upper()}{self.part[1:]}"
        return f"{part} alone tell {self.balanced_accuracy:.0%} of the labels: {WAYS_OUT[self.part]}."


def find_leaks(rows: Sequence[Row], seed: int) -> list[Leak]:
    """Return how well each part that stands before the verdict tells the label; nothing where rows of a label are few.

    Parts that no row has are left out, as the understanding of a control without one is. The same rows and seed give
    the same numbers.
    """
    if len(rows) > MOST_ROWS:
        rows = random.Random(seed).sample(rows, MOST_ROWS)
    labels = [row.label for row in rows]
    counts = Counter(label for label in labels if label)
    if len(counts) != 2 or min(counts.values()) < FEWEST_ROWS or sum(counts.values()) < len(rows):
        return []
    found = []
    for part, read in PARTS.items():
        features = [read(row) for row in rows]
        if any(features):
            found.append(Leak(part, _balanced_accuracy(features, [str(label) for label in labels], seed)))
    return found


def _balanced_accuracy(features: Sequence[Features], labels: Sequence[str], seed: int) -> float:
    """Return the balanced accuracy of a logistic regression on rows that it has not seen."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    model: Any = make_pipeline(DictVectorizer(), MaxAbsScaler(), regression)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(model, list(map(dict, features)), list(labels), cv=folds)
    return float(balanced_accuracy_score(labels, predicted))


def _prompt(row: Row) -> str:
    return "\n".join(message.content for message in row.messages)


def _span(row: Row, role: str) -> str:
    return "".join(span.text for span in row.spans if span.role == role)


def _words(text: str) -> Features:
    """Return which words occur."""
    return dict.fromkeys(map(str.lower, WORDS.findall(text)), 1.0)


def _opening(text: str) -> Features:
    """Return the first words, as they are written: alone, and together with those before."""
    words = WORDS.findall(text)[:OPENING_WORDS]
    return {" ".join(words[: end + 1]): 1.0 for end in range(len(words))} | {
        f"{place}: {word}": 1.0 for place, word in enumerate(words)
    }


def _form(text: str) -> Features:
    """Return length, in steps of half a doubling, and shares of marks, digits and capitals."""
    words = WORDS.findall(text)
    if not words:
        return {}
    kinds = Counter("digit" if word[0].isdigit() else word for word in words if not word[0].isalpha())
    capitals = sum(word[0].isupper() for word in words)
    shares = {f"share of {kind}": count / len(words) for kind, count in kinds.items()}
    return {f"length {round(2 * math.log2(len(words)))}": 1.0, "capitals": capitals / len(words)} | shares


PARTS: Mapping[str, Callable[[Row], Features]] = {
    PROMPT_WORDS: lambda row: _words(_prompt(row)),
    PROMPT_FORM: lambda row: _form(_prompt(row)),
    UNDERSTANDING: lambda row: _words(_span(row, "understanding")),
    UNDERSTANDING_OPENING: lambda row: _opening(_span(row, "understanding")),
    UNDERSTANDING_FORM: lambda row: _form(_span(row, "understanding")),
    ASSESSMENT_OPENING: lambda row: _opening(_span(row, "assessment")),
    SOURCE: lambda row: {row.source: 1.0},
}
