"""Targeted fields through the exchange (RFC 9213)."""

from __future__ import annotations

import pytest

from fwdproxy.policy.decisions import PolicySettings
from tests.exchange.conftest import Bench, status_of
from tests.exchange.test_core import answering, response
from tests.origin.scripted import origin

CDN = PolicySettings(targets=(b"cdn-cache-control",))
SAID = (b"CDN-Cache-Control: max-age=60", b"Cache-Control: no-store")


@pytest.mark.rfc("9213", "2.2", "instead")
@pytest.mark.rfc("9213", "2.2", "passed-on")
async def test_a_targeted_field_governs_and_is_passed_on(bench: Bench) -> None:
    bench.configure(policy=CDN)
    heads: list[bytes] = []
    async with origin(answering(response(b"a", *SAID), heads=heads)) as at:
        await bench.get(at.port, "/a")
        bench.now += 59
        answer = await bench.ask(at.port, "/a")
        assert await answer.read() == b"a"
        await answer.aclose()
    assert status_of(answer) == "fwdproxy; hit; ttl=1; detail=max-age"
    assert answer.head.headers.get(b"cdn-cache-control") == b"max-age=60"
    assert answer.head.headers.get(b"cache-control") == b"no-store"
    assert len(heads) == 1


@pytest.mark.rfc("9213", "2.2", "not-listed")
async def test_without_a_list_it_changes_nothing(bench: Bench) -> None:
    async with origin(answering(*[response(b"a", *SAID)] * 2, heads=[])) as at:
        assert (await bench.get(at.port, "/a"))[1].endswith("detail=no-store")
        assert "hit" not in (await bench.get(at.port, "/a"))[1]


async def test_it_governs_after_a_validation_too(bench: Bench) -> None:
    bench.configure(policy=CDN)
    not_modified = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Control: no-store\r\n\r\n'
    async with origin(answering(response(b"a", *SAID, b'ETag: "a"'), not_modified, heads=[])) as at:
        await bench.get(at.port, "/a")
        bench.now += 61
        assert "fwd=stale; fwd-status=304" in (await bench.get(at.port, "/a"))[1]
        assert "; hit; ttl=60" in (await bench.get(at.port, "/a"))[1]
