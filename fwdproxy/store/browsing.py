"""Listing what is stored, a page at a time, by URI within each vantage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import batched
from typing import Final

from fwdproxy.messages import CacheKey, Span
from fwdproxy.store import records
from fwdproxy.store.base import Listed, Page
from fwdproxy.store.enforcing import Purges
from fwdproxy.store.index import Index, StoredRow
from fwdproxy.store.purging import RuleSet, is_host
from fwdproxy.store.records import ResponseRecord, UnreadableRecord, VariantList
from fwdproxy.store.sweeping import Sweeper

CHUNK: Final = 1000
"""Keys looked through at once."""

_FIRST: Final = b"k"
_END: Final = b"l"


class Browser:
    """Looks through the rows of one index."""

    def __init__(self, index: Index, purges: Purges, sweeper: Sweeper) -> None:
        self._index = index
        self._purges = purges
        self._sweeper = sweeper

    async def browse(self, prefix: str, host: str, after: bytes, limit: int) -> Page:
        """What Store.browse gives. Raises sqlite3.Error."""
        rules, swept = self._purges.current(), self._sweeper.swept

        def work() -> Page:
            try:
                return _browse(self._index, rules, swept, prefix, host, after, limit)
            finally:
                self._index.close()  # or it would stay open in a thread that others use

        return await asyncio.to_thread(work)


def _browse(index: Index, rules: RuleSet, swept: int, prefix: str, host: str, after: bytes, limit: int) -> Page:
    items: list[Listed] = []
    cursor = max(after, _FIRST)
    while keys := index.keys_after(cursor, _END, CHUNK):
        for row in keys:
            cursor = row
            key = _key(row)
            if key is None or not key.uri.startswith(prefix) or (host and not is_host(host, key.uri)):
                continue
            for record, stored_row in _responses(index, row):
                fields = record.fields
                outdated = rules.outdates(key.uri, fields, record.moment, swept=swept)
                items.append(_listed(key, record, stored_row.used, outdated))
            if len(items) >= limit:
                return Page(tuple(items), cursor)
    return Page(tuple(items), None)


def _responses(index: Index, row: bytes) -> Iterator[tuple[ResponseRecord, StoredRow]]:
    """The responses that lie under a primary row."""
    stored_row = index.rows([row]).get(row)
    record = _record(stored_row)
    if isinstance(record, ResponseRecord) and stored_row is not None:
        yield record, stored_row
    elif isinstance(record, VariantList):
        for names in batched((records.variant_row(entry.ident) for entry in record.entries), 100):
            rows = index.rows(names)
            for name in names:
                variant = _record(rows.get(name))
                if isinstance(variant, ResponseRecord) and variant.key == row:
                    yield variant, rows[name]


def _listed(key: CacheKey, record: ResponseRecord, used: float, outdated: bool) -> Listed:
    stored = records.unpack(record, key, None, trusted=True)
    part: tuple[Span, int] | None = None
    if record.part is not None:
        start, complete = record.part
        part = (Span(start, start + record.length), complete)
    return Listed(key, record.ident, stored.meta, record.length, part, used, outdated)


def _key(row: bytes) -> CacheKey | None:
    try:
        return records.cache_key(row)
    except ValueError:  # nothing that this store has written
        return None


def _record(row: StoredRow | None) -> records.Record | None:
    try:
        return None if row is None or row.value is None else records.decode(row.value)
    except UnreadableRecord:
        return None
