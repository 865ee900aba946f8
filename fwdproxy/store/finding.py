"""The reading half of the store: from a request to a stored response and its body, checked."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace

from fwdproxy.messages import BodyRef, CacheKey, Field, Headers, Span, StoredMeta, StoredPart, StoredResponse
from fwdproxy.store import records, variants
from fwdproxy.store.base import NOTHING, BodyReader, BrokenBody, Found, Variant
from fwdproxy.store.bodies import FileIO, FileReader, MemoryReader, OpenFile, digest_of
from fwdproxy.store.changes import Change, Freshen, Pending, Put, Remove
from fwdproxy.store.chores import Chores
from fwdproxy.store.enforcing import Purges
from fwdproxy.store.opening import Folder
from fwdproxy.store.records import Entry, ResponseRecord
from fwdproxy.store.rows import Rows, Shelf
from fwdproxy.store.sweeping import Sweeper
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
        purges: Purges,
        sweeper: Sweeper,
        submit: Callable[[Change], None],
    ) -> None:
        self._folder = folder
        self._rows = rows
        self._pending = pending
        self._chores = chores
        self._io = io
        self._purges = purges
        self._sweeper = sweeper
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
        entries = self._in_force(key, row, variants.living(entries, now), shelf, changes)
        while chosen := variants.select(entries, request):
            whole: list[StoredResponse] = []
            for entry in chosen:
                stored = self._load(key, row, entry, shelf, changes)
                if stored is not None and not stored.body.trusted:
                    if await self._verify(_own_row(entry, row), stored):
                        return await self.find(key, request)  # while that took its time all may have changed
                    stored = None
                if stored is None:
                    self._submit(Remove(row, entry.ident))
                    entries = variants.without(entries, entry.ident)
                    break
                whole.append(stored)
            else:
                for used in dict.fromkeys([row, *(_own_row(entry, row) for entry in chosen)]):
                    self._chores.note_use(used, now)
                return _found(entries, chosen, whole)
        return Found(None, True, _others(entries, None)) if entries else NOTHING

    def is_outdated(self, stored: StoredResponse) -> bool:
        """Has a stored copy been purged? Raises sqlite3.Error when the database can't be read."""
        row = records.primary_row(stored.key)
        changes = self._pending.of(row)
        rules = self._purges.current()
        if not changes and rules.idle(self._sweeper.swept):
            return False
        shelf = self._rows.shelf(row)
        entries = shelf.entries
        for change in changes:
            entries = change.on(entries, 0.0)
        chosen = tuple(entry for entry in entries if entry.ident == stored.ident)
        return bool(chosen) and not self._in_force(stored.key, row, chosen, shelf, changes)

    def _in_force(
        self, key: CacheKey, row: bytes, entries: Entries, shelf: Shelf, changes: tuple[Change, ...]
    ) -> Entries:
        """The entries that haven't been purged; the others are removed."""
        rules = self._purges.current()
        swept = self._sweeper.swept
        if not changes and rules.idle(swept):
            return entries
        pending = {change.entry.ident: change.record for change in changes if isinstance(change, Put)}
        kept: list[Entry] = []
        for entry in entries:
            record = pending.get(entry.ident)
            fields = self._fields(row, entry, record, shelf, changes) if entry.moment < rules.newest else ()
            # What is only pending hasn't been swept.
            if rules.outdates(key.uri, fields, entry.moment, swept=swept if record is None else 0):
                self._submit(Remove(row, entry.ident))
            else:
                kept.append(entry)
        return tuple(kept)

    def _fields(
        self, row: bytes, entry: Entry, record: ResponseRecord | None, shelf: Shelf, changes: tuple[Change, ...]
    ) -> tuple[Field, ...]:
        """The head fields of an entry, the old and the new ones where it is just being freshened."""
        if record is None:
            record, _ = self._committed(row, entry.ident, shelf) or (None, 0)
        fields = () if record is None else record.fields
        for change in changes:
            if isinstance(change, Freshen) and change.ident == entry.ident:
                fields = (*fields, *change.meta.head.headers.fields)
        return fields

    def _committed(self, row: bytes, ident: str, shelf: Shelf) -> tuple[ResponseRecord, int] | None:
        single = shelf.single
        return single if single and single[0].ident == ident else self._rows.variant(row, ident)

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
                case Freshen() if change.ident == ident:
                    meta = change.meta
        if record is None:
            found = self._committed(row, ident, shelf)
            if found is None:
                return None
            record, epoch = found
            trusted = epoch >= self._folder.epoch or self._chores.is_verified(_own_row(entry, row), ident)
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

    def open_body(self, body: BodyRef, start: int = 0) -> BodyReader:
        """See Store."""
        if body.inline is not None:
            return MemoryReader(body.inline, start)
        if body.path is None:
            raise BrokenBody("a stored response has no body")
        file = OpenFile(self._open(body.path))
        if os.fstat(file.fd).st_size != body.length:
            file.release()
            raise BrokenBody(f"the body file {body.path} hasn't its length")
        return FileReader(self._io, file, body.length, start)

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


def _own_row(entry: Entry, row: bytes) -> bytes:
    return records.variant_row(entry.ident) if variants.is_listed(entry) else row


def _found(entries: Entries, chosen: Entries, whole: list[StoredResponse]) -> Found:
    """The answer out of the chosen entries, whose responses are ``whole``."""
    if chosen[0].part is None:
        return Found(whole[0], True, _others(entries, chosen[0]))
    parts = [
        StoredPart(stored, Span(entry.part[0], entry.part[1]), entry.part[2])
        for entry, stored in zip(chosen, whole, strict=True)
        if entry.part is not None
    ]
    return Found(None, True, _others(entries, None), tuple(parts))


def _others(entries: Entries, chosen: Entry | None) -> tuple[Variant, ...]:
    """A part's entity tag is left out: the 304 that it may bring about is of no use to whoever wants the whole."""
    if len(entries) == 1 and chosen is not None:
        return ()
    return tuple(
        Variant(entry.ident, entry.nominated, entry.etag)
        for entry in entries
        if entry is not chosen and entry.part is None
    )
