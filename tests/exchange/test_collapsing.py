"""Collapsed forwarding: simultaneous requests for one key, and who may share what comes (RFC 9111 §4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from fwdproxy.exchange.answers import Answer
from fwdproxy.messages import CacheKey, Field
from tests.exchange.conftest import Bench, status_of
from tests.exchange.test_core import DATE, response
from tests.origin.scripted import Peer, Scripted, origin

FRESH = b"Cache-Control: max-age=60"
BODY = bytes(range(256)) * 1000


@dataclass
class Gated:
    """An origin that counts requests and answers each when the test lets it."""

    at: Scripted
    heads: list[bytes] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def count(self, wanted: int) -> None:
        """Wait until ``wanted`` requests have come."""
        async with asyncio.timeout(5), self.came:
            await self.came.wait_for(lambda: len(self.heads) >= wanted)

    async def waiting(self, bench: Bench, wanted: int) -> None:
        """Wait until ``wanted`` requests wait for another's answer."""
        async with asyncio.timeout(5):
            while sum(flight.waiting for flight in bench.exchange.flights.under_way()) < wanted:
                await asyncio.sleep(0)


@asynccontextmanager
async def gated(answer: Callable[[bytes], bytes]) -> AsyncIterator[Gated]:
    async def script(peer: Peer) -> None:
        while head := await peer.head():
            async with made.came:
                made.heads.append(head)
                made.came.notify_all()
            await made.open.wait()
            await peer.say(answer(head))

    made: Gated
    async with origin(script) as at:
        made = Gated(at)
        yield made


async def taken(answer: Answer) -> bytes:
    body = b""
    try:
        while data := await answer.read():
            body += data
    finally:
        await answer.aclose()
    return body


@pytest.mark.rfc("9211", "2.6", "collapsed")
@pytest.mark.rfc("9111", "4", "collapse")
async def test_simultaneous_requests_make_one(bench: Bench) -> None:
    async with gated(lambda head: response(BODY, FRESH, b"Set-Cookie: id=leader")) as at:
        asks = [asyncio.create_task(bench.ask(at.at.port)) for _ in range(20)]
        await at.count(1)
        await at.waiting(bench, 19)
        at.open.set()
        answers = await asyncio.gather(*asks)
        bodies = await asyncio.gather(*map(taken, answers))
    assert bodies == [BODY] * 20
    assert len(at.heads) == 1
    cookies = [answer.head.headers.get_all(b"set-cookie") for answer in answers]
    assert sorted(cookies) == [()] * 19 + [(b"id=leader",)]
    said = [status_of(answer) for answer in answers]
    assert sum("; collapsed" in each for each in said) == 19
    assert all("fwd=uri-miss" in each for each in said)


async def test_followers_get_bytes_as_they_arrive(bench: Bench) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b"\r\nContent-Length: 200000\r\n\r\n" + bytes(1000))
        await go_on.wait()
        await peer.say(bytes(199_000))
        await peer.head()

    async with origin(script) as at:
        leader = await bench.ask(at.port)
        follower = await bench.ask(at.port)
        assert "; collapsed" in status_of(follower)
        assert await follower.read() == bytes(1000)
        go_on.set()
        assert len(await taken(follower)) == 199_000
        assert len(await taken(leader)) == 200_000
    assert len(at.peers) == 1


NOT_FOR_OTHERS = [
    pytest.param(b"Cache-Control: private", id="private"),
    pytest.param(b"Cache-Control: no-store", id="no-store"),
    pytest.param(b"Cache-Control: max-age=60\r\nVary: *", id="vary-any"),
    pytest.param(b'Cache-Control: no-cache\r\nETag: "a"', id="no-cache"),
    pytest.param(b'Cache-Control: max-age=0\r\nETag: "a"', id="max-age=0"),
]


@pytest.mark.rfc("9111", "4", "collapse-refused")
@pytest.mark.parametrize("fields", NOT_FOR_OTHERS)
async def test_what_is_for_one_sets_the_others_free_at_once(bench: Bench, fields: bytes) -> None:
    async with gated(lambda head: response(b"page", fields)) as at:
        asks = [asyncio.create_task(bench.get(at.at.port)) for _ in range(6)]
        await at.count(1)
        await at.waiting(bench, 5)
        at.open.set()
        answers = await asyncio.gather(*asks)
        assert [body for _, _, body in answers] == [b"page"] * 6
        assert len(at.heads) == 6
        assert not any("collapsed" in said for _, said, _ in answers)
        # And whoever comes next doesn't queue: the key is known not to be shared.
        at.open.clear()
        again = [asyncio.create_task(bench.get(at.at.port)) for _ in range(3)]
        await at.count(9)
        at.open.set()
        await asyncio.gather(*again)


async def test_vary_sorts_those_that_wait_into_groups(bench: Bench) -> None:
    def answer(head: bytes) -> bytes:
        language = b"de" if b"language: de" in head.lower() else b"en"
        return response(language, FRESH, b"Vary: Accept-Language")

    async with gated(answer) as at:
        asks = [
            asyncio.create_task(bench.get(at.at.port, "/", (b"Accept-Language", language)))
            for language in [b"en", b"de"] * 4
        ]
        await at.count(1)
        await at.waiting(bench, 7)
        at.open.set()
        answers = await asyncio.gather(*asks)
    assert [body for _, _, body in answers] == [b"en", b"de"] * 4
    assert len(at.heads) == 2


@pytest.mark.parametrize("field", [(b"Cookie", b"a=1"), (b"Authorization", b"Basic YTph")], ids=["cookie", "auth"])
async def test_with_credentials_nobody_waits_for_a_head(bench: Bench, field: Field) -> None:
    async with gated(lambda head: response(BODY, b"Cache-Control: public, max-age=60")) as at:
        leader = asyncio.create_task(bench.get(at.at.port))
        await at.count(1)
        other = asyncio.create_task(bench.get(at.at.port, "/", field))
        await at.count(2)  # it hasn't waited
        at.open.set()
        assert (await leader)[2] == (await other)[2] == BODY


@pytest.mark.parametrize(
    ("fields", "field", "joins"),
    [
        (b"Cache-Control: public, max-age=60", (b"Authorization", b"Basic YTph"), True),
        (b"Cache-Control: max-age=60", (b"Cookie", b"a=1"), True),
        (b"Last-Modified: Fri, 01 Jan 2027 08:00:00 GMT", (b"Cookie", b"a=1"), False),
    ],
    ids=["auth, public", "cookie, stated", "cookie, guessed"],
)
async def test_with_credentials_known_fills_are_joined(bench: Bench, fields: bytes, field: Field, joins: bool) -> None:
    go_on = asyncio.Event()
    heads = 0

    async def script(peer: Peer) -> None:
        nonlocal heads
        while await peer.head():
            heads += 1
            if heads == 1:
                begin = b"HTTP/1.1 200 OK\r\n" + DATE + fields + b"\r\nContent-Length: 2000\r\n\r\n"
                await peer.say(begin + bytes(1000))
                await go_on.wait()
                await peer.say(bytes(1000))
            else:
                await peer.say(response(b"own", b"Cache-Control: private"))

    async with origin(script) as at:
        leader = await bench.ask(at.port)
        other = await bench.ask(at.port, "/", field)
        assert ("collapsed" in status_of(other)) is joins
        go_on.set()
        assert len(await taken(other)) == (2000 if joins else 3)
        await taken(leader)


@pytest.mark.parametrize("when", ["before the head", "in the body"])
async def test_a_leader_that_leaves_does_not_cut_the_others(bench: Bench, when: str) -> None:
    go_on = asyncio.Event()
    asked = asyncio.Event()
    heads = 0

    async def script(peer: Peer) -> None:
        nonlocal heads
        while await peer.head():
            heads += 1
            asked.set()
            if when == "before the head":
                await go_on.wait()
            begin = b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b"\r\nContent-Length: 3000000\r\n\r\n"
            await peer.say(begin + bytes(1000))
            await go_on.wait()
            await peer.say(bytes(2_999_000))

    async with origin(script) as at:
        leader = asyncio.create_task(bench.ask(at.port))
        await asyncio.wait_for(asked.wait(), 5)
        if when == "before the head":
            followers = [asyncio.create_task(bench.ask(at.port)) for _ in range(3)]
            await Gated(at).waiting(bench, 3)
            leader.cancel()
            await asyncio.wait((leader,))
            go_on.set()
            answers = await asyncio.gather(*followers)
        else:
            answers = [await leader, await bench.ask(at.port)]
            await answers.pop(0).aclose()
            go_on.set()
        assert [len(await taken(answer)) for answer in answers] == [3_000_000] * len(answers)
    assert heads == 1


async def test_a_leader_that_stalls_holds_nobody_for_ever(bench: Bench) -> None:
    bench.exchange.flights.patience = 0.2
    never = asyncio.Event()
    asked = asyncio.Event()
    heads = 0

    async def script(peer: Peer) -> None:
        nonlocal heads
        while await peer.head():
            heads += 1
            asked.set()
            if heads == 1:
                await never.wait()
            await peer.say(response(b"page", FRESH))

    async with origin(script) as at:
        leader = asyncio.create_task(bench.get(at.port))
        await asyncio.wait_for(asked.wait(), 5)
        follower = await asyncio.wait_for(bench.get(at.port), 5)
        assert follower[2] == b"page"
        leader.cancel()
        await asyncio.wait((leader,))


async def test_nobody_joins_a_fill_that_stands_still(bench: Bench) -> None:
    bench.exchange.flights.patience = 0.2
    never = asyncio.Event()
    heads = 0

    async def script(peer: Peer) -> None:
        nonlocal heads
        while await peer.head():
            heads += 1
            if heads == 1:
                await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b"\r\nContent-Length: 9\r\n\r\nhalf")
                await never.wait()
            await peer.say(response(b"page", FRESH))

    async with origin(script) as at:
        leader = await bench.ask(at.port)
        await leader.read()
        key = CacheKey("direct", "GET", f"http://127.0.0.1:{at.port}/")
        assert bench.exchange.flights.fills(key)
        async with asyncio.timeout(5):
            while bench.exchange.flights.fills(key):
                await asyncio.sleep(0.01)
        assert (await bench.get(at.port))[2] == b"page"
        await leader.aclose()


async def test_a_failure_of_the_leader_leaves_the_others_to_ask(bench: Bench) -> None:
    go_on = asyncio.Event()
    heads = 0

    async def script(peer: Peer) -> None:
        nonlocal heads
        while await peer.head():
            heads += 1
            if heads == 1:
                await go_on.wait()
                peer.reset()
                return
            await peer.say(response(b"page", FRESH))

    async with origin(script) as at:
        leader = asyncio.create_task(bench.get(at.port, method="GET"))
        followers = [asyncio.create_task(bench.get(at.port)) for _ in range(3)]
        await Gated(at).waiting(bench, 3)
        go_on.set()
        assert {body for _, _, body in await asyncio.gather(*followers)} == {b"page"}
        assert (await leader)[0] in (200, 502)


@pytest.mark.rfc("9111", "4", "collapse")
async def test_one_validation_for_all_that_wait(bench: Bench) -> None:
    def answer(head: bytes) -> bytes:
        if b"If-None-Match" in head:
            return response(b"", FRESH, b'ETag: "a"', status=b"304 Not Modified").replace(b"08:00:00", b"08:02:00")
        return response(b"page", FRESH, b'ETag: "a"')

    async with gated(answer) as at:
        at.open.set()
        await bench.get(at.at.port)
        at.open.clear()
        bench.now += 120
        asks = [asyncio.create_task(bench.get(at.at.port)) for _ in range(5)]
        await at.count(2)
        await at.waiting(bench, 4)
        at.open.set()
        answers = await asyncio.gather(*asks)
    assert [body for _, _, body in answers] == [b"page"] * 5
    assert len(at.heads) == 2


async def test_one_failure_lets_stale_answers_stand_in_for_all(bench: Bench) -> None:
    fresh = b"Cache-Control: max-age=60, stale-if-error=600"
    heads = 0
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal heads
        while await peer.head():
            heads += 1
            if heads == 1:
                await peer.say(response(b"page", fresh))
            else:
                await go_on.wait()
                await peer.say(response(b"broken", status=b"503 Service Unavailable"))

    async with origin(script) as at:
        await bench.get(at.port)
        bench.now += 120
        asks = [asyncio.create_task(bench.get(at.port)) for _ in range(4)]
        await Gated(at).waiting(bench, 3)
        go_on.set()
        answers = await asyncio.gather(*asks)
    assert [body for _, _, body in answers] == [b"page"] * 4
    assert heads == 2


async def test_a_head_request_waits_but_never_leads(bench: Bench) -> None:
    async with gated(lambda head: response(b"page" if head.startswith(b"GET") else b"", FRESH)) as at:
        leader = asyncio.create_task(bench.get(at.at.port))
        await at.count(1)
        head = asyncio.create_task(bench.get(at.at.port, method="HEAD"))
        await at.waiting(bench, 1)
        at.open.set()
        status, said, body = await head
        assert (status, body) == (200, b"")
        assert "hit" in said or "collapsed" in said
        assert (await leader)[2] == b"page"
    assert len(at.heads) == 1
