"""Which run a resumed one may go on with, and what config.json tells of each start of it.

Data, model and chat template are compared by what they hold, so that a run goes on after its files were moved; all
other settings that change a number are compared by their values. What may differ and does is said and kept.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alttrain.engine.errors import CheckpointError

# Settings that may differ when a run is resumed, as they change no number that the run computes.
FREE_ON_RESUME = ("output", "resume", "checkpoint", "eval", "model.checkpointing", "model.recomputed_layers")

# The settings that name files -> where the record keeps the hash of what these hold, and what that is called.
BY_CONTENT: Mapping[str, tuple[tuple[str, ...], str]] = {
    "model.path": (("model", "sha256"), "model"),
    "data.chat_template": (("model", "chat_template_sha256"), "chat template"),
    "data.train": (("data", "train", "sha256"), "rows"),
    "data.eval": (("data", "eval", "sha256"), "rows"),
}

# What every run had before these could be set, and its record does not say.
ONCE_FIXED: Mapping[str, Any] = {
    "optim.moments": "float32",
    "optim.master": "float32",
    "optim.gradients": "float32",
    "model.fp8": "off",
    "model.recomputed_layers": 0,
}

# Facts that must be the same; those of the data and the model are compared by their hashes alone.
FACTS = ("world_size", "num_steps")

WAY_OUT = "start a new run in another folder."


def check_same_run(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a run whose record would be `now` may go on with the run in `folder`, whose record is `before`.

    Raises:
        CheckpointError: a setting or the number of ranks or steps is another one, or a setting that names files names
            files that hold something else.
    """
    old, new = dict(ONCE_FIXED) | flat_settings(before["run"]), flat_settings(now["run"])
    for name, value in new.items():
        is_free = name in FREE_ON_RESUME or name.split(".")[0] in FREE_ON_RESUME
        if value != old.get(name) and not is_free and name not in BY_CONTENT:
            _refuse(folder, _flag(name), old.get(name), value)
    for name, (keys, what) in BY_CONTENT.items():
        digests = _find(before, keys), _find(now, keys)
        if digests[0] is None and name != "data.eval":  # a run begun before its record held hashes of all of them
            if old.get(name) != new.get(name):
                _refuse(folder, _flag(name), old.get(name), new.get(name))
        elif digests[0] != digests[1]:
            _refuse_content(folder, _flag(name), what, *digests)
    for fact in FACTS:
        if before.get(fact) != now.get(fact):
            _refuse(folder, fact.replace("_", " "), before.get(fact), now.get(fact))


def changes_of(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a phrase for all that differs between two records of one run and may.

    These are settings, versions, the commit, and what computes: the layout of the states, and the kernels.
    """
    old, new = dict(ONCE_FIXED) | flat_settings(before["run"]), flat_settings(now["run"])
    changes = []
    for name, value in new.items():
        if name not in ("output", "resume") and value != old.get(name):
            same = f" (the same {BY_CONTENT[name][1]})" if name in BY_CONTENT else ""
            changes.append(f"{_flag(name)} {_show(value)}, before {_show(old.get(name))}{same}")
    versions = before.get("versions") or {}
    for name, value in now["versions"].items():
        if versions.get(name) != value:
            changes.append(f"{name} {value}, before {versions.get(name)}")
    for what, value in (now.get("computed") or {}).items():
        told = (before.get("computed") or {}).get(what)  # a run begun before this was kept says nothing of it
        if told is not None and told != value:
            changes.append(f"{value}, before {told}")
    if before.get("git_commit") != now["git_commit"]:
        changes.append(f"commit {now['git_commit']}, before {before.get('git_commit')}")
    return changes


def new_start(record: Mapping[str, Any], step: int, changes: list[str]) -> dict[str, Any]:
    """Return what config.json keeps of one start: when, after which step, with which code, how, from which files."""
    settings = flat_settings(record["run"])
    return {
        "step": step,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": record["versions"],
        "git_commit": record["git_commit"],
        "computed": record.get("computed"),
        "paths": {name: settings[name] for name in BY_CONTENT},
        "changes": changes,
    }


def earlier_starts(before: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the starts that a record tells of; one is made up from a record that kept only the last."""
    if before is None:
        return []
    if isinstance(before.get("starts"), list):
        return list(before["starts"])
    settings = flat_settings(before["run"])
    paths = {name: settings.get(name) for name in BY_CONTENT}
    known = {"versions": before.get("versions"), "git_commit": before.get("git_commit"), "paths": paths}
    return [{"step": None, "date": None, **known, "changes": []}]


def _refuse(folder: Path, where: str, old: Any, new: Any) -> None:
    raise CheckpointError(
        f"{folder}: its run has {where} {_show(old)}, this one {_show(new)}; --resume needs the same. "
        f"Restore the setting, or {WAY_OUT}",
        flag="--output",
    )


def _refuse_content(folder: Path, flag: str, what: str, old: str | None, new: str | None) -> None:
    which = f"sha256 {old[:12]} then, {new[:12]} now" if old and new else f"{'some' if old else 'none'} then, not now"
    if what == "rows":
        reason = f"the rows of {{flag}} are others than the run in {folder} began with ({which})"
    else:
        reason = f"the {what} of {{flag}} is another than the run in {folder} began with ({which})"
    reason += f"; --resume needs the same, from whatever place. Name the same, or {WAY_OUT}"
    raise CheckpointError(reason, flag=flag)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def flat_settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by their flags' names: {"optim.lr": 1e-5, ...}."""
    flat: dict[str, Any] = {}
    for section, value in run.items():
        is_section = isinstance(value, dict)
        flat |= {f"{section}.{name}": item for name, item in value.items()} if is_section else {section: value}
    return flat


def _find(record: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _show(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text or "none"
    return text if len(text) <= 60 else text[:57] + "..."
