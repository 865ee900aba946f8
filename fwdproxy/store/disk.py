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
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from fwdproxy.errors import StoreError
from fwdproxy.messages import BodyRef, CacheKey, Headers, StoredMeta, StoredResponse
from fwdproxy.store import records, variants
from fwdproxy.store.base import NOTHING, BodyReader, Found, StoreStats
from fwdproxy.store.bodies import FileIO
from fwdproxy.store.changes import Change, Forget, Freshen, Pending, Put, Remove
from fwdproxy.store.chores import Chores
from fwdproxy.store.commits import Committer, Trouble
from fwdproxy.store.eviction import largest_object
from fwdproxy.store.fills import DiskFill
from fwdproxy.store.finding import Finder
from fwdproxy.store.index import is_damage
from fwdproxy.store.opening import Folder, open_folder
from fwdproxy.store.rows import EMPTY, Rows
from fwdproxy.store.writer import GroupWriter

log = logging.getLogger(__name__)

DEFAULT_SIZE: Final = 10 * 10**9
BACKLOG_PATIENCE: Final = 0.2
"""Seconds that a complete response waits for the writer thread to catch up, before it goes unstored."""

INVALIDATION_PATIENCE: Final = 2.0
"""Seconds that `invalidate` waits for its commit, the client of an unsafe request with it."""

SETTLING_PATIENCE: Final = 30.0


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
        self._closed = False
        self._chores = Chores(
            folder.index,
            folder.bodies,
            limit=size_limit,
            epoch=folder.epoch,
            filling=self._filling,
            sweep=folder.unclean,
        )
        self._finder = Finder(folder, self._rows, self._pending, self._chores, self._io, self._submit)
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
            return await self._finder.find(key, request)
        except sqlite3.Error as error:
            self._trouble.note(error)
            return NOTHING

    def open_body(self, body: BodyRef) -> BodyReader:
        """See Store."""
        return self._finder.open_body(body)

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
        elif not os.access(self._folder.fills, os.W_OK | os.X_OK):
            gone = "its folder is gone or can't be written any more; start again to make it anew"
            self._trouble.note(StoreError(gone))
            fill.forbid(f"the cache is out of use, {gone}")
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
        """See Store."""
        rows = dict.fromkeys(map(records.primary_row, keys))
        for row in rows:
            for fill in self._fills.get(row, ()):
                fill.forbid("it was invalidated while it was received")
        if not await self._forget([row for row in rows if self._may_hold(row)], INVALIDATION_PATIENCE):
            log.error("the cache's database can't be written; other processes may still use what was invalidated")

    async def settle(self) -> None:
        """Wait until every change made so far is committed. Raises StoreError when that takes too long."""
        # No key has this row; what was queued before it is committed before it.
        if not await self._forget([b""], SETTLING_PATIENCE):
            raise StoreError("the cache's database can't be written")

    async def _forget(self, rows: Sequence[bytes], patience: float) -> bool:
        """Forget these rows; False when that isn't committed within ``patience`` seconds."""
        changes = [Forget(row) for row in rows]
        for change in changes:
            self._submit(change, urgent=True)
        if changes and not self._trouble.damaged:  # nothing of a damaged store is used
            jobs = [asyncio.wrap_future(change.done) for change in changes]
            _, late = await asyncio.wait(jobs, timeout=patience)
            return not late
        return True

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
        """See Store. What isn't committed yet (20 ms at most) doesn't count, and a closed store holds nothing."""
        if self._closed:
            return StoreStats(0, 0, self.size_limit)
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
