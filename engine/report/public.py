"""What is published names no folder of the machine that made it: a path becomes the name at its end."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Not the slashes of an address, of a date or of a hub id, nor those after ~.
_ABSOLUTE = re.compile(r"(?:(?<=\bfile://)|(?<![\w.~/-]))/[\w.@+,~-]+(?:/[\w.@+,~-]*)+")


def without_folders(text: str, record: Mapping[str, Any]) -> str:
    """Return `text` with the last name in the place of every path that the record of a run holds; hub ids stay.

    Args:
        text: a card or a page.
        record: what config.json of the run folder holds.
    """
    paths = {path for path in _paths(record) if _is_local(path)}
    for path in sorted(paths, key=lambda path: (-len(path), path)):
        text = text.replace(path, Path(path).name or "folder")
    return text


def _paths(record: Mapping[str, Any]) -> Iterator[str]:
    run = record.get("run", {})
    data = run.get("data", {})
    yield from (run.get("model", {}).get("path", ""), run.get("output", ""), data.get("chat_template", ""))
    yield from (*data.get("train", ()), *data.get("eval", ()), *record.get("data", {}).get("files", ()))
    for start in record.get("starts", []):
        for value in start.get("paths", {}).values():
            yield from value if isinstance(value, list) else [str(value)]


def _is_local(path: str) -> bool:
    """Return whether a path names something on this machine, and not a model or data set of the hub."""
    is_hub_id = path.count("/") == 1 and not path.startswith(("/", ".", "~")) and not Path(path).exists()
    return "/" in path and not is_hub_id


def without_paths(text: str, home: str) -> str:
    """Return `text` with `~` in the place of the folder `home`, and of every other absolute path its last name.

    For texts that libraries have written: `without_folders` knows the paths of a run.
    """
    if home.strip("/"):
        text = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w.-])", "~", text)
    return _ABSOLUTE.sub(lambda path: path[0].rstrip("/").rpartition("/")[2] or "/", text)
