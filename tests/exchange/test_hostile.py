"""What hostile origins and clients tried: each was possible once."""

from __future__ import annotations

import asyncio

import pytest

from fwdproxy.config import RuleTable
from fwdproxy.exchange.answers import Answer
from fwdproxy.messages import Field
from fwdproxy.policy.keying import Keying, Recipe
from fwdproxy.policy.rules import Rules
from fwdproxy.values import Duration
from tests.exchange.conftest import Bench, status_of
from tests.exchange.test_collapsing import taken
from tests.exchange.test_core import DATE, answering, response
from tests.exchange.test_parts import BODY, Ranged, part
from tests.origin.scripted import Peer, origin

AUTH: Field = (b"Authorization", b"Basic YTph")


@pytest.mark.rfc("9111", "3.5", "not-reused")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_an_origin_says_to_one_with_credentials_freshens_nothing_for_others(
    bench: Bench, method: str
) -> None:
    heads: list[bytes] = []
    page = response(b"page", b"Cache-Control: max-age=1", b'ETag: "a"', b"X-User: nobody")
    alice = b'Cache-Control: max-age=60\r\nX-User: alice\r\nETag: "a"\r\n'
    private = b"HTTP/1.1 304 Not Modified\r\n" if method == "GET" else b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"
    async with origin(answering(page, private + alice + b"\r\n", page, heads=heads)) as at:
        await bench.get(at.port)
        bench.now += 10
        assert (await bench.get(at.port, "/", AUTH, method=method))[0] == 200
        answer = await bench.ask(at.port)
        assert answer.head.headers.get(b"x-user") == b"nobody"
        await taken(answer)
    assert len(heads) == 3


@pytest.mark.parametrize("how", ["condition", "revalidation"])
async def test_an_endless_body_that_nobody_reads_is_given_up(bench: Bench, how: str) -> None:
    heads = 0
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal heads
        while await peer.head():
            heads += 1
            if how == "revalidation" and heads == 1:
                await peer.say(response(b"old", b"Cache-Control: max-age=1, stale-while-revalidate=600"))
                continue
            await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + b'ETag: "x"\r\nTransfer-Encoding: chunked\r\n')
            await peer.say(b"Cache-Control: max-age=60\r\n\r\n")
            try:
                while True:
                    await peer.say(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
            finally:
                gone.set()

    async with origin(script) as at:
        if how == "revalidation":
            await bench.get(at.port)
            bench.now += 10
            assert "stale-while-revalidate" in (await bench.get(at.port))[1]
        else:
            answer = await bench.ask(at.port, "/", (b"If-None-Match", b'"x"'))
            assert answer.head.status == 304
            await answer.aclose()
        await asyncio.wait_for(gone.wait(), 20)


async def test_a_failed_revalidation_leaves_the_stale_response(bench: Bench) -> None:
    bench.configure(rules=Rules.build((RuleTable(negative_lifetime=Duration(30)),)))
    heads: list[bytes] = []
    page = response(b"page", b"Cache-Control: max-age=1, stale-while-revalidate=60, stale-if-error=600")
    broken = response(b"broken", status=b"503 Service Unavailable")
    async with origin(answering(page, broken, page, heads=heads)) as at:
        await bench.get(at.port)
        bench.now += 10
        await bench.get(at.port)
        await bench.exchange.aclose(grace=5)
        bench.configure()
        assert (await bench.get(at.port))[2] == b"page"


async def test_an_error_does_not_take_the_place_of_a_page_by_a_rule(bench: Bench) -> None:
    bench.configure(rules=Rules.build((RuleTable(negative_lifetime=Duration(30)),)))
    heads: list[bytes] = []
    page = response(b"page", b"Cache-Control: max-age=60")
    broken = response(b"broken", status=b"503 Service Unavailable")
    async with origin(answering(page, broken, heads=heads)) as at:
        await bench.get(at.port)
        await bench.get(at.port, "/", (b"Cache-Control", b"no-cache"))
        assert (await bench.get(at.port))[2] == b"page"


async def test_stale_parts_are_validated_in_the_background(bench: Bench) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged(cache=b"Cache-Control: max-age=1, stale-while-revalidate=600\r\n")
    async with origin(at_origin.script) as at:
        await bench.get(at.port, "/", *part(b"0-99"))
        bench.now += 10
        _, said, body = await bench.get(at.port, "/", *part(b"0-99"))
        assert (body, "stale-while-revalidate" in said) == (BODY[:100], True)
        await bench.exchange.aclose(grace=5)
    assert b"If-None-Match" in at_origin.heads[1]


async def test_trailers_for_one_client_reach_no_other(bench: Bench) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + b"Cache-Control: max-age=60\r\n")
        await peer.say(b"Trailer: Set-Cookie, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n")
        await go_on.wait()
        await peer.say(b"0\r\nSet-Cookie: id=leader\r\nX-Sum: 1\r\n\r\n")
        await peer.head()

    async def whole(answer: Answer) -> list[Field]:
        while await answer.read():
            pass
        found = list(answer.body.trailers)
        await answer.aclose()
        return found

    async with origin(script) as at:
        leader = await bench.ask(at.port)
        follower = await bench.ask(at.port)
        assert "collapsed" in status_of(follower)
        go_on.set()
        assert (b"X-Sum", b"1") in await whole(leader)
        assert not [name for name, _ in await whole(follower) if name.lower() == b"set-cookie"]


@pytest.mark.parametrize("stored", ["whole", "part"])
async def test_a_range_of_what_has_changed_does_not_fetch_all(bench: Bench, stored: str) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        await bench.get(at.port, "/", *(part(b"50000-50099") if stored == "part" else ()))
        bench.now += 1000
        at_origin.etag, at_origin.body = b'"v2"', BODY[::-1]
        status, _, body = await bench.get(at.port, "/", *part(b"50000-50099"))
        assert (status, body) == (206, BODY[::-1][50000:50100])
    assert at_origin.asked[1] == b"bytes=50000-50099"


async def test_what_parts_make_whole_is_not_fetched_again(bench: Bench) -> None:
    at_origin = Ranged(cut=70_000)
    async with origin(at_origin.script) as at:
        answer = await bench.ask(at.port)
        with pytest.raises(Exception, match="."):
            await taken(answer)
        await bench.store.settle()
        _, said, _ = await bench.get(at.port, "/", *part(b"70000-"))
        assert "fwd=partial" in said
        await bench.exchange.aclose(grace=5)
    assert len(at_origin.heads) == 2


async def test_offline_nothing_is_asked_in_any_way(bench: Bench) -> None:
    bench.configure(rules=Rules.build((RuleTable(offline=True),)))
    heads: list[bytes] = []
    async with origin(answering(response(b"page"), heads=heads)) as at:
        for method in ("GET", "POST", "QUERY", "OPTIONS", "DELETE"):
            status, said, _ = await bench.get(at.port, method=method)
            assert (status, said) == (504, "fwdproxy; detail=rule-offline")
    assert heads == []


async def test_several_ranges_of_what_is_too_large_to_store_are_answered_whole(bench: Bench) -> None:
    size = 110_000_000  # the store takes 100 MB

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + b"Cache-Control: max-age=60\r\n")
            await peer.say(b"Content-Length: %d\r\n\r\n" % size)
            for _ in range(110):
                await peer.say(bytes(1_000_000))

    async with origin(script) as at:
        answer = await bench.ask(at.port, "/", *part(b"50000000-50000099,0-99"))
        received = 0
        async with asyncio.timeout(20):
            while data := await answer.read():
                received += len(data)
        await answer.aclose()
        assert (answer.head.status, received) == (200, size)


async def test_groups_of_what_a_recipe_files_elsewhere_are_invalidated(bench: Bench) -> None:
    heads: list[bytes] = []
    page = response(b"page", b"Cache-Control: max-age=60", b'Cache-Groups: "g"')
    change = response(b"done", b'Cache-Group-Invalidation: "g"')
    async with origin(answering(page, change, page, heads=heads)) as at:
        recipe = Recipe.build(rf"http://127\.0\.0\.1:{at.port}/(.*)", r"http://filed.internal/\1")
        bench.configure(keying=Keying((recipe,)))
        await bench.get(at.port, "/page")
        await bench.get(at.port, "/change", method="POST")
        assert "; hit" not in (await bench.get(at.port, "/page"))[1]
