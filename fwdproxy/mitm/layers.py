"""mitmproxy's HTTP layer with the exchange in the place of its server connections.

The stream, its hooks and the user's scripts are mitmproxy's own; only `get_connection` is replaced, and the client's
connection is one of ours (`client_http1`, `client_http2`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    HttpStream,
    SendHttp,
)
from mitmproxy.proxy.layers.http._base import HttpConnection, HttpEvent
from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseHeaders, ResponseProtocolError
from mitmproxy.proxy.server import ConnectionHandler

from fwdproxy.mitm.client_http1 import ClientHttp1
from fwdproxy.mitm.client_http2 import ClientHttp2
from fwdproxy.mitm.origin_side import FromExchange, OriginSide

if TYPE_CHECKING:
    from fwdproxy.mitm.shell import Shell

GREETING_WAIT: Final = 0.5
"""Seconds that a client inside CONNECT may be silent before the server is asked whether it speaks first."""

CLIENT_SPEAKS_FIRST: Final = frozenset({80, 443, 8080, 8443})
"""Ports of protocols in which it is the client that begins; browsers open such tunnels ahead of use."""


@dataclass
class _Passed(HttpEvent):
    """Comes after other events of a stream, to tell that they have been taken."""

    passed: asyncio.Future[None]

    def taken(self) -> None:
        """The events before this one have been taken."""
        if not self.passed.done():
            self.passed.set_result(None)


class ExchangeStream(HttpStream):
    """One request and its response. mitmproxy's own, but for what it does about CONNECT and our markers."""

    _greeting: commands.RequestWakeup | None = None

    @property
    def is_paused(self) -> bool:
        """Whether a hook has not come back yet."""
        return self._paused is not None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, _Passed):
            event.taken()
        else:
            yield from super()._handle_event(event)

    def handle_connect_regular(self) -> layer.CommandGenerator[None]:
        """Answer CONNECT at once; what the client then says decides whereto a connection is opened.

        Some servers speak first (SMTP, databases), and their clients wait: after a while the server is asked.
        """
        yield from super().handle_connect_regular()  # type: ignore[no-untyped-call]
        address = self.context.server.address
        if address is not None and address[1] not in CLIENT_SPEAKS_FIRST:
            self._greeting = commands.RequestWakeup(GREETING_WAIT)
            yield self._greeting

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As mitmproxy's, with our timer."""
        if isinstance(event, events.Wakeup) and event.command is self._greeting:
            yield from self._greet()
        elif isinstance(event, _Passed):
            event.taken()
        else:
            yield from super().passthrough(event)

    def _greet(self) -> layer.CommandGenerator[None]:
        undecided = self.child_layer
        if not isinstance(undecided, layer.NextLayer) or undecided.layer is not None or undecided.data_client():
            return
        error = yield commands.OpenConnection(self.context.server)
        if error:
            gone = ResponseProtocolError(self.stream_id, str(error), ErrorCode.PASSTHROUGH_CLOSE)
            yield SendHttp(gone, self.context.client)


class ExchangeHttpLayer(HttpLayer):
    """One client connection's HTTP, answered by the exchange."""

    def __init__(self, context: Context, mode: HTTPMode, shell: Shell, handler: ConnectionHandler) -> None:
        super().__init__(context, mode)
        self.shell = shell
        self.handler = handler

    @property
    def is_http2(self) -> bool:
        """Whether the client speaks HTTP/2 (or 3) on this connection."""
        return not isinstance(self._client_side, ClientHttp1)

    @property
    def _client_side(self) -> HttpConnection:
        connection: Any = self.connections[self.context.client]
        return connection  # type: ignore[no-any-return]

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, FromExchange):
            yield from self._from_exchange(event)
            return
        if isinstance(event, events.Start):
            alpn = self.context.client.alpn
            if alpn == b"h2":
                self.connections[self.context.client] = ClientHttp2(self.context.fork())
            elif alpn is None or not alpn.startswith(b"h3"):
                as_proxy = self.mode is not HTTPMode.transparent
                self.connections[self.context.client] = ClientHttp1(
                    self.context.fork(), as_proxy=as_proxy, refuse=self.shell.refuse
                )
        yield from super()._handle_event(event)

    def _from_exchange(self, event: FromExchange) -> layer.CommandGenerator[None]:
        path = event.side.context.layers
        holder = path[path.index(self) + 1]
        if not isinstance(holder, OriginSide):
            # It belongs to an HTTP layer inside a tunnel of ours: pass it inwards.
            yield from self.event_to_child(holder, event)
            return
        stream_id = event.side.stream_id
        for happened in event.http_events:
            if isinstance(happened, ResponseHeaders) and 100 <= happened.response.status_code < 200:
                if happened.response.status_code != 101:
                    yield from self.event_to_child(self._client_side, happened)
                    continue
            if (stream := self.streams.get(stream_id)) is not None:
                yield from self.event_to_child(stream, happened)
        if event.passed is not None:
            marker = _Passed(stream_id, event.passed)
            if (stream := self.streams.get(stream_id)) is not None:
                yield from self.event_to_child(stream, marker)
            else:
                marker.taken()
        if isinstance(client := self._client_side, ClientHttp2):
            yield from client.release(stream_id)

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """As mitmproxy's, with our stream."""
        stream = ExchangeStream(self.context.fork(), stream_id)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> layer.CommandGenerator[None]:
        """Give the stream that asks a way into the exchange instead of a connection."""
        stream = self.command_sources[event]
        assert isinstance(stream, ExchangeStream)
        if self.shell.carried_by_mitmproxy(stream.flow, self):
            yield from super().get_connection(event, reuse=reuse)
            return
        del self.command_sources[event]
        self._sweep()
        # Left in the state of a closed connection: mitmproxy would otherwise reuse it for another request.
        server = Server(address=event.address)
        context = self.context.fork()
        context.server = server
        self.connections[server] = OriginSide(context, self, stream, server)
        yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (server, None)))

    def _sweep(self) -> None:
        """Forget the requests that are done; a stream may speak to its connection until it is dropped."""
        for server, side in list(self.connections.items()):
            if isinstance(side, OriginSide) and side.finished and side.stream_id not in self.streams:
                del self.connections[server]

    def expects_continue(self, flow: http.HTTPFlow) -> bool:
        """Whether the client waits for 100 before it sends the content (RFC 9110 §10.1.1)."""
        expects = flow in self.shell.expecting
        if expects and isinstance(client := self._client_side, ClientHttp1):
            client.expects_continue = True
        return expects

    def hold_upload(self, stream_id: int) -> None:
        """Let an HTTP/2 client's upload run into its window."""
        if isinstance(client := self._client_side, ClientHttp2):
            client.hold(stream_id)

    async def room(self, stream_id: int) -> None:
        """Wait until the client has taken most of what was sent to it."""
        if isinstance(client := self._client_side, ClientHttp2):
            await client.room(stream_id)
        transport = self.handler.transports.get(self.handler.client)
        if transport is not None and transport.writer is not None:
            try:
                await transport.writer.drain()
            except OSError:
                return  # mitmproxy's own reading side ends this connection
