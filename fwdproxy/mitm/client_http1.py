"""The client's HTTP/1 connection: mitmproxy's `Http1Server` with what it lacks (RFC 9112).

Added: a bounded and checked request head, trailers in both directions, 1xx heads, no content for HEAD, 204 and 304,
an end by closing for HTTP/1.0 clients, and Expect: 100-continue answered when the content is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, Final

import h11
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.net.http.http1.assemble import assemble_response_head
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    HttpEvent,
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
from mitmproxy.proxy.layers.http._http1 import Http1Server, TBodyReader

from fwdproxy.fields.request_head import MAX_HEAD, absolute_form, request_head_fault
from fwdproxy.messages import ResponseHead

MAX_PIPELINED: Final = 256 * 1024
"""Bytes that a client may send ahead while an earlier request is being answered."""

_OPTIONS_OF_ALL: Final = re.compile(rb"OPTIONS [A-Za-z]+://[^/?]+ HTTP/1\.[01]")
"""OPTIONS of a whole server, as a proxy gets it (RFC 9112 §3.2.4)."""

Refuse = Callable[[str, str, str, int, str], tuple[ResponseHead, bytes]]
"""Client, method, target, status and text to the page that says so."""


class _Trailing:
    """A body reader of mitmproxy's that keeps the trailers, at which mitmproxy would raise."""

    def __init__(self, reader: TBodyReader) -> None:
        self._reader = reader
        self.trailers: list[tuple[bytes, bytes]] = []

    def __call__(self, buf: Any) -> h11.Data | h11.EndOfMessage | None:
        event = self._reader(buf)
        if event is None and len(buf) > MAX_HEAD:
            raise h11.RemoteProtocolError("a chunk's head or the trailers are too large")
        if isinstance(event, h11.EndOfMessage) and event.headers:
            self.trailers = [(bytes(name), bytes(value)) for name, value in event.headers.raw_items()]
            return h11.EndOfMessage()
        return event

    def read_eof(self) -> h11.EndOfMessage:
        return self._reader.read_eof()


def _refuse_h2c(headers: http.Headers) -> None:
    """Take the wish for HTTP/2 without TLS away, before mitmproxy takes all of Connection away with it."""
    if headers.get("upgrade", "").lower() == "h2c":
        del headers["upgrade"]
        headers.pop("http2-settings", None)


class ClientHttp1(Http1Server):
    """One client connection that speaks HTTP/1.0 or HTTP/1.1.

    ``as_proxy``: the client has to name whole targets, as it does to a forward proxy (RFC 9112 §3.2.2).
    """

    def __init__(self, context: Context, *, refuse: Refuse, as_proxy: bool = False) -> None:
        super().__init__(context)
        self._page = refuse
        self._as_proxy = as_proxy
        self.expects_continue = False
        self._trailers: http.Headers | None = None

    # -- requests ------------------------------------------------------------------------------------------------

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        """Check the head before mitmproxy reads it."""
        options_of_all = False
        if isinstance(event, events.DataReceived):
            data = bytes(self.buf)
            raw = data.lstrip(b"\r\n")  # RFC 9112 §2.2: empty lines before a request line are skipped
            if len(raw) < len(data):
                self._buffer(raw)
            end = raw.find(b"\r\n\r\n")
            if end < 0:
                return (yield from self._await_head(raw))
            line, rest = raw.split(b"\r\n", 1)
            fault = self._fault(raw[:end])
            if fault is not None:
                return (yield from self._refuse(*fault, line=line))
            options_of_all = _OPTIONS_OF_ALL.fullmatch(line) is not None
            if (written := absolute_form(line)) != line:
                self._buffer(written + b"\r\n" + rest)
        for command in super().read_headers(event):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
                _refuse_h2c(command.event.request.headers)
                if options_of_all:
                    command.event.request.data.path = b"*"
            yield command
        return None

    def _buffer(self, data: bytes) -> None:
        self.buf.maybe_extract_at_most(len(self.buf))
        self.buf += data

    def _await_head(self, raw: bytes) -> Generator[commands.Command, Any, None]:
        if len(raw) > MAX_HEAD:
            yield from self._refuse(431, f"the request head is larger than {MAX_HEAD} bytes")
        elif b"\n\n" in raw or b"\n\r\n" in raw:
            yield from self._refuse(400, "the request head has lines that end in a bare LF")

    def _fault(self, head: bytes) -> tuple[int, str] | None:
        fault = request_head_fault(head)
        if fault is None and self._as_proxy and head.split(b" ", 2)[1].startswith(b"/"):
            return 400, "this is a proxy: set it as the proxy of your browser or program"
        return fault

    def _refuse(self, status: int, text: str, line: bytes = b"") -> Generator[commands.Command, Any, None]:
        method, _, target = line.decode("latin-1").rpartition(" ")[0].partition(" ")
        head, body = self._page(str(self.context.client.peername[0]), method or "-", target or "-", status, text)
        response = http.Response.make(status, body, http.Headers(head.headers.fields))
        response.headers["Connection"] = "close"
        yield commands.SendData(self.conn, assemble_response_head(response) + body)
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def wait(self, event: events.Event) -> CommandGenerator[None]:
        """As mitmproxy's, with a limit to what a client may pipeline behind a request that is being answered."""
        if isinstance(event, events.DataReceived) and len(self.buf) > MAX_PIPELINED:
            yield commands.CloseConnection(self.conn)
            yield ReceiveHttp(
                RequestProtocolError(self.stream_id, "too much was pipelined", ErrorCode.CLIENT_DISCONNECTED)
            )
            return
        yield from super().wait(event)

    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        """As mitmproxy's, with trailers passed on."""
        reader: Any = self.body_reader
        if not isinstance(reader, _Trailing):
            reader = _Trailing(reader)
            self.body_reader = reader
        for command in super().read_body(event):
            if isinstance(command, commands.CloseConnection) and self.response is None:
                yield from self._refuse(400, "the content of the request is malformed or ended early")
                continue
            ends = isinstance(command, ReceiveHttp) and isinstance(command.event, RequestEndOfMessage)
            if ends and reader.trailers:
                yield ReceiveHttp(RequestTrailers(self.stream_id, http.Headers(reader.trailers)))
            yield command

    # -- responses -----------------------------------------------------------------------------------------------

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        """Write one event of a response."""
        if isinstance(event, ResponseHeaders):
            yield from self._send_head(event)
        elif isinstance(event, ResponseData):
            if event.data and not self._bodiless():
                yield from super().send(event)
        elif isinstance(event, ResponseTrailers):
            self._trailers = event.trailers
        elif isinstance(event, ResponseEndOfMessage):
            yield from self._send_end(event)
        else:
            if isinstance(event, ResponseProtocolError) and event.code.http_status_code() and not self.response:
                yield from self._refuse(event.code.http_status_code() or 502, event.message)
                return
            yield from super().send(event)

    def _send_head(self, event: ResponseHeaders) -> CommandGenerator[None]:
        assert self.request is not None
        status = event.response.status_code
        http10 = self.request.http_version == "HTTP/1.0"
        if 100 <= status < 200 and status != 101:
            # Interim: not the answer yet, and unknown to HTTP/1.0 (RFC 9110 §15.2).
            self.expects_continue = self.expects_continue and status != 100
            if not http10:
                yield commands.SendData(self.conn, assemble_response_head(event.response))
            return
        response = event.response.copy()
        if http10:
            response.headers.pop("transfer-encoding", None)
            known = "content-length" in response.headers or self._no_content(response)
            keeps = known and not http1.connection_close(self.request.http_version, self.request.headers)
            response.headers["Connection"] = "keep-alive" if keeps else "close"
        elif self.expects_continue and not self.request_done:
            # The content was not asked for; what the client does with it is unknown, so nothing can follow.
            response.headers["Connection"] = "close"
        yield from super().send(ResponseHeaders(event.stream_id, response, event.end_stream))

    def _send_end(self, event: ResponseEndOfMessage) -> CommandGenerator[None]:
        assert self.request is not None
        trailers, self._trailers = self._trailers, None
        chunked = self.response is not None and "chunked" in self.response.headers.get("transfer-encoding", "").lower()
        if chunked and not self._bodiless():
            lines = trailers.fields if trailers is not None else ()
            yield commands.SendData(self.conn, b"0\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in lines) + b"\r\n")
        unasked = self.expects_continue and not self.request_done
        self.expects_continue = False
        yield from self.mark_done(response=True)
        if unasked:
            yield commands.CloseConnection(self.conn)
            self.state = self.done

    def _bodiless(self) -> bool:
        assert self.request is not None and self.response is not None
        return self.request.data.method == b"HEAD" or self._no_content(self.response)

    @staticmethod
    def _no_content(response: http.Response) -> bool:
        return response.status_code in (204, 304)
