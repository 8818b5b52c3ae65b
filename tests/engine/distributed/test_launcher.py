"""Who a process is, whatever started it; where that cannot be known, one sentence names torchrun."""

import pytest

from alttrain.engine.distributed.launcher import FIRST_PORT, NUM_PORTS, Place, find_place, first_host
from alttrain.engine.errors import ConfigError

MASTER = {"MASTER_ADDR": "a", "MASTER_PORT": "1"}
TASK = {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "1234567",
}


def test_nobody_launched_it() -> None:
    environment: dict[str, str] = {}
    assert find_place(environment) == Place(0, 0, 1)
    assert environment["WORLD_SIZE"] == environment["LOCAL_WORLD_SIZE"] == "1"
    assert find_place(environment) == Place(0, 0, 1)
    # A batch script of SLURM, and a step of one task, are worlds of one.
    assert find_place({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == Place(0, 0, 1)
    assert find_place({**TASK, "SLURM_STEP_NUM_TASKS": "1"}) == Place(0, 0, 1)


def test_torchrun_launched_it() -> None:
    assert find_place({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", **MASTER}) == Place(5, 1, 8)
    assert find_place({"RANK": "0", "WORLD_SIZE": "1", **MASTER}) == Place(0, 0, 1)
    # torchrun inside a task of srun is torchrun's.
    assert find_place({**TASK, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", **MASTER}) == Place(0, 0, 2)


def test_srun_launched_it() -> None:
    environment = dict(TASK)
    assert find_place(environment) == Place(3, 1, 4)
    assert environment["MASTER_ADDR"] == "gpu07"
    assert FIRST_PORT <= int(environment["MASTER_PORT"]) < FIRST_PORT + NUM_PORTS
    other = {**TASK, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    find_place(other)
    assert other["MASTER_PORT"] == environment["MASTER_PORT"]
    given = {**TASK, **MASTER}
    find_place(given)
    assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("a", "1")


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu07", "gpu07"),
        ("gpu[07-09,12],other3", "gpu07"),
        ("a,b", "a"),
        ("rack1-[3,5]", "rack1-3"),
        ("n-1-[02]", "n-1-02"),
    ],
)
def test_the_first_host_of_a_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2 and RANK is not set"),
        ({"RANK": "1", "WORLD_SIZE": "2", **MASTER}, "RANK is 1 and LOCAL_RANK is not set"),
        ({"RANK": "1", "LOCAL_RANK": "0", **MASTER}, "RANK is set and WORLD_SIZE is not"),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}, "RANK is 0 and MASTER_ADDR and MASTER_PORT is not set"),
        (
            {"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "2", **MASTER},
            "RANK is 2 and WORLD_SIZE 2: ranks count from 0",
        ),
        ({"RANK": "x", "LOCAL_RANK": "0", "WORLD_SIZE": "2", **MASTER}, "RANK is 'x': it must be a whole number"),
        ({k: v for k, v in TASK.items() if k != "SLURM_STEP_NODELIST"}, "srun started this process as one of 4 tasks"),
        ({k: v for k, v in TASK.items() if k != "SLURM_PROCID"}, "srun started this process as one of 4 tasks"),
    ],
)
def test_a_world_that_it_cannot_join_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_place(dict(environment))
    assert str(error.value).startswith(said)
    assert "torchrun" in str(error.value)
