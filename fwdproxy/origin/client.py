"""The client towards origins: sends one rewritten request, hands back its response (RFC 9110, RFC 9112).

send ─► pool ─► connection ─► stream ─► response
          └► connect (resolver, addresses raced, TLS)
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

from fwdproxy.anonymize.rewrite import OutboundHead
from fwdproxy.egress.hops import DIRECT, Hop
from fwdproxy.errors import OriginError
from fwdproxy.messages import IDEMPOTENT_METHODS, Headers, Origin, ResponseHead
from fwdproxy.origin.connect import Connector
from fwdproxy.origin.connection import Connection
from fwdproxy.origin.http1 import Incoming
from fwdproxy.origin.inbox import Inbox
from fwdproxy.origin.pool import Pool, PoolKey
from fwdproxy.origin.resolver import Resolver
from fwdproxy.origin.serialize import serialize_head
from fwdproxy.origin.settings import OriginSettings
from fwdproxy.origin.stream import Stream
from fwdproxy.origin.tls import TlsProfile
from fwdproxy.origin.upload import RequestBody, upload

__all__ = ["OnInformational", "OriginClient", "OriginResponse", "RequestBody", "Tunnel"]

OnInformational = Callable[[ResponseHead], Awaitable[None] | None]

_LIKELY_ALIVE: Final = 2.0
"""Idle seconds up to which a pooled connection is trusted with a request that can't be sent twice: servers keep
connections for 5 s and more."""

_BOUND_TO_CONNECTION: Final = (b"ntlm", b"negotiate")
"""Schemes that authenticate the connection with the request (RFC 4559 §6): it would lend the login to others."""

_CLOSING_TIME: Final = 1.0  # seconds to wait for connections to be gone


class Tunnel:
    """The connection after 101: bytes both ways (RFC 9110 §7.8)."""

    def __init__(self, stream: Stream, inbox: Inbox) -> None:
        self._stream = stream
        self._inbox = inbox

    async def read(self) -> bytes:
        """The next bytes, ``b""`` once the origin has ended its side. Raises OriginError when the connection breaks."""
        return await self._inbox.read()

    async def write(self, data: bytes) -> None:
        """Send ``data`` and wait while the origin takes no more. Raises OriginError when the connection is gone."""
        await self._stream.write(data)

    def write_eof(self) -> None:
        """End our side."""
        self._stream.write_eof()

    def close(self) -> None:
        """Close both sides once what was written has left."""
        self._stream.close()


class OriginResponse:
    """A response whose body is still arriving. Read it to its end or close it, else its connection stays bound.

    ``head`` is as received, hop-by-hop fields included. ``length`` is the number of body bytes, None when it isn't
    known before: 0 for HEAD, 204, 304, whatever Content-Length says. ``delimited`` False: only the end of the
    connection ends the body, so that a cut one may look complete. ``tunnel`` is set after 101, and then carries the
    bytes.
    """

    __slots__ = ("_inbox", "_stream", "delimited", "head", "length", "tunnel")

    def __init__(self, incoming: Incoming, inbox: Inbox, stream: Stream) -> None:
        self.head, self.length, self.delimited = incoming
        self._inbox = inbox
        self._stream = stream
        self.tunnel = Tunnel(stream, inbox) if stream.tunnel else None

    @property
    def trailers(self) -> Headers:
        """The trailer fields, once the body has been read to its end."""
        return self._inbox.trailers

    async def read(self) -> bytes:
        """The next bytes of the body, up to 256 KiB; ``b""`` at its complete end.

        Raises OriginError when the body is cut, malformed, or late.
        """
        return await self._inbox.read()

    async def aclose(self) -> None:
        """Give up what has not arrived yet. After the end there is nothing to do."""
        self.abandon()

    def abandon(self) -> None:
        """`aclose` for who can't wait; a second call does nothing."""
        if not self._inbox.ended:
            self._stream.abort()


class _Outgoing(NamedTuple):
    """One request, ready for any connection. ``shareable`` False: its connection must carry no other one after it."""

    method: str
    head: bytes
    body: RequestBody | None
    expect_continue: bool
    upgrade: bool
    shareable: bool

    def repeatable(self, content_taken: bool) -> bool:
        """Whether it may be sent again when nothing came back (RFC 9110 §9.2.2)."""
        return self.method in IDEMPOTENT_METHODS if self.body is None else not content_taken


class OriginClient:
    """Sends requests to origins over connections that all clients share. Belongs to one event loop.

    Raises ConfigError for CA files that can't be used.
    """

    def __init__(self, settings: OriginSettings) -> None:
        self._settings = settings
        self._tls = TlsProfile(settings.ca_files)
        self._pool = Pool(settings)
        self._connector = Connector(settings, Resolver())
        self._connections: set[Connection] = set()
        self._closed = False

    async def send(
        self,
        request: OutboundHead,
        body: RequestBody | None = None,
        *,
        on_informational: OnInformational | None = None,
        dial: Origin | None = None,
        upgrade: bytes | None = None,
        hop: Hop = DIRECT,
    ) -> OriginResponse:
        """Send ``request`` and return its final response once the head is here; ``body`` may still be under way then.

        Interim responses go to ``on_informational``, but for the 100 that our own Expect brought. ``dial`` is
        connected to, and named in TLS, in place of the target's origin. ``upgrade`` is the value of an Upgrade field
        to send; a 101 then comes back with a tunnel.

        How the content is framed is decided by ``body`` alone, whatever the head says. An origin that answers with
        another status than 2xx before the body's end gets no more of it.

        Raises OriginError; what ``body`` or ``on_informational`` raise; TypeError for a head that wasn't rewritten.
        """
        if not isinstance(request, OutboundHead):
            raise TypeError("an origin is sent nothing but an OutboundHead, made by fwdproxy.anonymize.rewrite.rewrite")
        origin = dial or request.head.target.origin
        if origin.scheme not in ("http", "https"):
            raise OriginError("http_request_error", f"no way to speak {origin.scheme} to an origin")
        outgoing = _prepare(request, body, upgrade)
        key = PoolKey(origin, hop, self._tls if origin.scheme == "https" else None)
        harmless = outgoing.repeatable(content_taken=not outgoing.expect_continue)
        pooled = self._pool.take(key, math.inf if harmless else _LIKELY_ALIVE)
        if pooled is not None:
            response = await self._try_pooled(pooled, outgoing, on_informational)
            if response is not None:
                return response
        try:
            return await self._respond(self._begin(await self._connect(key), outgoing), outgoing, on_informational)
        except OriginError as error:
            error.sent = error.sent or pooled is not None
            raise

    async def aclose(self) -> None:
        """Close all connections, drop those in use, and wait until they are gone."""
        self._closed = True
        open_ones = list(self._connections)
        for connection in open_ones:
            if connection.usable:
                connection.close()
            else:
                connection.abort()
        if open_ones:
            await asyncio.wait([connection.lost for connection in open_ones], timeout=_CLOSING_TIME)

    async def _connect(self, key: PoolKey) -> Connection:
        connection = await self._connector.connect(key, partial(self._pool.put, key), self._lost)
        if not connection.lost.done():
            self._connections.add(connection)
        if self._closed:
            connection.abort()
            raise OriginError("proxy_internal_error", "the program is stopping")
        return connection

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._pool.discard(connection)

    async def _try_pooled(
        self, connection: Connection, outgoing: _Outgoing, on_informational: OnInformational | None
    ) -> OriginResponse | None:
        """None when the connection turned out to be dead and the request may be sent again."""
        stream = self._begin(connection, outgoing)
        try:
            return await self._respond(stream, outgoing, on_informational)
        except OriginError as error:
            dead = error.kind == "connection_terminated" and not stream.responded
            if dead and outgoing.repeatable(stream.content_taken):
                return None
            raise

    def _begin(self, connection: Connection, outgoing: _Outgoing) -> Stream:
        return connection.begin(
            outgoing.method,
            outgoing.head,
            has_body=outgoing.body is not None,
            expect_continue=outgoing.expect_continue,
            upgrade=outgoing.upgrade,
            shareable=outgoing.shareable,
        )

    async def _respond(
        self, stream: Stream, outgoing: _Outgoing, on_informational: OnInformational | None
    ) -> OriginResponse:
        """Send the body beside, and wait for the final head."""
        try:
            if outgoing.body is not None:
                stream.start_upload(upload(stream, outgoing.body, self._settings.continue_timeout))
            while True:
                incoming = await stream.next_head()
                if incoming.head.status >= 200 or incoming.head.status == 101:
                    assert stream.inbox is not None
                    return OriginResponse(incoming, stream.inbox, stream)
                if on_informational is not None:
                    waiting = on_informational(incoming.head)
                    if waiting is not None:
                        await waiting
        except BaseException:
            stream.abort()
            raise


def _prepare(request: OutboundHead, body: RequestBody | None, upgrade: bytes | None) -> _Outgoing:
    head = request.head
    expect_continue = body is not None and body.expect_continue and body.length != 0
    wire = serialize_head(
        head,
        has_body=body is not None,
        length=body.length if body is not None else None,
        expect_continue=expect_continue,
        upgrade=upgrade,
    )
    credentials = head.headers.get(b"authorization") or b""
    shareable = not credentials.lower().startswith(_BOUND_TO_CONNECTION)
    return _Outgoing(head.method, wire, body, expect_continue, upgrade is not None, shareable)
