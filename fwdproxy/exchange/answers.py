"""What the exchange gives to a shell: an answer, whose body is read piece by piece, and the outcome for the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fwdproxy.errors import FillAborted
from fwdproxy.exchange.explained import Explained
from fwdproxy.messages import Headers, Origin, RequestHead, ResponseHead
from fwdproxy.origin.client import OriginResponse, RequestBody, Tunnel
from fwdproxy.store.base import BodyReader

NO_TRAILERS: Final = Headers()
_PIECE: Final = 65536  # bytes read at once
NOT_EXPLAINED: Final = Explained()

Informational = Callable[[ResponseHead], Awaitable[None]]
"""Called with each 1xx head that belongs to the client."""


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """One request as a shell received it.

    ``client`` is the peer's address for the log. ``dial`` names the server to connect to where that is not the
    target's own (reverse mode). ``upgrade`` is the protocol of an Upgrade field that the shell can carry on with.
    """

    head: RequestHead
    body: RequestBody | None = None
    client: str = ""
    dial: Origin | None = None
    upgrade: bytes | None = None


class Body(Protocol):
    """The content of an answer. ``complete`` is all of it where it is in memory already, else None."""

    complete: bytes | None

    @property
    def trailers(self) -> Headers:
        """Trailer fields, known once `read` has returned the end."""
        ...

    async def read(self) -> bytes:
        """The next bytes; ``b""`` at the complete end.

        Raises `FillAborted` or `OriginError` when the rest will not come: the client must see a cut message.
        """
        ...

    async def aclose(self) -> None:
        """The client wants no more; call it once, after the end too."""
        ...


class BytesBody:
    """A body in memory: small stored responses, pages of our own, and no body at all."""

    def __init__(self, data: bytes = b"") -> None:
        self.complete: bytes | None = data
        self._rest = data
        self.trailers = NO_TRAILERS

    async def read(self) -> bytes:
        """See `Body.read`."""
        data, self._rest = self._rest, b""
        return data

    async def aclose(self) -> None:
        """See `Body.aclose`."""


class StoredBody:
    """``length`` bytes of the body of a stored response, read from its file."""

    complete: bytes | None = None
    trailers = NO_TRAILERS

    def __init__(self, reader: BodyReader, length: int) -> None:
        self._reader = reader
        self._left = length

    async def read(self) -> bytes:
        """See `Body.read`. A file that ends early is a cut message, never a shorter one."""
        if not self._left:
            return b""
        data = await self._reader.read(min(_PIECE, self._left))
        self._left -= len(data)
        if not data:
            raise FillAborted(f"the stored body ended {self._left} bytes early")
        return data

    async def aclose(self) -> None:
        """See `Body.aclose`."""
        self._reader.close()


class OriginBody:
    """A body that is passed on from the origin as it comes, at the client's pace."""

    complete: bytes | None = None

    def __init__(self, response: OriginResponse) -> None:
        self._response = response

    @property
    def trailers(self) -> Headers:
        """See `Body.trailers`."""
        return self._response.trailers

    async def read(self) -> bytes:
        """See `Body.read`."""
        return await self._response.read()

    async def aclose(self) -> None:
        """See `Body.aclose`."""
        await self._response.aclose()


class Answer:
    """One response on its way to one client. A shell reads it to the end and calls `aclose` once, come what may."""

    def __init__(
        self,
        head: ResponseHead,
        body: Body,
        *,
        tunnel: Tunnel | None = None,
        at_close: Callable[[int, bool], None] = lambda sent, finished: None,
        explained: Explained = NOT_EXPLAINED,
    ) -> None:
        self.explained = explained
        self.head = head
        self.body = body
        self.tunnel = tunnel
        self._at_close = at_close
        self._sent = 0
        length = head.headers.get(b"content-length") or b""
        self._length = int(length) if length.isdigit() else None
        self._finished = False
        self._closed = False

    @property
    def complete(self) -> bytes | None:
        """The whole body where it is in memory, else None. A shell that sends it at once says so by `took_all`."""
        return self.body.complete

    def took_all(self) -> None:
        """The shell sends the `complete` body, which holds nothing to release: the answer is done with."""
        self._closed = True
        self._at_close(len(self.body.complete or b""), True)

    async def read(self) -> bytes:
        """The next bytes of the body, ``b""`` at the complete end (see `Body.read`)."""
        data = await self.body.read()
        self._sent += len(data)
        # A client that has counted all of Content-Length may leave before the end is read.
        self._finished = not data or self._sent == self._length
        return data

    async def aclose(self) -> None:
        """Release what the answer holds and report the outcome."""
        if self._closed:
            return
        self._closed = True
        try:
            await self.body.aclose()
            if self.tunnel is not None:
                self.tunnel.close()
        finally:
            self._at_close(self._sent, self._finished)
