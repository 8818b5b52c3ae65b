"""Measuring in a process of its own, which takes its memory with it: rows come back one by one."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

Row = dict[str, Any]
Send = Callable[[Row], None]


def rows_of(
    measure: Callable[..., None], *args: Any, name: str, most_seconds: float, first_seconds: float = 0.0
) -> Iterator[Row]:
    """Yield the rows that `measure(send, *args)` sends from a process of its own, as they come.

    On CUDA its allocator has expandable segments, unless PYTORCH_CUDA_ALLOC_CONF says otherwise.

    Args:
        measure: a function of a module.
        args: its other arguments.
        name: what an error calls it.
        most_seconds: the longest wait for a row.
        first_seconds: the same for the first one, where that is to be longer.

    Raises:
        RuntimeError: the process ended before its work was done, or a row took too long.
    """
    if torch.cuda.is_available():
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure_here, args=(sender, measure, args))
    child.start()
    sender.close()
    seconds = max(first_seconds, most_seconds)
    try:
        while True:
            if not receiver.poll(seconds):
                raise RuntimeError(f"{name}: no figure within {seconds:.0f} s.")
            row = receiver.recv()
            if row is None:
                return
            yield row
            seconds = most_seconds
    except EOFError:
        raise RuntimeError(f"{name}: its process ended early; its error stands in the log.") from None
    finally:
        child.kill()
        child.join()


def _measure_here(sender: Any, measure: Callable[..., None], args: tuple[Any, ...]) -> None:
    def send(row: Row) -> None:
        print(json.dumps(row), flush=True)
        sender.send(row)

    measure(send, *args)
    sender.send(None)
    os._exit(0)  # as the command line does: what is left to tidy up takes seconds and can hang
