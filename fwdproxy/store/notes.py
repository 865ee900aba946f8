"""Small values that the exchange keeps beside the responses, each under a name of its own choice.

They are hints: what is lost costs a request, no more. The writer thread writes them in groups; until then they are
found here. In the database each bears the moment at which it was made, so that a purge of everything outdates it.
"""

from __future__ import annotations

import struct
import threading
from typing import Final

from fwdproxy.store.enforcing import Purges
from fwdproxy.store.index import Index, Noted, RefusedRow

LARGEST: Final = 4096
"""Bytes that a value may have."""

MAX_WAITING: Final = 10_000
"""Notes that wait to be written above which further ones are lost."""

BATCH: Final = 256
_MOMENT: Final = struct.Struct("!Q")
_NOT_WAITING: Final = b"not waiting"  # told from all others by its identity


def note_row(name: str) -> bytes:
    """The row key of a note; never equal to a response's."""
    return b"n" + name.encode("utf-8", "surrogatepass")


def is_note(row: bytes) -> bool:
    """Is this the row key of a note?"""
    return row[:1] == b"n"


def moment_of(value: bytes) -> int:
    """The moment in a row's value; -1 when it has none."""
    return -1 if len(value) < _MOMENT.size else int(_MOMENT.unpack_from(value)[0])


class Notes:
    """The notes of one index. ``epoch``: what new rows are marked with."""

    def __init__(self, index: Index, epoch: int, purges: Purges) -> None:
        self._index = index
        self._epoch = epoch
        self._purges = purges
        self._lock = threading.Lock()
        self._waiting: dict[bytes, bytes | None] = {}

    # Called on the event loop

    def get(self, row: bytes) -> bytes | None:
        """The value of a note, or None. Raises sqlite3.Error when the database can't be read."""
        found = self._waiting.get(row, _NOT_WAITING)
        if found is _NOT_WAITING:
            try:
                found, _ = self._index.find(row) or (None, 0)
            except RefusedRow:
                found = None
        if found is None or self._purges.current().outdates_all(moment_of(found)):
            return None
        return found[_MOMENT.size :]

    def put(self, row: bytes, value: bytes | None) -> None:
        """Keep a value, or with None none. One that is larger than LARGEST isn't kept, nor is the one before it."""
        kept = None if value is None or len(value) > LARGEST else _MOMENT.pack(self._purges.moment()) + value
        with self._lock:
            if len(self._waiting) < MAX_WAITING or row in self._waiting:
                self._waiting[row] = kept

    # Called in the writer thread

    def flush(self) -> None:
        """Write what waits. Raises sqlite3.Error and diskcache.Timeout; the notes not written then go on waiting."""
        while self._waiting:
            with self._lock:
                batch = list(self._waiting.items())[:BATCH]
            with self._index.group():
                for row, value in batch:
                    if value is None:
                        self._index.discard([row])
                    else:
                        self._index.set(row, Noted(value), tag=self._epoch)
            with self._lock:
                for row, value in batch:
                    if self._waiting.get(row) is value:
                        del self._waiting[row]
