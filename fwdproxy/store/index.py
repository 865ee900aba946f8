"""diskcache as the index: rows of bytes, some of which own a body file. No other module knows diskcache's inside.

diskcache's own `Disk` unpickles what it finds in a row; `PlainDisk` can't: it stores bytes, text, integers and
files, and a row that says anything else is refused (CVE-2025-69872). diskcache also deletes a replaced file before
an outer transaction commits; here files are deleted after the commit, and a rollback takes back those just placed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import diskcache

log = logging.getLogger(__name__)

DATABASE: Final = "cache.db"

# diskcache's numbers for what a row holds; 4 is a pickle. Lists and notes are raw bytes too, and counted apart.
MODE_RAW: Final = 1
MODE_FILE: Final = 2
MODE_PICKLE: Final = 4
MODE_LIST: Final = 8
MODE_NOTE: Final = 16

_MODES: Final = (MODE_RAW, MODE_FILE, MODE_LIST, MODE_NOTE)

PATIENCE: Final = 5.0  # seconds the writer waits for another process's transaction
SHORT_PATIENCE: Final = 0.02  # seconds a lookup waits, on the event loop, for another process's lock

_BETWEEN: Final = "key >= ? AND key < ? AND raw = 1"
# A value of another type would fail the whole query when it can't be decoded.
_STORED_ROW: Final = "key, CASE typeof(value) WHEN 'blob' THEN value END, mode, tag, access_time"

_SETTINGS: Final = {
    "statistics": 0,
    "tag_index": 0,
    # "none" so that neither get nor set write about use; access times are flushed together, see Index.touch
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "sqlite_auto_vacuum": 2,  # incremental: pages are given back when the store says so
    "sqlite_cache_size": 2048,  # pages of 4 KB in each connection; reads go through the memory map
    "sqlite_journal_mode": "wal",
    # SQLite's own maximum. A lookup among 300,000 rows took 89 µs with 64 MB of them mapped, 44 µs with all.
    "sqlite_mmap_size": 0x7FFF0000,
    "sqlite_synchronous": 1,  # NORMAL: in WAL mode a crash may lose the last commits, never tear them
}


class RefusedRow(Exception):
    """A row holds something that this store never writes, a pickle above all."""


@dataclass(frozen=True, slots=True)
class Bodied:
    """A value that owns a file: ``record`` lies in the row, the finished file ``source`` is renamed to ``name``."""

    record: bytes
    source: Path
    name: str
    length: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A value that is the list of a key's variants."""

    record: bytes


@dataclass(frozen=True, slots=True)
class Noted:
    """A value that is a note, no response nor a part of one."""

    value: bytes


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it lies there. ``value``: None when it is nothing that this store writes. ``used``: Unix seconds."""

    key: bytes
    value: bytes | None
    epoch: int
    used: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row as eviction sees it, least recently used first. ``size``: bytes it takes, its file included."""

    row: bytes
    size: int
    is_list: bool


class PlainDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """How keys and values lie in diskcache's table and folder: without pickle, and with renamed files."""

    def __init__(self, directory: str, min_file_size: int = 0, pickle_protocol: int = 0) -> None:
        super().__init__(directory, min_file_size, pickle_protocol)
        self._folder = Path(directory)
        self._placed: set[str] = set()
        self._doomed: list[str] = []

    def put(self, key: object) -> tuple[Any, bool]:
        """The database's form of a key."""
        if type(key) in (bytes, str, int):
            return key, True
        raise TypeError(f"a key must be bytes, str or int, not {type(key).__name__}")

    def get(self, key: Any, raw: Any) -> Any:
        """A key from the database's form."""
        if not raw:
            raise RefusedRow("a key is marked as pickle")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, str | None, Any]:
        """(size of the file, mode, file name, value) for the table. Raises OSError when a file can't be placed."""
        match value:
            case Bodied(record, source, name, length):
                self._move(source, self._folder / name)
                self._placed.add(name)
                return length, MODE_FILE, name, record
            case Listed(record):
                return 0, MODE_LIST, None, record
            case Noted(note):
                return 0, MODE_NOTE, None, note
            case bytes() | str() | int():
                return 0, MODE_RAW, None, value
        raise TypeError(f"a value must be bytes, str, int or a file, not {type(value).__name__}")

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """What a row holds. The file beside a record is opened by whoever needs it, by the name in the record."""
        if mode in _MODES:
            return value
        raise RefusedRow("a row is marked as pickle" if mode == MODE_PICKLE else f"a row has the unknown mode {mode}")

    def remove(self, file_path: str) -> None:
        """Note a file whose row is gone; `settle` deletes it once that is committed."""
        self._doomed.append(file_path)

    def settle(self) -> None:
        """After a commit: delete the files whose rows are gone."""
        doomed, self._doomed = self._doomed, []
        self._placed.clear()
        for name in doomed:
            self._unlink(name)

    def take_back(self) -> None:
        """After a rollback: delete the files that were placed for rows which don't exist now."""
        placed, self._placed = self._placed, set()
        self._doomed.clear()
        for name in placed:
            self._unlink(name)

    def _move(self, source: Path, target: Path) -> None:
        try:
            source.rename(target)
        except FileNotFoundError:  # the first file of its folder, most likely
            target.parent.mkdir(0o700, exist_ok=True)
            source.rename(target)

    def _unlink(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:  # the sweep after the next unclean stop tries again
            log.warning("can't delete the body file %s: %s", name, error)


class Index(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """The table of rows in ``directory``. One thread writes; any thread reads, each by its own connection.

    `get` (with ``tag=True``: the row's epoch), `set` and `delete` are diskcache's own; what it lacks is added here.
    Raises sqlite3.DatabaseError when the database is damaged.
    """

    def __init__(self, directory: Path) -> None:
        database = directory / DATABASE
        # SQLite gives its own files the mode of the database file; so that file is made first, closed to others.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
        super().__init__(str(directory), timeout=SHORT_PATIENCE, disk=PlainDisk, **_SETTINGS)
        for statement in (
            "CREATE INDEX IF NOT EXISTS Cache_access_time ON Cache (access_time)",
            "CREATE INDEX IF NOT EXISTS Cache_filename ON Cache (filename) WHERE filename IS NOT NULL",
            f"CREATE INDEX IF NOT EXISTS Cache_list ON Cache (mode) WHERE mode = {MODE_LIST}",
            f"CREATE INDEX IF NOT EXISTS Cache_note ON Cache (mode) WHERE mode = {MODE_NOTE}",
        ):
            self._sql_retry(statement)

    def prepare(self, statements: Iterable[str]) -> None:
        """Make tables beside diskcache's own. Raises sqlite3.Error."""
        for statement in statements:
            self._sql_retry(statement)

    def query(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """The rows that a statement on those tables gives. Raises sqlite3.Error."""
        return list(self._sql(statement, values).fetchall())

    def find(self, row: bytes) -> tuple[bytes, int] | None:
        """(value, epoch) of a row, or None. Raises RefusedRow, and sqlite3.Error when the database can't be read."""
        value, epoch = self.get(row, tag=True)
        if value is None:
            return None
        if type(value) is not bytes or type(epoch) is not int:
            raise RefusedRow("a row holds neither bytes nor an epoch")
        return value, epoch

    def be_patient(self) -> None:
        """Let the calling thread's connection wait for other processes' transactions, as only a writer should."""
        self._sql(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """One transaction round many changes: all or none of them, files included.

        Raises diskcache.Timeout when another process holds the lock too long, and what SQLite and the disk raise.
        """
        disk: PlainDisk = self.disk
        try:
            with self.transact():
                yield
        except BaseException:
            if self._con.in_transaction:  # diskcache doesn't roll back when it is the commit that fails
                with contextlib.suppress(sqlite3.Error):
                    self._sql("ROLLBACK")
            disk.take_back()
            raise
        disk.settle()

    def rewrite(self, row: bytes, value: bytes) -> None:
        """Replace a row's record; its file, its epoch and its access time stay."""
        self._sql("UPDATE Cache SET value = ? WHERE key = ? AND raw = 1", (value, row))

    def touch(self, times: Iterable[tuple[float, bytes]]) -> None:
        """Note (last use, row) pairs."""
        self._con.executemany("UPDATE Cache SET access_time = ? WHERE key = ? AND raw = 1", times)

    def trust(self, row: bytes, epoch: int) -> None:
        """Note that a row's body was verified in this epoch."""
        self._sql("UPDATE Cache SET tag = ? WHERE key = ? AND raw = 1", (epoch, row))

    def discard(self, rows: Sequence[bytes]) -> None:
        """Delete up to some hundred rows and note their files, in a quarter of the time that single deletes take."""
        which = f"raw = 1 AND key IN ({','.join('?' * len(rows))})"
        query = f"SELECT filename FROM Cache WHERE filename IS NOT NULL AND {which}"  # noqa: S608
        for (name,) in self._sql(query, rows).fetchall():
            self.disk.remove(name)
        self._sql(f"DELETE FROM Cache WHERE {which}", rows)  # noqa: S608

    def after(self, row: bytes, count: int) -> list[StoredRow]:
        """The ``count`` rows that come next after ``row``, expired ones too."""
        query = f"SELECT {_STORED_ROW} FROM Cache WHERE raw = 1 AND key > ? ORDER BY key LIMIT ?"  # noqa: S608
        return [_stored_row(*each) for each in self._sql(query, (row, count)).fetchall()]

    def rows(self, keys: Sequence[bytes]) -> dict[bytes, StoredRow]:
        """Some of up to some hundred rows: those that are there and haven't expired."""
        query = (
            f"SELECT {_STORED_ROW} FROM Cache WHERE raw = 1 AND key IN ({','.join('?' * len(keys))})"  # noqa: S608
            " AND (expire_time IS NULL OR expire_time > ?)"
        )
        found = self._sql(query, (*keys, time.time())).fetchall()
        return {each[0]: _stored_row(*each) for each in found}

    def keys_after(self, row: bytes, end: bytes, count: int) -> list[bytes]:
        """The keys of the ``count`` rows that come next after ``row``, up to, not including, ``end``."""
        query = "SELECT key FROM Cache WHERE raw = 1 AND key > ? AND key < ? ORDER BY key LIMIT ?"
        return [key for (key,) in self._sql(query, (row, end, count)).fetchall()]

    def expired(self, now: float, count: int) -> list[StoredRow]:
        """Up to ``count`` rows that should have been gone before ``now``."""
        query = f"SELECT {_STORED_ROW} FROM Cache WHERE raw = 1 AND expire_time <= ? LIMIT ?"  # noqa: S608
        return [_stored_row(*each) for each in self._sql(query, (now, count)).fetchall()]

    def any_between(self, first: bytes, end: bytes) -> bool:
        """Is there a row from ``first`` up to, not including, ``end``?"""
        return bool(self._sql(f"SELECT 1 FROM Cache WHERE {_BETWEEN} LIMIT 1", (first, end)).fetchall())  # noqa: S608

    def lists_between(self, first: bytes, end: bytes) -> list[bytes]:
        """The values of the lists from ``first`` up to, not including, ``end``."""
        query = f"SELECT value FROM Cache WHERE {_BETWEEN} AND mode = {MODE_LIST}"  # noqa: S608
        return [value for (value,) in self._sql(query, (first, end)).fetchall() if type(value) is bytes]

    def discard_between(self, first: bytes, end: bytes) -> None:
        """Delete the rows from ``first`` up to, not including, ``end``, and note their files."""
        query = f"SELECT filename FROM Cache WHERE {_BETWEEN} AND filename IS NOT NULL"  # noqa: S608
        for (name,) in self._sql(query, (first, end)).fetchall():
            self.disk.remove(name)
        self._sql(f"DELETE FROM Cache WHERE {_BETWEEN}", (first, end))  # noqa: S608

    def last_uses(self, rows: Iterable[bytes]) -> dict[bytes, float]:
        """When each of a few rows was used last, Unix seconds; rows that are gone are left out."""
        keys = list(rows)
        query = f"SELECT key, access_time FROM Cache WHERE raw = 1 AND key IN ({','.join('?' * len(keys))})"  # noqa: S608
        return dict(self._sql(query, keys).fetchall())

    def oldest(self, count: int) -> list[Candidate]:
        """The ``count`` least recently used rows."""
        query = (
            "SELECT key, size + length(value) + 3 * length(key) + 128, mode FROM Cache WHERE raw = 1"
            " ORDER BY access_time LIMIT ?"
        )
        return [Candidate(row, size, mode == MODE_LIST) for row, size, mode in self._sql(query, (count,)).fetchall()]

    def knows_file(self, name: str) -> bool:
        """Does a row own the body file ``name``?"""
        return bool(self._sql("SELECT 1 FROM Cache WHERE filename = ?", (name,)).fetchall())

    def used(self) -> int:
        """Bytes that the body files and the rows take (pages that are free for reuse don't count)."""
        ((pages,),) = self._sql("PRAGMA page_count").fetchall()
        return int((pages - self.free_pages()) * self._page_size) + self._meta("size")

    def objects(self) -> int:
        """How many responses are stored; lists of variants and notes don't count."""
        query = "SELECT COUNT(*) FROM Cache WHERE mode ="
        ((others,),) = self._sql(f"SELECT ({query} {MODE_LIST}) + ({query} {MODE_NOTE})").fetchall()
        return self._meta("count") - int(others)

    def free_pages(self) -> int:
        """Pages of the database file that hold nothing."""
        ((free,),) = self._sql("PRAGMA freelist_count").fetchall()
        return int(free)

    def give_back(self, pages: int) -> None:
        """Shrink the database file by up to ``pages`` free pages."""
        self._sql(f"PRAGMA incremental_vacuum({pages})").fetchall()

    def _meta(self, name: str) -> int:
        # The Settings rows that diskcache's triggers keep. Cache.reset() would do, but it also sets attributes.
        ((value,),) = self._sql("SELECT value FROM Settings WHERE key = ?", (name,)).fetchall()
        return int(value)


def _stored_row(key: bytes, value: Any, mode: Any, epoch: Any, used: Any) -> StoredRow:
    plain = mode in _MODES and type(value) is bytes and type(epoch) is int
    return StoredRow(key, value if plain else None, epoch if plain else 0, used if type(used) is float else 0.0)


def is_damage(error: sqlite3.Error) -> bool:
    """Does ``error`` mean that the database file is no longer one, rather than busy, full or unreachable?"""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more about the same
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
