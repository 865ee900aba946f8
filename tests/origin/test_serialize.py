"""Requests as bytes: what is written, and what is never written."""

from __future__ import annotations

import pytest

from fwdproxy.errors import OriginError
from fwdproxy.messages import Headers, Origin, RequestHead, TargetURI
from fwdproxy.origin.serialize import serialize_chunk, serialize_end, serialize_head

HOST = (b"Host", b"a.test")


def head(method="GET", path="/", fields=(HOST,)):
    return RequestHead(method, TargetURI(Origin("http", "a.test", 80), path), Headers(fields))


START = b"%b HTTP/1.1\r\nHost: a.test\r\n"

WRITTEN = {
    "plain": (head(), {}, START % b"GET /" + b"\r\n"),
    "query": (head(path="/a?b=%20"), {}, START % b"GET /a?b=%20" + b"\r\n"),
    "text beyond ASCII": (head(path="/caf\u00e9"), {}, START % b"GET /caf\xe9" + b"\r\n"),
    "asterisk": (head("OPTIONS", "*"), {}, START % b"OPTIONS *" + b"\r\n"),
    "unknown method": (head("BREW"), {}, START % b"BREW /" + b"\r\n"),
    "POST without content": (head("POST"), {}, START % b"POST /" + b"Content-Length: 0\r\n\r\n"),
    "length": (head("PUT"), {"has_body": True, "length": 7}, START % b"PUT /" + b"Content-Length: 7\r\n\r\n"),
    "no length": (head("PUT"), {"has_body": True}, START % b"PUT /" + b"Transfer-Encoding: chunked\r\n\r\n"),
    "content in a GET": (head(), {"has_body": True, "length": 0}, START % b"GET /" + b"Content-Length: 0\r\n\r\n"),
    "expect": (
        head("PUT"),
        {"has_body": True, "length": 7, "expect_continue": True},
        START % b"PUT /" + b"Content-Length: 7\r\nExpect: 100-continue\r\n\r\n",
    ),
    "upgrade": (
        head(),
        {"upgrade": b"websocket"},
        START % b"GET /" + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ),
    "obs-text and tabs": (head(fields=(HOST, (b"A", b"\xe9\tb"))), {}, START % b"GET /" + b"A: \xe9\tb\r\n\r\n"),
    "framing of the client's": (
        head(
            fields=(
                HOST,
                (b"content-length", b"5"),
                (b"Transfer-Encoding", b"gzip"),
                (b"Connection", b"close"),
                (b"Keep-Alive", b"x"),
                (b"Proxy-Connection", b"x"),
                (b"Upgrade", b"h2c"),
                (b"Expect", b"x"),
                (b"Accept", b"*/*"),
            )
        ),
        {},
        START % b"GET /" + b"Accept: */*\r\n\r\n",
    ),
}


@pytest.mark.parametrize(("request_head", "arguments", "wire"), WRITTEN.values(), ids=WRITTEN.keys())
def test_written(request_head, arguments, wire):
    assert serialize_head(request_head, **arguments) == wire


REFUSED = {
    "CONNECT": head("CONNECT"),
    "empty method": head(""),
    "space in the method": head("GET /x"),
    "line end in the method": head("GET\r\n"),
    "method beyond ASCII": head("GÉT"),
    "empty target": head(path=""),
    "relative target": head(path="a"),
    "absolute target": head(path="http://a.test/"),
    "asterisk and more": head(path="*a"),
    "space in the target": head(path="/a b"),
    "tab in the target": head(path="/a\tb"),
    "line end in the target": head(path="/ HTTP/1.1\r\nA: b"),
    "NUL in the target": head(path="/\0"),
    "DEL in the target": head(path="/\x7f"),
    "text beyond ISO 8859-1 in the target": head(path="/\u20ac"),
    "half a surrogate pair in the target": head(path="/\udcff"),
    "CR in a value": head(fields=(HOST, (b"A", b"b\rc"))),
    "LF in a value": head(fields=(HOST, (b"A", b"b\nc"))),
    "NUL in a value": head(fields=(HOST, (b"A", b"b\0c"))),
    "line end at the end of a value": head(fields=(HOST, (b"A", b"b\r\n"))),
    "line end in the host": head(fields=((b"Host", b"a\r\nB: c"),)),
    "empty name": head(fields=(HOST, (b"", b"b"))),
    "space in a name": head(fields=(HOST, (b"A ", b"b"))),
    "colon in a name": head(fields=(HOST, (b"Content-Length: 5\r\nA", b"b"))),
    "line end in a name": head(fields=(HOST, (b"A\n", b"b"))),
    "name beyond ASCII": head(fields=(HOST, (b"\xe9", b"b"))),
    "no host": head(fields=()),
    "two hosts": head(fields=(HOST, (b"host", b"b.test"))),
}


@pytest.mark.parametrize("request_head", REFUSED.values(), ids=REFUSED.keys())
def test_refused(request_head):
    with pytest.raises(OriginError) as caught:
        serialize_head(request_head)
    assert (caught.value.kind, caught.value.sent) == ("http_request_error", False)


@pytest.mark.parametrize("upgrade", [b"a\r\nB: c", b"a\0", b"a\n"])
def test_refused_upgrade(upgrade):
    with pytest.raises(OriginError):
        serialize_head(head(), upgrade=upgrade)


def test_chunks():
    assert serialize_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert serialize_end(Headers()) == b"0\r\n\r\n"
    assert serialize_end(Headers([(b"A", b"b"), (b"Trailer", b"A")])) == b"0\r\nA: b\r\n\r\n"
    with pytest.raises(OriginError):
        serialize_end(Headers([(b"A", b"b\r\n\r\nGET / HTTP/1.1")]))
