"""The reading half of the store: from a request to a stored response and its body, checked."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace

from fwdproxy.messages import BodyRef, CacheKey, Headers, StoredMeta, StoredResponse
from fwdproxy.store import records, variants
from fwdproxy.store.base import NOTHING, BodyReader, BrokenBody, Found, Variant
from fwdproxy.store.bodies import FileIO, FileReader, MemoryReader, OpenFile, digest_of
from fwdproxy.store.changes import Change, Freshen, Pending, Put, Remove
from fwdproxy.store.chores import Chores
from fwdproxy.store.opening import Folder
from fwdproxy.store.records import Entry, ResponseRecord
from fwdproxy.store.rows import Rows, Shelf
from fwdproxy.store.variants import Entries

log = logging.getLogger(__name__)


class Finder:
    """Looks responses up. What turns out to be broken is a miss, and ``submit`` is asked to remove it."""

    def __init__(
        self,
        folder: Folder,
        rows: Rows,
        pending: Pending,
        chores: Chores,
        io: FileIO,
        submit: Callable[[Change], None],
    ) -> None:
        self._folder = folder
        self._rows = rows
        self._pending = pending
        self._chores = chores
        self._io = io
        self._submit = submit
        self._checks: dict[str, asyncio.Future[bool]] = {}

    async def find(self, key: CacheKey, request: Headers) -> Found:
        """See Store.lookup. Raises sqlite3.Error when the database can't be read."""
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
            if stored is not None and stored.body.trusted:
                self._chores.note_use(row, now)
                if entry.nominated:
                    self._chores.note_use(own_row, now)
                return Found(stored, True, _others(entries, entry))
            if stored is not None and await self._verify(own_row, stored):
                return await self.find(key, request)  # while that took its time all may have changed
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
        trusted = True
        for change in changes:
            match change:
                case Put() if change.entry.ident == ident:
                    record, meta = change.record, None
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
            return os.stat(self._path(record.ident)).st_size == record.length  # noqa: PTH116  # pathlib is slow
        except OSError:
            return False

    async def _verify(self, row: bytes, stored: StoredResponse) -> bool:
        """Has the body of ``stored``, which lies in ``row``, the digest it should have?"""
        body = stored.body
        if body.inline is not None:
            right = digest_of(body.inline) == body.digest
        else:
            right = await self._verify_file(stored.ident, body)
        if right:
            self._chores.note_verified(row, stored.ident)
        else:
            log.warning("a stored body isn't what was received and is dropped: %s", stored.key.uri)
        return right

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


def _others(entries: Entries, chosen: Entry | None) -> tuple[Variant, ...]:
    if len(entries) == 1 and chosen is not None:
        return ()
    return tuple(Variant(entry.ident, entry.nominated, entry.etag) for entry in entries if entry is not chosen)
