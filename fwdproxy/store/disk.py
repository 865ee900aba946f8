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
from collections.abc import Awaitable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from fwdproxy.errors import StoreError
from fwdproxy.messages import BodyRef, CacheKey, Headers, Span, StoredMeta, StoredResponse
from fwdproxy.store import records
from fwdproxy.store.base import NOTHING, BodyReader, Found, Page, StoreStats, Verified
from fwdproxy.store.bodies import FileIO
from fwdproxy.store.browsing import Browser
from fwdproxy.store.changes import Change, Forget, Freshen, Pending, Remove, put_of
from fwdproxy.store.chores import Chores
from fwdproxy.store.commits import Committer, Trouble
from fwdproxy.store.enforcing import Purges
from fwdproxy.store.eviction import largest_object
from fwdproxy.store.fills import DiskFill
from fwdproxy.store.finding import Finder
from fwdproxy.store.index import is_damage
from fwdproxy.store.notes import Notes, note_row
from fwdproxy.store.opening import Folder, open_folder
from fwdproxy.store.purging import PurgeRule
from fwdproxy.store.rows import Rows
from fwdproxy.store.sweeping import Sweeper
from fwdproxy.store.under_way import UnderWay
from fwdproxy.store.verifying import Verifier
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
        purges = Purges(folder.index, folder.generation)
    except sqlite3.Error as error:
        if is_damage(error):
            folder.mark_damaged()
        raise StoreError(f"can't read the database of the cache in {path}: {error}; start again") from None
    folder.index.close()  # this thread's connection; the loop may run in another
    return DiskStore(folder, limit, purges)


class DiskStore:
    """A Store. Make it with `open_store`; use it on one event loop, and close it with `aclose`.

    ``size_limit``: bytes that it may take on disk. ``directory``: where it lies. ``purges``: those that it obeys;
    ``follows``: they are another store's.
    """

    def __init__(self, folder: Folder, size_limit: int, purges: Purges, *, follows: bool = False) -> None:
        self.directory = folder.root
        self.size_limit = size_limit
        self.purges = purges
        self._folder = folder
        self._index = folder.index
        uses: dict[bytes, float] = {}
        self._rows = Rows(folder.index, folder.epoch, uses)
        self._pending = Pending()
        self._trouble = Trouble(folder.mark_damaged)
        self._io = FileIO()
        self._under_way = UnderWay(purges, self._trouble)
        self._notes = Notes(folder.index, folder.epoch, purges)
        self._saving: set[asyncio.Task[None]] = set()
        self._closed = False
        self._sweeper = Sweeper(folder.index, self._rows, purges, alone=follows)
        self._chores = Chores(
            folder.index,
            folder.bodies,
            limit=size_limit,
            epoch=folder.epoch,
            filling=self._under_way.on_disk,
            sweep=folder.unclean,
            uses=uses,
            notes=self._notes,
            sweeper=self._sweeper,
        )
        self._finder = Finder(
            folder, self._rows, self._pending, self._chores, self._io, purges, self._sweeper, self._submit
        )
        self._browser = Browser(folder.index, purges, self._sweeper)
        self._verifier = Verifier(folder, self._io, self._chores, self._submit)
        committer = Committer(folder.index, self._rows, self._pending, self._trouble, purges)
        self._writer = GroupWriter(
            begin=self._index.be_patient, commit=committer.commit, chores=self._chores.do, end=self._leave_thread
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

    def open_body(self, body: BodyRef, start: int = 0) -> BodyReader:
        """See Store."""
        return self._finder.open_body(body, start)

    # Changing

    def open_fill(
        self,
        key: CacheKey,
        meta: StoredMeta,
        length: int | None,
        *,
        part: tuple[Span, int] | None = None,
        moment: int = 0,
        expires: float | None = None,
    ) -> DiskFill:
        """See Store."""
        row = records.primary_row(key)
        ident = secrets.token_hex(16)
        fill = DiskFill(
            ident,
            self._folder.fills,
            self._io,
            length=length,
            part=part,
            largest=largest_object(self.size_limit),
            commit=partial(self._keep, row, meta, expires),
            cut=self._save,
            ended=self._under_way.end,
            look=self._under_way.look,
        )
        self._under_way.begin(fill, key, meta.head, moment)
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
        # One that was purged meanwhile mustn't get a new head, under which the purge wouldn't name it any more.
        if meta.nominated == stored.meta.nominated and not self._is_purged(stored):
            self._submit(Freshen(row, stored.ident, meta))
        else:
            self._submit(Remove(row, stored.ident))

    async def remove(self, stored: StoredResponse) -> None:
        """See Store."""
        self._submit(Remove(records.primary_row(stored.key), stored.ident))

    async def invalidate(self, keys: Sequence[CacheKey]) -> None:
        """See Store."""
        places = dict.fromkeys(map(records.place, keys))
        self._under_way.forbid_at(places)
        if not await self._forget([place for place in places if self._may_hold(place)], INVALIDATION_PATIENCE):
            log.error("the cache's database can't be written; other processes may still use what was invalidated")

    async def settle(self) -> None:
        """Wait until every change made so far is committed. Raises StoreError when that takes too long."""
        if self._saving:
            await asyncio.wait(self._saving)
        # Nothing has this place; what was queued before it is committed before it.
        if not await self._forget([b""], SETTLING_PATIENCE):
            raise StoreError("the cache's database can't be written")

    async def _forget(self, places: Sequence[bytes], patience: float) -> bool:
        """Forget what lies at these places; False when that isn't committed within ``patience`` seconds."""
        changes = [Forget(place) for place in places]
        for change in changes:
            self._submit(change, urgent=True)
        if changes and not self._trouble.damaged:  # nothing of a damaged store is used
            jobs = [asyncio.wrap_future(change.done) for change in changes]
            _, late = await asyncio.wait(jobs, timeout=patience)
            return not late
        return True

    def _may_hold(self, place: bytes) -> bool:
        if self._pending.holds(place):
            return True
        try:
            return self._rows.holds(place)
        except sqlite3.Error as error:
            self._trouble.note(error)
            return True

    async def _keep(self, row: bytes, meta: StoredMeta, expires: float | None, fill: DiskFill) -> None:
        room = self._writer.room()
        if room is not None:
            _, late = await asyncio.wait((asyncio.wrap_future(room),), timeout=BACKLOG_PATIENCE)
            if late:
                fill.forbid("the database can't keep up")
        moment = self._under_way.moment(fill)
        if fill.wanted:
            self._submit(put_of(fill, row, meta, moment, expires))

    def _save(self, fill: DiskFill) -> None:
        """Keep what arrived of a message that was cut, in a task of our own: the one that received it may be ending."""
        task = asyncio.get_running_loop().create_task(fill.save(), name="part")
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    def _submit(self, change: Change, *, urgent: bool = False) -> None:
        self._pending.add(change)
        self._writer.submit(change, urgent=urgent)

    def _is_purged(self, stored: StoredResponse) -> bool:
        try:
            return self._finder.is_outdated(stored)
        except sqlite3.Error as error:
            self._trouble.note(error)
            return True

    # Purges, notes, and what people ask for

    def moment(self) -> int:
        """See Store."""
        return self.purges.moment()

    async def purge(self, rule: PurgeRule) -> None:
        """See Store."""
        self._require_use()
        await asyncio.to_thread(self.purges.add, rule)
        self._under_way.look()

    async def note(self, name: str) -> bytes | None:
        """See Store."""
        row = note_row(name)
        try:
            found = None if self._closed or self._trouble.damaged else self._notes.get(row)
        except sqlite3.Error as error:
            self._trouble.note(error)
            return None
        if found is not None:
            self._chores.note_use(row, time.time())
        return found

    def set_note(self, name: str, value: bytes | None) -> None:
        """See Store."""
        self._notes.put(note_row(name), value)

    async def browse(self, *, prefix: str = "", host: str = "", after: bytes = b"", limit: int = 200) -> Page:
        """See Store."""
        self._require_use()
        await self.settle()
        return await self._asked(self._browser.browse(prefix, host, after, limit))

    async def verify(self, *, after: bytes = b"", limit: int = 50) -> Verified:
        """See Store."""
        self._require_use()
        return await self._asked(self._verifier.verify(after, limit))

    def _require_use(self) -> None:
        if self._closed or self._trouble.damaged:
            raise StoreError("the cache is out of use; its log says why, start again to make it anew")

    async def _asked[T](self, work: Awaitable[T]) -> T:
        try:
            return await work
        except sqlite3.Error as error:
            self._trouble.note(error)
            raise StoreError(f"the cache's database can't be read: {error}") from None

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
        self._under_way.abort("the store is closing")
        if self._saving:
            await asyncio.wait(self._saving)
        await asyncio.to_thread(self._writer.stop)
        await asyncio.to_thread(self._io.close)
        self._leave_thread()
        self._folder.leave()

    def _leave_thread(self) -> None:
        """Close the calling thread's connections."""
        self._index.close()
        self.purges.close()
