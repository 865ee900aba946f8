"""What streams, and what is no page at all: uploads, events, WebSocket, gRPC, tunnels. Unharmed and unstored."""

from __future__ import annotations

import base64
import gzip
import hashlib
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
import wsproto
import wsproto.events
from wsproto.connection import ConnectionState

from tests.e2e.clients import Http2, Wire, chunked, curl, fetch, open_to, request_head
from tests.e2e.grpc_origin import GrpcOrigin, message
from tests.e2e.origin import Call, pattern, pattern_stream, response_head
from tests.e2e.programs import environment
from tests.e2e.tcp_origin import TcpOrigin

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.authority import Authority
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

FRESH = ("Cache-Control", "max-age=600")
MEGABYTE = 1 << 20

both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])


# -- uploads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "framing"),
    [("http", "length"), ("http", "chunked"), ("https", "length"), ("https", "chunked"), ("https", "h2")],
)
def test_a_large_upload_streams(proxy: Program, origin: Origin, tmp_path: Path, scheme: str, framing: str) -> None:
    total = 50 * MEGABYTE
    upload = tmp_path / "upload"
    digest = hashlib.sha256()
    with upload.open("wb") as sink:
        for piece in pattern_stream("upload", total):
            sink.write(piece)
            digest.update(piece)
    path = origin.page(b"taken", FRESH)
    how = {"length": ["--http1.1"], "chunked": ["--http1.1", "-H", "Transfer-Encoding: chunked"], "h2": ["--http2"]}
    before = proxy.reset_peak()
    answer = curl(proxy, origin.url(path, scheme), *how[framing], "-T", str(upload))
    assert (answer.status, answer.body) == (200, b"taken")
    assert proxy.peak() - before < 25 * MEGABYTE
    (seen,) = origin.seen(path)
    assert (seen.method, seen.length, seen.digest) == ("PUT", total, digest.hexdigest())
    if framing != "h2":
        assert seen.chunked is (framing == "chunked")


@both_schemes
def test_an_upload_reaches_the_origin_while_it_is_sent(proxy: Program, origin: Origin, scheme: str) -> None:
    arrived = threading.Event()

    async def handle(call: Call) -> None:
        await call.reader.readuntil(b"first\r\n")
        arrived.set()
        await call.reader.readuntil(b"0\r\n\r\n")
        call.close()
        await call.respond(b"both")

    wire, target = open_to(proxy, origin.url(origin.on(origin.unique(), handle), scheme))
    with wire:
        wire.send(request_head("POST", target, ("Host", f"localhost:{origin.port(scheme)}"), *CHUNKED))
        wire.send(b"5\r\nfirst\r\n")
        assert arrived.wait(10)
        wire.send(b"6\r\nsecond\r\n0\r\n\r\n")
        assert wire.read().body == b"both"


CHUNKED = (("Transfer-Encoding", "chunked"),)


def test_an_early_answer_ends_an_upload(proxy: Program, origin: Origin) -> None:
    """An origin may refuse before it has read everything; the client gets to see why."""

    async def handle(call: Call) -> None:
        await call.respond(b"too large", ("Connection", "close"), status="413 Content Too Large")
        call.close()
        # A close with unread bytes would be a reset, which may overtake the answer.
        call.writer.write_eof()
        while await call.reader.read(1 << 16):
            pass

    url = origin.url(origin.on(origin.unique(), handle))
    with Wire.to(proxy.port) as wire:
        wire.send(request_head("POST", url, ("Host", "localhost"), ("Content-Length", "10000000")) + b"x" * 1000)
        answer = wire.read()
    assert (answer.status, answer.body) == (413, b"too large")


def test_a_client_that_leaves_in_mid_upload_of_little_asks_nothing(proxy: Program, origin: Origin) -> None:
    """Whatever of it has reached the origin, no whole request has."""
    path, plain = origin.page(), origin.page(b"after")
    with Wire.to(proxy.port) as wire:
        wire.send(request_head("POST", origin.url(path), ("Host", "localhost"), ("Content-Length", "1000")) + b"half")
    assert fetch(proxy, origin.url(plain)).body == b"after"
    assert not any(seen.complete for seen in origin.seen(path))


def test_a_client_that_leaves_in_mid_upload_is_no_complete_request(proxy: Program, origin: Origin) -> None:
    gone = threading.Event()

    async def handle(call: Call) -> None:
        try:
            await call.read_body()
        finally:
            gone.set()

    path = origin.on(origin.unique(), handle)
    with Wire.to(proxy.port) as wire:
        head = request_head("POST", origin.url(path), ("Host", "localhost"), ("Content-Length", "10000000"))
        wire.send(head + b"the beginning of much")
        origin.wait_for(path)
    assert gone.wait(10)
    assert not origin.seen(path)[0].complete


@both_schemes
def test_expect_100_continue(proxy: Program, origin: Origin, scheme: str) -> None:
    async def handle(call: Call) -> None:
        if call.seen.value("expect") is not None:
            await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await call.read_body()
        await call.respond(b"taken")

    path = origin.on(origin.unique(), handle)
    wire, target = open_to(proxy, origin.url(path, scheme))
    host = ("Host", f"localhost:{origin.port(scheme)}")
    with wire:
        for _ in range(2):
            wire.send(request_head("POST", target, host, ("Content-Length", "4"), ("Expect", "100-continue")))
            assert wire.read_head().status == 100
            answer = wire.send(b"body").read()
            assert (answer.status, answer.body) == (200, b"taken")
    assert [seen.body for seen in origin.seen(path)] == [b"body", b"body"]


def test_an_expectation_may_be_refused_by_the_origin(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        await call.respond(b"no", ("Connection", "close"), status="417 Expectation Failed")
        call.close()

    url = origin.url(path := origin.on(origin.unique(), handle))
    with Wire.to(proxy.port) as wire:
        wire.send(request_head("POST", url, ("Host", "localhost"), ("Content-Length", "4"), ("Expect", "100-continue")))
        answer = wire.read_head()
        if answer.status == 100:
            answer = wire.send(b"body").read()
    assert answer.status == 417
    assert len(origin.seen(path)) == 1


@both_schemes
def test_get_with_content_passes_and_is_not_stored(proxy: Program, origin: Origin, scheme: str) -> None:
    async def handle(call: Call) -> None:
        await call.respond(b"asked: " + await call.read_body(), FRESH)

    url = origin.url(path := origin.on(origin.unique(), handle), scheme)
    assert fetch(proxy, url, body=b"one").body == b"asked: one"
    assert fetch(proxy, url, body=b"two").body == b"asked: two"
    assert fetch(proxy, url).body == b"asked: "
    assert [seen.body for seen in origin.seen(path)] == [b"one", b"two", b""]


# -- answers that take their time ---------------------------------------------------------------------------------


@both_schemes
def test_server_sent_events_arrive_as_they_happen(proxy: Program, origin: Origin, scheme: str) -> None:
    gates = [origin.gate() for _ in range(3)]

    async def handle(call: Call) -> None:
        await call.head(("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), *CHUNKED)
        for number, gate in enumerate(gates):
            await call.chunk(b"data: %d\n\n" % number)
            await gate.passed()
        await call.last_chunk()

    wire, target = open_to(proxy, origin.url(origin.on(origin.unique(), handle), scheme))
    with wire:
        wire.send(request_head("GET", target, ("Host", f"localhost:{origin.port(scheme)}")))
        answer = wire.read_head()
        assert answer.value("content-type") == "text/event-stream"
        assert not answer.stored
        for number, gate in enumerate(gates):
            assert wire.chunk() == b"data: %d\n\n" % number
            gate.open()
        assert wire.chunk() == b""


def test_server_sent_events_over_http_2(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()

    async def handle(call: Call) -> None:
        await call.head(("Content-Type", "text/event-stream"), *CHUNKED)
        await call.chunk(b"data: first\n\n")
        await gate.passed()
        await call.last_chunk()

    path = origin.on(origin.unique(), handle)
    with Http2(proxy, f"localhost:{origin.https_port}") as client:
        stream = client.streams[number := client.request(path)]
        while stream.received < 13:
            assert client.pump()
        assert (bytes(stream.body), stream.ended) == (b"data: first\n\n", False)
        gate.open()
        assert client.finish(number).complete


@both_schemes
def test_a_storable_body_reaches_the_client_while_it_comes(proxy: Program, origin: Origin, scheme: str) -> None:
    gate = origin.gate()
    half = pattern("half", 100_000)

    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Content-Length", "200000"))
        await call.send(half)
        await gate.passed()
        await call.send(half)

    url = origin.url(origin.on(origin.unique(), handle), scheme)
    wire, target = open_to(proxy, url)
    with wire:
        wire.send(request_head("GET", target, ("Host", f"localhost:{origin.port(scheme)}")))
        wire.read_head()
        assert wire.read_exactly(100_000) == half
        gate.open()
        assert wire.read_exactly(100_000) == half
    again = fetch(proxy, url)
    assert (again.hit, again.body) == (True, half + half)


def test_an_origins_head_comes_before_its_body(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()

    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Content-Length", "4"))
        await gate.passed()
        await call.send(b"body")

    with Wire.to(proxy.port) as wire:
        wire.send(request_head("GET", origin.url(origin.on(origin.unique(), handle)), ("Host", "localhost")))
        assert wire.read_head().status == 200
        gate.open()
        assert wire.read_exactly(4) == b"body"


# -- WebSocket ----------------------------------------------------------------------------------------------------


async def websocket_echo(call: Call) -> None:
    """An origin's WebSocket: every message comes back, and the answer names the protocol asked for."""
    key = call.seen.value("sec-websocket-key") or ""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    await call.send(
        response_head(
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),
            ("Sec-WebSocket-Protocol", call.seen.value("sec-websocket-protocol") or "none"),
            status="101 Switching Protocols",
        )
    )
    call.close()
    conn = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
    while conn.state is not ConnectionState.CLOSED and (data := await call.reader.read(1 << 16)):
        conn.receive_data(data)
        for event in conn.events():
            if isinstance(event, wsproto.events.Message):
                await call.send(conn.send(type(event)(data=event.data, message_finished=event.message_finished)))
            elif isinstance(event, (wsproto.events.Ping, wsproto.events.CloseConnection)):
                await call.send(conn.send(event.response()))


@pytest.mark.parametrize("how", ["absolute", "tunnel", "tls"])
def test_websocket_messages_pass_both_ways(proxy: Program, origin: Origin, how: str) -> None:
    path = origin.on(origin.unique("socket"), websocket_echo)
    authority = f"localhost:{origin.port('https' if how == 'tls' else 'http')}"
    wire, target = Wire.to(proxy.port), path
    if how == "absolute":
        target = origin.url(path)
    else:
        wire.tunnel(authority)
    if how == "tls":
        wire = wire.start_tls(proxy.ca_file, "localhost")
    with wire:
        wire.send(
            request_head(
                "GET",
                target,
                ("Host", authority),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Protocol", "chat"),
            )
        )
        answer = wire.read_head()
        assert answer.status == 101, answer.head
        assert answer.value("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert answer.value("sec-websocket-protocol") == "chat"
        assert (answer.value("upgrade") or "").lower() == "websocket"
        conn = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
        for data in ("hello", "x" * 100_000):
            wire.send(conn.send(wsproto.events.TextMessage(data=data)))
            assert websocket_text(wire, conn) == data
        wire.send(conn.send(wsproto.events.CloseConnection(code=1000)))
        while conn.state is not ConnectionState.CLOSED:
            conn.receive_data(wire.read_some() or None)
            list(conn.events())
    assert origin.seen(path)[0].value("sec-websocket-protocol") == "chat"


def websocket_text(wire: Wire, conn: wsproto.connection.Connection) -> str:
    """The next whole text message."""
    parts: list[str] = []
    while True:
        data = wire.read_some()
        assert data, "the WebSocket ended"
        conn.receive_data(data)
        for event in conn.events():
            if isinstance(event, wsproto.events.TextMessage):
                parts.append(event.data)
                if event.message_finished:
                    return "".join(parts)


def test_a_refused_websocket_is_an_answer(proxy: Program, origin: Origin) -> None:
    path = origin.page(b"not here", status="403 Forbidden")
    upgrade = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"))
    answer = fetch(proxy, origin.url(path), *upgrade, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
    assert (answer.status, answer.body) == (403, b"not here")


# -- tunnels ------------------------------------------------------------------------------------------------------


def test_connect_to_a_port_without_tls(proxy: Program) -> None:
    with TcpOrigin() as server, Wire.to(proxy.port).tunnel(f"127.0.0.1:{server.port}") as wire:
        for data in (b"\x00binary hello", b"x" * 300_000):
            wire.send(data)
            assert wire.read_exactly(len(data)) == data.upper()


def test_connect_to_a_server_that_speaks_first(proxy: Program) -> None:
    with TcpOrigin(b"220 ready\r\n") as server, Wire.to(proxy.port).tunnel(f"127.0.0.1:{server.port}") as wire:
        assert wire.read_exactly(11) == b"220 ready\r\n"
        wire.send(b"helo there\r\n")
        assert wire.read_exactly(12) == b"HELO THERE\r\n"


@pytest.mark.parametrize("start", ["GET http://site.test/ HTTP/1.1", "CONNECT site.test:443 HTTP/1.1"])
def test_a_proxy_at_the_end_of_a_tunnel_gets_what_is_said_to_it(proxy: Program, start: str) -> None:
    said = f"{start}\r\nHost: site.test\r\nProxy-Authorization: for that one\r\n\r\n".encode()
    with TcpOrigin() as server, Wire.to(proxy.port).tunnel(f"127.0.0.1:{server.port}") as wire:
        wire.send(said)
        assert wire.read_exactly(len(said)) == said.upper()


def test_upgrade_beside_content_is_passed_over_and_the_content_arrives(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"attached"))
    fields = (("Connection", "Upgrade"), ("Upgrade", "tcp"))
    assert fetch(proxy, url, *fields, method="POST", body=b"hello").body == b"attached"
    (seen,) = origin.seen(path)
    assert (seen.body, seen.values("upgrade")) == (b"hello", [])


def test_plain_http_inside_a_tunnel_uses_the_store(proxy: Program, origin: Origin) -> None:
    path = origin.page(b"page", FRESH)
    authority = f"localhost:{origin.http_port}"
    assert fetch(proxy, origin.url(path)).body == b"page"
    with Wire.to(proxy.port).tunnel(authority) as wire:
        answer = wire.send(request_head("GET", path, ("Host", authority))).read()
    assert (answer.body, answer.hit) == (b"page", True)


def test_a_tunnel_to_nobody_is_an_error(proxy: Program) -> None:
    with Wire.to(proxy.port) as wire:
        wire.send(request_head("CONNECT", "127.0.0.1:1", ("Host", "127.0.0.1:1")))
        try:
            answer = wire.read("CONNECT")
            if answer.status == 200:
                wire.send(b"\x00hello")
                assert wire.read_to_end() == b""
            else:
                assert answer.status >= 500
        except ConnectionError:
            pass  # a reset says it too


# -- gRPC ---------------------------------------------------------------------------------------------------------


def test_grpc_calls_pass(proxy: Program, authority: Authority) -> None:
    with GrpcOrigin(authority.server_context()) as server:
        with Http2(proxy, f"localhost:{server.port}") as client:
            for content in (b"one", b"two" * 10_000):
                call = client.request(
                    "/demo.Echo/Say", ("te", "trailers"), ("content-type", "application/grpc"), method="POST", end=False
                )
                client.send_data(call, message(content), end=True)
                answer = client.finish(call)
                assert (answer.status, answer.body) == (200, message(content))
                assert dict(answer.trailers)["grpc-status"] == "0"
        assert [body for _, body in server.calls] == [message(b"one"), message(b"two" * 10_000)]


# -- curl's own view ----------------------------------------------------------------------------------------------


def test_curl_sees_a_chunked_upload_and_a_compressed_answer(proxy: Program, origin: Origin) -> None:
    packed = gzip.compress(b"text " * 1000)
    path = origin.page(packed, FRESH, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
    url = origin.url(path, "https")
    for _ in range(2):
        answer = curl(proxy, url, "--compressed")
        assert answer.body == b"text " * 1000
        assert answer.value("content-encoding") == "gzip"
    assert len(origin.seen(path)) == 1
    command = ["curl", "-sS", "-x", proxy.url, "--cacert", str(proxy.ca_file), "-H", "Transfer-Encoding: chunked"]
    done = subprocess.run(
        [*command, "-T", "-", origin.url(origin.page(b"taken"), "https")],
        input=b"from a pipe",
        capture_output=True,
        check=True,
        timeout=30,
        env=environment(),
    )
    assert done.stdout == b"taken"


def test_chunked_helper_is_what_origins_read(origin: Origin) -> None:
    path = origin.page()
    with Wire.to(origin.http_port) as wire:
        wire.send(request_head("POST", path, ("Host", "x"), *CHUNKED) + chunked(b"a", b"bc")).read()
    assert origin.seen(path)[0].body == b"abc"
