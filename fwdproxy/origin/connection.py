"""One HTTP/1.1 connection to an origin: a protocol that carries one exchange after another."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import Final, cast

from fwdproxy.errors import OriginError
from fwdproxy.messages import Headers
from fwdproxy.origin.deadline import Deadline
from fwdproxy.origin.http1 import Event, Incoming, ResponseParser
from fwdproxy.origin.settings import OriginSettings
from fwdproxy.origin.stream import Stream
from fwdproxy.origin.tls import tls_fault

_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[,; \t])timeout=([0-9]{1,6})", re.IGNORECASE)
_CLOSING_TIME: Final = 5.0  # seconds for the last bytes written to leave


class Connection(asyncio.Protocol):
    """Carries one `Stream` at a time.

    ``on_idle`` is called when another exchange may follow, ``on_lost`` once, when the connection is gone.
    ``idle_since`` is the loop's time at which it last became idle.
    """

    def __init__(
        self,
        settings: OriginSettings,
        on_idle: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._settings = settings
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = ResponseParser(max_head_bytes=settings.max_head_bytes, max_fields=settings.max_fields)
        self._transport: asyncio.Transport | None = None
        self._deadline = Deadline(self._expired)
        self._idle_limit = settings.pool_idle
        self._stream: Stream | None = None
        self._shareable = True
        self._write_paused = False
        self._drained: asyncio.Future[None] | None = None
        self.idle_since = self._loop.time()
        self.lost: asyncio.Future[None] = self._loop.create_future()

    @property
    def usable(self) -> bool:
        """Whether an exchange can begin."""
        transport = self._transport
        return self._stream is None and transport is not None and not transport.is_closing()

    def begin(
        self,
        method: str,
        head: bytes,
        *,
        has_body: bool = False,
        expect_continue: bool = False,
        upgrade: bool = False,
        shareable: bool = True,
    ) -> Stream:
        """Send a request head. ``shareable`` False: no other exchange follows this one."""
        if not self.usable:
            raise OriginError("connection_terminated", "the origin closed the connection", sent=False)
        assert self._transport is not None
        stream = self._stream = Stream(self, has_body=has_body, expect_continue=expect_continue)
        self._shareable = shareable
        self._parser.expect(method, upgrade=upgrade)
        self._transport.write(head)
        self._watch(stream)
        return stream

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._stream is not None:
            self.drop(self._stream, OriginError("connection_terminated", "the connection was dropped here", sent=True))
        elif self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection once what was written has left."""
        if self._transport is not None:
            self._transport.close()
            self._deadline.set(_CLOSING_TIME)

    # What a stream asks for; a stream that is over asks in vain.

    async def write(self, stream: Stream, data: bytes) -> None:
        """Send bytes of a request body or a tunnel, with back-pressure. Raises OriginError when they can't be sent."""
        self._check_current(stream)
        assert self._transport is not None
        self._transport.write(data)
        while self._write_paused:
            self._watch(stream)
            self._drained = self._loop.create_future()
            await self._drained
            self._check_current(stream)

    def _check_current(self, stream: Stream) -> None:
        if self._stream is not stream:
            raise OriginError("connection_terminated", "the connection is gone", sent=True)

    def request_finished(self, stream: Stream) -> None:
        """The origin's time to answer begins."""
        if self._stream is stream:
            self._watch(stream)

    def set_full(self, stream: Stream, full: bool) -> None:
        """Stop or resume reading."""
        if self._stream is not stream or self._transport is None or self._transport.is_closing():
            return
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        self._watch(stream)

    def drop(self, stream: Stream, error: Exception) -> None:
        """End the stream with ``error``, and the connection with it."""
        if self._stream is stream:
            self._stream = None
            if self._transport is not None:
                self._transport.abort()
            stream.fail(error)

    def write_eof(self, stream: Stream) -> None:
        """End our side of a tunnel."""
        if self._stream is stream and self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def close_tunnel(self, stream: Stream) -> None:
        """Close a tunnel."""
        if self._stream is stream:
            self._stream = None
            stream.fail(OriginError("connection_terminated", "the tunnel was closed here", sent=True))
            self.close()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ready."""
        self._transport = cast("asyncio.Transport", transport)
        self._deadline.set(self._idle_limit)

    def data_received(self, data: bytes) -> None:
        """Bytes of a response; without a request there is nothing to make of them (RFC 9112 §9.2)."""
        stream = self._stream
        if stream is None:
            self.abort()
            return
        stream.responded = True
        try:
            self._take(stream, self._parser.receive(data))
        except OriginError as error:
            self.drop(stream, error)

    def eof_received(self) -> bool:
        """The origin has ended its side. True keeps ours open (tunnels)."""
        stream = self._stream
        if stream is None:
            return False
        if stream.tunnel:
            stream.end(Headers())
            return True
        try:
            self._take(stream, self._parser.receive_eof())
        except OriginError as error:
            self.drop(stream, error)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._deadline.stop()
        self._transport = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.fail(_lost_error(stream, exc))
        self.resume_writing()
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """The origin takes no more for now."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The origin takes bytes again."""
        self._write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._stream is not None:
            self._watch(self._stream)

    # Within

    def _take(self, stream: Stream, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, bytes):
                assert stream.inbox is not None
                stream.inbox.feed(event)
            elif isinstance(event, Incoming):
                hint = event.head.headers.get(b"keep-alive")
                if hint is not None:
                    self._note_idle_limit(hint)
                stream.head_arrived(event)
            else:
                self._end(stream, event.trailers)
                return
        if events or stream.inbox is not None:  # an unfinished head doesn't put its deadline off
            self._watch(stream)

    def _note_idle_limit(self, hint: bytes) -> None:
        """``Keep-Alive: timeout=N``: the origin closes after N idle seconds; be a second earlier."""
        timeout = _KEEP_ALIVE_TIMEOUT.search(hint)
        if timeout is not None:
            self._idle_limit = min(self._settings.pool_idle, max(0, int(timeout[1]) - 1))

    def _end(self, stream: Stream, trailers: Headers) -> None:
        whole = stream.whole
        stream.end(trailers)
        self._stream = None
        if not whole:
            self.abort()  # what is left of the request would be taken for the next one
        elif self._parser.reusable and self._shareable and self._idle_limit > 0 and self.usable:
            self.idle_since = self._loop.time()
            self._deadline.set(self._idle_limit)
            self._on_idle(self)
        else:
            self.close()

    def _watch(self, stream: Stream) -> None:
        """Set the deadline for what is waited for now."""
        if stream.tunnel or (stream.inbox is not None and stream.inbox.full):
            self._deadline.clear()
        elif self._write_paused and stream.sending:
            self._deadline.set(self._settings.idle_timeout)
        elif stream.sending:
            self._deadline.clear()  # the client's turn
        elif stream.inbox is None:
            self._deadline.set(self._settings.head_timeout)
        else:
            self._deadline.set(self._settings.idle_timeout)

    def _expired(self) -> None:
        stream = self._stream
        if stream is None:
            self.abort()
        elif self._write_paused and stream.sending:
            self.drop(
                stream, OriginError("connection_write_timeout", "the origin takes no more of the body", sent=True)
            )
        elif stream.inbox is None:
            self.drop(stream, OriginError("http_response_timeout", "the origin doesn't answer", sent=True))
        else:
            self.drop(stream, OriginError("connection_read_timeout", "the origin sends no more of the body", sent=True))


def _lost_error(stream: Stream, exc: Exception | None) -> OriginError:
    why = f" ({exc})" if exc is not None else ""
    if stream.responded:
        return OriginError("http_response_incomplete", f"the connection broke in the response{why}", sent=True)
    if isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError):
        fault = tls_fault(exc)  # TLS 1.3 origins refuse a client certificate, or its absence, after the handshake
        fault.sent = True
        return fault
    return OriginError("connection_terminated", f"the origin closed the connection without a response{why}", sent=True)
