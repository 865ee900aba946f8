"""What responses mean to what is stored: groups, purges, digests, keys of the user's, No-Vary-Search."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging

import pytest

from fwdproxy.policy.keying import IgnoredParams, Keying, Recipe
from fwdproxy.store.purging import PurgeRule
from tests.exchange.conftest import Bench
from tests.exchange.test_core import answering, response
from tests.origin.scripted import Peer, Script, origin

FRESH = b"Cache-Control: max-age=600"


def by_path(pages: dict[bytes, bytes], heads: list[bytes]) -> Script:
    """A script that answers by method and path."""

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            heads.append(head)
            method, path, _ = head.split(b" ", 2)
            await peer.say(pages.get(method + b" " + path, response(path, FRESH)))

    return script


@pytest.mark.rfc("9875", "3", "invalidates")
@pytest.mark.rfc("9875", "2.1", "same-origin")
async def test_a_group_is_invalidated(bench: Bench) -> None:
    heads: list[bytes] = []
    pages = {
        b"GET /a": response(b"a", FRESH, b'Cache-Groups: "news", "sports"'),
        b"GET /b": response(b"b", FRESH, b'Cache-Groups: "weather"'),
        b"POST /change": response(b"done", b'Cache-Group-Invalidation: "sports"'),
        b"GET /change": response(b"safe", b'Cache-Group-Invalidation: "weather"'),
    }
    async with origin(by_path(pages, heads)) as at, origin(by_path(pages, heads)) as other:
        for port in (at.port, other.port):
            for path in ("/a", "/b"):
                await bench.get(port, path)
        await bench.get(at.port, "/change")
        await bench.get(at.port, "/change", method="POST")
        said = [(await bench.get(port, path))[1] for port in (at.port, other.port) for path in ("/a", "/b")]
    assert ["; hit" in each for each in said] == [False, True, True, True]


async def test_a_purge_reaches_what_is_under_way(bench: Bench) -> None:
    go_on = asyncio.Event()
    asked = asyncio.Event()
    heads = 0

    async def script(peer: Peer) -> None:
        nonlocal heads
        while await peer.head():
            heads += 1
            asked.set()
            if heads == 1:
                await go_on.wait()
            await peer.say(response(b"%d" % heads, FRESH))

    async with origin(script) as at:
        first = asyncio.create_task(bench.get(at.port))
        await asyncio.wait_for(asked.wait(), 5)
        await bench.store.purge(PurgeRule("all", ""))
        go_on.set()
        assert (await first)[2] == b"1"
        assert (await bench.get(at.port))[2] == b"2"
        assert "; hit" in (await bench.get(at.port))[1]


@pytest.mark.rfc("9530", "2", "content-digest")
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("name", [b"Content-Digest", b"Repr-Digest"])
async def test_digests_are_verified(bench: Bench, right: bool, name: bytes, caplog: pytest.LogCaptureFixture) -> None:
    body = b"content" * 10_000
    digest = base64.b64encode(hashlib.sha256(body if right else b"other").digest())
    heads: list[bytes] = []
    page = response(body, FRESH, name + b": sha-256=:" + digest + b":")
    async with origin(answering(page, page, heads=heads)) as at:
        with caplog.at_level(logging.WARNING):
            assert (await bench.get(at.port))[2] == body
        assert ("; hit" in (await bench.get(at.port))[1]) is right
    assert ("is not stored" in caplog.text) is not right


async def test_recipes_and_ignored_parameters(bench: Bench) -> None:
    heads: list[bytes] = []
    async with origin(by_path({}, heads)) as at:
        recipe = Recipe.build(rf"http://127\.0\.0\.1:{at.port}/mirror/[0-9]+/(.*)", r"http://mirror.internal/\1")
        bench.configure(keying=Keying((recipe,), IgnoredParams.build(["utm_*"])))
        assert (await bench.get(at.port, "/mirror/1/file"))[2] == b"/mirror/1/file"
        assert (await bench.get(at.port, "/mirror/2/file"))[2] == b"/mirror/1/file"
        assert (await bench.get(at.port, "/page?a=1&utm_source=x"))[2] == b"/page?a=1&utm_source=x"
        assert (await bench.get(at.port, "/page?a=1"))[2] == b"/page?a=1&utm_source=x"
        assert (await bench.get(at.port, "/page?a=2"))[2] == b"/page?a=2"


@pytest.mark.parametrize("on", [True, False])
async def test_no_vary_search(bench: Bench, on: bool) -> None:
    heads: list[bytes] = []
    pages = {b"GET /s?q=1&id=7": response(b"found", FRESH, b'No-Vary-Search: params=("id")')}
    async with origin(by_path(pages, heads)) as at:
        bench.configure(variance=on)
        await bench.get(at.port, "/s?q=1&id=7")
        assert ((await bench.get(at.port, "/s?id=8&q=1"))[2] == b"found") is on
        assert ((await bench.get(at.port, "/s?q=1&id=9"))[2] == b"found") is on
        assert (await bench.get(at.port, "/s?q=2&id=7"))[2] == b"/s?q=2&id=7"


async def test_clear_site_data_passes_and_touches_nothing(bench: Bench) -> None:
    heads: list[bytes] = []
    pages = {b"GET /out": response(b"bye", FRESH, b'Clear-Site-Data: "cache"')}
    async with origin(by_path(pages, heads)) as at:
        await bench.get(at.port, "/page")
        first = await bench.ask(at.port, "/out")
        assert first.head.headers.get(b"clear-site-data") == b'"cache"'
        while await first.read():
            pass
        await first.aclose()
        again = await bench.ask(at.port, "/out")
        assert b"clear-site-data" not in again.head.headers
        await again.aclose()
        assert "; hit" in (await bench.get(at.port, "/page"))[1]


@pytest.mark.rfc("9213", "2.2", "first")
@pytest.mark.parametrize("targets", [(b"cdn-cache-control",), ()])
async def test_targeted_fields(bench: Bench, targets: tuple[bytes, ...]) -> None:
    bench.configure(policy=bench.settings.policy.__class__(targets=targets))
    heads: list[bytes] = []
    page = response(b"a", b"Cache-Control: no-store", b"CDN-Cache-Control: max-age=60")
    async with origin(answering(page, page, heads=heads)) as at:
        answer = await bench.ask(at.port)
        assert answer.head.headers.get(b"cdn-cache-control") == b"max-age=60"
        await answer.read()
        await answer.aclose()
        assert ("; hit" in (await bench.get(at.port))[1]) is bool(targets)
