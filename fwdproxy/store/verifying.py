"""Looking for rot: is every row a record, and every body what was received? What isn't is taken out of the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from fwdproxy.store import notes, records
from fwdproxy.store.base import Verified
from fwdproxy.store.bodies import FileIO, digest_of
from fwdproxy.store.changes import Change, Remove
from fwdproxy.store.chores import Chores
from fwdproxy.store.index import Index, StoredRow
from fwdproxy.store.opening import Folder
from fwdproxy.store.records import ResponseRecord, UnreadableRecord, VariantList

log = logging.getLogger(__name__)

ENOUGH: Final = 256 * 1024 * 1024
"""Bytes of bodies after which a piece of the work ends, however few rows it had."""


class Verifier:
    """Checks rows and bodies. ``submit`` takes the removal of a response, ``chores`` that of anything else."""

    def __init__(self, folder: Folder, io: FileIO, chores: Chores, submit: Callable[[Change], None]) -> None:
        self._folder = folder
        self._index: Index = folder.index
        self._io = io
        self._chores = chores
        self._submit = submit

    async def verify(self, after: bytes, limit: int) -> Verified:
        """What Store.verify gives. Raises sqlite3.Error."""
        batch = await self._in_thread(lambda: self._index.after(after, limit))
        checked, size, removed, row = 0, 0, [], None
        for row in batch:
            record = _record(row)
            sound = await self._is_sound(row, record)
            if isinstance(record, ResponseRecord):
                checked += 1
                size += record.length
                if sound and row.epoch < self._folder.epoch:
                    self._chores.note_verified(row.key, record.ident)
            if not sound and await self._is_still_there(row):
                removed.append(self._remove(row, record))
            if size >= ENOUGH:
                break
        finished = row is None or (row is batch[-1] and len(batch) < limit)
        if finished:
            self._chores.sweep_files()
        return Verified(checked, size, tuple(removed), None if finished or row is None else row.key)

    async def _is_sound(self, row: StoredRow, record: records.Record | None) -> bool:
        if notes.is_note(row.key):
            return row.value is not None and notes.moment_of(row.value) >= 0
        if isinstance(record, VariantList):
            return row.key[:1] == b"k"
        if record is None or not _is_in_place(row, record):
            return False
        if record.body is not None:
            return len(record.body) == record.length and digest_of(record.body) == record.digest
        path = self._folder.bodies / records.body_name(record.ident)
        return await self._io.verify(str(path), record.length, record.digest)

    async def _is_still_there(self, row: StoredRow) -> bool:
        """Is the row as it was read? Else its body was replaced or evicted while it was looked at."""
        rows = await self._in_thread(lambda: self._index.rows([row.key]))
        now = rows.get(row.key)
        return now is not None and now.value == row.value

    def _remove(self, row: StoredRow, record: records.Record | None) -> str:
        """Take a row out; the URI of what it held, or the best name for it."""
        self._chores.doom(row)
        if isinstance(record, ResponseRecord) and _is_in_place(row, record):
            self._submit(Remove(record.key, record.ident))  # so that no lookup finds it from now on
        name = _name(row, record)
        log.warning("what is stored isn't what was received and is removed: %s", name)
        return name

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        """Do work with the database off the loop, without leaving a connection behind in a pool's thread."""

        def run() -> T:
            try:
                return work()
            finally:
                self._index.close()

        return await asyncio.to_thread(run)


def _record(row: StoredRow) -> records.Record | None:
    if row.value is None or notes.is_note(row.key):
        return None
    try:
        return records.decode(row.value)
    except UnreadableRecord:
        return None


def _is_in_place(row: StoredRow, record: ResponseRecord) -> bool:
    if not _uri(record.key):
        return False
    return row.key == (record.key if row.key[:1] == b"k" else records.variant_row(record.ident))


def _name(row: StoredRow, record: records.Record | None) -> str:
    of_record = _uri(record.key) if isinstance(record, ResponseRecord) else ""
    return of_record or _uri(row.key) or f"an unreadable row, {row.key[:40].hex()}"


def _uri(row: bytes) -> str:
    """The URI of a primary row; empty for any other bytes."""
    try:
        return records.cache_key(row).uri if row[:1] == b"k" else ""
    except ValueError:
        return ""
