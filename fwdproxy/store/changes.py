"""What may happen to the responses of one key, or of one URI, and the changes that wait for the next group commit.

A change is decided on the event loop, in force for this process's lookups at once, and written by the writer thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from fwdproxy.messages import StoredMeta
from fwdproxy.store import variants
from fwdproxy.store.fills import DiskFill
from fwdproxy.store.records import Entry, ResponseRecord, body_name, pack, place_of
from fwdproxy.store.variants import Entries


@dataclass(frozen=True, eq=False, slots=True)
class Put:
    """A response, whole or a part. ``source``: its finished body file, or None when the body is in the record."""

    row: bytes
    entry: Entry
    record: ResponseRecord
    source: Path | None

    def on(self, entries: Entries, now: float) -> Entries:
        """The key's entries after this change."""
        return variants.added(entries, self.entry, now)


@dataclass(frozen=True, eq=False, slots=True)
class Freshen:
    """A new head and new times for a stored copy, with the same selection."""

    row: bytes
    ident: str
    meta: StoredMeta

    def on(self, entries: Entries, now: float) -> Entries:
        """The key's entries after this change."""
        return variants.freshened(entries, self.ident, self.meta)


@dataclass(frozen=True, eq=False, slots=True)
class Remove:
    """That stored copy goes; an empty ``ident`` names none, and only clears the row away if it is unreadable."""

    row: bytes
    ident: str

    def on(self, entries: Entries, now: float) -> Entries:
        """The key's entries after this change."""
        return variants.without(entries, self.ident)


@dataclass(frozen=True, eq=False, slots=True)
class Forget:
    """Everything stored at a place, which is one URI's, goes; ``done`` is resolved when that is committed."""

    place: bytes
    done: Future[None] = field(default_factory=Future)

    def on(self, entries: Entries, now: float) -> Entries:
        """A key's entries after this change."""
        return ()


Change = Put | Freshen | Remove | Forget


def put_of(fill: DiskFill, row: bytes, meta: StoredMeta, moment: int, expires: float | None) -> Put:
    """What a fill that has ended is stored as: a whole response, or a part under the head that the whole would have."""
    body = fill.inline()
    begin: tuple[int, int] | None = None
    bounds: tuple[int, int, int] | None = None
    if fill.part is not None:
        span, complete = fill.part
        begin, bounds = (span.start, complete), (span.start, span.end, complete)
        # That of the message received, which is not the one that is stored now.
        meta = replace(meta, head=replace(meta.head, headers=meta.head.headers.without({b"content-length"})))
    record = pack(row, fill.ident, meta, fill.received, fill.digest(), body, part=begin, moment=moment)
    entry = variants.entry_of(fill.ident, meta, part=bounds, moment=moment, expires=expires)
    return Put(row, entry, record, fill.path if body is None else None)


class Pending:
    """The changes that aren't committed yet, by place. The loop adds, the writer thread takes off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_place: dict[bytes, tuple[Change, ...]] = {}
        self._sources: dict[str, Path] = {}

    def of(self, row: bytes) -> tuple[Change, ...]:
        """The row's changes, oldest first. Ask this before the row is read: what has gone from here is in the row."""
        if not self._by_place:
            return ()
        changes = self._by_place.get(place_of(row), ())
        return tuple(change for change in changes if isinstance(change, Forget) or change.row == row)

    def holds(self, place: bytes) -> bool:
        """Does anything there wait to be committed?"""
        return place in self._by_place

    def add(self, change: Change) -> None:
        """In force from now on."""
        place = _place(change)
        with self._lock:
            self._by_place[place] = (*self._by_place.get(place, ()), change)
            if isinstance(change, Put) and change.source is not None:
                self._sources[body_name(change.entry.ident)] = change.source

    def settle(self, changes: Iterable[Change]) -> None:
        """These are committed or given up."""
        done: dict[bytes, set[int]] = {}
        for change in changes:
            done.setdefault(_place(change), set()).add(id(change))
        with self._lock:
            for place, settled in done.items():
                changes_there = self._by_place.get(place, ())
                left = tuple(change for change in changes_there if id(change) not in settled)
                if left:
                    self._by_place[place] = left
                else:
                    self._by_place.pop(place, None)
                for change in changes_there:
                    if isinstance(change, Put) and id(change) in settled:
                        self._sources.pop(body_name(change.entry.ident), None)

    def source(self, name: str) -> Path | None:
        """Where a body file called ``name`` lies as long as its commit hasn't moved it into place."""
        return self._sources.get(name)


def _place(change: Change) -> bytes:
    return change.place if isinstance(change, Forget) else place_of(change.row)
