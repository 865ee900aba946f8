"""What the writer thread does between commits: access times, eviction, notes, and sweeping up."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import batched
from pathlib import Path
from typing import Final

import diskcache

from fwdproxy.store import eviction, records
from fwdproxy.store.index import Index, RefusedRow, StoredRow
from fwdproxy.store.notes import Notes
from fwdproxy.store.records import UnreadableRecord, VariantList
from fwdproxy.store.sweeping import Sweeper

log = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds between two looks at how full the store is."""

FLUSH: Final = 10.0
"""Seconds for which access times are collected; a kill loses no more than these."""

MAX_COLLECTED: Final = 10_000
"""Access times above which they are written sooner."""

BATCH: Final = 256
"""Rows evicted or touched in one transaction, and pages given back at once."""

SLACK: Final = 1024
"""Free pages that the database keeps for its next rows."""


class Chores:
    """The background work of one store, a bounded piece at a time.

    ``folder``: where the body files lie. ``limit``: bytes allowed. ``filling`` tells the bytes of the fills under way,
    which take disk space too. ``sweep``: look for files without a row, as a killed process leaves them. ``uses``: the
    last use of each row that the index doesn't know yet, Unix seconds. ``notes`` are to be written; ``sweeper`` deletes
    what has expired or was purged.
    """

    def __init__(
        self,
        index: Index,
        folder: Path,
        *,
        limit: int,
        epoch: int,
        filling: Callable[[], int],
        sweep: bool,
        uses: dict[bytes, float],
        notes: Notes,
        sweeper: Sweeper,
    ) -> None:
        self._index = index
        self._folder = folder
        self._notes = notes
        self._sweeper = sweeper
        self._doomed: deque[StoredRow] = deque()
        self._limit = limit
        self._epoch = epoch
        self._filling = filling
        self._uses = uses
        self._verified: dict[bytes, str] = {}
        self._flush_at = time.monotonic() + FLUSH
        self._check_at = 0.0
        self._evicting = False
        self._unswept: Iterator[Path] = iter(())
        if sweep:
            self.sweep_files()

    # Called on the event loop

    def sweep_files(self) -> None:
        """Look through all files, in the background, for those that no row owns."""
        self._unswept = iter(sorted(self._folder.glob("[0-9a-f][0-9a-f]")))

    def doom(self, row: StoredRow) -> None:
        """Delete a row, in the background, if it is still as it was read."""
        self._doomed.append(row)

    def note_use(self, row: bytes, now: float) -> None:
        """A row was used at ``now``, Unix seconds."""
        self._uses[row] = now

    def note_verified(self, row: bytes, ident: str) -> None:
        """The body of the response ``ident`` in ``row`` was verified."""
        self._verified[row] = ident

    def is_verified(self, row: bytes, ident: str) -> bool:
        """Was it verified, though the row may not say so yet?"""
        return self._verified.get(row) == ident

    # Called in the writer thread

    def do(self, last: bool) -> float:
        """Do a piece of what is due; seconds until the next. ``last``: only write down what would be lost."""
        try:
            now = time.monotonic()
            if last or now >= self._flush_at or len(self._uses) >= MAX_COLLECTED:
                self._flush()
                self._flush_at = now + FLUSH
            if last:
                self._notes.flush()
                return 0.0
            busy = self._keep_limit(now)
            busy = self._sweep() or busy
            self._notes.flush()
            self._delete_doomed()
            pause = self._sweeper.do()
        except (sqlite3.Error, diskcache.Timeout, OSError) as error:
            log.warning("the store's chores are put off: %s", str(error) or "another process holds the lock")
            return PAUSE
        return 0.0 if busy else min(pause, PAUSE)

    def _delete_doomed(self) -> None:
        while self._doomed:
            row = self._doomed.popleft()
            with self._index.group():
                now = self._index.rows([row.key]).get(row.key)
                if now is not None and now.value == row.value:
                    self._index.discard([row.key])

    def _flush(self) -> None:
        uses = [self._uses.popitem() for _ in range(len(self._uses))]  # while the loop may be adding to it
        for batch in batched(uses, BATCH):
            with self._index.group():
                self._index.touch((used, row) for row, used in batch)
        verified = list(self._verified.items())
        for batch_verified in batched(verified, BATCH):
            with self._index.group():
                for row, _ in batch_verified:
                    self._index.trust(row, self._epoch)
        for row, ident in verified:
            if self._verified.get(row) == ident:
                self._verified.pop(row, None)

    def _keep_limit(self, now: float) -> bool:
        """Evict a batch when the store is too full; True when there is more to do at once."""
        if not self._evicting:
            if now < self._check_at:
                return False
            self._check_at = now + PAUSE
            if not eviction.due(self._index.used() + self._filling(), self._limit):
                if self._index.free_pages() > SLACK:  # slow, so not while evicting: new rows need the pages anyway
                    self._index.give_back(BATCH)
                return False
            self._flush()  # least recent use is only known with the times that are still in memory
            self._evicting = True
        self._evicting = self._evict()
        return self._evicting

    def _evict(self) -> bool:
        with self._index.group():
            # Measured again inside the transaction: another process may just have evicted.
            used = self._index.used() + self._filling()
            victims = eviction.plan(self._index.oldest(BATCH), used, self._limit)
            rows = [victim.row for victim in victims]
            for victim in victims:
                if victim.is_list:
                    # Nothing finds a variant whose list is gone. The list is as recently used as any of its variants.
                    rows += self._variants(victim.row)
            for batch in batched(rows, BATCH):
                self._index.discard(batch)
        return bool(victims)

    def _variants(self, row: bytes) -> list[bytes]:
        """The rows that a list of variants names."""
        try:
            found = self._index.find(row)
            record = None if found is None else records.decode(found[0])
        except (RefusedRow, UnreadableRecord):
            record = None
        return [records.variant_row(entry.ident) for entry in record.entries] if isinstance(record, VariantList) else []

    def _sweep(self) -> bool:
        """Delete the files of one folder that no row owns; True when there are more folders."""
        folder = next(self._unswept, None)
        if folder is None:
            return False
        files = list(folder.iterdir())
        if files:
            # Files are moved into place inside the transaction that writes their row. So after waiting for those under
            # way, a file seen before without a row is nobody's.
            with self._index.group():
                pass
            for file in files:
                if not self._index.knows_file(f"{folder.name}/{file.name}"):
                    file.unlink(missing_ok=True)
        return True
