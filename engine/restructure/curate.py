"""Which traces are used: duplicates and prompts of evaluation sets are dropped, and the rest is sampled by seed.

Two prompts are the same when their normalised texts are equal. Paraphrases are not found.
"""

import csv
import random
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alttrain.engine.data.sources import read_source
from alttrain.engine.errors import DataError
from alttrain.engine.restructure.structures import Trace
from alttrain.engine.restructure.traces import Dropped

_DIALECTS: dict[str, dict[str, Any]] = {".csv": {}, ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE}}


def curate(traces: Sequence[Trace], avoid: Mapping[str, set[str]]) -> tuple[list[Trace], list[Dropped]]:
    """Return the traces to keep, in order, and the dropped ones.

    Args:
        traces: of several with the same prompt, the first is kept.
        avoid: for each file, its normalised texts (`read_texts`); a prompt is counted at the first file that holds it.
    """
    kept: list[Trace] = []
    dropped: list[Dropped] = []
    seen: set[str] = set()
    for trace in traces:
        prompt = normalise("\n".join(message.content for message in trace.messages))
        file = next((file for file, texts in avoid.items() if prompt in texts), "")
        if prompt in seen:
            dropped.append(Dropped(trace.where, trace.source, "its prompt has come before"))
        elif file:
            dropped.append(Dropped(trace.where, trace.source, f"its prompt stands in {file}", file))
        else:
            kept.append(trace)
        seen.add(prompt)
    return kept, dropped


def choose(traces: Sequence[Trace], count: int, seed: int) -> list[Trace]:
    """Return `count` traces (all, where there are fewer) in a random order that depends on their ids and the seed only.

    With the same seed, a smaller count gives the first of the same traces.
    """
    return sorted(traces, key=lambda trace: random.Random(f"{seed}/{trace.id}").random())[:count]


def normalise(text: str) -> str:
    """Return `text` in NFKC and one case, its runs of whitespace as single spaces, without punctuation at the end."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    while text and unicodedata.category(text[-1]).startswith("P"):
        text = text[:-1].rstrip()
    return text


def read_texts(path: str) -> set[str]:
    """Return the normalised texts of every cell of a .csv or .tsv, or of every string in the rows of another source.

    Raises:
        DataError: the file is missing, or not what its name says.
    """
    suffix = Path(path).suffix.lower()
    texts = _table_texts(path, suffix) if suffix in _DIALECTS else _row_texts(path)
    return {normalise(text) for text in texts} - {""}


def _table_texts(path: str, suffix: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for cells in csv.reader(file, **_DIALECTS[suffix]):
                yield from cells
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); give an existing file to --avoid.", where=path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 (byte {error.start + 1}). Save the file as UTF-8.", where=path) from error
    except csv.Error as error:
        raise DataError(f"not a {suffix} table ({error}). Mend it, or take it out of --avoid.", where=path) from error


def _row_texts(path: str) -> Iterator[str]:
    for item in read_source(path):
        if isinstance(item.value, DataError):
            raise item.value
        yield from _strings(item.value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
