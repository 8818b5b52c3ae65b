"""Who this process is, as its launcher says: torchrun, the deepspeed launcher, srun, or none, which is a world of one.

Whatever launched it, afterwards the environment holds torchrun's variables, so that nothing else need tell them apart.
"""

import os
import re
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

from alttrain.engine.errors import ConfigError

TORCHRUN = "Start the run with torchrun: torchrun --nproc_per_node 8 recipes/alttrain_7b.py ..."
# Where SLURM's job does not say: the ports from here on are free of well-known services.
FIRST_PORT, NUM_PORTS = 20_000, 12_000


@dataclass(frozen=True)
class Place:
    """This process among those of the run."""

    rank: int
    local_rank: int
    size: int


def find_place(environment: MutableMapping[str, str]) -> Place:
    """Return this process's place; `environment` afterwards has RANK, LOCAL_RANK, WORLD_SIZE and where rank 0 listens.

    Raises:
        ConfigError: the environment speaks of several processes and does not say which of them this is, or where the
            first one is.
    """
    if "RANK" not in environment and _is_task_of_srun(environment):
        _translate_slurm(environment)
    elif "RANK" not in environment:
        if environment.get("WORLD_SIZE", "1") != "1":
            raise ConfigError(
                f"WORLD_SIZE is {environment['WORLD_SIZE']} and RANK is not set, so this process does not know which "
                f"of them it is. {TORCHRUN}"
            )
        _describe_world_of_one(environment)
    rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if "LOCAL_RANK" not in environment:
        if size > 1:
            raise ConfigError(f"RANK is {rank} and LOCAL_RANK is not set, so no GPU is this process's. {TORCHRUN}")
        environment["LOCAL_RANK"] = "0"
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise ConfigError(f"RANK is {rank} and {' and '.join(missing)} is not set. {TORCHRUN}")
    if not 0 <= rank < size:
        raise ConfigError(f"RANK is {rank} and WORLD_SIZE {size}: ranks count from 0. {TORCHRUN}")
    return Place(rank, _number(environment, "LOCAL_RANK"), size)


def first_host(nodes: str) -> str:
    """Return the first host of SLURM's list of nodes: `gpu07` for gpu[07-09,12],other3."""
    name = re.match(r"([^\[,]*)(?:\[([^\],-]+))?", nodes)
    assert name, "the pattern matches any text"
    return name[1] + (name[2] or "")


def _is_task_of_srun(environment: MutableMapping[str, str]) -> bool:
    """Return whether srun started this process as one of several; a batch script alone is no task of a step."""
    return "SLURM_STEP_ID" in environment and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1"


def _translate_slurm(environment: MutableMapping[str, str]) -> None:
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    names = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}
    missing = [name for name in names.values() if name not in environment]
    if not nodes and "MASTER_ADDR" not in environment:
        missing.append("SLURM_STEP_NODELIST")
    if missing:
        raise ConfigError(
            f"srun started this process as one of {environment['SLURM_STEP_NUM_TASKS']} tasks, and "
            f"{' and '.join(missing)} is not set. Start torchrun with one task a node instead: srun "
            "--ntasks-per-node 1 torchrun ..."
        )
    for name, slurm in names.items():
        environment[name] = environment[slurm]
    job = re.sub(r"\D", "", environment.get("SLURM_JOB_ID", "")) or "0"
    environment.setdefault("MASTER_ADDR", first_host(nodes or ""))
    environment.setdefault("MASTER_PORT", str(FIRST_PORT + int(job) % NUM_PORTS))


def _describe_world_of_one(environment: MutableMapping[str, str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )


def _number(environment: MutableMapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except KeyError:
        raise ConfigError(f"RANK is set and {name} is not. {TORCHRUN}") from None
    except ValueError:
        raise ConfigError(f"{name} is {environment[name]!r}: it must be a whole number. {TORCHRUN}") from None


def place_name(rank: int) -> str:
    """Return what messages call a rank: its number and its machine."""
    return f"rank {rank} on {os.uname().nodename}"
