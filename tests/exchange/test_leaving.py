"""Clients that leave, and what ends without one: nothing is held, cut or lost by it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from fwdproxy.errors import FillAborted
from fwdproxy.exchange.filling import Filled, Filling, FinishAlone
from fwdproxy.exchange.flights import Flight
from fwdproxy.messages import CacheKey, Headers, ResponseHead, StoredMeta
from fwdproxy.store.disk import open_store
from tests.exchange.conftest import Bench
from tests.exchange.test_collapsing import FRESH, Gated, gated
from tests.exchange.test_core import DATE, response
from tests.origin.scripted import Peer, origin

LARGE = 50_000_000


class Slow:
    """An origin that sends the head of a large body when it may, and a little of the body."""

    def __init__(self) -> None:
        self.asked, self.go_on, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(self, peer: Peer) -> None:
        await peer.head()
        self.asked.set()
        await self.go_on.wait()
        await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b"\r\nContent-Length: %d\r\n\r\n" % LARGE + bytes(1000))
        await peer.gone()
        self.left.set()


async def test_with_the_last_client_its_request_ends(bench: Bench) -> None:
    slow = Slow()
    async with origin(slow.script) as at:
        leader = asyncio.create_task(bench.ask(at.port))
        await asyncio.wait_for(slow.asked.wait(), 5)
        leader.cancel()
        await asyncio.wait((leader,))
        slow.go_on.set()
        await asyncio.wait_for(slow.left.wait(), 5)
        assert not bench.exchange.flights.under_way()


async def test_with_the_last_that_waited_the_fill_ends(bench: Bench) -> None:
    slow = Slow()
    async with origin(slow.script) as at:
        leader = asyncio.create_task(bench.ask(at.port))
        await asyncio.wait_for(slow.asked.wait(), 5)
        follower = asyncio.create_task(bench.ask(at.port))
        await Gated(at).waiting(bench, 1)
        leader.cancel()
        slow.go_on.set()
        answer = await follower
        assert await answer.read()
        assert not slow.left.is_set()
        await answer.aclose()
        await asyncio.wait_for(slow.left.wait(), 5)


async def test_the_end_of_the_program_ends_what_a_client_has_left(bench: Bench) -> None:
    slow = Slow()
    async with origin(slow.script) as at:
        leader = asyncio.create_task(bench.ask(at.port))
        await asyncio.wait_for(slow.asked.wait(), 5)
        follower = asyncio.create_task(bench.ask(at.port))
        await Gated(at).waiting(bench, 1)
        leader.cancel()
        await asyncio.wait((leader,))
        follower.cancel()
        await asyncio.wait((follower,))
        await bench.exchange.aclose()
        slow.go_on.set()
        await asyncio.wait_for(slow.left.wait(), 5)
        assert not bench.exchange.flights.under_way()


async def test_a_wait_that_ends_as_the_flight_lands_has_the_fill() -> None:
    flight = Flight()
    asyncio.get_running_loop().call_later(0.01, flight.land, None)
    waiting = asyncio.create_task(flight.wait(0.02))
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251 - both are due at once then
    assert await waiting is True


async def test_whoever_waited_lets_go_before_asking_itself(bench: Bench) -> None:
    """Two languages: who can't use the fill doesn't keep it alive while its own request is on its way."""
    slow = Slow()
    second = asyncio.Event()

    async def english(peer: Peer) -> None:
        await peer.head()
        slow.asked.set()
        await slow.go_on.wait()
        fields = FRESH + b"\r\nVary: Accept-Language"
        await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + fields + b"\r\nContent-Length: %d\r\n\r\n" % LARGE)
        await peer.gone()
        slow.left.set()

    async def german(peer: Peer) -> None:
        await peer.head()
        second.set()
        await slow.left.wait()
        await peer.say(response(b"Seite", FRESH))

    async with origin(english, german) as at:
        leader = asyncio.create_task(bench.ask(at.port, "/", (b"Accept-Language", b"en")))
        await asyncio.wait_for(slow.asked.wait(), 5)
        other = asyncio.create_task(bench.get(at.port, "/", (b"Accept-Language", b"de")))
        await Gated(at).waiting(bench, 1)
        slow.go_on.set()
        answer = await leader
        await asyncio.wait_for(second.wait(), 5)
        await answer.aclose()
        assert (await asyncio.wait_for(other, 5))[2] == b"Seite"


async def test_nobody_queues_for_what_is_too_large_to_be_stored(bench: Bench) -> None:
    async with gated(
        lambda head: b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b"\r\nContent-Length: 200000000\r\n\r\n"
    ) as at:
        asks = [asyncio.create_task(bench.ask(at.at.port)) for _ in range(3)]
        await at.count(1)
        await at.waiting(bench, 2)
        at.open.set()
        answers = await asyncio.gather(*asks)
        assert len(at.heads) == 3
        for answer in answers:
            await answer.aclose()
        at.open.clear()
        again = [asyncio.create_task(bench.ask(at.at.port)) for _ in range(2)]
        await at.count(5)  # neither waits
        at.open.set()
        for answer in await asyncio.gather(*again):
            await answer.aclose()


@pytest.mark.rfc("9111", "5.2.1.7", "only-if-cached")
async def test_only_if_cached_neither_waits_nor_joins(bench: Bench) -> None:
    slow = Slow()
    async with origin(slow.script) as at:
        leader = asyncio.create_task(bench.ask(at.port))
        await asyncio.wait_for(slow.asked.wait(), 5)
        only = (b"Cache-Control", b"only-if-cached")
        assert (await bench.get(at.port, "/", only))[0] == 504
        slow.go_on.set()
        answer = await leader
        await answer.read()
        assert (await bench.get(at.port, "/", only))[0] == 504
        await answer.aclose()


class Faulty:
    """A response whose body can't be read for a reason that nobody thought of."""

    head = ResponseHead(200, Headers())
    length = None
    delimited = True
    trailers = Headers()
    closed = False

    async def read(self) -> bytes:
        raise ValueError("a fault")

    async def aclose(self) -> None:
        self.closed = True

    abandon = aclose


async def test_a_fault_leaves_no_reader_waiting(tmp_path: Path) -> None:
    store = open_store(tmp_path / "cache", 100_000_000)
    key = CacheKey("direct", "GET", "http://origin.example/")
    meta = StoredMeta("GET", Faulty.head, 0.0, 0.0, (), None, "", False)
    faulty = Faulty()
    filling = Filling(faulty, store.open_fill(key, meta, None), Filled(key, meta), FinishAlone())  # type: ignore[arg-type]
    body = filling.body()
    task = filling.start()
    with pytest.raises(FillAborted):
        await asyncio.wait_for(body.read(), 5)
    await body.aclose()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], ValueError)
    assert faulty.closed
    await store.aclose()


async def test_trailers_for_one_client_are_the_leaders_though_others_come_first(bench: Bench) -> None:
    """Those that waited open their readers before the one whose request it was."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        asked.set()
        await go_on.wait()
        await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b"\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n")
        await peer.say(b"0\r\nSet-Cookie: id=leader\r\n\r\n")
        await peer.head()

    async with origin(script) as at:
        leader = asyncio.create_task(bench.ask(at.port))
        await asyncio.wait_for(asked.wait(), 5)
        follower = asyncio.create_task(bench.ask(at.port))
        await Gated(at).waiting(bench, 1)
        go_on.set()
        trailers = []
        for answer in await asyncio.gather(leader, follower):
            while await answer.read():
                pass
            trailers.append(list(answer.body.trailers))
            await answer.aclose()
    assert trailers == [[(b"Set-Cookie", b"id=leader")], []]
