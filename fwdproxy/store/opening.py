"""The store's folder: is it ours, is it whole, may we use it, and what did a killed process leave in it?

    DIR/store.json    says that the folder is ours: format, epoch, and the boot in which it was used last
    DIR/lock          held while a process opens or leaves the store
    DIR/index/        diskcache's folder: the database, and the body files in 256 folders
    DIR/fills/ID/     unfinished bodies of one process, which holds a lock on DIR/fills/ID/lock as long as it lives
    DIR/generation    the numbers of the newest purges, mapped into the memory of all processes on the store
    DIR/damaged       says that the database was found damaged while in use

A folder of fills whose lock is free belongs to a process that died. Then, and after a reboot (nothing is synced to the
disk on the way), what lies in body files can't be taken for granted: the epoch is raised, and each row of an earlier
epoch has its body verified before its first reuse.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fwdproxy.errors import StoreError
from fwdproxy.store import generation as generations
from fwdproxy.store.generation import Generation
from fwdproxy.store.index import Index, is_damage
from fwdproxy.store.mounts import file_system_of, is_network

log = logging.getLogger(__name__)

FORMAT: Final = 1
MARKER: Final = "store.json"
LOCK: Final = "lock"
DAMAGED: Final = "damaged"
LOCK_PATIENCE: Final = 15.0

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_HARMLESS: Final = frozenset({LOCK, MARKER + ".new", "lost+found"})  # what a new folder of ours, or a disk, may hold


class Marker(msgspec.Struct, frozen=True):
    """What DIR/store.json says."""

    format: int
    epoch: int
    boot: str


@dataclass(frozen=True, slots=True)
class Folder:
    """An opened store folder. ``fills`` is this process's own; ``unclean``: a process died, or the machine did."""

    root: Path
    index: Index
    bodies: Path
    fills: Path
    epoch: int
    unclean: bool
    generation: Generation
    life: int
    """The descriptor whose lock says that this process is alive."""

    def mark_damaged(self) -> None:
        """Let the next opening start clean."""
        with contextlib.suppress(OSError):  # a disk that takes no file will fail again then
            (self.root / DAMAGED).touch(0o600)

    def leave(self) -> None:
        """Say that this process left the store as it should."""
        # When it fails the next opening takes this for an unclean stop, which costs time and no more.
        with contextlib.suppress(StoreError, OSError), _locked(self.root):
            shutil.rmtree(self.fills, ignore_errors=True)
        self.generation.close()
        os.close(self.life)


def open_folder(path: Path) -> Folder:
    """Open or make the store in ``path``. Raises StoreError with one line that says what is wrong and what to do."""
    path = path.expanduser().absolute()
    _refuse_network(path)
    try:
        path.mkdir(0o700, parents=True, exist_ok=True)
        _refuse_foreign(path)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        path.chmod(0o700)
        with _locked(path):
            return _open_locked(path)
    except OSError as error:
        raise StoreError(
            f"can't use {path} for the cache: {error.strerror or error}; name a folder that you may write to"
        ) from None


def _open_locked(path: Path) -> Folder:
    marker = _read_marker(path)
    fills = path / "fills"
    fills.mkdir(0o700, exist_ok=True)
    died, alive = _bury_the_dead(fills)
    rebooted = marker is not None and marker.boot != _boot()
    unclean = marker is None or died or rebooted
    epoch = 1 if marker is None else marker.epoch + unclean
    _write_marker(path, Marker(FORMAT, epoch, _boot()))
    if (path / DAMAGED).exists():
        _discard(path, alive, "was found damaged while in use")
    index = _open_index(path, alive)
    for old in path.glob("discarded-*"):  # also what an earlier start had no time to delete
        threading.Thread(target=shutil.rmtree, args=(old, True), daemon=True).start()
    own = fills / f"{os.getpid()}-{secrets.token_hex(4)}"
    own.mkdir(0o700)
    life = os.open(own / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(life, fcntl.LOCK_EX)
    _sync(fills)
    generation = Generation(path / generations.FILE, alone=not alive)
    return Folder(path, index, path / "index", own, epoch, unclean and marker is not None, generation, life)


def _refuse_network(path: Path) -> None:
    kind = file_system_of(path)
    if is_network(kind):
        raise StoreError(
            f"the cache can't lie on a network file system ({path} is on {kind}), locks don't hold there;"
            " name a folder on a local disk"
        )


def _refuse_foreign(path: Path) -> None:
    names = {entry.name for entry in path.iterdir()}
    if MARKER not in names and not names <= _HARMLESS:
        raise StoreError(
            f"{path} isn't empty and isn't a cache of fwdproxy;"
            " name another folder, or empty this one if nothing in it is needed"
        )


def _read_marker(path: Path) -> Marker | None:
    try:
        marker = msgspec.json.decode((path / MARKER).read_bytes(), type=Marker)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        # Ours by its name, but cut: the machine stopped while it was written. An epoch that no row can have reached.
        log.warning("%s is unreadable and is written anew; every stored body will be verified", path / MARKER)
        return Marker(FORMAT, int(time.time()), "")
    if marker.format != FORMAT:
        raise StoreError(
            f"the cache in {path} has format {marker.format}, and this fwdproxy knows format {FORMAT};"
            " name another folder, or delete that one"
        )
    return marker


def _write_marker(path: Path, marker: Marker) -> None:
    fresh = path / (MARKER + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(marker))
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path / MARKER)


def _bury_the_dead(fills: Path) -> tuple[bool, list[str]]:
    """Remove what dead processes were receiving. (Was there one? The process ids of those that live.)"""
    died = False
    alive: list[str] = []
    for folder in filter(Path.is_dir, fills.iterdir()):
        if _is_alive(folder):
            alive.append(folder.name.partition("-")[0])
        else:
            died = True
            shutil.rmtree(folder, ignore_errors=True)
    return died, alive


def _is_alive(folder: Path) -> bool:
    try:
        fd = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False  # folders are made under the store's lock, which we hold
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def _open_index(path: Path, alive: list[str]) -> Index:
    for last in (False, True):
        try:
            folder = path / "index"
            folder.mkdir(0o700, exist_ok=True)
            return Index(folder)
        except sqlite3.Error as error:
            if last or not is_damage(error):
                raise StoreError(f"can't open the database of the cache in {path}: {error}") from None
            _discard(path, alive, f"can't be read ({error})")
    raise AssertionError  # the loop returns or raises


def _discard(path: Path, alive: list[str], what: str) -> None:
    """Start clean: move our own damaged index aside, to be deleted in the background."""
    if alive:
        raise StoreError(
            f"the database of the cache in {path} {what}, and process {', '.join(alive)} uses it;"
            " stop that process and start again: the cache will then start empty"
        )
    log.warning("the database of the cache in %s %s; the cache starts empty", path, what)
    if (path / "index").exists():
        (path / "index").rename(path / f"discarded-{secrets.token_hex(4)}")
    (path / DAMAGED).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"another process keeps the cache in {path} locked; stop it and try again"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""  # no Linux: a reboot is then seen by the locks alone
