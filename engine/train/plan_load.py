"""What a plan knows of model and rows: read from files that are at hand, known, or assumed, and said which.

Nothing is fetched. Without rows at hand nothing here imports torch, so that a plan answers at once; rows are tokenised
as training does it, which takes as long as it takes there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from alttrain.engine.config import RunConfig
from alttrain.engine.data.steps import Plan
from alttrain.engine.errors import ConfigError
from alttrain.engine.model.config_files import read_object
from alttrain.engine.model.shape import PUBLISHED, ModelShape

ASSUMED_ROWS, ASSUMED_TOKENS, ASSUMED_SHARE = 1000, 170, 0.75
# Steps of the first epoch that are packed: evenly spaced ones for the means, and the largest for the fullest pack.
SPACED, LARGEST = 24, 8
TILE = 128


class Model(NamedTuple):
    """A model's shape, and where it is known from."""

    shape: ModelShape
    source: str


@dataclass(frozen=True)
class Rows:
    """The rows of a run by their lengths."""

    lengths: Sequence[int]
    """Tokens of each row."""
    share: float
    """Of the tokens, those whose label has weight."""
    source: str
    """A phrase for the user: which rows, and whether they were measured."""

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths)


class Load(NamedTuple):
    """What the fullest rank of every micro-batch has, on average, and the most that one pack holds."""

    num_steps: int
    tokens_a_step: float
    """Over all ranks."""
    packs: float
    """Of a rank in a step."""
    most_packs: int
    pack_tokens: float
    pack_tiles: float
    """Tiles of 128 x 128 on and below the diagonals of a pack's documents."""
    fullest_pack: int
    """Tokens."""
    idle_ranks: float
    """The share of ranks that have no row in a micro-batch."""


def open_model(config: RunConfig) -> Model:
    """Return the model that `config` names: from its folder, from what the hub's cache holds, or a published one.

    Raises:
        ConfigError: it is none of these.
        ModelError: its config.json does not describe a model that is trained here.
    """
    name = config.model.path
    if name in PUBLISHED and not Path(name).is_dir():
        return Model(PUBLISHED[name], "by its published config.json, as no folder is named")
    file = _folder(name) / "config.json"
    if file.is_file():
        return Model(ModelShape.from_config(read_object(file), file), f"by {file}")
    raise ConfigError(
        f"{name}: no folder here holds its config.json, and a plan fetches nothing. Give a model folder, or one of "
        f"{', '.join(PUBLISHED)}.",
        flag="--model.path",
    )


def open_rows(config: RunConfig) -> Rows:
    """Return the rows that `config` names, tokenised; or rows that are assumed, where they are not at hand.

    Raises:
        AlttrainError: the rows are at hand, and training would refuse them.
    """
    if not config.data.train:
        return assumed_rows("--data.train is not given")
    for file in config.data.train:
        if not Path(file).is_file():
            return assumed_rows(f"{file} is not at hand")
    folder = _folder(config.model.path)
    if not (folder / "tokenizer.json").is_file():
        return assumed_rows(f"the tokenizer of {config.model.path} is not at hand")
    from alttrain.engine.data.dataset import load_dataset
    from alttrain.engine.data.model_folder import read_template
    from alttrain.engine.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    if config.data.chat_template:
        tokenizer.chat_template = read_template(config.data.chat_template, "--data.chat-template")
    most = min(config.batch.pack_tokens, open_model(config).shape.context)
    dataset = load_dataset(config.data.train, config.data, config.loss, tokenizer, most)
    weights, tokens = config.loss.weights(), dataset.report.tokens
    share = sum(count for role, count in tokens.items() if weights[role] > 0) / sum(tokens.values())
    lengths = dataset.lengths
    mean = sum(lengths) / len(lengths)
    return Rows(lengths, share, f"{len(lengths):,} of {mean:.0f} tokens on average, {max(lengths):,} at most, measured")


def assumed_rows(reason: str) -> Rows:
    """Return rows like AltTrain-1K's, all of the mean length; `reason` says why they are assumed."""
    said = f"{reason}: {ASSUMED_ROWS:,} rows of {ASSUMED_TOKENS} tokens are assumed"
    return Rows([ASSUMED_TOKENS] * ASSUMED_ROWS, ASSUMED_SHARE, said)


def load_of(rows: Rows, config: RunConfig, world_size: int, shape: ModelShape) -> Load:
    """Return what the ranks of a world get of the rows, by packing steps of the first epoch as training does.

    Raises:
        ConfigError: a row is longer than a step or a pack.
    """
    plan = Plan(rows.lengths, config.batch, config.schedule, config.seed)
    every = min(plan.num_steps, _steps_of_an_epoch(plan, len(rows.lengths)))
    totals = [sum(rows.lengths[index] for index in plan.examples_of(step)) for step in range(every)]
    spaced = range(0, every, max(1, every // SPACED))
    largest = sorted(range(every), key=totals.__getitem__)[-LARGEST:]
    # Assumed rows make equal steps: one of each size is enough.
    packed: dict[int, list[list[int]]] = {}
    drawn: dict[tuple[int, ...], int] = {}
    for step in {*spaced, *largest}:
        known = drawn.setdefault(tuple(sorted(rows.lengths[index] for index in plan.examples_of(step))), step)
        if known == step:
            packs = plan.draw(step, config.batch.pack_tokens, world_size, shape.work).packs
            packed[step] = [[sum(rows.lengths[i] for i in pack) for pack in rank] for rank in packs]
        else:
            packed[step] = packed[known]
    fullest = [[max(rank[index] for rank in packed[step]) for index in range(len(packed[step][0]))] for step in spaced]
    empty = [tokens == 0 for step in spaced for rank in packed[step] for tokens in rank]
    num_packs = sum(map(len, fullest))
    tokens = sum(map(sum, fullest)) / num_packs
    return Load(
        num_steps=plan.num_steps,
        tokens_a_step=sum(totals) / every,
        packs=num_packs / len(fullest),
        most_packs=max(len(ranks[0]) for ranks in packed.values()),
        pack_tokens=tokens,
        pack_tiles=tokens * sum(map(tiles_of, rows.lengths)) / sum(rows.lengths),
        fullest_pack=max(count for ranks in packed.values() for rank in ranks for count in rank),
        idle_ranks=sum(empty) / len(empty),
    )


def tiles_of(length: int) -> int:
    """Return the tiles of 128 x 128 of causal attention over one document."""
    side = -(-length // TILE)
    return side * (side + 1) // 2


def _steps_of_an_epoch(plan: Plan, num_rows: int) -> int:
    """Return how many steps have passed when every row has been seen once."""
    steps, seen = 0, 0
    while seen < num_rows and steps < plan.num_steps:
        seen += len(plan.examples_of(steps))
        steps += 1
    return steps


def _folder(name: str) -> Path:
    """Return the folder of a model; of a hub id, the one that the hub's cache holds, or one that is not there."""
    if Path(name).is_dir() or name.count("/") != 1 or name.startswith((".", "~", "/")):
        return Path(name)
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no id of the hub
        return Path(name)
    return Path(file).parent if isinstance(file, str) else Path(name)
