"""What stands where mitmproxy had a connection to a server: one request's way into the exchange and back.

mitmproxy's layers are synchronous. `OriginSide` starts a task per request, which enters what the exchange gives into
mitmproxy as `FromExchange` events, at the pace of the client; the task is registered as the pseudo connection's
handler, so that mitmproxy itself ends it when the client has gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mitmproxy import http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.server import ConnectionIO

from fwdproxy.errors import FwdProxyError, OriginError, RequestRefused
from fwdproxy.exchange.answers import Answer, ClientRequest
from fwdproxy.messages import Headers, ResponseHead
from fwdproxy.mitm.convert import headers_of, request_of, response_of, upgrade_of
from fwdproxy.origin.client import Tunnel

if TYPE_CHECKING:
    from fwdproxy.mitm.layers import ExchangeHttpLayer, ExchangeStream

logger = logging.getLogger("fwdproxy.mitm")

UPLOAD_BUFFER: Final = 256 * 1024
"""Bytes of an upload that may wait for the origin before the client is made to wait."""


@dataclass
class FromExchange(events.Event):
    """Events that the exchange has for the stream of ``side``. ``passed`` resolves once the stream has taken them."""

    side: OriginSide
    http_events: Sequence[HttpEvent]
    passed: asyncio.Future[None] | None = None


class Upload:
    """A request's content on its way to the origin; also what mitmproxy drains before it reads on from the client."""

    def __init__(self, side: OriginSide, length: int | None, *, expect_continue: bool) -> None:
        self.length = length
        self.expect_continue = expect_continue
        self.trailers = Headers()
        self._side = side
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._fed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def feed(self, data: bytes) -> None:
        """More content has come from the client."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > UPLOAD_BUFFER and self._room.is_set():
            self._room.clear()
            self._side.hold_upload()
        self._fed.set()

    def end(self) -> None:
        """The content is complete."""
        self._ended = True
        self._fed.set()

    def discard(self) -> None:
        """Nobody will read any more: take what still comes without keeping it."""
        self._chunks.clear()
        self._size = 0
        self._room.set()

    async def read(self) -> bytes:
        """All that has come since, ``b""`` at the end."""
        if self.expect_continue and not self._chunks and not self._ended:
            self.expect_continue = False
            await self._side.enter(ResponseHeaders(self._side.stream_id, response_of(ResponseHead(100, Headers()))))
        while not self._chunks and not self._ended:
            self._fed.clear()
            await self._fed.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if not self._room.is_set():
            self._room.set()
            await self._side.release_upload()
        return data

    async def drain(self) -> None:
        """Called by mitmproxy before it reads on: HTTP/1 clients wait here, HTTP/2 ones for their window."""
        if self._side.paces_by_reading:
            await self._room.wait()


class _NoUpload:
    """For a request without content."""

    async def drain(self) -> None:
        """Nothing to wait for."""


class OriginSide(layer.Layer):
    """One request's pseudo connection."""

    stream_id: int

    def __init__(self, context: Context, http_layer: ExchangeHttpLayer, stream: ExchangeStream, server: Server) -> None:
        super().__init__(context)
        self._http = http_layer
        self._stream = stream
        self.server = server
        self.stream_id = stream.stream_id
        self._upload: Upload | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: list[HttpEvent] = []
        self._upgrading = False  # what follows the request head is another protocol's, not its content
        self.finished = False

    # -- from the client -----------------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestHeaders):
            yield from self._start(event)
        elif isinstance(event, RequestProtocolError):
            if self._task is not None:
                self._task.cancel("the client has gone")
        elif isinstance(event, RequestEndOfMessage):
            if self._upload is not None and not self._upgrading:
                self._upload.end()
            yield from self._answer_if_ready()
        elif isinstance(event, RequestData) and self._upload is not None and not self.finished:
            self._upload.feed(event.data)
        elif isinstance(event, RequestTrailers) and self._upload is not None:
            self._upload.trailers = headers_of(event.trailers)

    def _start(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        request = event.request
        # Content comes before another protocol, and Upgrade may be passed over (RFC 9110 §7.8): then it is.
        upgrade = upgrade_of(request) if event.end_stream and not self._http.is_http2 else None
        self._upgrading = upgrade is not None
        if not event.end_stream or upgrade:
            length = request.headers.get("content-length", "")
            expects = self._http.expects_continue(self._stream.flow)
            self._upload = Upload(self, int(length) if length.isdecimal() else None, expect_continue=expects)
        options = self.context.options
        try:
            head, dial = request_of(
                request,
                self._http.mode,
                self.context.client,
                self._http.context.server,
                keep_host=bool(options.keep_host_header),
            )
            self._http.shell.admit(dial or head.target.origin)
        except RequestRefused as error:
            method, url = request.data.method.decode("latin-1"), request.url
            page, content = self._http.shell.refuse(self._client, method, url, error.status, str(error))
            self._answer_at_once(page, b"" if method == "HEAD" else content)
            if self._upload is not None:
                yield from self._answer_if_ready()
            return
        asked = ClientRequest(
            head=head,
            body=self._upload if upgrade is None else None,
            client=self._client,
            dial=dial,
            upgrade=upgrade,
        )
        answering = asyncio.ensure_future(self._http.shell.answer(asked, self._interim))
        if self._upload is None and answering.done() and (whole := answering.result().complete) is not None:
            # A small hit: mitmproxy's eager tasks have run it to its end already.
            answering.result().took_all()
            self._answer_at_once(answering.result().head, whole)
            return
        self._task = asyncio.ensure_future(self._run(answering))
        under_way = self._http.shell.under_way
        under_way.add(self._task)
        self._task.add_done_callback(under_way.discard)
        handler = self._http.handler
        handler.transports[self.server] = ConnectionIO(
            handler=self._task,
            writer=self._upload or _NoUpload(),  # type: ignore[arg-type]
        )
        self._task.add_done_callback(lambda _: handler.transports.pop(self.server, None))

    @property
    def _client(self) -> str:
        return str(self.context.client.peername[0])

    def _answer_at_once(self, head: ResponseHead, content: bytes) -> None:
        self.finished = True
        self._ready = [*self._whole(head, content), ResponseEndOfMessage(self.stream_id)]

    def _answer_if_ready(self) -> layer.CommandGenerator[None]:
        ready, self._ready = self._ready, []
        for happened in ready:
            yield ReceiveHttp(happened)

    def _whole(self, head: ResponseHead, content: bytes) -> list[HttpEvent]:
        self._http.shell.whole.add(self._stream.flow)
        response = self._response(head, has_content=bool(content))
        events: list[HttpEvent] = [ResponseHeaders(self.stream_id, response, end_stream=not content)]
        return [*events, ResponseData(self.stream_id, content)] if content else events

    # -- from the exchange ---------------------------------------------------------------------------------------

    async def _run(self, answering: asyncio.Future[Answer]) -> None:
        try:
            answer = await answering
        except asyncio.CancelledError:
            answering.cancel()
            raise
        try:
            await self._deliver(answer)
            await self.release_upload()  # what the client still sends is taken, though nobody wants it
        except FwdProxyError as error:
            kind = error.kind if isinstance(error, OriginError) else "cut"
            logger.info("a response was cut: %s (%s)", error, kind)
            await self.enter(ResponseProtocolError(self.stream_id, str(error), ErrorCode.GENERIC_SERVER_ERROR))
        finally:
            self.finished = True
            if self._upload is not None:
                self._upload.discard()
            await answer.aclose()

    async def _deliver(self, answer: Answer) -> None:
        if answer.tunnel is not None:
            self.server.state = ConnectionState.OPEN
            head = self._response(answer.head, has_content=False)
            happened = (ResponseHeaders(self.stream_id, head), ResponseEndOfMessage(self.stream_id))
            await self.enter(*happened, in_order=False)
            await self._carry(answer.tunnel)
            return
        if answer.complete is not None:
            answer.took_all()
            whole = self._whole(answer.head, answer.complete)
            await self.enter(*whole, ResponseEndOfMessage(self.stream_id))
            return
        await self.enter(ResponseHeaders(self.stream_id, self._response(answer.head, has_content=True)))
        while data := await answer.read():
            await self.enter(ResponseData(self.stream_id, data))
            await self._http.room(self.stream_id)
        if len(answer.body.trailers):
            trailers = http.Headers(answer.body.trailers.fields)
            await self.enter(ResponseTrailers(self.stream_id, trailers))
        await self.enter(ResponseEndOfMessage(self.stream_id))

    async def _carry(self, tunnel: Tunnel) -> None:
        """Bytes both ways after a 101, until either side ends."""
        assert self._upload is not None
        upload = self._upload

        async def upwards() -> None:
            while data := await upload.read():
                await tunnel.write(data)
            tunnel.write_eof()

        sending = asyncio.ensure_future(upwards())
        try:
            while data := await tunnel.read():
                await self.enter(ResponseData(self.stream_id, data), in_order=False)
                await self._http.room(self.stream_id)
            await self.enter(ResponseEndOfMessage(self.stream_id), in_order=False)
        finally:
            sending.cancel()

    async def _interim(self, head: ResponseHead) -> None:
        """A 1xx of the origin's (RFC 9110 §15.2)."""
        await self.enter(ResponseHeaders(self.stream_id, response_of(head)))

    async def enter(self, *happened: HttpEvent, in_order: bool = True) -> None:
        """Enter events into mitmproxy, and wait while a script's hook keeps the stream from taking them."""
        handler = self._http.handler
        await handler.server_event(FromExchange(self, happened))
        if in_order and self._stream.is_paused:
            passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await handler.server_event(FromExchange(self, (), passed))
            await passed

    # -- pace ----------------------------------------------------------------------------------------------------

    @property
    def paces_by_reading(self) -> bool:
        """Whether an upload is held up by not reading from the client (else by its HTTP/2 window)."""
        return not self._http.is_http2

    def hold_upload(self) -> None:
        """The origin does not keep up with the client."""
        self._http.hold_upload(self.stream_id)

    async def release_upload(self) -> None:
        """The origin has caught up."""
        if not self.paces_by_reading:
            await self._http.handler.server_event(FromExchange(self, ()))

    def _response(self, head: ResponseHead, *, has_content: bool) -> http.Response:
        undelimited = b"content-length" not in head.headers and head.status not in (101, 204, 304)
        return response_of(head, chunked=undelimited and has_content and not self._http.is_http2)
