"""A store in memory only: a private folder on /dev/shm, which no disk ever sees (unless the system swaps it out).

Each process has its own. The folder's lock lives as long as the process; folders whose lock is free are left over from
a crash, and the next store of the same user removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from fwdproxy.errors import StoreError
from fwdproxy.store.disk import DiskStore
from fwdproxy.store.enforcing import Purges
from fwdproxy.store.mounts import file_system_of
from fwdproxy.store.opening import open_folder

PLACE: Final = Path("/dev/shm")  # noqa: S108  # the private folder in it is made by mkdtemp
_KINDS: Final = ("tmpfs", "ramfs")


class MemoryStore(DiskStore):
    """A Store that is gone when it is closed. Make it with `open_memory`."""

    _life: int
    _private: Path

    async def aclose(self) -> None:
        """See Store."""
        if self._closed:
            return
        try:
            await super().aclose()
        finally:
            shutil.rmtree(self._private, ignore_errors=True)
            os.close(self._life)


def open_memory(limit: int, beside: DiskStore | None = None, *, place: Path = PLACE) -> MemoryStore:
    """Make a store in memory. ``limit``: bytes that it may take. ``beside``: the store whose purges count here too.

    Raises StoreError, whose text is one line that says what to do.
    """
    _require_memory(place, limit)
    prefix = f"fwdproxy-{os.getuid()}-"
    _bury_the_dead(place, prefix)
    private, life = _make_private(place, prefix)
    try:
        folder = open_folder(private / "cache")
        purges = beside.purges if beside is not None else Purges(folder.index, folder.generation)
        folder.index.close()  # this thread's connection; the loop may run in another
        store = MemoryStore(folder, limit, purges, follows=beside is not None)
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        os.close(life)
        raise
    store._life, store._private = life, private  # noqa: SLF001
    return store


def _require_memory(place: Path, limit: int) -> None:
    kind = file_system_of(place)
    if not place.is_dir() or kind not in _KINDS:
        raise StoreError(
            f"can't keep a cache in memory, {place} is no file system in memory; mount a tmpfs there,"
            " or do without the settings that ask for storing in memory only"
        )
    free = shutil.disk_usage(place).free
    if free < limit:
        raise StoreError(
            f"can't keep a cache of {limit} bytes in memory, {place} has {free} bytes free;"
            f" allow it less, or make {place} larger"
        )


def _make_private(place: Path, prefix: str) -> tuple[Path, int]:
    """A new folder closed to others, and the descriptor whose lock says that its process is alive."""
    try:
        while True:
            private = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            life = os.open(private, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(life, fcntl.LOCK_EX)
            if private.exists():
                return private, life
            os.close(life)  # between these two lines another process took it for one of the dead
    except OSError as error:
        raise StoreError(f"can't keep a cache in memory, {place} can't be used: {error.strerror or error}") from None


def _bury_the_dead(place: Path, prefix: str) -> None:
    """Remove the folders of this user's processes that are gone."""
    for folder in place.glob(f"{prefix}*"):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # gone meanwhile, or none of ours
            continue
        try:
            found = os.fstat(fd)
            if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue  # its process lives
        finally:
            os.close(fd)
