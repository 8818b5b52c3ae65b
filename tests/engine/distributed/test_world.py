"""Who a process is, by what the launcher says or by itself, and what a reduction does to its argument."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from alttrain.engine.distributed.world import TIMEOUT, OtherRankError, World, _let_segments_grow
from alttrain.engine.errors import ConfigError
from skips import HAS_GPU

CPU = torch.device("cpu")
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Take the launcher's variables away, and give back what there was."""
    before = dict(os.environ)
    for name in LAUNCHER:
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Return the process groups that would have been joined; none is."""
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: calls.append((backend, options)))
    return calls


def launched(rank: int, local_rank: int, size: int) -> None:
    master = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(size), **master)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device | int]:
    """Pretend that the node has two GPUs; return those that were made current."""
    current: list[torch.device | int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.skipif(torch.cuda.is_available(), reason=HAS_GPU)
def test_plain_python_is_a_world_of_one_and_leaves_it() -> None:
    with World.from_environment() as world:
        assert world == World(rank=0, local_rank=0, size=1, device=CPU)
        assert world.is_first
        assert (dist.get_world_size(), dist.get_backend()) == (1, "gloo")
        # What else asks the environment, DeepSpeed among them, finds a launcher's.
        assert all(name in os.environ for name in LAUNCHER)
    assert not dist.is_initialized()


def test_the_launchers_word_is_taken(joined: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    launched(rank=5, local_rank=1, size=8)
    world = World.from_environment()
    assert world == World(rank=5, local_rank=1, size=8, device=CPU)
    assert not world.is_first
    assert joined == [("gloo", {"rank": 5, "world_size": 8, "timeout": TIMEOUT})]


def test_each_process_has_a_gpu_of_its_own(joined: list[Any], two_gpus: list[Any]) -> None:
    launched(rank=3, local_rank=1, size=4)
    assert World.from_environment().device == torch.device("cuda", 1)
    assert two_gpus == [1]
    assert joined[0][0] == "cuda:nccl,cpu:gloo"


def test_more_processes_than_gpus_are_refused_before_the_group(joined: list[Any], two_gpus: list[Any]) -> None:
    launched(rank=2, local_rank=2, size=4)
    with pytest.raises(ConfigError, match=r"local rank 2: this node has 2 GPUs.*torchrun --nproc_per_node 2"):
        World.from_environment()
    assert joined == []
    assert two_gpus == []


@pytest.mark.parametrize("size", [1, 3])
def test_reductions_leave_their_argument_alone(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The other ranks hold 10 times and minus what this one does."""
    asked = []

    def all_reduce(tensor: torch.Tensor, op: Any) -> None:
        asked.append(op)
        ranks = torch.stack([tensor, 10 * tensor, -tensor])
        tensor.copy_(ranks.sum(0) if op == dist.ReduceOp.SUM else ranks.amax(0))

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    world = World(rank=0, local_rank=0, size=size, device=CPU)
    mine = torch.tensor([1.0, -2.0])
    summed, largest = world.sum(mine), world.max(mine)
    assert mine.tolist() == [1.0, -2.0]
    assert (summed.tolist(), largest.tolist()) == (
        ([1.0, -2.0], [1.0, -2.0]) if size == 1 else ([10.0, -20.0], [10.0, 2.0])
    )
    assert asked == ([] if size == 1 else [dist.ReduceOp.SUM, dist.ReduceOp.MAX])
    summed.add_(1)
    assert mine.tolist() == [1.0, -2.0]


def test_one_process_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(dist, "barrier", lambda: waited.append(True))
    World(rank=0, local_rank=0, size=1, device=CPU).barrier()
    assert waited == []
    World(rank=0, local_rank=0, size=2, device=CPU).barrier()
    assert waited == [True]


def test_after_an_error_the_group_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rank may sit in a collective, and leaving the group would wait for it."""
    left = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: left.append(True))
    world = World(rank=0, local_rank=0, size=2, device=CPU)
    with pytest.raises(KeyError), world:
        raise KeyError
    assert left == []
    with world:
        pass
    assert left == [True]


def test_one_rank_s_failure_is_every_rank_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another rank says comes by `gather`; a rank that failed itself raises its own error."""
    world = World(rank=0, local_rank=0, size=2, device=CPU)
    said: list[str] = []

    def gather(_: World, value: Any) -> list[Any]:
        said.append(value)
        return [value, other]

    monkeypatch.setattr(World, "gather", gather)
    other = ""
    assert world.together(lambda: 7) == 7
    with pytest.raises(ConfigError, match=r"^mine$"):
        world.together(lambda: fail("mine"))
    assert said[0] == ""
    assert said[1].endswith(": mine")
    other = "rank 1 on b: no such file."
    with pytest.raises(OtherRankError, match=r"^rank 1 on b: no such file\. \(1 of 2 ranks failed\)$"):
        world.together(lambda: 7)


def fail(text: str) -> None:
    raise ConfigError(text)


def test_segments_grow_unless_the_user_says_otherwise() -> None:
    ours: dict[str, str] = {}
    _let_segments_grow(ours)
    assert ours == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        theirs = {name: "max_split_size_mb:128"}
        _let_segments_grow(theirs)
        assert theirs == {name: "max_split_size_mb:128"}
