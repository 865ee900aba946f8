"""Fills under way: a message is received into the store by a task of its own, and clients read along.

A client that leaves does not cut the fill for the others, nor for itself when most of the body is there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fwdproxy.errors import FillAborted, OriginError, StoreError
from fwdproxy.messages import Headers
from fwdproxy.origin.client import OriginResponse
from fwdproxy.store.base import BodyReader, Fill


@dataclass(frozen=True, slots=True)
class FinishAlone:
    """When a fill that nobody reads any more goes on: enough of it is there, or little is left (bytes)."""

    share: float = 0.5
    rest: int = 1 << 20

    def goes_on(self, received: int, length: int | None) -> bool:
        """Whether to go on with ``received`` of ``length`` bytes (None: the origin did not say)."""
        if length is None:
            return False
        return received >= length * self.share or length - received <= self.rest


class Filling:
    """One response being received into one fill, with its task and the clients that read it."""

    def __init__(self, response: OriginResponse, fill: Fill, alone: FinishAlone) -> None:
        self._response = response
        self._fill = fill
        self._alone = alone
        self._readers = 0
        self.task: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> asyncio.Future[None]:
        """Begin to receive. Open the first reader before: what is too large to be stored is kept for readers only."""
        self.task = asyncio.create_task(self._run(), name="fill")
        return self.task

    def body(self) -> FilledBody:
        """A reader from the first byte on."""
        self._readers += 1
        return FilledBody(self, self._fill.reader())

    @property
    def will_store(self) -> bool:
        """Whether the response will be stored, as far as is known."""
        return self._fill.will_store

    @property
    def length(self) -> int | None:
        """The bytes of content that the origin declared."""
        return self._response.length

    @property
    def trailers(self) -> Headers:
        """The origin's trailers, once the end was read."""
        return self._response.trailers

    def left(self) -> None:
        """One reader has gone."""
        self._readers -= 1
        if self._readers or self.task.done():
            return
        if not self._alone.goes_on(self._fill.received, self._response.length):
            self.task.cancel()

    async def _run(self) -> None:
        try:
            while chunk := await self._response.read():
                await self._fill.write(chunk)
            await self._fill.complete()
        except (OriginError, FillAborted, StoreError) as error:
            self._fill.abort(str(error))
        except asyncio.CancelledError:
            self._fill.abort("the fill was given up")
            raise
        finally:
            await self._response.aclose()


class FilledBody:
    """The body of a fill under way, as one client reads it."""

    complete: bytes | None = None

    def __init__(self, filling: Filling, reader: BodyReader) -> None:
        self._filling = filling
        self._reader = reader
        self._taken = 0

    @property
    def trailers(self) -> Headers:
        """See `Body.trailers`."""
        return self._filling.trailers

    async def read(self) -> bytes:
        """See `Body.read`."""
        data = await self._reader.read()
        self._taken += len(data)
        if data and self._taken == self._filling.length:
            # The last bytes tell the client that it has all. By then the response is stored, so that whoever asks
            # next finds it.
            await asyncio.wait((self._filling.task,))
        return data

    async def aclose(self) -> None:
        """See `Body.aclose`."""
        self._reader.close()
        self._filling.left()
