"""The store on disk: diskcache's table as the index, small bodies in its rows, large ones in files beside it.

Lookups read SQLite on the event loop (a few tens of microseconds). Changes go to the writer thread, which groups them;
until they are committed, `changes.Pending` makes them visible to this process. Several processes may share a folder:
what one has committed the others see at their next lookup.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from fwdproxy.errors import StoreError
from fwdproxy.messages import BodyRef, CacheKey, Headers, StoredMeta, StoredResponse
from fwdproxy.store import records, variants
from fwdproxy.store.base import NOTHING, BodyReader, BrokenBody, Found, StoreStats, Variant
from fwdproxy.store.bodies import FileIO, FileReader, MemoryReader, OpenFile, digest_of
from fwdproxy.store.changes import Change, Forget, Freshen, Pending, Put, Remove
from fwdproxy.store.chores import Chores
from fwdproxy.store.commits import Committer, Trouble
from fwdproxy.store.eviction import largest_object
from fwdproxy.store.fills import DiskFill
from fwdproxy.store.index import is_damage
from fwdproxy.store.opening import Folder, open_folder
from fwdproxy.store.records import Entry, ResponseRecord
from fwdproxy.store.rows import EMPTY, Rows, Shelf
from fwdproxy.store.variants import Entries
from fwdproxy.store.writer import GroupWriter

log = logging.getLogger(__name__)

DEFAULT_SIZE: Final = 10 * 10**9
BACKLOG_PATIENCE: Final = 0.2
"""Seconds that a complete response waits for the writer thread to catch up, before it goes unstored."""

INVALIDATION_PATIENCE: Final = 10.0
"""Seconds that `invalidate` waits for its commit."""


def default_size(path: Path, used: int = 0) -> int:
    """Bytes to allow when the user names no size: 10 GB or a tenth of the free disk, whichever is less.

    ``used``: what the store takes already, so that the answer doesn't shrink with every start.
    """
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return min(DEFAULT_SIZE, (shutil.disk_usage(existing).free + used) // 10)


def open_store(path: Path, size_limit: int | None = None) -> DiskStore:
    """Open the store in ``path``, or make it. ``size_limit``: bytes, None for `default_size`.

    Raises StoreError, whose text is one line that says what to do.
    """
    folder = open_folder(path)
    try:
        limit = size_limit if size_limit is not None else default_size(folder.root, folder.index.used())
    except sqlite3.Error as error:
        if is_damage(error):
            folder.mark_damaged()
        raise StoreError(f"can't read the database of the cache in {path}: {error}; start again") from None
    folder.index.close()  # this thread's connection; the loop may run in another
    return DiskStore(folder, limit)


class DiskStore:
    """A Store. Make it with `open_store`; use it on one event loop, and close it with `aclose`.

    ``size_limit``: bytes that it may take on disk. ``directory``: where it lies.
    """

    def __init__(self, folder: Folder, size_limit: int) -> None:
        self.directory = folder.root
        self.size_limit = size_limit
        self._folder = folder
        self._index = folder.index
        self._rows = Rows(folder.index, folder.epoch)
        self._pending = Pending()
        self._trouble = Trouble(folder.mark_damaged)
        self._io = FileIO()
        self._fills: dict[bytes, set[DiskFill]] = {}
        self._checks: dict[str, asyncio.Future[bool]] = {}
        self._closed = False
        self._chores = Chores(
            folder.index,
            folder.bodies,
            limit=size_limit,
            epoch=folder.epoch,
            filling=self._filling,
            sweep=folder.unclean,
        )
        committer = Committer(folder.index, self._rows, self._pending, self._trouble)
        self._writer = GroupWriter(
            begin=self._index.be_patient, commit=committer.commit, chores=self._chores.do, end=self._index.close
        )
        self._writer.start()

    # Finding

    async def lookup(self, key: CacheKey, request: Headers) -> Found:
        """See Store."""
        if self._closed or self._trouble.damaged:
            return NOTHING
        try:
            return await self._lookup(key, request)
        except sqlite3.Error as error:
            self._trouble.note(error)
            return NOTHING

    async def _lookup(self, key: CacheKey, request: Headers) -> Found:
        now = time.time()
        row = records.primary_row(key)
        changes = self._pending.of(row)  # before the row is read, see there
        shelf = self._rows.shelf(row)
        if shelf.unreadable and not changes:
            self._submit(Remove(row, ""))
        entries = shelf.entries
        for change in changes:
            entries = change.on(entries, now)
        while (entry := variants.select(entries, request)) is not None:
            stored = self._load(key, row, entry, shelf, changes)
            own_row = records.variant_row(entry.ident) if entry.nominated else row
            if stored is not None and not stored.body.trusted:
                stored = await self._verified(own_row, stored)
            if stored is not None:
                self._chores.note_use(row, now)
                if entry.nominated:
                    self._chores.note_use(own_row, now)
                return Found(stored, True, _others(entries, entry))
            self._submit(Remove(row, entry.ident))
            entries = variants.without(entries, entry.ident)
        return Found(None, bool(entries), _others(entries, None)) if entries else NOTHING

    def _load(
        self, key: CacheKey, row: bytes, entry: Entry, shelf: Shelf, changes: tuple[Change, ...]
    ) -> StoredResponse | None:
        """The response of an entry; None when its row or its file isn't what it should be."""
        ident = entry.ident
        record: ResponseRecord | None = None
        meta: StoredMeta | None = None
        for change in changes:
            match change:
                case Put() if change.entry.ident == ident:
                    record, meta, trusted = change.record, None, True
                case Freshen() if change.entry.ident == ident:
                    meta = change.meta
        if record is None:
            single = shelf.single
            found = single if single and single[0].ident == ident else self._rows.variant(row, ident)
            if found is None:
                return None
            record, epoch = found
            own_row = records.variant_row(ident) if entry.nominated else row
            trusted = epoch >= self._folder.epoch or self._chores.is_verified(own_row, ident)
            if not self._is_whole(record):
                return None
        path = self._path(ident) if record.body is None else None
        stored = records.unpack(record, key, path, trusted)
        return stored if meta is None else replace(stored, meta=meta)

    def _is_whole(self, record: ResponseRecord) -> bool:
        if record.body is not None:
            return len(record.body) == record.length
        try:
            return os.stat(self._path(record.ident)).st_size == record.length  # noqa: PTH116  # pathlib costs more than the call
        except OSError:
            return False

    async def _verified(self, row: bytes, stored: StoredResponse) -> StoredResponse | None:
        """``stored`` when its body has the digest it should have, else None."""
        body = stored.body
        if body.inline is not None:
            right = digest_of(body.inline) == body.digest
        else:
            right = await self._verify_file(stored.ident, body)
        if not right:
            log.warning("a stored body isn't what was received and is dropped: %s", stored.ident)
            return None
        self._chores.note_verified(row, stored.ident)
        return replace(stored, body=replace(body, trusted=True))

    async def _verify_file(self, ident: str, body: BodyRef) -> bool:
        check = self._checks.get(ident)
        if check is None:
            check = asyncio.ensure_future(self._io.verify(body.path or "", body.length, body.digest))
            self._checks[ident] = check
            check.add_done_callback(lambda _: self._checks.pop(ident, None))
        return await asyncio.shield(check)  # others wait for it too

    def _path(self, ident: str) -> str:
        return f"{self._folder.bodies}/{records.body_name(ident)}"

    def open_body(self, body: BodyRef) -> BodyReader:
        """See Store."""
        if body.inline is not None:
            return MemoryReader(body.inline)
        if body.path is None:
            raise BrokenBody("a stored response has no body")
        file = OpenFile(self._open(body.path))
        if os.fstat(file.fd).st_size != body.length:
            file.release()
            raise BrokenBody(f"the body file {body.path} hasn't its length")
        return FileReader(self._io, file, body.length)

    def _open(self, path: str) -> int:
        """A descriptor of a body file, wherever it lies while its commit is under way."""
        folder, name = path.rsplit("/", 2)[1:]
        source = self._pending.source(f"{folder}/{name}")
        for place in (path, source, path):  # the writer may move it between two tries
            try:
                if place is not None:
                    return os.open(place, os.O_RDONLY)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BrokenBody(f"the body file {path} can't be opened: {error}") from None
        raise BrokenBody(f"the body file {path} is gone")

    # Changing

    def open_fill(self, key: CacheKey, meta: StoredMeta, length: int | None) -> DiskFill:
        """See Store."""
        row = records.primary_row(key)
        ident = secrets.token_hex(16)
        fill = DiskFill(
            ident,
            self._folder.fills,
            self._io,
            length=length,
            largest=largest_object(self.size_limit),
            commit=partial(self._keep, row, meta),
            ended=partial(self._ended, row),
        )
        self._fills.setdefault(row, set()).add(fill)
        if self._closed or self._trouble.damaged:
            fill.forbid("the store is out of use")
        return fill

    async def freshen(self, stored: StoredResponse, meta: StoredMeta) -> None:
        """See Store. A new head that changes the selection ends the copy: it could be found under the old one only."""
        row = records.primary_row(stored.key)
        if meta.nominated == stored.meta.nominated:
            self._submit(Freshen(row, variants.entry_of(stored.ident, meta), meta))
        else:
            self._submit(Remove(row, stored.ident))

    async def remove(self, stored: StoredResponse) -> None:
        """See Store."""
        self._submit(Remove(records.primary_row(stored.key), stored.ident))

    async def invalidate(self, keys: Sequence[CacheKey]) -> None:
        """See Store. Raises StoreError when the other processes can't be told in time; for this one it is in force."""
        rows = dict.fromkeys(map(records.primary_row, keys))
        for row in rows:
            for fill in self._fills.get(row, ()):
                fill.forbid("it was invalidated while it was received")
        await self._forget([row for row in rows if self._may_hold(row)])

    async def settle(self) -> None:
        """Wait until every change made so far is committed. Raises StoreError when that takes too long."""
        await self._forget([b""])  # no key has this row; what was queued before it is committed before it

    async def _forget(self, rows: Sequence[bytes]) -> None:
        changes = [Forget(row) for row in rows]
        for change in changes:
            self._submit(change, urgent=True)
        if changes:
            jobs = [asyncio.wrap_future(change.done) for change in changes]
            _, late = await asyncio.wait(jobs, timeout=INVALIDATION_PATIENCE)
            if late:
                raise StoreError(
                    "the cache's database can't be written; other processes may still use what was removed"
                )

    def _may_hold(self, row: bytes) -> bool:
        if self._pending.of(row):
            return True
        try:
            return self._rows.shelf(row) != EMPTY
        except sqlite3.Error as error:
            self._trouble.note(error)
            return True

    async def _keep(self, row: bytes, meta: StoredMeta, fill: DiskFill) -> None:
        room = self._writer.room()
        if room is not None:
            _, late = await asyncio.wait((asyncio.wrap_future(room),), timeout=BACKLOG_PATIENCE)
            if late:
                fill.forbid("the database can't keep up")
        if fill.will_store:
            body = fill.inline()
            record = records.pack(row, fill.ident, meta, fill.received, fill.digest(), body)
            entry = variants.entry_of(fill.ident, meta)
            self._submit(Put(row, entry, record, fill.path if body is None else None))

    def _submit(self, change: Change, *, urgent: bool = False) -> None:
        self._pending.add(change)
        self._writer.submit(change, urgent=urgent)

    def _ended(self, row: bytes, fill: DiskFill) -> None:
        fills = self._fills[row]
        fills.discard(fill)
        if not fills:
            del self._fills[row]

    def _filling(self) -> int:
        # Called in the writer thread; tuple() copies at once, whatever the loop does meanwhile.
        return sum(fill.on_disk for fills in tuple(self._fills.values()) for fill in tuple(fills))

    # The whole

    def stats(self) -> StoreStats:
        """See Store. What isn't committed yet (up to 20 ms) doesn't count."""
        try:
            return StoreStats(self._index.objects(), self._index.used(), self.size_limit)
        except sqlite3.Error as error:
            self._trouble.note(error)
            return StoreStats(0, 0, self.size_limit)

    async def aclose(self) -> None:
        """See Store."""
        if self._closed:
            return
        self._closed = True
        for fill in [fill for fills in self._fills.values() for fill in fills]:
            fill.abort("the store is closing")
        await asyncio.to_thread(self._writer.stop)
        await asyncio.to_thread(self._io.close)
        self._index.close()
        self._folder.leave()


def _others(entries: Entries, chosen: Entry | None) -> tuple[Variant, ...]:
    if len(entries) == 1 and chosen is not None:
        return ()
    return tuple(Variant(entry.ident, entry.nominated, entry.etag) for entry in entries if entry is not chosen)
