"""HEAD, POST and QUERY through the exchange (RFC 9110 §9.3, RFC 10008)."""

from __future__ import annotations

import pytest

from fwdproxy.exchange.answers import Answer, ClientRequest
from fwdproxy.exchange.asked import CONTENT_LIMIT, ReplayedBody
from fwdproxy.messages import Field, Headers, Origin, RequestHead, TargetURI
from tests.exchange.conftest import Bench, status_of
from tests.exchange.test_collapsing import taken
from tests.exchange.test_core import response
from tests.origin.scripted import Peer, origin


async def send(bench: Bench, port: int, method: str, content: bytes, *fields: Field, path: str = "/") -> Answer:
    target = TargetURI(Origin("http", "127.0.0.1", port), path)
    headers = Headers([(b"Content-Length", b"%d" % len(content)), (b"Content-Type", b"text/plain"), *fields])
    body = ReplayedBody(content, None, len(content))
    return await bench.exchange.answer(ClientRequest(RequestHead(method, target, headers), body))


class Echo:
    """An origin that answers with the content it got; ``fields`` are its response's."""

    def __init__(self, *fields: bytes) -> None:
        self.fields = fields
        self.heads: list[bytes] = []

    async def script(self, peer: Peer) -> None:
        while head := await peer.head():
            self.heads.append(head)
            length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0)
            content = await peer.exactly(length)
            await peer.say(response(content[:100] or b"empty", *self.fields))


@pytest.mark.rfc("10008", "2.7", "content-in-key")
async def test_query_is_cached_by_its_content(bench: Bench) -> None:
    echo = Echo(b"Cache-Control: max-age=60")
    async with origin(echo.script) as at:
        first = await send(bench, at.port, "QUERY", b"one")
        assert (await taken(first), "stored" in status_of(first)) == (b"one", True)
        again = await send(bench, at.port, "QUERY", b"one")
        assert (await taken(again), "; hit" in status_of(again)) == (b"one", True)
        other = await send(bench, at.port, "QUERY", b"two")
        assert await taken(other) == b"two"
        kind = await send(bench, at.port, "QUERY", b"one", (b"Content-Encoding", b"x"))
        assert "; hit" not in status_of(kind)
        await taken(kind)
        assert (await bench.get(at.port))[2] == b"empty"
    assert len(echo.heads) == 4


async def test_an_unsafe_request_invalidates_queries_too(bench: Bench) -> None:
    echo = Echo(b"Cache-Control: max-age=60")
    async with origin(echo.script) as at:
        await taken(await send(bench, at.port, "QUERY", b"one"))
        await taken(await send(bench, at.port, "POST", b"change"))
        again = await send(bench, at.port, "QUERY", b"one")
        assert "; hit" not in status_of(again)
        await taken(again)


async def test_a_long_query_passes_by(bench: Bench) -> None:
    echo = Echo(b"Cache-Control: max-age=60")
    content = bytes(CONTENT_LIMIT + 1)
    async with origin(echo.script) as at:
        for _ in range(2):
            answer = await send(bench, at.port, "QUERY", content)
            assert "fwd=bypass" in status_of(answer)
            assert await taken(answer) == content[:100]
    assert len(echo.heads) == 2


@pytest.mark.rfc("9110", "9.3.3", "stored")
@pytest.mark.rfc("9110", "9.3.3", "not-stored")
@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ((b"Cache-Control: max-age=60", b"Content-Location: /"), True),
        ((b"Cache-Control: max-age=60", b"Content-Location: /other"), False),
        ((b"Cache-Control: max-age=60",), False),
        ((b'ETag: "a"', b"Content-Location: /"), False),
    ],
)
async def test_post_stands_for_a_later_get(bench: Bench, fields: tuple[bytes, ...], stored: bool) -> None:
    echo = Echo(*fields)
    async with origin(echo.script) as at:
        await taken(await send(bench, at.port, "POST", b"posted"))
        _, said, body = await bench.get(at.port)
        assert ("; hit" in said, body) == (stored, b"posted" if stored else b"empty")
        second = await send(bench, at.port, "POST", b"again")
        assert (await taken(second), "fwd=method" in status_of(second)) == (b"again", True)


async def test_head_is_answered_from_a_get(bench: Bench) -> None:
    echo = Echo(b"Cache-Control: max-age=60")
    async with origin(echo.script) as at:
        await bench.get(at.port)
        answer = await bench.ask(at.port, method="HEAD")
        assert answer.head.headers.get(b"content-length") == b"5"
        assert (await taken(answer), "; hit" in status_of(answer)) == (b"", True)
    assert len(echo.heads) == 1


async def test_an_origin_that_does_not_know_query_as_safe_is_asked_plainly(bench: Bench) -> None:
    """Its 412 is an answer to our condition; the content goes out once more."""
    sent: list[tuple[bool, bytes]] = []

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            content = await peer.exactly(3)
            conditional = b"If-None-Match" in head
            sent.append((conditional, content))
            status = b"412 Precondition Failed" if conditional else b"200 OK"
            await peer.say(response(b"%d" % len(sent), b"Cache-Control: max-age=60", b'ETag: "a"', status=status))

    async with origin(script) as at:
        await taken(await send(bench, at.port, "QUERY", b"one"))
        bench.now += 120
        again = await send(bench, at.port, "QUERY", b"one")
        assert (again.head.status, await taken(again)) == (200, b"3")
    assert sent == [(False, b"one"), (True, b"one"), (False, b"one")]
