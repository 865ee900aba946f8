"""The harness itself: without a proxy, what the clients and the scripted origin say must be true."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Wire, chunked, request_head
from tests.e2e.origin import Call, pattern

if TYPE_CHECKING:
    from tests.e2e.authority import Authority
    from tests.e2e.origin import Origin


def test_the_origin_answers_and_logs(origin: Origin) -> None:
    path = origin.page(b"hello", ("Cache-Control", "max-age=5"))
    with Wire.to(origin.http_port) as wire:
        wire.send(request_head("GET", path, ("Host", "x"), ("X-One", "1"), ("x-one", "2")))
        first = wire.read()
        wire.send(request_head("HEAD", path, ("Host", "x")))
        second = wire.read("HEAD")
    assert (first.status, first.body, first.framing) == (200, b"hello", "length")
    assert (second.body, second.value("content-length")) == (b"", "5")
    seen = origin.seen(path)
    assert [entry.method for entry in seen] == ["GET", "HEAD"]
    assert seen[0].values("x-one") == ["1", "2"]
    assert seen[0].connection == seen[1].connection
    assert seen[0].head.startswith(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n")


def test_chunks_trailers_and_informational_responses(origin: Origin) -> None:
    async def handle(call: Call) -> None:
        await call.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await call.read_body()
        await call.head(("Transfer-Encoding", "chunked"))
        await call.chunk(b"abc")
        await call.chunk(call.seen.body)
        await call.last_chunk(("X-Sum", "7"))

    path = origin.on(origin.unique(), handle)
    with Wire.to(origin.http_port) as wire:
        wire.send(request_head("POST", path, ("Host", "x"), ("Transfer-Encoding", "chunked")))
        wire.send(chunked(b"12", b"345", trailers=[("X-End", "e")]))
        answer = wire.read()
    assert answer.informational == [(103, [("Link", "</a>")])]
    assert (answer.body, answer.framing, answer.trailers) == (b"abc12345", "chunked", [("X-Sum", "7")])
    (seen,) = origin.seen(path)
    assert (seen.body, seen.trailers, seen.chunked, seen.complete) == (b"12345", [("X-End", "e")], True, True)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_body_is_seen_as_cut(origin: Origin, how: str) -> None:
    async def handle(call: Call) -> None:
        await call.head(("Content-Length", "100"))
        await call.send(b"half")
        call.close() if how == "close" else call.reset()

    path = origin.on(origin.unique(), handle)
    with Wire.to(origin.http_port) as wire:
        answer = wire.send(request_head("GET", path, ("Host", "x"))).read()
    assert answer.complete is False


def test_a_gate_holds_a_handler_until_the_test_opens_it(origin: Origin) -> None:
    gate = origin.gate()

    async def handle(call: Call) -> None:
        await gate.passed()
        await call.respond(b"late")

    path = origin.on(origin.unique(), handle)
    with Wire.to(origin.http_port) as wire:
        wire.send(request_head("GET", path, ("Host", "x")))
        origin.wait_for(path)
        wire.sock.settimeout(0.05)
        with pytest.raises(socket.timeout):
            wire.read_some()
        wire.sock.settimeout(10)
        gate.open()
        assert wire.read().body == b"late"


def test_https_with_the_throw_away_authority(origin: Origin, authority: Authority) -> None:
    path = origin.page(b"secure")
    with Wire.to(origin.https_port).start_tls(authority.ca_file, "localhost") as wire:
        answer = wire.send(request_head("GET", path, ("Host", "localhost"))).read()
    assert answer.body == b"secure"
    assert origin.seen(path)[0].secure


def test_a_script_answers_step_by_step(origin: Origin) -> None:
    path = origin.script(b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    with Wire.to(origin.http_port) as wire:
        statuses = [wire.send(request_head("GET", path, ("Host", "x"))).read().status for _ in range(3)]
    assert statuses == [204, 200, 200]


def test_patterns_differ_by_path_and_by_place() -> None:
    whole = pattern("/a", 200_000)
    assert len(whole) == 200_000
    assert whole != pattern("/b", 200_000)
    assert whole[:65536] != whole[65536:131072]
    assert pattern("/a", 10) == whole[:10]
