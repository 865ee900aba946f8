"""What RFCs on caching say in passing, shown with an origin that writes what the test says."""

from __future__ import annotations

import asyncio

import pytest

from tests.exchange.conftest import Bench, status_of
from tests.exchange.test_core import answering, response
from tests.origin.scripted import Peer, origin

STALE_SOON = b"Cache-Control: max-age=60, stale-while-revalidate=600, stale-if-error=600"


@pytest.mark.rfc("5861", "3", "age")
@pytest.mark.rfc("5861", "4", "age")
@pytest.mark.rfc("9111", "5.5", "warning")
@pytest.mark.parametrize("window", [b"stale-while-revalidate", b"stale-if-error"])
async def test_what_is_served_stale_shows_its_age_and_no_warning(bench: Bench, window: bytes) -> None:
    heads: list[bytes] = []
    page = response(b"page", b"Cache-Control: max-age=60, %b=600" % window)
    async with origin(answering(page, response(b"oops", status=b"503 Busy"), heads=heads)) as at:
        await bench.get(at.port)
        bench.now += 70
        answer = await bench.ask(at.port)
        assert window.decode() in status_of(answer)
        assert answer.head.headers.get_all(b"age") == (b"70",)
        assert b"warning" not in answer.head.headers
        await answer.aclose()
        await bench.exchange.aclose(grace=5)


@pytest.mark.rfc("5861", "5", "on-request")
async def test_nothing_is_validated_without_a_request(bench: Bench) -> None:
    heads: list[bytes] = []
    async with origin(answering(response(b"page", STALE_SOON), heads=heads)) as at:
        await bench.get(at.port)
        bench.now += 70
        await bench.store.settle()
        await bench.exchange.aclose(grace=5)
        assert len(heads) == 1


@pytest.mark.rfc("9111", "4.3.1", "synthesised")
async def test_a_validation_in_the_background_is_for_the_variant_that_was_served(bench: Bench) -> None:
    heads: list[bytes] = []
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            heads.append(head)
            await peer.say(response(b"page", STALE_SOON, b"Vary: Accept-Language", b'ETag: "v"'))
            if len(heads) == 2:
                asked.set()

    german = (b"Accept-Language", b"de")
    async with origin(script) as at:
        await bench.get(at.port, "/page", german)
        bench.now += 70
        assert (await bench.get(at.port, "/page", german))[2] == b"page"
        await asyncio.wait_for(asked.wait(), 5)
        await bench.exchange.aclose(grace=5)
    assert heads[1].startswith(b"GET /page HTTP/1.1\r\n")
    assert b"accept-language: de\r\n" in heads[1].lower()
    assert b'if-none-match: "v"\r\n' in heads[1].lower()


@pytest.mark.rfc("9111", "4.3.4", "candidates")
async def test_a_304_renews_only_the_variant_that_was_asked_about(bench: Bench) -> None:
    heads: list[bytes] = []
    lines = (b"Cache-Control: max-age=60", b"Vary: Accept-Language", b'ETag: "both"')
    script = answering(
        response(b"de", *lines),
        response(b"fr", *lines),
        response(b"", *lines, b"X-New: 1", status=b"304 Not Modified").replace(b"08:00:00", b"08:01:10"),
        response(b"newer", *lines),
        heads=heads,
    )
    german, french = (b"Accept-Language", b"de"), (b"Accept-Language", b"fr")
    async with origin(script) as at:
        await bench.get(at.port, "/", german)
        await bench.get(at.port, "/", french)
        bench.now += 70
        assert (await bench.get(at.port, "/", german))[2] == b"de"
        assert (await bench.get(at.port, "/", german))[1].startswith("fwdproxy; hit")
        assert (await bench.get(at.port, "/", french))[2] == b"newer"
    assert len(heads) == 4


@pytest.mark.rfc("9111", "5.2.2.2", "disconnected")
@pytest.mark.rfc("9111", "5.2.2.2", "gateway-timeout")
@pytest.mark.parametrize("directive", [b"must-revalidate", b"proxy-revalidate", b"no-cache"])
async def test_what_must_be_validated_is_an_error_where_it_cannot_be(bench: Bench, directive: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        lines = (b"Cache-Control: max-age=60, stale-if-error=600, " + directive, b'ETag: "v"', b"Connection: close")
        await peer.say(response(b"page", *lines))

    async with origin(script) as at:
        assert (await bench.get(at.port))[2] == b"page"
    bench.now += 61
    status, said, body = await bench.get(at.port)
    # More to the point than 504: the connection is refused.
    assert (status, body == b"page") == (502, False)
    assert said.startswith("fwdproxy; fwd=stale; ")
    assert said.endswith("detail=connection_refused")
