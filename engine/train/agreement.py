"""Every rank has the same run: settings, rows, model and template are compared before anything is built.

Each machine reads its own command line and its own files. Where they differ, the ranks would train different things and
export a mixture of them, or wait for each other for ever.
"""

from collections.abc import Mapping
from typing import Any

from alttrain.engine.config import RunConfig
from alttrain.engine.distributed.launcher import place_name
from alttrain.engine.distributed.world import World
from alttrain.engine.errors import ConfigError
from alttrain.engine.run.resuming import BY_CONTENT, flat_settings


def check_agreement(config: RunConfig, facts: Mapping[str, Any], world: World) -> None:
    """Check that every rank would run the same. Collective.

    Args:
        config: this rank's settings.
        facts: the hashes of its rows, its model and its chat template, as the run folder records them.
        world: the ranks.

    Raises:
        ConfigError: a setting differs, or what a setting's files hold; the first one found is named with its flag.
    """
    own = fingerprint(config, facts)
    everyone = world.gather((place_name(world.rank), own))
    first_name, first = everyone[0]
    for name, other in everyone[1:]:
        for key, value in first.items():
            if other.get(key) != value:
                raise _differs(key, first_name, value, name, other.get(key))


def fingerprint(config: RunConfig, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return {setting: value} of a run, with the hash of what it holds in the place of a path."""
    values = {}
    for name, value in flat_settings(config.as_dict()).items():
        values[name] = str(_find(facts, BY_CONTENT[name][0]) if name in BY_CONTENT else value)
    return values


def _find(facts: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    value: Any = facts
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _differs(key: str, first: str, value: str, other_name: str, other: str | None) -> ConfigError:
    flag = f"--{key.replace('_', '-')}"
    if key in BY_CONTENT:
        what = BY_CONTENT[key][1]
        return ConfigError(
            f"holds other {what if what == 'rows' else f'files of the {what}'} on {other_name} than on {first} (sha256 "
            f"{str(other)[:12]} and {value[:12]}): every machine trains its own. Give all of them the same files.",
            flag=flag,
        )
    return ConfigError(
        f"is {other} on {other_name} and {value} on {first}: every rank needs the same. Start all with one line.",
        flag=flag,
    )
