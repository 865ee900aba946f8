"""Two stores behind one face: what may lie on the disk, and what may lie in memory only."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from fwdproxy.messages import BodyRef, CacheKey, Headers, Span, StoredMeta, StoredResponse
from fwdproxy.store.base import BodyReader, Found, Page, StoreStats, Verified
from fwdproxy.store.disk import DiskStore
from fwdproxy.store.fills import DiskFill
from fwdproxy.store.purging import PurgeRule

_DISK: Final = b"d"
_MEMORY: Final = b"m"


class SplitStore:
    """A Store. ``in_memory`` says of a key whether what it holds may lie in memory only.

    ``memory`` must have been opened beside ``disk`` (`open_memory(limit, disk)`), so that one counter counts the purges
    of both; raises ValueError where it wasn't. Notes and the folder are those of the disk.
    """

    def __init__(self, disk: DiskStore, memory: DiskStore, in_memory: Callable[[CacheKey], bool]) -> None:
        if memory.purges is not disk.purges:
            raise ValueError("the store in memory must be opened beside the one on disk")
        self.directory = disk.directory
        self._disk = disk
        self._memory = memory
        self._in_memory = in_memory
        self._memory_folder = f"{memory.directory}{os.sep}"

    def _of(self, key: CacheKey) -> DiskStore:
        return self._memory if self._in_memory(key) else self._disk

    async def lookup(self, key: CacheKey, request: Headers) -> Found:
        """See Store."""
        return await self._of(key).lookup(key, request)

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
        return self._of(key).open_fill(key, meta, length, part=part, moment=moment, expires=expires)

    async def freshen(self, stored: StoredResponse, meta: StoredMeta) -> None:
        """See Store."""
        await self._of(stored.key).freshen(stored, meta)

    async def remove(self, stored: StoredResponse) -> None:
        """See Store."""
        await self._of(stored.key).remove(stored)

    async def invalidate(self, keys: Sequence[CacheKey]) -> None:
        """See Store. In both, as a URI may have lain on the disk before a rule of the user's forbade it."""
        await self._memory.invalidate(keys)
        await self._disk.invalidate(keys)

    def open_body(self, body: BodyRef, start: int = 0) -> BodyReader:
        """See Store."""
        lies_in_memory = body.path is not None and body.path.startswith(self._memory_folder)
        return (self._memory if lies_in_memory else self._disk).open_body(body, start)

    def moment(self) -> int:
        """See Store."""
        return self._disk.moment()

    async def purge(self, rule: PurgeRule) -> None:
        """See Store. The store in memory obeys the purges of the one on disk."""
        await self._disk.purge(rule)

    async def note(self, name: str) -> bytes | None:
        """See Store."""
        return await self._disk.note(name)

    def set_note(self, name: str, value: bytes | None) -> None:
        """See Store."""
        self._disk.set_note(name, value)

    async def browse(self, *, prefix: str = "", host: str = "", after: bytes = b"", limit: int = 200) -> Page:
        """See Store. First the disk, then the memory."""
        store, mark, cursor = self._at(after)
        page = await store.browse(prefix=prefix, host=host, after=cursor, limit=limit)
        return Page(page.items, _next(mark, page.next))

    async def verify(self, *, after: bytes = b"", limit: int = 50) -> Verified:
        """See Store. First the disk, then the memory."""
        store, mark, cursor = self._at(after)
        done = await store.verify(after=cursor, limit=limit)
        return Verified(done.checked, done.bytes, done.removed, _next(mark, done.next))

    def stats(self) -> StoreStats:
        """See Store. Both together."""
        disk, memory = self._disk.stats(), self._memory.stats()
        return StoreStats(disk.objects + memory.objects, disk.bytes + memory.bytes, disk.limit + memory.limit)

    async def settle(self) -> None:
        """Wait until every change made so far is committed. Raises StoreError when that takes too long."""
        await self._memory.settle()
        await self._disk.settle()

    async def aclose(self) -> None:
        """See Store. The memory first: it reads the purges of the disk."""
        try:
            await self._memory.aclose()
        finally:
            await self._disk.aclose()

    def _at(self, after: bytes) -> tuple[DiskStore, bytes, bytes]:
        if after[:1] == _MEMORY:
            return self._memory, _MEMORY, after[1:]
        return self._disk, _DISK, after[1:]


def _next(mark: bytes, cursor: bytes | None) -> bytes | None:
    if cursor is not None:
        return mark + cursor
    return _MEMORY if mark == _DISK else None
