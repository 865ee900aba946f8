"""Deleting what nothing may find any more, expired rows and what was purged: in small batches, by the writer thread."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from fwdproxy.store import notes, records
from fwdproxy.store.changes import Remove
from fwdproxy.store.enforcing import Purges
from fwdproxy.store.index import Index, StoredRow
from fwdproxy.store.purging import EVERYWHERE, RuleSet
from fwdproxy.store.records import ResponseRecord, UnreadableRecord
from fwdproxy.store.rows import Rows

BATCH: Final = 128
"""Rows looked at in one go; their small bodies are read with them."""

REST: Final = 0.01
"""Seconds between two batches, so that a sweep through a large store leaves the processor to requests."""

IDLE: Final = 1.0
"""Seconds between two looks at whether there is anything to do."""


class Sweeper:
    """Carries purges out on the rows of one index. ``alone``: the index is this process's own, and empty at its start.

    One that isn't alone shares the folder of the purges, and drops them when they have been carried out.
    """

    def __init__(self, index: Index, rows: Rows, purges: Purges, *, alone: bool) -> None:
        self._index = index
        self._rows = rows
        self._purges = purges
        self._alone = alone
        rules = purges.current()
        self._swept = rules.newest if alone else rules.dropped
        self._target = 0  # the newest purge when the sweep under way began; 0: there is none
        self._cursor = b""
        self._began = 0.0
        self._not_before = 0.0
        self._expired_at = 0.0

    @property
    def swept(self) -> int:
        """Purges up to this number can't concern what lies in these rows any more, unless they are still in force."""
        return self._swept if self._alone else EVERYWHERE

    def do(self) -> float:
        """Do a piece of what is due; seconds until the next. Raises sqlite3.Error, diskcache.Timeout and OSError."""
        return min(self._expire(), self._purge())

    def _expire(self) -> float:
        now = time.monotonic()
        if now < self._expired_at:
            return IDLE
        with self._index.group():
            expired = self._index.expired(time.time(), BATCH)
            self._remove(expired)
            # What has expired isn't found by its key, so it isn't gone yet where it isn't on a list.
            self._index.discard([row.key for row in expired])
        if len(expired) == BATCH:
            return REST
        self._expired_at = now + IDLE
        return IDLE

    def _purge(self) -> float:
        rules = self._purges.current()
        if not self._target:
            if rules.newest <= self._swept:
                self._drop(rules)
                return IDLE
            if time.monotonic() < self._not_before:
                return IDLE
            self._target, self._cursor, self._began = rules.newest, b"", time.monotonic()
        batch = self._index.after(self._cursor, BATCH)
        outdated = [row for row in batch if self._is_outdated(row, rules)]
        if outdated:
            with self._index.group():
                self._remove(outdated)
        if len(batch) == BATCH:
            self._cursor = batch[-1].key
            return REST
        self._swept, self._target = self._target, 0
        now = time.monotonic()
        self._not_before = now + 10 * (now - self._began)  # an origin may have something purged with every response
        return REST

    def _drop(self, rules: RuleSet) -> None:
        """Drop the purges that were carried out some time ago."""
        number = self._purges.droppable(self._swept, time.time())
        if not self._alone and number > rules.dropped:
            with self._index.group():
                self._purges.drop(number)
            self._purges.announce_drop(number)

    def _is_outdated(self, row: StoredRow, rules: RuleSet) -> bool:
        if notes.is_note(row.key):
            return row.value is None or rules.outdates_all(notes.moment_of(row.value))
        record = _record(row)
        if not isinstance(record, ResponseRecord):
            return record is None
        key = records.cache_key(record.key)
        return rules.outdates(key.uri, record.fields, record.moment, swept=self.swept)

    def _remove(self, rows: Iterable[StoredRow]) -> None:
        """Inside a transaction: delete rows, and what names them."""
        now = time.time()
        for row in rows:
            record = _record(row)
            if isinstance(record, ResponseRecord):
                # By its name, as another process may have put another response into the row since it was read.
                self._rows.apply(Remove(record.key, record.ident), now)
            if record is None or row.key[:1] == b"v":  # a variant that no list names
                self._index.discard([row.key])


def _record(row: StoredRow) -> records.Record | None:
    """None: nothing that a response could be made of."""
    if row.value is None or notes.is_note(row.key):
        return None
    try:
        return records.decode(row.value)
    except UnreadableRecord:
        return None
