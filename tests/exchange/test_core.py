"""One request through policy, store and origin client, with an origin that writes what the test says."""

from __future__ import annotations

import asyncio

import pytest

from fwdproxy.errors import FillAborted, OriginError
from fwdproxy.messages import CacheKey, Headers
from tests.exchange.conftest import Bench
from tests.origin.scripted import Peer, Script, origin

DATE = b"Date: Fri, 15 Jan 2027 08:00:00 GMT\r\n"  # the bench's clock at the start


def response(body: bytes = b"", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (status, DATE, fields, len(body), body)


def answering(*responses: bytes, heads: list[bytes]) -> Script:
    """A script that answers the n-th request with the n-th response; the heads it saw go to ``heads``."""

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            heads.append(head)
            await peer.say(responses[len(heads) - 1])

    return script


@pytest.mark.rfc("9211", "2.8", "detail")
async def test_the_second_client_is_answered_from_the_store(bench: Bench) -> None:
    heads: list[bytes] = []
    async with origin(answering(response(b"page", b"Cache-Control: max-age=60"), heads=heads)) as at:
        first = await bench.get(at.port)
        bench.now += 10
        second = await bench.get(at.port)
    assert first == (200, "fwdproxy; fwd=uri-miss; fwd-status=200; stored; detail=uri-miss", b"page")
    assert second == (200, "fwdproxy; hit; ttl=50; detail=max-age", b"page")
    assert len(heads) == 1
    assert [(outcome.status, outcome.sent, outcome.finished) for outcome in bench.outcomes] == [(200, 4, True)] * 2


@pytest.mark.parametrize("size", [10, 100_000])
async def test_who_has_the_last_byte_finds_the_response_stored(bench: Bench, size: int) -> None:
    heads: list[bytes] = []
    body = bytes(size)
    async with origin(answering(response(body, b"Cache-Control: max-age=60"), heads=heads)) as at:
        answer = await bench.ask(at.port)
        received = b""
        while len(received) < size:
            received += await answer.read()
        assert (await bench.get(at.port))[1].startswith("fwdproxy; hit")
        await answer.aclose()


@pytest.mark.parametrize(
    ("before_leaving", "kept"), [(100_000, False), (1_500_000, True)], ids=["little is there", "most is there"]
)
async def test_a_fill_goes_on_alone_when_most_is_there(bench: Bench, before_leaving: int, kept: bool) -> None:
    size = 3_000_000
    sent, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n" % size)
        await peer.say(bytes(before_leaving))
        sent.set()
        await go_on.wait()
        await peer.say(bytes(size - before_leaving))
        await peer.head()
        ended.set()

    async with origin(script) as at:
        answer = await bench.ask(at.port)
        received = 0
        while received < before_leaving:
            received += len(await answer.read())
        await answer.aclose()
        assert not bench.outcomes[0].finished
        go_on.set()
        await bench.exchange.aclose(grace=5)
        key = CacheKey("direct", "GET", f"http://127.0.0.1:{at.port}/")
        assert (await bench.store.lookup(key, Headers())).known is kept


@pytest.mark.rfc("9111", "3.3", "incomplete-not-used")
async def test_a_cut_body_is_cut_for_the_client_and_not_stored(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nhalf")

    async with origin(script) as at:
        answer = await bench.ask(at.port)
        with pytest.raises((FillAborted, OriginError)):
            while await answer.read():
                pass
        await answer.aclose()
        found = await bench.store.lookup(CacheKey("direct", "GET", f"http://127.0.0.1:{at.port}/"), Headers())
        assert not found.known
        assert not bench.outcomes[0].finished


@pytest.mark.rfc("9111", "4.3.2", "union-200")
async def test_validation_renews_what_is_stored(bench: Bench) -> None:
    heads: list[bytes] = []
    fresh = b"Cache-Control: max-age=60"
    again = response(b"", b'ETag: "a"', fresh, b"Set-Cookie: to=you", status=b"304 Not Modified")
    again = again.replace(b"08:00:00", b"08:01:01")
    async with origin(answering(response(b"page", b'ETag: "a"', fresh), again, heads=heads)) as at:
        await bench.get(at.port)
        bench.now += 61
        answer = await bench.ask(at.port, "/", (b"If-None-Match", b'"mine"'))
        assert await answer.read() == b"page"
        await answer.aclose()
        assert b'if-none-match: "a"\r\n' in heads[1].lower()
        assert b"mine" not in heads[1]
        assert answer.head.headers.get(b"set-cookie") == b"to=you"
        third = await bench.ask(at.port)
        assert b"set-cookie" not in third.head.headers
    assert len(heads) == 2


@pytest.mark.rfc("9111", "4.3.4", "strong")
async def test_a_304_for_something_else_is_not_believed(bench: Bench) -> None:
    heads: list[bytes] = []
    script = answering(
        response(b"old", b'ETag: "a"', b"Cache-Control: max-age=60"),
        response(b"", b'ETag: "b"', status=b"304 Not Modified"),
        response(b"new", b'ETag: "b"', b"Cache-Control: max-age=60"),
        heads=heads,
    )
    async with origin(script) as at:
        await bench.get(at.port)
        bench.now += 61
        assert (await bench.get(at.port))[2] == b"new"
        assert b"if-none-match" not in heads[2].lower()


@pytest.mark.rfc("9110", "15.4.5", "unasked")
@pytest.mark.parametrize("stored", [False, True])
async def test_a_304_that_nobody_asked_for_is_an_error(bench: Bench, stored: bool) -> None:
    heads: list[bytes] = []
    unasked = response(b"", b"Cache-Control: max-age=60", status=b"304 Not Modified")
    page = response(b"page", b"Cache-Control: max-age=60")  # without a validator
    async with origin(answering(*([page] if stored else []), unasked, heads=heads)) as at:
        if stored:
            await bench.get(at.port)
            bench.now += 61
        status, said, _ = await bench.get(at.port)
        assert (status, said.endswith("detail=http_protocol_error")) == (502, True)


@pytest.mark.rfc("5861", "4", "served")
@pytest.mark.rfc("5861", "4", "window")
@pytest.mark.rfc("5861", "4", "errors")
@pytest.mark.parametrize(
    ("cached", "served"),
    [(b"max-age=60, stale-if-error=600", True), (b"max-age=60", False), (b"max-age=60, stale-if-error=5", False)],
)
@pytest.mark.parametrize("fails", ["status", "close", "refused"])
async def test_stale_if_error(bench: Bench, cached: bytes, served: bool, fails: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(response(b"page", b"Cache-Control: " + cached, b"Connection: close"))

    async def failing(peer: Peer) -> None:
        await peer.head()
        if fails == "status":
            await peer.say(response(b"oops", status=b"503 Service Unavailable"))

    async with origin(script, failing) as at:
        port = at.port
        await bench.get(port)
        bench.now += 70
        if fails != "refused":
            status, said, body = await bench.get(port)
    if fails == "refused":
        status, said, body = await bench.get(port)
    if served:
        assert (status, body) == (200, b"page")
        assert "stale-if-error" in said
    else:
        assert status in (502, 503, 504)


@pytest.mark.rfc("5861", "3", "served")
@pytest.mark.rfc("5861", "3", "revalidated")
async def test_stale_while_revalidate_asks_once_in_the_background(bench: Bench) -> None:
    asked, answer_now = asyncio.Event(), asyncio.Event()
    served = 0

    async def script(peer: Peer) -> None:
        nonlocal served
        while await peer.head():
            served += 1
            if served == 2:
                asked.set()
                await answer_now.wait()
            await peer.say(response(b"%d" % served, b"Cache-Control: max-age=60, stale-while-revalidate=600"))

    async with origin(script) as at:
        await bench.get(at.port)
        bench.now += 70
        for _ in range(3):
            _, said, body = await bench.get(at.port)
            assert (said, body) == ("fwdproxy; hit; ttl=-10; detail=stale-while-revalidate", b"1")
        await asyncio.wait_for(asked.wait(), 5)
        answer_now.set()
        await bench.exchange.aclose(grace=5)
        assert (await bench.get(at.port))[2] == b"2"
    assert served == 2


async def test_an_unsafe_request_invalidates(bench: Bench) -> None:
    heads: list[bytes] = []
    page = response(b"page", b"Cache-Control: max-age=60")
    async with origin(answering(page, response(b"done"), page, heads=heads)) as at:
        await bench.get(at.port)
        assert (await bench.get(at.port, method="POST"))[1] == "fwdproxy; fwd=method; fwd-status=200; detail=method"
        assert "fwd=uri-miss" in (await bench.get(at.port))[1]


@pytest.mark.rfc("9111", "4.3.5", "updates")
@pytest.mark.rfc("9111", "4.3.5", "mismatch")
@pytest.mark.parametrize(("length", "kept"), [(b"4", True), (b"5", False)])
async def test_a_head_response_freshens_or_drops(bench: Bench, length: bytes, kept: bool) -> None:
    heads: list[bytes] = []
    head_response = b"HTTP/1.1 200 OK\r\n" + DATE + b"Cache-Control: max-age=60\r\nContent-Length: " + length
    page = response(b"page", b"Cache-Control: max-age=60")
    async with origin(answering(page, head_response + b"\r\n\r\n", page, heads=heads)) as at:
        await bench.get(at.port)
        await bench.get(at.port, "/", (b"Cache-Control", b"no-cache"), method="HEAD")
        assert ("hit" in (await bench.get(at.port))[1]) is kept


async def test_a_body_that_has_gone_is_a_miss(bench: Bench) -> None:
    heads: list[bytes] = []
    page = response(bytes(100_000), b"Cache-Control: max-age=60")
    async with origin(answering(page, page, heads=heads)) as at:
        await bench.get(at.port)
        await bench.store.settle()
        for file in (bench.store.directory).rglob("*"):
            if file.is_file() and file.stat().st_size == 100_000:
                file.unlink()
        status, said, body = await bench.get(at.port)
        assert (status, len(body)) == (200, 100_000)
        assert "fwd=" in said


@pytest.mark.rfc("9110", "7.6.2", "zero")
@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 200), ("TRACE", 405)])
async def test_max_forwards_zero_is_answered_here(bench: Bench, method: str, status: int) -> None:
    answer = await bench.get(9, "/", (b"Max-Forwards", b"0"), method=method)
    assert answer[0] == status


async def test_one_answer_to_many_at_once_is_right_for_each(bench: Bench) -> None:
    body = bytes(range(256)) * 1200

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.say(response(body, b"Cache-Control: max-age=60"))

    async with origin(script) as at:
        answers = await asyncio.gather(*(bench.get(at.port) for _ in range(20)))
        assert all(answer[2] == body for answer in answers)
