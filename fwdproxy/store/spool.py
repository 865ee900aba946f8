"""The bytes of a message being received: in memory while they are few, else in a file.

They go through two buffers: one is being written by a thread while the other collects, and both can be read, so that
readers are not held up by the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fwdproxy.errors import FillAborted
from fwdproxy.store.bodies import FileIO, OpenFile, digest_of, new_digest

log = logging.getLogger(__name__)

BATCH: Final = 256 * 1024


class Spool:
    """Appended to by one writer, read at any place by any number of readers.

    ``path``: the file to be made when `to_file` says so. ``written`` is called when a piece has left the memory, with
    the fault that kept some of it from the disk, or None; nothing should be written after a fault.
    """

    def __init__(self, path: Path, io: FileIO, written: Callable[[OSError | None], None]) -> None:
        self.path = path
        self.received = 0
        self.on_disk = 0
        """Bytes [0, on_disk) can be read from the file."""
        self._io = io
        self._report = written
        self._file: OpenFile | None = None
        self._job: asyncio.Future[tuple[int, OSError | None]] | None = None
        self._leaving = bytearray()  # being written; begins where the file ends
        self._kept = bytearray()  # ends with the last byte received; there may be a gap before it
        self._digest = new_digest()

    def append(self, chunk: bytes) -> None:
        """More bytes have come."""
        self._kept += chunk
        self.received += len(chunk)

    # Out of memory

    @property
    def has_file(self) -> bool:
        """Do the bytes go to a file?"""
        return self._file is not None

    @property
    def busy(self) -> bool:
        """Is a piece being written?"""
        return self._job is not None

    @property
    def in_memory(self) -> int:
        """Bytes that wait for the disk, or for a reader."""
        return len(self._kept)

    @property
    def kept_from(self) -> int:
        """The place of the first of them."""
        return self.received - len(self._kept)

    def to_file(self) -> None:
        """Let the bytes go to a file, which the first `begin_write` makes."""
        if self._file is None:
            self._file = OpenFile.new(str(self.path))

    def begin_write(self) -> None:
        """Write out what is in memory, unless a piece is being written."""
        if self._file is not None and self._job is None and self._kept:
            self._leaving, self._kept = self._kept, bytearray()
            self._job = self._io.write(self._file, self._leaving, self.on_disk, self._digest)
            self._job.add_done_callback(self._written)

    async def wait_written(self) -> None:
        """Wait for the piece that is being written."""
        if self._job is not None:
            await asyncio.wait((self._job,))  # doesn't cancel the job when this task is cancelled

    def trim(self, position: int) -> None:
        """Drop the bytes before ``position`` from memory: nobody needs them."""
        surplus = position - self.kept_from
        if surplus > 0:
            del self._kept[:surplus]

    def _written(self, job: asyncio.Future[tuple[int, OSError | None]]) -> None:
        # The first callback of the job, so it runs before whoever waits for the job goes on.
        self._job = None
        written, fault = (0, None) if job.cancelled() else job.result()
        self.on_disk += written
        leaving, self._leaving = self._leaving, bytearray()
        if fault is not None:
            left = leaving[written:]
            if self.on_disk + len(left) == self.kept_from:  # else no reader needs it any more
                self._kept[:0] = left
        self._report(fault)

    # What has come

    async def read(self, position: int, limit: int) -> bytes:
        """Up to ``limit`` of the bytes received after ``position``. Raises FillAborted when they aren't kept."""
        if self._file is not None and position < self.on_disk:
            try:
                piece = await self._io.read(self._file, min(limit, self.on_disk - position), position)
            except OSError as error:
                raise FillAborted(f"what was received can't be read back: {error}") from None
            if not piece:
                raise FillAborted("what was received has gone from the disk")
            return piece
        if position >= self.kept_from:
            return _slice(self._kept, position - self.kept_from, limit)
        if self.on_disk <= position < self.on_disk + len(self._leaving):
            return _slice(self._leaving, position - self.on_disk, limit)
        raise FillAborted("this part of the body was only passed on, not kept")

    def digest(self) -> bytes:
        """BLAKE2b-128 of all, once it is written."""
        return digest_of(self._kept) if self._file is None else self._digest.digest()

    def inline(self) -> bytes | None:
        """All of it when it is in memory, None when it lies in the file."""
        return bytes(self._kept) if self._file is None else None

    # The end

    def unlink(self) -> None:
        """Take the file's name away; who holds it open can still read it."""
        if self._file is not None:
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:  # the next opening of the store removes it
                log.warning("can't delete the unfinished body %s: %s", self.path, error)

    def __del__(self) -> None:
        # Not earlier: a reader may be opened, and read, as long as someone has the fill.
        if self._file is not None:
            self._file.release()


def _slice(buffer: bytearray, start: int, limit: int) -> bytes:
    with memoryview(buffer) as view:
        return bytes(view[start : start + limit])
