"""The content of a request, sent while the response may already arrive."""

from __future__ import annotations

import asyncio
from typing import Protocol

from fwdproxy.errors import OriginError
from fwdproxy.messages import Headers
from fwdproxy.origin.serialize import serialize_chunk, serialize_end
from fwdproxy.origin.stream import Stream


class RequestBody(Protocol):
    """Where the content of a request comes from.

    ``length`` None means that it isn't known: it is sent chunked. ``expect_continue``: the client asked for 100.
    ``trailers`` are valid after the end, and sent only with a chunked body. A body of known length is read no further
    than that.
    """

    @property
    def length(self) -> int | None: ...
    @property
    def expect_continue(self) -> bool: ...
    @property
    def trailers(self) -> Headers: ...

    async def read(self) -> bytes:
        """The next bytes, ``b""`` at the end. May be cancelled when the origin wants no more.

        What it raises drops the connection and comes out of `OriginClient.send`.
        """


async def upload(stream: Stream, body: RequestBody, continue_timeout: float) -> None:
    """Send ``body``, after the 100 if one is awaited (RFC 9110 §10.1.1) or when it doesn't come in time."""
    if stream.go_ahead is not None:
        try:
            async with asyncio.timeout(continue_timeout):
                await stream.go_ahead.wait()
        except TimeoutError:
            pass
    stream.content_taken = True
    if body.length is None:
        while chunk := await body.read():
            await stream.write(serialize_chunk(chunk))
        await stream.write(serialize_end(body.trailers))
    else:
        await _send_counted(stream, body, body.length)
    stream.finish_request()


async def _send_counted(stream: Stream, body: RequestBody, left: int) -> None:
    """Send ``left`` bytes and ask for no more, since the origin may answer from then on."""
    while left:
        chunk = await body.read()
        left -= len(chunk)
        if not chunk or left < 0:
            raise OriginError("http_request_error", "the request body isn't as long as its Content-Length", sent=True)
        await stream.write(chunk)
