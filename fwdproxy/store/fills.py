"""A message being received, by one writer and for any number of readers.

The readers follow from wherever they like. When the disk fails (or the body grows too large to be stored) the fill
becomes a pipe: what is on disk stays readable, the rest is kept in a bounded window that the slowest reader moves on.
The writer waits for that reader as long as nobody else wants to go on: so a client that reads slowly slows its origin
down, as it would without a proxy.

A message that ends early may leave a part behind (RFC 9111 §3.3): its readers are told at once, and what has arrived is
written out and committed after them.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fwdproxy.errors import FillAborted
from fwdproxy.messages import Span
from fwdproxy.store.bodies import FileIO
from fwdproxy.store.spool import BATCH, Spool

log = logging.getLogger(__name__)

MANY: Final = 8
"""Readers above which news of more bytes are given out in batches: waking each for every piece costs them all."""

BATCH_SECONDS: Final = 0.05
"""For how long such news may be held back."""

INLINE_LIMIT: Final = 32 * 1024
"""Bodies below this many bytes lie in the row itself."""

WINDOW: Final = 1024 * 1024
"""Bytes that a pipe keeps for its slowest reader."""

PATIENCE: Final = 30.0
"""Seconds without any movement after which a pipe leaves its slowest readers behind, if others wait for more."""


class State(enum.Enum):
    """Where a fill stands."""

    GROWING = enum.auto()
    COMPLETE = enum.auto()
    ABORTED = enum.auto()


class DiskFill:
    """A Fill. Open the first reader before the first write: a pipe keeps nothing for readers who come later.

    ``folder``: where the file of a large body is made, on the store's file system. ``part``: what is received is this
    span of a representation of so many bytes. ``largest``: bytes above which a body isn't stored. ``commit`` is awaited
    when a fill that is to be stored is complete, before readers see the end. ``cut`` is called when an aborted fill is
    to be kept as a part: `save` must then be awaited. ``ended`` is called once, when nothing more happens to the fill.
    ``look`` is called before the fill says whether it will be stored, and may forbid it. ``patience``: see PATIENCE.
    """

    def __init__(
        self,
        ident: str,
        folder: Path,
        io: FileIO,
        *,
        length: int | None,
        part: tuple[Span, int] | None = None,
        largest: int,
        commit: Callable[[DiskFill], Awaitable[None]],
        cut: Callable[[DiskFill], None],
        ended: Callable[[DiskFill], None],
        look: Callable[[], None] = lambda: None,
        patience: float = PATIENCE,
    ) -> None:
        self.ident = ident
        self._spool = Spool(folder / ident, io, self._written)
        self._length = length
        self._part = part
        self._largest = largest
        self._commit = commit
        self._cut = cut
        self._ended = ended
        self._look = look
        self._patience = patience
        self._state = State.GROWING
        self._committing = False
        self._saving = False  # it is aborted, and what has arrived is being kept
        self._why = ""
        self.obstacle = ""
        self._pipe = False
        self._readers: weakref.WeakSet[FillReader] = weakref.WeakSet()
        self._hungry = 0  # readers that have read everything and wait for more
        self._grown = asyncio.Event()
        self._news: asyncio.TimerHandle | None = None
        self._moved = asyncio.Event()
        if length is not None and length > largest:
            self._become_pipe(f"{length} bytes are more than the store takes")

    # What the writer of the fill calls

    @property
    def received(self) -> int:
        """See Fill."""
        return self._spool.received

    @property
    def will_store(self) -> bool:
        """See Fill."""
        self._look()
        return not self.obstacle and self._state is not State.ABORTED

    async def write(self, chunk: bytes) -> None:
        """See Fill."""
        self._must_grow()
        if self._length is not None and self.received + len(chunk) > self._length:
            self.abort(f"more than the declared {self._length} bytes came")
            self._must_grow()
        spool = self._spool
        spool.append(chunk)
        if spool.received > self._largest:
            self._become_pipe(f"more than {self._largest} bytes are more than the store takes")
        if self._hungry <= MANY:
            self._wake()
        elif self._news is None:
            self._news = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._wake)
        if spool.received >= INLINE_LIMIT and not self._pipe:
            spool.to_file()
        if spool.has_file and not self._pipe and spool.in_memory >= BATCH:
            await self._write_out()
        if self._pipe:
            await self._wait_for_readers()

    async def complete(self) -> None:
        """See Fill."""
        self._must_grow()
        if self._length is not None and self.received != self._length:
            self.abort(f"{self.received} bytes came, {self._length} were declared")
            self._must_grow()
        while self._has_more_to_write():
            await self._write_out()
            self._must_grow()
        if self.will_store:
            self._committing = True
            await self._commit(self)
            self._must_grow()
        if not self.will_store:
            self._spool.unlink()
        self._state = State.COMPLETE
        self._wake_all()
        self._ended(self)

    def abort(self, why: str, *, keep: bool = False) -> None:
        """See Fill."""
        if self._state is not State.GROWING:
            return
        self._state = State.ABORTED
        self._why = why
        worth_it = self._length is not None and self.received > 0 and not self.obstacle
        self._saving = keep and worth_it and not self._committing
        self._wake_all()
        if self._saving:
            self._cut(self)
        else:
            self._spool.unlink()
            self._ended(self)

    def reader(self, start: int = 0) -> FillReader:
        """See Fill."""
        reader = FillReader(self, start)
        self._readers.add(reader)
        return reader

    # What the store calls

    @property
    def path(self) -> Path:
        """Where the body is written when it is large."""
        return self._spool.path

    @property
    def wanted(self) -> bool:
        """Is what has arrived to be stored: as a whole, or because it is kept as a part?"""
        return not self.obstacle and (self._state is not State.ABORTED or self._saving)

    async def save(self) -> None:
        """Store what had arrived of an aborted fill: to be awaited once after ``cut``, in a task of the store's."""
        try:
            while self._has_more_to_write() and not self.obstacle:
                await self._write_out()
            if not self.obstacle:
                await self._commit(self)
        finally:
            self._saving = False
            if self.obstacle:
                self._spool.unlink()
            self._ended(self)

    def forbid(self, why: str) -> None:
        """See Fill."""
        self.obstacle = self.obstacle or why

    @property
    def part(self) -> tuple[Span, int] | None:
        """What the bytes received are, when the fill ends now: a span of so many bytes, or None for all of them."""
        if self._part is not None:
            start, complete = self._part[0].start, self._part[1]
        elif self._length is None:
            return None
        else:
            start, complete = 0, self._length
        span = Span(start, start + self.received)
        return None if span == Span(0, complete) else (span, complete)

    @property
    def on_disk(self) -> int:
        """Bytes that the fill takes on disk now."""
        return self._spool.on_disk

    def digest(self) -> bytes:
        """BLAKE2b-128 of a body that is complete."""
        return self._spool.digest()

    def inline(self) -> bytes | None:
        """The body when it is small, None when it lies in the file ``path``."""
        return self._spool.inline()

    # Onto the disk

    async def _write_out(self) -> None:
        """Begin to write what is in memory, after waiting for the write before it: two buffers, never more."""
        await self._spool.wait_written()
        if not self._pipe and (self._state is State.GROWING or self._saving):
            self._spool.begin_write()

    def _written(self, fault: OSError | None) -> None:
        if not self.wanted:
            self._spool.unlink()  # it may only just have been made
        if fault is not None:
            log.warning("a response passes without being stored, the disk failed: %s", fault)
            self._become_pipe(f"the disk failed: {fault}")
            self._wake()

    def _has_more_to_write(self) -> bool:
        spool = self._spool
        return spool.has_file and not self._pipe and (spool.busy or spool.in_memory > 0)

    def _become_pipe(self, why: str) -> None:
        if (self._state is State.GROWING or self._saving) and not self._pipe:
            self._pipe = True
            self.forbid(why)
            self._spool.unlink()

    # Readers

    async def bytes_at(self, position: int, limit: int) -> bytes:
        """Up to ``limit`` of the bytes received after ``position``. Raises FillAborted when they aren't kept."""
        return await self._spool.read(position, limit)

    async def wait_beyond(self, position: int) -> bool:
        """Wait until more than ``position`` bytes are there (True) or the complete end is (False); else FillAborted."""
        while position >= self.received:
            if self._state is State.COMPLETE:
                return False
            if self._state is State.ABORTED:
                raise FillAborted(self._why)
            self._hungry += 1
            try:
                await self._grown.wait()
            finally:
                self._hungry -= 1
        return True

    def moved(self) -> None:
        """A reader has moved on."""
        if self._pipe:
            self._moved.set()

    def leave(self, reader: FillReader) -> None:
        """A reader is closed."""
        self._readers.discard(reader)
        self._moved.set()

    async def _wait_for_readers(self) -> None:
        """Keep a pipe's memory within its window."""
        self._spool.trim(self._slowest())
        while self._spool.in_memory > WINDOW and self._state is State.GROWING:
            self._moved.clear()
            try:
                async with asyncio.timeout(self._patience):
                    await self._moved.wait()
            except TimeoutError:
                if self._hungry:
                    self._leave_behind(self.received - WINDOW)
            self._spool.trim(self._slowest())
        self._must_grow()

    def _leave_behind(self, position: int) -> None:
        """Wait no more for readers that haven't come to ``position``; they find a gap there."""
        for reader in [reader for reader in self._readers if reader.position < position]:
            self._readers.discard(reader)

    def _slowest(self) -> int:
        return min((reader.position for reader in self._readers), default=self.received)

    def _wake(self) -> None:
        if self._news is not None:
            self._news.cancel()
            self._news = None
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    # The end

    def _must_grow(self) -> None:
        if self._state is not State.GROWING:
            raise FillAborted(self._why or "the fill has ended")

    def _wake_all(self) -> None:
        self._wake()
        self._moved.set()


class FillReader:
    """A BodyReader of a fill."""

    __slots__ = ("__weakref__", "_fill", "position")

    def __init__(self, fill: DiskFill, start: int) -> None:
        self._fill: DiskFill | None = fill
        self.position = start

    async def read(self, limit: int = 65536) -> bytes:
        """See BodyReader."""
        fill = self._fill
        if fill is None:
            raise FillAborted("the reader is closed")
        if not await fill.wait_beyond(self.position):
            return b""
        piece = await fill.bytes_at(self.position, limit)
        self.position += len(piece)
        fill.moved()
        return piece

    def close(self) -> None:
        """See BodyReader."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill.leave(self)
