"""One run at a time in a folder, and one folder for all ranks of a run.

The first rank holds OUT/run.lock for as long as it lives, by the operating system's own lock, so that nothing is left
behind by a run that was killed. The other ranks see the token that it has written there, or the folder is not shared.
"""

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alttrain.engine.distributed.world import World
from alttrain.engine.errors import ConfigError
from alttrain.engine.run.folder import LOCK, RunFolder

# How long a file may take to appear on another machine of a network file system.
PATIENCE_SECONDS = 30.0


class FolderLock:
    """The hold on a run folder."""

    def __init__(self, path: Path) -> None:
        """Take no hold yet."""
        self._path = path
        self._descriptor = -1
        self._made: list[Path] = []

    def take(self) -> str:
        """Hold the folder, which is made if it is not there, and return the token that other ranks find in it.

        Raises:
            ConfigError: another run holds it.
        """
        folder = Path(os.path.realpath(self._path))
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._made = missing
        while self._descriptor < 0:
            self._descriptor = self._lock(folder / LOCK)
        token = f"{os.uname().nodename} {os.getpid()} {uuid.uuid4().hex}"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{token}\n".encode(), 0)
        os.fsync(self._descriptor)
        return token

    def _lock(self, file: Path) -> int:
        """Return the open, locked file; -1 where another run has removed it in the meantime.

        Raises:
            ConfigError: another run holds it.
        """
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ConfigError(
                f"{self._path}: another run is writing to it at this moment. Wait for its end, or give another folder.",
                flag="--output",
            ) from None
        except OSError as error:  # a file system without locks
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        if _is_file(descriptor, file):
            return descriptor
        os.close(descriptor)
        return -1

    def release(self) -> None:
        """Let go of the folder and remove the lock, and the folders that `take` made where nothing else is in them."""
        if self._descriptor < 0:
            return
        folder = Path(os.path.realpath(self._path))
        (folder / LOCK).unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1
        for made in self._made:
            try:
                made.rmdir()
            except OSError:
                break


@contextmanager
def hold_folder(folder: RunFolder, world: World, check: Callable[[], None]) -> Iterator[None]:
    """Hold the run folder for the time of a run; nothing stays in it where it may not be used. Collective.

    Args:
        folder: the run folder.
        world: the ranks.
        check: raises an AlttrainError where this run may not use the folder.

    Raises:
        AlttrainError: the check failed, another run holds the folder, or a rank has a folder of its own.
    """
    lock = FolderLock(folder.path)

    def take() -> str:
        check()  # before anything is made, and again once nobody else can change it
        token = lock.take() if world.is_first else ""
        if world.is_first:
            check()
        return token

    try:
        token = world.gather(world.together(take))[0]
        check_shared(folder.path, token, world)
        yield
    finally:
        lock.release()


def check_shared(path: Path, token: str, world: World) -> None:
    """Check that every rank sees the folder that the first one holds. Collective.

    Raises:
        ConfigError: some rank does not.
    """

    def look() -> None:
        file = Path(os.path.realpath(path)) / LOCK
        until = time.monotonic() + PATIENCE_SECONDS
        while not _holds(file, token):
            if time.monotonic() > until:
                raise ConfigError(
                    f"{path}: the first rank's file {LOCK} is not in it, so this machine has a folder of its own. "
                    "Name one that all machines share.",
                    flag="--output",
                )
            time.sleep(0.2)

    world.together(look)


def _is_file(descriptor: int, file: Path) -> bool:
    """Return whether the open file is the one of that name, which another run may have removed and made anew."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _holds(file: Path, token: str) -> bool:
    try:
        os.listdir(file.parent)  # makes a network file system look again
        return file.read_text(encoding="utf-8").strip() == token
    except (OSError, UnicodeDecodeError):
        return False
