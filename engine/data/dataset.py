"""Reading files of rows as examples, tokens with span ids, and reporting what became of every row."""

import dataclasses
import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from alttrain.engine.config import DataConfig, LossConfig
from alttrain.engine.data.render import SPAN_IDS, Rendered, Renderer, Tokenizer
from alttrain.engine.data.rows import RowsRead, read_rows, row_format
from alttrain.engine.errors import DataError
from alttrain.engine.trace.roles import FORM, ROLES, SPAN_ROLES, Example, Row

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class DataReport:
    """What became of the rows."""

    rows: int
    """Rows in the files."""
    examples: int
    """Rows that are trained on."""
    placed: dict[str, int]
    """Number of rows in which each rule found a span; `listed` counts rows that list their spans themselves."""
    structures: dict[str, int]
    """Number of rows that say that they were made as AltTrain's (`full`) or as a control, by its name."""
    forms: dict[str, int]
    """Number of examples by the parts of their response, in the order in which they stand, joined by FORM."""
    unsegmented: int
    """Rows that hold text which no rule could assign to a span."""
    without_reasoning: int
    """Rows of a conversation that hold no text before their answer."""
    skipped: tuple[str, ...]
    """One sentence for each row left out, which begins with `file:line`."""
    cut: int
    """Rows whose end was cut off because they were too long."""
    tokens: dict[str, int]
    """Tokens of each role that occurs."""
    sha256: str
    """Hash of every example's token ids, span ids and weight, in order: equal if the data are equal, whatever their ids
    and their files are called."""
    unread: dict[str, int]
    """Column, or key of a turn, that nobody reads -> number of rows in which it holds a value."""
    weighted: int
    """Rows that have a weight of their own."""
    clock: str
    """The date that the chat template was given; empty where it does not ask for one."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for config.json."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """Return a few lines for people: counts, and the first of the rows that were left out."""
        placed = ", ".join(f"{rule} in {count}" for rule, count in self.placed.items()) or "none"
        made = "of" if self.examples <= self.rows else "examples of"
        lines = [
            f"{self.examples} {made} {self.rows} rows, {sum(self.tokens.values()):,} tokens; {self.cut} cut, "
            f"{len(self.skipped)} left out",
            f"spans: {placed}; unsegmented text in {self.unsegmented}",
        ]
        if controls := [name for name in self.structures if name != "full"]:
            lines.append(f"made as a control: {', '.join(f'{name} ({self.structures[name]})' for name in controls)}")
        if self.without_reasoning:
            lines.append(f"no reasoning in {self.without_reasoning}: they train the model to answer without any")
        if self.unread:
            lines.append("not read: " + ", ".join(f"{name} ({count})" for name, count in self.unread.items()))
        if self.weighted:
            lines.append(f"weights of their own: {self.weighted} rows")
        if self.clock:
            lines.append(f"the chat template reads the clock; it was given {self.clock} (--data.date)")
        lines += [f"left out: {reason}" for reason in self.skipped[:5]]
        if len(self.skipped) > 5:
            lines.append(f"left out: {len(self.skipped) - 5} more; config.json lists them all")
        return "\n".join(lines)


@dataclass(frozen=True)
class Dataset:
    """Examples in the order of the files, and what became of the rows that they come from."""

    examples: list[Example]
    report: DataReport

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(example.input_ids) for example in self.examples]


def shared_prompts(train: Dataset, held_out: Dataset) -> list[str]:
    """Return the `file:line` of each held-out row whose prompt, or whose plain text, is that of a training row too."""
    trained = {_prompt_ids(example) for example in train.examples}
    return [example.where for example in held_out.examples if _prompt_ids(example) in trained]


def load_dataset(
    files: Sequence[str], config: DataConfig, loss: LossConfig, tokenizer: Tokenizer, max_tokens: int
) -> Dataset:
    """Read every row of `files` as tokens; each example has at most `max_tokens` and a label with weight.

    No files make an empty dataset. A row that is cut loses its last tokens, the end-of-sequence token among them.

    Raises:
        ConfigError: a setting of `config` does not have the form that --help describes.
        DataError: a file is missing or broken, nothing in the files is supervised, or a row breaks a rule and
            `config` does not say that such rows are skipped or cut.
        ModelError: the tokenizer lacks something that training needs.
    """
    rows_format = row_format(config)
    variables = json.loads(config.chat_template_kwargs or "{}")
    renderer = Renderer(tokenizer, rows_format.target, variables, date.fromisoformat(config.date))
    read = read_rows(files, rows_format, config.on_bad_row)
    skipped = list(read.skipped)
    skip = skipped if config.on_bad_row == "skip" else None
    examples = tokenize_rows(read.rows, renderer, skip)
    if examples:
        _check_supervised(examples, loss, files)
    examples = _fit(examples, config, max_tokens, skipped)
    examples = _weighted(examples, loss, skip)
    if files and not examples:
        raise DataError(f"none of the {read.num_read} rows read can be used; the first: {skipped[0]}", where=files[0])
    return Dataset(examples, _report(read, examples, skipped, config.date if renderer.template.reads_clock else ""))


def tokenize_rows(rows: Sequence[Row], renderer: Renderer, skipped: list[str] | None) -> list[Example]:
    """Return the rows as tokens; a row's error is added to `skipped`, or raised where `skipped` is None.

    Raises:
        DataError: a row holds a special token, its template refuses it, or the prompt's ids are not a prefix
            of the row's.
    """
    examples: list[Example] = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        texts = [_render(row, renderer) for row in rows[first : first + ROWS_AT_ONCE]]
        tokens = iter(renderer.tokenize([text for text in texts if isinstance(text, Rendered)]))
        for text in texts:
            outcome = next(tokens) if isinstance(text, Rendered) else text
            if isinstance(outcome, DataError):
                _refuse(outcome, skipped)
            else:
                examples.append(outcome)
    return examples


def _render(row: Row, renderer: Renderer) -> Rendered | DataError:
    try:
        return renderer.render(row)
    except DataError as error:
        return error


def _refuse(error: DataError, skipped: list[str] | None) -> None:
    if skipped is None:
        raise error
    skipped.append(str(error))


def _prompt_ids(example: Example) -> tuple[int, ...]:
    given = tuple(
        token
        for token, span_id in zip(example.input_ids, example.span_ids, strict=True)
        if span_id == SPAN_IDS["prompt"]
    )
    return given or tuple(example.input_ids)


def _fit(examples: Iterable[Example], config: DataConfig, max_tokens: int, skipped: list[str]) -> list[Example]:
    """Return the examples of at most `max_tokens`; longer ones are refused, skipped or cut, as --data.too-long says."""
    fitting = []
    for example in examples:
        length = len(example.input_ids)
        if length <= max_tokens:
            fitting.append(example)
        elif config.too_long == "cut":
            ids, span_ids = example.input_ids[:max_tokens], example.span_ids[:max_tokens]
            fitting.append(replace(example, input_ids=ids, span_ids=span_ids))
        else:
            what = f"the row has {length} tokens, and a pack or the model's context holds {max_tokens}."
            if config.too_long == "error":
                raise DataError(
                    f"{what} Raise --batch.pack-tokens as far as the context goes, or say {{flag}} skip or cut.",
                    where=example.where,
                    flag="--data.too-long",
                )
            skipped.append(f"{example.where}: {what}")
    return fitting


def _weighted(examples: Iterable[Example], loss: LossConfig, skipped: list[str] | None) -> list[Example]:
    """Return the examples in which some label has weight, so that no step divides by 0."""
    weights = loss.weights()
    has_weight = [weights[role] > 0 for role in ROLES]
    kept = []
    for example in examples:
        # The first token is never a label.
        if any(has_weight[span_id] for span_id in set(example.span_ids[1:])):
            kept.append(example)
        else:
            reason = "no token of the row has weight in the loss, so it would train nothing"
            _refuse(
                DataError(f"{reason}. Give one of its roles a --loss weight, or skip it.", where=example.where), skipped
            )
    return kept


def _check_supervised(examples: Sequence[Example], loss: LossConfig, files: Sequence[str]) -> None:
    weights = loss.weights()
    found = {ROLES[span_id] for example in examples for span_id in set(example.span_ids[1:])}
    if not any(weights[role] for role in found):
        names = ", ".join(role for role in ROLES if role in found)
        raise DataError(
            f"nothing is supervised: the weight of every role in the data ({names}) is 0. "
            "Give one of them a --loss weight above 0.",
            where=files[0],
        )


def _report(read: RowsRead, examples: Sequence[Example], skipped: Sequence[str], clock: str) -> DataReport:
    counts: Counter[int] = Counter()
    forms: Counter[str] = Counter()
    digest = hashlib.sha256()
    for example in examples:
        counts.update(example.span_ids)
        # A role that occurs twice counts where it stands first.
        roles = (ROLES[span_id] for span_id in dict.fromkeys(example.span_ids))
        forms[FORM.join(role for role in roles if role in SPAN_ROLES)] += 1
        digest.update(f"{len(example.input_ids)}\n".encode())
        digest.update(array("q", example.input_ids).tobytes() + bytes(example.span_ids))
        if example.weight != 1.0:
            digest.update(f"weight {example.weight!r}\n".encode())
    return DataReport(
        rows=read.num_read,
        examples=len(examples),
        placed=read.placed,
        structures=read.structures,
        forms=dict(forms.most_common()),
        unsegmented=read.num_unsegmented,
        without_reasoning=read.num_without_reasoning,
        skipped=tuple(skipped),
        cut=sum(example.span_ids[-1] != SPAN_IDS["end"] for example in examples),
        tokens={role: counts[SPAN_IDS[role]] for role in ROLES if counts[SPAN_IDS[role]]},
        sha256=digest.hexdigest(),
        unread=read.unread,
        weighted=sum(example.weight != 1.0 for example in examples),
        clock=clock,
    )
