"""What may happen to the responses of one key, and the changes that wait for the next group commit.

A change is decided on the event loop, in force for this process's lookups at once, and written by the writer thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from fwdproxy.messages import StoredMeta
from fwdproxy.store import variants
from fwdproxy.store.records import Entry, ResponseRecord, body_name
from fwdproxy.store.variants import Entries


@dataclass(frozen=True, eq=False, slots=True)
class Put:
    """A complete response. ``source``: its finished body file, or None when the body is in the record."""

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
    entry: Entry
    meta: StoredMeta

    def on(self, entries: Entries, now: float) -> Entries:
        """The key's entries after this change."""
        return variants.freshened(entries, self.entry)


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
    """Everything stored for the key goes; ``done`` is resolved when that is committed."""

    row: bytes
    done: Future[None] = field(default_factory=Future)

    def on(self, entries: Entries, now: float) -> Entries:
        """The key's entries after this change."""
        return ()


Change = Put | Freshen | Remove | Forget


class Pending:
    """The changes that aren't committed yet, by row. The loop adds, the writer thread takes off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_row: dict[bytes, tuple[Change, ...]] = {}
        self._sources: dict[str, Path] = {}

    def of(self, row: bytes) -> tuple[Change, ...]:
        """The row's changes, oldest first. Ask this before the row is read: what has gone from here is in the row."""
        return self._by_row.get(row, ())

    def add(self, change: Change) -> None:
        """In force from now on."""
        with self._lock:
            self._by_row[change.row] = (*self._by_row.get(change.row, ()), change)
            if isinstance(change, Put) and change.source is not None:
                self._sources[body_name(change.entry.ident)] = change.source

    def settle(self, changes: Iterable[Change]) -> None:
        """These are committed or given up."""
        with self._lock:
            for change in changes:
                left = tuple(other for other in self._by_row.get(change.row, ()) if other is not change)
                if left:
                    self._by_row[change.row] = left
                else:
                    self._by_row.pop(change.row, None)
                if isinstance(change, Put):
                    self._sources.pop(body_name(change.entry.ident), None)

    def source(self, name: str) -> Path | None:
        """Where a body file called ``name`` lies as long as its commit hasn't moved it into place."""
        return self._sources.get(name)
