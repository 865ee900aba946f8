"""The client's HTTP/1 side repairs what mitmproxy lacks; bytes in, bytes out (design: traps of mitmproxy)."""

from collections.abc import Iterator

import pytest
from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseTrailers,
)

from fwdproxy.exchange.pages import error_page
from fwdproxy.fields.request_head import MAX_HEAD
from fwdproxy.messages import ResponseHead
from fwdproxy.mitm.client_http1 import MAX_PIPELINED, ClientHttp1


def page(client: str, method: str, target: str, status: int, text: str) -> tuple[ResponseHead, bytes]:
    return error_page(status, text, "refused")


class Wire:
    """One client connection: what is fed in, what was written, what the stream got."""

    def __init__(self) -> None:
        client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
        self.layer = ClientHttp1(Context(client, Options()), refuse=page)
        self.conn = client
        self.written = b""
        self.got: list[HttpEvent] = []
        self.closed = False
        self._take(self.layer.handle_event(events.Start()))

    def feed(self, data: bytes) -> "Wire":
        self._take(self.layer.handle_event(events.DataReceived(self.conn, data)))
        return self

    def answer(self, *happened: HttpEvent) -> bytes:
        before = len(self.written)
        for event in happened:
            self._take(self.layer.handle_event(event))
        return self.written[before:]

    def _take(self, given: Iterator[commands.Command]) -> None:
        for command in given:
            if isinstance(command, commands.SendData):
                self.written += command.data
            elif isinstance(command, commands.CloseConnection):
                self.closed = True
            elif isinstance(command, ReceiveHttp):
                self.got.append(command.event)


def response(status: int = 200, **headers: str) -> http.Response:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return http.Response(b"HTTP/1.1", status, b"OK", http.Headers(fields), None, None, 0, None)


GET = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"


def kinds(wire: Wire) -> list[type[HttpEvent]]:
    return [type(event) for event in wire.got]


def test_a_sound_request_reaches_the_stream_byte_by_byte() -> None:
    wire = Wire()
    for byte in b"\r\n" + GET:
        wire.feed(bytes([byte]))
    assert kinds(wire) == [RequestHeaders, RequestEndOfMessage]
    assert not wire.written


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/3.9\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\nHost: a\n\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", b"400"),
        (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD, b"431"),
    ],
)
def test_a_faulty_head_is_refused_and_never_seen(data: bytes, status: bytes) -> None:
    wire = Wire().feed(data)
    assert wire.written.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in wire.written
    assert wire.closed
    assert wire.got == []


def test_trailers_of_a_request_are_passed_on() -> None:
    wire = Wire().feed(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 5\r\n\r\n"
    )
    assert kinds(wire)[-2:] == [RequestTrailers, RequestEndOfMessage]
    trailers = next(event for event in wire.got if isinstance(event, RequestTrailers))
    assert trailers.trailers["x-sum"] == "5"


def test_endless_trailers_are_an_error() -> None:
    wire = Wire().feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    for _ in range(MAX_HEAD // 1000 + 2):
        wire.feed(b"X: " + b"x" * 1000 + b"\r\n")
    assert wire.closed
    assert isinstance(wire.got[-1], RequestProtocolError)


def test_trailers_of_a_chunked_response_are_written() -> None:
    wire = Wire().feed(GET)
    written = wire.answer(
        ResponseHeaders(1, response(Transfer_Encoding="chunked")),
        ResponseData(1, b"body"),
        ResponseData(1, b""),
        ResponseTrailers(1, http.Headers([(b"X-Sum", b"5")])),
        ResponseEndOfMessage(1),
    )
    assert written.endswith(b"\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 5\r\n\r\n")
    assert not wire.closed


def test_interim_responses_come_before_the_answer() -> None:
    wire = Wire().feed(GET)
    written = wire.answer(
        ResponseHeaders(1, response(103, Link="</a.css>")),
        ResponseHeaders(1, response(Content_Length="2")),
        ResponseData(1, b"ok"),
        ResponseEndOfMessage(1),
    )
    assert written.startswith(b"HTTP/1.1 103 ")
    assert b"\r\n\r\nHTTP/1.1 200 " in written
    assert written.endswith(b"ok")


def test_no_content_goes_out_for_head() -> None:
    wire = Wire().feed(GET.replace(b"GET", b"HEAD"))
    written = wire.answer(
        ResponseHeaders(1, response(Content_Length="4")), ResponseData(1, b"body"), ResponseEndOfMessage(1)
    )
    assert written.endswith(b"Content-Length: 4\r\n\r\n")
    assert not wire.closed


@pytest.mark.rfc("9110", "15.3.5", "no-content")
@pytest.mark.rfc("9110", "15.4.5", "no-content")
@pytest.mark.parametrize("status", [204, 304])
def test_no_content_goes_out_where_none_may_be(status: int) -> None:
    wire = Wire().feed(GET)
    written = wire.answer(ResponseHeaders(1, response(status)), ResponseData(1, b"body"), ResponseEndOfMessage(1))
    assert written.endswith(b"\r\n\r\n")


def test_http10_gets_no_chunks_and_no_interim_response() -> None:
    wire = Wire().feed(b"GET http://a/ HTTP/1.0\r\n\r\n")
    written = wire.answer(
        ResponseHeaders(1, response(103)),
        ResponseHeaders(1, response(Transfer_Encoding="chunked")),
        ResponseData(1, b"body"),
        ResponseEndOfMessage(1),
    )
    assert b"103" not in written
    assert b"chunked" not in written
    assert written.endswith(b"Connection: close\r\n\r\nbody")
    assert wire.closed


def test_http10_may_keep_its_connection() -> None:
    wire = Wire().feed(b"GET http://a/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    written = wire.answer(
        ResponseHeaders(1, response(Content_Length="4")), ResponseData(1, b"body"), ResponseEndOfMessage(1)
    )
    assert b"Connection: keep-alive" in written
    assert not wire.closed
    assert len(Wire.feed(wire, GET).got) == 4


def test_content_that_was_not_asked_for_ends_the_connection() -> None:
    wire = Wire().feed(b"PUT http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    wire.layer.expects_continue = True
    written = wire.answer(ResponseHeaders(1, response(417, Content_Length="0")), ResponseEndOfMessage(1))
    assert b"Connection: close" in written
    assert wire.closed


def test_pipelined_requests_wait_their_turn_within_bounds() -> None:
    wire = Wire().feed(GET + GET)
    assert len(wire.got) == 2
    wire.answer(ResponseHeaders(1, response(Content_Length="0"), end_stream=True), ResponseEndOfMessage(1))
    assert len(wire.got) == 4
    wire.feed(b"x" * (MAX_PIPELINED + 1))
    assert wire.closed


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET http://a.test?x=1 HTTP/1.1", b"/?x=1"),
        (b"GET http://a.test:80/\xc3\xb6 HTTP/1.1", b"/%C3%B6"),
        (b"GET http://a.test HTTP/1.1", b"/"),
        (b"OPTIONS http://a.test HTTP/1.1", b"*"),
        (b"OPTIONS http://a.test/ HTTP/1.1", b"/"),
    ],
)
def test_absolute_targets_that_mitmproxy_would_refuse_or_change(line: bytes, path: bytes) -> None:
    wire = Wire().feed(line + b"\r\nHost: a.test\r\n\r\n")
    assert isinstance(head := wire.got[0], RequestHeaders)
    assert (head.request.data.path, head.request.host) == (path, "a.test")


@pytest.mark.parametrize("line", [b"GET * HTTP/1.1", b"GET http://a.test:0/ HTTP/1.1", b"CONNECT a.test:0 HTTP/1.1"])
def test_targets_that_are_none(line: bytes) -> None:
    assert Wire().feed(line + b"\r\nHost: a.test\r\n\r\n").written.startswith(b"HTTP/1.1 400 ")


def test_empty_lines_before_a_request_take_no_memory() -> None:
    wire = Wire()
    for _ in range(100):
        wire.feed(b"\r\n" * 10_000)
    assert len(wire.layer.buf) == 0
    assert wire.feed(GET).got


def test_malformed_content_is_answered() -> None:
    wire = Wire().feed(b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert wire.written.startswith(b"HTTP/1.1 400 ")
    assert wire.written.count(b"HTTP/1.1") == 1
    assert wire.closed
    assert isinstance(wire.got[-1], RequestProtocolError)
