"""Reading and writing body files: small preads from the page cache at once, everything that may wait in threads.

Measured (2 cores, 64 KB from the page cache): pread on the loop 30 µs, with RWF_NOWAIT 32 µs, in a thread 195 µs.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

from fwdproxy.store.base import BrokenBody

DIGEST_SIZE: Final = 16
MAX_READ: Final = 256 * 1024
_PIECE: Final = 1024 * 1024
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)  # Linux alone has it
_NO_NOWAIT: Final = (errno.EOPNOTSUPP, errno.EINVAL)  # file systems without it


def new_digest() -> hashlib.blake2b:
    """A BLAKE2b-128 over a body, to be fed."""
    return hashlib.blake2b(digest_size=DIGEST_SIZE, usedforsecurity=False)


def digest_of(body: bytes | bytearray) -> bytes:
    """The BLAKE2b-128 of a body held in memory."""
    return hashlib.blake2b(body, digest_size=DIGEST_SIZE, usedforsecurity=False).digest()


class OpenFile:
    """A file descriptor with several holders: closed when the last one lets go, so never under a running job.

    A descriptor closed too early would be given to another file, and a late write would land in that one.
    """

    __slots__ = ("_holders", "_lock", "_path", "fd")

    def __init__(self, fd: int, path: str = "") -> None:
        self.fd = fd
        self._path = path
        self._holders = 1
        self._lock = threading.Lock()

    @classmethod
    def new(cls, path: str) -> OpenFile:
        """A file to be made by its first `open`, since that may take the disk a millisecond."""
        return cls(-1, path)

    def open(self) -> int:
        """The descriptor; makes the file if it is a new one. Raises OSError."""
        if self.fd < 0:
            self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        return self.fd

    def hold(self) -> None:
        """One more holder."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """One holder less."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
        if self.fd >= 0:
            os.close(self.fd)


class FileIO:
    """The file work of one store, called on its event loop; what may wait runs in a few threads."""

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fwdproxy-file")
        self._scratch = memoryview(bytearray(MAX_READ))  # never in use across an await

    async def read(self, file: OpenFile, limit: int, offset: int) -> bytes:
        """Up to ``limit`` bytes at ``offset``; ``b""`` past the end. Raises OSError."""
        limit = min(limit, MAX_READ)
        if _NOWAIT:
            try:
                got = os.preadv(file.fd, [self._scratch[:limit]], offset, _NOWAIT)
            except BlockingIOError:
                pass  # it isn't in the page cache
            except OSError as error:
                if error.errno not in _NO_NOWAIT:
                    raise
            else:
                return bytes(self._scratch[:got])
        return await asyncio.wrap_future(self._run(file, partial(os.pread, file.fd, limit, offset)))

    def write(
        self, file: OpenFile, data: bytearray, offset: int, digest: hashlib.blake2b
    ) -> asyncio.Future[tuple[int, OSError | None]]:
        """Write ``data`` at ``offset`` and feed it to ``digest``. Gives (bytes written, the fault that stopped it)."""
        return asyncio.wrap_future(self._run(file, partial(_write, file, data, offset, digest)))

    async def verify(self, path: str, length: int, digest: bytes) -> bool:
        """Does the file hold exactly ``length`` bytes of this BLAKE2b-128?"""
        return await asyncio.wrap_future(self._pool.submit(_verify, path, length, digest))

    def close(self) -> None:
        """Finish what runs; nothing may be asked afterwards."""
        self._pool.shutdown(wait=True)

    def _run[T](self, file: OpenFile, work: Callable[[], T]) -> Future[T]:
        file.hold()
        job = self._pool.submit(work)
        job.add_done_callback(lambda _: file.release())  # runs too when the job is cancelled before it starts
        return job


def _write(file: OpenFile, data: bytearray, offset: int, digest: hashlib.blake2b) -> tuple[int, OSError | None]:
    written = 0
    try:
        fd = file.open()
        with memoryview(data) as view:
            while written < len(data):
                written += os.pwrite(fd, view[written:], offset + written)
    except OSError as error:
        return written, error
    digest.update(data)
    return written, None


def _verify(path: str, length: int, digest: bytes) -> bool:
    found = new_digest()
    total = 0
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            while piece := os.pread(fd, _PIECE, total):
                total += len(piece)
                if total > length:
                    return False
                found.update(piece)
        finally:
            os.close(fd)
    except OSError:
        return False
    return total == length and found.digest() == digest


class MemoryReader:
    """A BodyReader of a body that is held in memory."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes, start: int = 0) -> None:
        self._body = body
        self._position = start

    async def read(self, limit: int = 65536) -> bytes:
        """See BodyReader."""
        start = self._position
        if start == 0 and limit >= len(self._body):
            self._position = len(self._body)
            return self._body
        piece = self._body[start : start + limit]
        self._position = start + len(piece)
        return piece

    def close(self) -> None:
        """See BodyReader."""
        self._body = b""


class FileReader:
    """A BodyReader of a finished body file from ``start`` on; takes over the caller's hold on ``file``."""

    __slots__ = ("_file", "_io", "_length", "_position")

    def __init__(self, io: FileIO, file: OpenFile, length: int, start: int = 0) -> None:
        self._io = io
        self._file: OpenFile | None = file
        self._length = length
        self._position = start

    async def read(self, limit: int = 65536) -> bytes:
        """See BodyReader."""
        wanted = min(limit, self._length - self._position)
        if wanted <= 0:
            return b""
        if self._file is None:
            raise BrokenBody("the reader of a stored body is closed")
        try:
            piece = await self._io.read(self._file, wanted, self._position)
        except OSError as error:
            raise BrokenBody(f"a stored body can't be read: {error}") from None
        if not piece:
            raise BrokenBody("a stored body is shorter than it was")
        self._position += len(piece)
        return piece

    def close(self) -> None:
        """See BodyReader."""
        file, self._file = self._file, None
        if file is not None:
            file.release()

    def __del__(self) -> None:
        self.close()
