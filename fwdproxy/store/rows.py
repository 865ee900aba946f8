"""From rows to responses and back: the only place that knows how a key's responses are laid out in the index.

A key's primary row holds its one response, or, when there are variants (the responses have a Vary field) or parts, the
list of them, each in a row of its own. One row owns both a head and its body file. The primary rows of one vantage and
URI, for whatever method, stand side by side. The reading half is called from any thread, `apply` from the writer inside
a transaction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from fwdproxy.store import records, variants
from fwdproxy.store.changes import Change, Forget, Freshen, Put
from fwdproxy.store.index import Bodied, Index, Listed, RefusedRow
from fwdproxy.store.records import Entry, Record, ResponseRecord, UnreadableRecord, VariantList
from fwdproxy.store.variants import Entries

log = logging.getLogger(__name__)


class Shelf(msgspec.Struct, frozen=True, gc=False):
    """What lies under a key.

    ``single``: the primary row's own response and its epoch, when it has one. ``unreadable``: the row holds something
    that isn't a record, and is to be cleared away.
    """

    entries: Entries = ()
    single: tuple[ResponseRecord, int] | None = None
    unreadable: bool = False


EMPTY: Final = Shelf()


class Rows:
    """Reads and changes the rows of an index.

    ``epoch``: what new rows are marked with, see opening.py. ``uses``: last uses that the index doesn't know yet.
    """

    def __init__(self, index: Index, epoch: int, uses: Mapping[bytes, float]) -> None:
        self._index = index
        self._epoch = epoch
        self._uses = uses

    def shelf(self, row: bytes) -> Shelf:
        """What lies under a primary row. Raises sqlite3.Error when the database can't be read."""
        found = self._read(row)
        if found is None:
            return EMPTY
        record, epoch = found
        if isinstance(record, ResponseRecord) and record.key == row and not record.nominated and record.part is None:
            # Date and coding would tell it from the entries beside it, and there are none.
            received = record.response_time
            entry = Entry(record.ident, (), received, received, _etag(record), moment=record.moment)
            return Shelf((entry,), (record, epoch))
        if isinstance(record, VariantList):
            return Shelf(record.entries)
        return Shelf(unreadable=True)

    def variant(self, row: bytes, ident: str) -> tuple[ResponseRecord, int] | None:
        """A variant of the primary row and its epoch; None when it is gone or unreadable. Raises sqlite3.Error."""
        record, epoch = self._read(records.variant_row(ident)) or (None, 0)
        if isinstance(record, ResponseRecord) and record.key == row and record.ident == ident:
            return record, epoch
        return None

    def holds(self, place: bytes) -> bool:
        """Does anything lie at a place? Raises sqlite3.Error."""
        return self._index.any_between(*_range(place))

    def apply(self, change: Change, now: float) -> None:
        """Write one change. Raises sqlite3.Error; a body file that can't be moved into place undoes only its change."""
        if isinstance(change, Forget):
            self._forget(change.place)
            return
        row = change.row
        old = self.shelf(row)
        if old.unreadable:
            self._index.discard([row])
        new = change.on(old.entries, now)
        if isinstance(change, Put) and change.entry in new:
            new = self._pruned(new)
            if not self._place(change, new):
                return
        elif isinstance(change, Freshen):
            self._freshen(change, old, new)
            return
        elif not new and old.entries:
            self._index.discard([row])
        elif new != old.entries:
            self._list(row, new)
        kept = {entry.ident for entry in new}
        gone = [entry for entry in old.entries if variants.is_listed(entry) and entry.ident not in kept]
        if gone:
            self._index.discard([records.variant_row(entry.ident) for entry in gone])

    def _forget(self, place: bytes) -> None:
        for listed in self._index.lists_between(*_range(place)):
            try:
                record = records.decode(listed)
            except UnreadableRecord:
                continue  # nothing finds the rows that it names, and eviction takes them in their turn
            if isinstance(record, VariantList):
                self._index.discard([records.variant_row(entry.ident) for entry in record.entries])
        self._index.discard_between(*_range(place))

    def _read(self, row: bytes) -> tuple[Record | None, int] | None:
        """(record, epoch), (None, 0) for a row that can't be read, None for no row."""
        try:
            found = self._index.find(row)
            return None if found is None else (records.decode(found[0]), found[1])
        except (RefusedRow, UnreadableRecord) as error:
            log.warning("a row of the store is dropped: %s", error)
            return None, 0

    def _place(self, change: Put, entries: Entries) -> bool:
        """Write the row of a new response, and the list that names it; False when its file can't be moved."""
        record, source = change.record, change.source
        head = records.encode(record)
        value = head if source is None else Bodied(head, source, records.body_name(record.ident), record.length)
        listed = variants.is_listed(change.entry)
        row = records.variant_row(record.ident) if listed else change.row
        try:
            self._index.set(row, value, tag=self._epoch, expire=_seconds_left(change.entry.expires))
        except OSError as error:  # the file is moved before the row is touched
            log.warning("a response isn't stored, its body file can't be moved into place: %s", error)
            return False
        if listed:
            self._list(change.row, entries)
        return True

    def _list(self, row: bytes, entries: Entries) -> None:
        ends = [entry.expires for entry in entries if entry.expires is not None]
        last = max(ends) if len(ends) == len(entries) else None
        value = Listed(records.encode(VariantList(entries)))
        self._index.set(row, value, tag=self._epoch, expire=_seconds_left(last))

    def _pruned(self, entries: Entries) -> Entries:
        if len(entries) <= variants.MAX_VARIANTS:  # each a selection of its own, at most
            return entries
        uses = self._index.last_uses(records.variant_row(entry.ident) for entry in entries[:-1])
        by_ident = {row[1:].decode("ascii"): max(used, self._uses.get(row, 0.0)) for row, used in uses.items()}
        return variants.pruned(entries, {**by_ident, entries[-1].ident: float("inf")})

    def _freshen(self, change: Freshen, old: Shelf, new: Entries) -> None:
        ident = change.ident
        if old.single is not None and old.single[0].ident == ident:
            self._index.rewrite(change.row, records.encode(records.repack(old.single[0], change.meta)))
        elif any(entry.ident == ident for entry in old.entries):
            variant = self.variant(change.row, ident)
            if variant is not None:
                self._index.rewrite(records.variant_row(ident), records.encode(records.repack(variant[0], change.meta)))
                self._index.rewrite(change.row, records.encode(VariantList(new)))


def _range(place: bytes) -> tuple[bytes, bytes]:
    """The first row that a place may have, and the first one after it."""
    return place, place[:-1] + b"\1"


def _etag(record: ResponseRecord) -> bytes | None:
    return next((value for name, value in record.fields if name.lower() == b"etag"), None)


def _seconds_left(expires: float | None) -> float | None:
    """What diskcache takes for a row that is to be gone at ``expires``."""
    return None if expires is None else expires - time.time()
