"""Bytes between a socket and who reads them, few of them: a full inbox stops the socket from being read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from fwdproxy.errors import OriginError
from fwdproxy.messages import Headers

HIGH_WATER: Final = 256 * 1024
LOW_WATER: Final = 64 * 1024
_READ_SIZE: Final = 64 * 1024


class Inbox:
    """The body of one response, or what comes out of a tunnel; for one reader at a time.

    ``on_full`` is called with True when no more should arrive for now, with False when it may again.
    """

    __slots__ = ("_chunks", "_error", "_on_full", "_size", "_waiter", "ended", "full", "trailers")

    def __init__(self, on_full: Callable[[bool], None]) -> None:
        self._on_full = on_full
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: OriginError | None = None
        self.full = False
        self.ended = False
        self.trailers = Headers()

    def feed(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER:
            self._set_full(True)
        self._wake()

    def end(self, trailers: Headers) -> None:
        """The last byte has arrived."""
        self.ended = True
        self.trailers = trailers
        self._stop()

    def fail(self, error: OriginError) -> None:
        """No more will arrive: the reader gets what is here, then ``error``."""
        self._error = error
        self._stop()

    async def read(self) -> bytes:
        """The next bytes, up to 64 KiB or what came in one piece; ``b""`` at the end. Raises the error of `fail`."""
        while not self._chunks:
            if self.ended:
                return b""
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = self._take()
        self._size -= len(data)
        if self._size <= LOW_WATER:
            self._set_full(False)
        return data

    def _take(self) -> bytes:
        chunks = self._chunks
        if len(chunks) == 1:
            return chunks.popleft()
        taken = [chunks.popleft()]
        size = len(taken[0])
        while chunks and size + len(chunks[0]) <= _READ_SIZE:
            size += len(chunks[0])
            taken.append(chunks.popleft())
        return b"".join(taken)

    def _stop(self) -> None:
        self._set_full(False)
        self._on_full = _nobody  # breaks the cycle between stream and inbox, which would be the collector's work
        self._wake()

    def _set_full(self, full: bool) -> None:
        if full != self.full:
            self.full = full
            self._on_full(full)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _nobody(full: bool) -> None:
    """Takes what an inbox says once nothing fills it any more."""
