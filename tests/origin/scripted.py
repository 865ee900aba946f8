"""Origins on loopback that write exact bytes, and requests to send them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fwdproxy.anonymize.rewrite import OutboundHead, Rewriting, rewrite
from fwdproxy.messages import Field, Headers, Origin, RequestHead, TargetURI
from fwdproxy.origin.client import OriginClient, OriginResponse
from fwdproxy.origin.settings import OriginSettings


@dataclass
class Peer:
    """One connection as the origin sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ssl: Any
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the script has ended, as most do once the client has closed."""

    async def head(self) -> bytes:
        """The next request head, with its empty line; ``b""`` when the client has closed."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionError:
            return b""

    async def until(self, end: bytes) -> bytes:
        """What comes up to ``end``."""
        return await self.reader.readuntil(end)

    async def exactly(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Until the client has closed, whatever it still sends."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def stop_reading(self) -> None:
        """Leave in the socket's buffer what the client sends."""
        transport: Any = self.writer.transport
        transport.pause_reading()

    def reset(self) -> None:
        """Close with RST in place of FIN."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Scripted:
    """A running origin. ``heads`` are the request heads that `answering` scripts have seen."""

    port: int
    scheme: str
    peers: list[Peer] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def request(
        self, method: str = "GET", path: str = "/", fields: tuple[Field, ...] = (), host: str | None = None
    ) -> OutboundHead:
        host = host or ("localhost" if self.scheme == "https" else "127.0.0.1")
        target = TargetURI(Origin(self.scheme, host, self.port), path)
        return rewrite(RequestHead(method, target, Headers(fields)), Rewriting(via=None))


@contextlib.asynccontextmanager
async def origin(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    """An origin whose n-th connection runs the n-th script, and the last one from then on.

    What a script raises comes out here.
    """
    tasks: list[asyncio.Task[None]] = []
    failures: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        peer = Peer(reader, writer, writer.get_extra_info("ssl_object"))
        scripted.peers.append(peer)
        try:
            await scripts[min(len(scripted.peers), len(scripts)) - 1](peer)
        except (asyncio.CancelledError, ConnectionError):
            pass  # the test, or the client, has had enough
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)
        finally:
            writer.close()
            peer.left.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scripted = Scripted(server.sockets[0].getsockname()[1], "https" if tls else "http")
    try:
        yield scripted
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for failure in failures:
        raise failure


def answering(*responses: bytes) -> Script:
    """Answer the n-th request on the connection with the n-th response, the last one from then on."""

    async def script(peer: Peer) -> None:
        number = 0
        while await peer.head():
            await peer.say(responses[min(number, len(responses) - 1)])
            number += 1

    return script


def response(body: bytes = b"", status: bytes = b"200 OK", *fields: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def client(**settings: object) -> AsyncIterator[OriginClient]:
    made = OriginClient(OriginSettings(**settings))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.aclose()


async def content(response: OriginResponse) -> bytes:
    """The whole body."""
    parts = []
    while part := await response.read():
        parts.append(part)
    return b"".join(parts)


class Body:
    """A request body from a list of parts; counts what was taken of it."""

    def __init__(
        self,
        *parts: bytes,
        length: int | None = None,
        expect_continue: bool = False,
        trailers: tuple[Field, ...] = (),
    ) -> None:
        self.length = length
        self.expect_continue = expect_continue
        self.trailers = Headers(trailers)
        self.taken = 0
        self._parts = list(parts)

    async def read(self) -> bytes:
        self.taken += 1
        return self._parts.pop(0) if self._parts else b""
