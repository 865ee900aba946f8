"""The client's HTTP/2 connection: mitmproxy's `Http2Server`, paced in both directions.

mitmproxy buffers without bound what a client's closed window keeps back, and acknowledges at once what a client
uploads. Here the exchange waits while much is kept back, and uploads are acknowledged when they have been taken.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Final

from h2.config import H2Configuration
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http._events import ResponseHeaders
from mitmproxy.proxy.layers.http._http2 import Http2Server
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

KEPT_BACK: Final = 64 * 1024
"""Bytes of one stream that may wait for the client's window before the exchange is made to wait."""

UPLOAD_WINDOW: Final = 1024 * 1024
"""Bytes that a client may send on one stream before any of them was taken."""


class _PacedConnection(BufferedH2Connection):
    """Owes acknowledgements for streams whose upload is held up."""

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self.local_settings.initial_window_size = UPLOAD_WINDOW
        self.local_settings.acknowledge()
        self.held: set[int] = set()
        self.owed: defaultdict[int, int] = defaultdict(int)

    def acknowledge_received_data(self, acknowledged_size: int, stream_id: int) -> None:
        """As in h2, but kept back for a stream that is held."""
        if stream_id in self.held:
            self.owed[stream_id] += acknowledged_size
        else:
            super().acknowledge_received_data(acknowledged_size, stream_id)


class ClientHttp2(Http2Server):
    """One client connection that speaks HTTP/2."""

    h2_conn: _PacedConnection

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.h2_conn = _PacedConnection(self.h2_conf)
        self._waiting: dict[int, asyncio.Event] = {}

    def kept_back(self, stream_id: int) -> int:
        """Bytes of ``stream_id`` that wait for the client's window."""
        return sum(len(chunk.data) for chunk in self.h2_conn.stream_buffers.get(stream_id, ()))

    async def room(self, stream_id: int) -> None:
        """Wait until the client's window has taken most of what was sent on ``stream_id``."""
        while self.kept_back(stream_id) > KEPT_BACK:
            await self._waiting.setdefault(stream_id, asyncio.Event()).wait()

    def hold(self, stream_id: int) -> None:
        """Acknowledge no more of this stream's upload for now."""
        self.h2_conn.held.add(stream_id)

    def release(self, stream_id: int) -> CommandGenerator[None]:
        """Acknowledge what is owed for this stream."""
        self.h2_conn.held.discard(stream_id)
        owed = self.h2_conn.owed.pop(stream_id, 0)
        if owed and not self.is_closed(stream_id):
            self.h2_conn.acknowledge_received_data(owed, stream_id)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, ResponseHeaders) and 100 <= event.response.status_code < 200:
            event = ResponseHeaders(event.stream_id, event.response, end_stream=False)
        yield from super()._handle_event(event)
        if isinstance(event, (events.DataReceived, events.ConnectionClosed)):
            for waiting in self._waiting.values():
                waiting.set()
            self._waiting.clear()
