"""A message being received: in memory while it is small, else in a file outside diskcache's folder.

One writer appends; any number of readers follow from the first byte. Bytes go through two buffers: one is being
written by a thread while the other collects, and readers get at both, so they are not held up by the disk. When
the disk fails (or the body grows too large to be stored) the fill becomes a pipe: what is on disk stays readable, the
rest is kept in a bounded window that the slowest reader moves on. The writer waits for that reader as long as nobody
else wants to go on: so a client that reads slowly slows its origin down, as it would without a proxy.
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
from fwdproxy.store.bodies import FileIO, OpenFile, digest_of, new_digest

log = logging.getLogger(__name__)

INLINE_LIMIT: Final = 32 * 1024
"""Bodies below this many bytes lie in the row itself."""

BATCH: Final = 256 * 1024
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

    ``folder``: where the file of a large body is made, on the store's file system. ``largest``: bytes above which a
    body isn't stored. ``commit`` is awaited when a fill that is to be stored is complete, before readers see the end;
    ``ended`` is called once, when the fill is complete or aborted. ``patience``: see PATIENCE.
    """

    def __init__(
        self,
        ident: str,
        folder: Path,
        io: FileIO,
        *,
        length: int | None,
        largest: int,
        commit: Callable[[DiskFill], Awaitable[None]],
        ended: Callable[[DiskFill], None],
        patience: float = PATIENCE,
    ) -> None:
        self.ident = ident
        self.received = 0
        self._folder = folder
        self._io = io
        self._length = length
        self._largest = largest
        self._commit = commit
        self._ended = ended
        self._patience = patience
        self._state = State.GROWING
        self._why = ""
        self.obstacle = ""
        self._pipe = False
        self._file: OpenFile | None = None
        self._on_disk = 0  # bytes [0, _on_disk) can be read from the file
        self._job: asyncio.Future[tuple[int, OSError | None]] | None = None
        self._leaving = bytearray()  # being written; begins where the file ends
        self._kept = bytearray()  # ends with the last byte received; only a pipe has a gap before it
        self._digest = new_digest()
        self._readers: weakref.WeakSet[FillReader] = weakref.WeakSet()
        self._hungry = 0  # readers that have read everything and wait for more
        self._grown = asyncio.Event()
        self._moved = asyncio.Event()
        if length is not None and length > largest:
            self._become_pipe(f"{length} bytes are more than the store takes")

    # What the writer of the fill calls

    @property
    def will_store(self) -> bool:
        """See Fill."""
        return not self.obstacle and self._state is not State.ABORTED

    async def write(self, chunk: bytes) -> None:
        """See Fill."""
        self._must_grow()
        if self._length is not None and self.received + len(chunk) > self._length:
            self.abort(f"more than the declared {self._length} bytes came")
            self._must_grow()
        self._kept += chunk
        self.received += len(chunk)
        if self.received > self._largest and not self._pipe:
            self._become_pipe(f"more than {self._largest} bytes are more than the store takes")
        self._wake()
        if self._file is None and not self._pipe and self.received >= INLINE_LIMIT:
            self._file = OpenFile.new(str(self.path))
        if self._file is not None and not self._pipe and len(self._kept) >= BATCH:
            await self._write_out()
        if self._pipe:
            await self._wait_for_readers()

    async def complete(self) -> None:
        """See Fill."""
        self._must_grow()
        if self._length is not None and self.received != self._length:
            self.abort(f"{self.received} bytes came, {self._length} were declared")
            self._must_grow()
        while self._file is not None and not self._pipe and (self._job or self._kept):
            await self._write_out()
            self._must_grow()
        if self.will_store:
            await self._commit(self)
            self._must_grow()
        if not self.will_store:
            self._unlink()
        self._state = State.COMPLETE
        self._end()

    def abort(self, why: str) -> None:
        """See Fill."""
        if self._state is State.GROWING:
            self._state = State.ABORTED
            self._why = why
            self._unlink()
            self._end()

    def reader(self) -> FillReader:
        """See Fill."""
        reader = FillReader(self)
        self._readers.add(reader)
        return reader

    # What the store calls

    @property
    def path(self) -> Path:
        """Where the body is written when it is large."""
        return self._folder / self.ident

    def forbid(self, why: str) -> None:
        """Don't store this one when it is complete (it was invalidated meanwhile)."""
        self.obstacle = self.obstacle or why

    @property
    def on_disk(self) -> int:
        """Bytes that the fill takes on disk now."""
        return self._on_disk

    def digest(self) -> bytes:
        """BLAKE2b-128 of a body that is complete."""
        return digest_of(self._kept) if self._file is None else self._digest.digest()

    def inline(self) -> bytes | None:
        """The body when it is small, None when it lies in the file ``path``."""
        return bytes(self._kept) if self._file is None else None

    # Between memory and file

    async def _write_out(self) -> None:
        """Start writing what is kept, after waiting for the write before it: two buffers, never more."""
        if self._job is not None:
            await asyncio.wait((self._job,))  # doesn't cancel the job when this task is cancelled
        file = self._file
        if file is not None and self._state is State.GROWING and not self._pipe and self._job is None and self._kept:
            self._leaving, self._kept = self._kept, bytearray()
            self._job = self._io.write(file, self._leaving, self._on_disk, self._digest)
            self._job.add_done_callback(self._written)

    def _written(self, job: asyncio.Future[tuple[int, OSError | None]]) -> None:
        # The first callback of the job, so it runs before whoever waits for the job goes on.
        self._job = None
        written, fault = (0, None) if job.cancelled() else job.result()
        self._on_disk += written
        leaving, self._leaving = self._leaving, bytearray()
        if not self.will_store:
            self._unlink()  # it may only just have been made
        if fault is not None:
            left = leaving[written:]
            if self._on_disk + len(left) == self._kept_from():  # else no reader needs it any more
                self._kept[:0] = left
            log.warning("a response passes without being stored, the disk failed: %s", fault)
            self._become_pipe(f"the disk failed: {fault}")
            self._wake()

    def _become_pipe(self, why: str) -> None:
        if self._state is State.GROWING and not self._pipe:
            self._pipe = True
            self.forbid(why)
            self._unlink()

    def _unlink(self) -> None:
        """Take the unfinished file's name away; who holds it open can still read it."""
        if self._file is not None:
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:  # the next opening of the store removes it
                log.warning("can't delete the unfinished body %s: %s", self.path, error)

    # Readers

    async def bytes_at(self, position: int, limit: int) -> bytes:
        """Up to ``limit`` of the bytes received after ``position``. Raises FillAborted when they aren't kept."""
        if self._file is not None and position < self._on_disk:
            try:
                piece = await self._io.read(self._file, min(limit, self._on_disk - position), position)
            except OSError as error:
                raise FillAborted(f"what was received can't be read back: {error}") from None
            if not piece:
                raise FillAborted("what was received has gone from the disk")
            return piece
        if position >= self._kept_from():
            return _slice(self._kept, position - self._kept_from(), limit)
        if self._on_disk <= position < self._on_disk + len(self._leaving):
            return _slice(self._leaving, position - self._on_disk, limit)
        raise FillAborted("this part of the body was only passed on, not kept")

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
        self._trim(self._slowest())
        while len(self._kept) > WINDOW and self._state is State.GROWING:
            self._moved.clear()
            try:
                async with asyncio.timeout(self._patience):
                    await self._moved.wait()
            except TimeoutError:
                if self._hungry:
                    self._leave_behind(self.received - WINDOW)
            self._trim(self._slowest())
        self._must_grow()

    def _leave_behind(self, position: int) -> None:
        """Wait no more for readers that haven't come to ``position``; they find a gap there."""
        for reader in [reader for reader in self._readers if reader.position < position]:
            self._readers.discard(reader)

    def _slowest(self) -> int:
        return min((reader.position for reader in self._readers), default=self.received)

    def _kept_from(self) -> int:
        return self.received - len(self._kept)

    def _trim(self, position: int) -> None:
        surplus = position - self._kept_from()
        if surplus > 0:
            del self._kept[:surplus]

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    # The end

    def _must_grow(self) -> None:
        if self._state is not State.GROWING:
            raise FillAborted(self._why or "the fill has ended")

    def _end(self) -> None:
        self._wake()
        self._moved.set()
        self._ended(self)

    def __del__(self) -> None:
        # Not earlier: a reader may be opened, and read, as long as someone has the fill.
        if self._file is not None:
            self._file.release()


class FillReader:
    """A BodyReader of a fill."""

    __slots__ = ("__weakref__", "_fill", "position")

    def __init__(self, fill: DiskFill) -> None:
        self._fill: DiskFill | None = fill
        self.position = 0

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


def _slice(buffer: bytearray, start: int, limit: int) -> bytes:
    with memoryview(buffer) as view:
        return bytes(view[start : start + limit])
