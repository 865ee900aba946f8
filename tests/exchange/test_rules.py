"""The user's own rules through the exchange: what they change, and that Cache-Status says so."""

from __future__ import annotations

from typing import Any

import pytest

from fwdproxy.config import RuleTable
from fwdproxy.messages import Field
from fwdproxy.policy.rules import Rules
from fwdproxy.values import Duration, HostPattern, Timeout
from tests.exchange.conftest import Bench
from tests.exchange.test_core import answering, response
from tests.origin.scripted import origin

AUTH: Field = (b"Authorization", b"Basic YTph")


def rules(**effects: Any) -> Rules:
    return Rules.build((RuleTable(**effects),))


async def two(bench: Bench, answers: list[bytes], fields: tuple[Field, ...] = (), wait: float = 0) -> list[str]:
    """Cache-Status of two requests for the same thing, the second ``wait`` seconds later."""
    heads: list[bytes] = []
    async with origin(answering(*answers, heads=heads)) as at:
        first = await bench.get(at.port, "/a", *fields)
        bench.now += wait
        second = await bench.get(at.port, "/a", *fields)
    return [first[1], second[1]]


async def test_bypass(bench: Bench) -> None:
    bench.configure(rules=rules(host=(HostPattern("127.0.0.1"),), bypass=True))
    said = await two(bench, [response(b"a", b"Cache-Control: max-age=60")] * 2)
    assert said == ["fwdproxy; fwd=bypass; fwd-status=200; detail=rule-bypass"] * 2


async def test_a_type_is_known_when_the_response_comes(bench: Bench) -> None:
    bench.configure(rules=rules(type=("image/*",), bypass=True))
    picture = response(b"a", b"Cache-Control: max-age=60", b"Content-Type: image/png")
    said = await two(bench, [picture] * 2)
    assert all("stored" not in each for each in said)
    assert "detail=rule-bypass" in said[0]


async def test_minimum_lifetime(bench: Bench) -> None:
    bench.configure(rules=rules(min_lifetime=Duration(100)))
    said = await two(bench, [response(b"a", b"Cache-Control: max-age=10")], wait=50)
    assert said[1] == "fwdproxy; hit; ttl=50; detail=rule-min-lifetime"


@pytest.mark.parametrize("fields", [b"Cache-Control: no-store", b"Cache-Control: private"])
async def test_a_minimum_lifetime_lifts_no_ban(bench: Bench, fields: bytes) -> None:
    bench.configure(rules=rules(min_lifetime=Duration(100)))
    said = await two(bench, [response(b"a", fields)] * 2)
    assert "hit" not in said[1]


async def test_maximum_lifetime(bench: Bench) -> None:
    bench.configure(rules=rules(max_lifetime=Duration(20)))
    said = await two(bench, [response(b"a", b"Cache-Control: max-age=1000", b'ETag: "a"')] * 2, wait=30)
    assert "fwd=stale" in said[1]


@pytest.mark.parametrize("field", [(b"Cache-Control", b"no-cache"), (b"Cache-Control", b"max-age=0")])
async def test_ignore_reload(bench: Bench, field: Field) -> None:
    bench.configure(rules=rules(ignore_reload=True))
    said = await two(bench, [response(b"a", b"Cache-Control: max-age=60")] * 2, (field,))
    assert said[1] == "fwdproxy; hit; ttl=60; detail=rule-ignore-reload"


async def test_offline(bench: Bench) -> None:
    heads: list[bytes] = []
    page = response(b"a", b"Cache-Control: max-age=1, must-revalidate")
    async with origin(answering(page, page, heads=heads)) as at:
        await bench.get(at.port, "/a")
        bench.now += 1000
        bench.configure(rules=rules(offline=True))
        assert (await bench.get(at.port, "/a"))[1:] == ("fwdproxy; hit; ttl=-999; detail=rule-offline", b"a")
        status, said, _ = await bench.get(at.port, "/b")
        assert (status, said) == (504, "fwdproxy; detail=rule-offline")
        assert (await bench.get(at.port, "/a", method="POST"))[0] == 504
    assert len(heads) == 1


@pytest.mark.parametrize("status", [b"404 Not Found", b"503 Service Unavailable", b"403 Forbidden"])
async def test_negative(bench: Bench, status: bytes) -> None:
    bench.configure(rules=rules(negative_lifetime=Duration(30)))
    said = await two(bench, [response(b"no", status=status)] * 2, wait=20)
    assert "stored; detail=rule-negative" in said[0]
    assert said[1] == "fwdproxy; hit; ttl=10; detail=rule-negative"
    bench.now += 100


async def test_share_despite_authorization(bench: Bench) -> None:
    bench.configure(rules=rules(host=(HostPattern("127.0.0.1"),), share_authorized=True))
    said = await two(bench, [response(b"a", b"Cache-Control: max-age=60")] * 2, (AUTH,))
    assert "stored; detail=rule-share-authorized" in said[0]
    assert said[1] == "fwdproxy; hit; ttl=60; detail=rule-share-authorized"


async def test_retention(bench: Bench) -> None:
    bench.configure(rules=rules(retention=Timeout(100)))
    said = await two(bench, [response(b"a", b"Cache-Control: max-age=1000")] * 2, wait=101)
    assert "fwd=" in said[1]
