"""The user's own rules through the exchange: what they change, and that Cache-Status says so."""

from __future__ import annotations

from typing import Any

import pytest

from fwdproxy.config import RuleTable
from fwdproxy.exchange.answers import ClientRequest
from fwdproxy.exchange.asked import ReplayedBody
from fwdproxy.messages import Field, Headers, Origin, RequestHead, TargetURI
from fwdproxy.policy.rules import Rules
from fwdproxy.values import Duration, HostPattern, Timeout
from tests.exchange.conftest import Bench, status_of
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


@pytest.mark.parametrize("kind", ["upgrade", "content"])
async def test_offline_nothing_passes_by_the_cache_either(bench: Bench, kind: str) -> None:
    bench.configure(rules=rules(offline=True))
    head = RequestHead("GET", TargetURI(Origin("http", "127.0.0.1", 9), "/"), Headers())
    body = ReplayedBody(b"content", None, 7) if kind == "content" else None
    answer = await bench.exchange.answer(ClientRequest(head, body, upgrade=b"chat" if kind == "upgrade" else None))
    assert (answer.head.status, status_of(answer)) == (504, "fwdproxy; detail=rule-offline")
    await answer.aclose()


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "only-if-cached"])
async def test_a_body_that_has_gone_has_nobody_asked_who_may_not_be(bench: Bench, offline: bool) -> None:
    heads: list[bytes] = []
    async with origin(answering(*[response(bytes(100_000), b"Cache-Control: max-age=60")] * 2, heads=heads)) as at:
        await bench.get(at.port)
        await bench.store.settle()
        for file in bench.store.directory.rglob("*"):
            if file.is_file() and file.stat().st_size == 100_000:
                file.unlink()
        if offline:
            bench.configure(rules=rules(offline=True))
        status, said, _ = await bench.get(at.port, "/", *([] if offline else [(b"Cache-Control", b"only-if-cached")]))
        assert (status, "; hit" in said) == (504, False)
    assert len(heads) == 1


async def test_what_is_explained_has_the_rule_for_the_type(bench: Bench) -> None:
    bench.configure(rules=rules(type=("image/*",), min_lifetime=Duration(100)))
    picture = response(b"a", b"Cache-Control: max-age=10", b"Content-Type: image/png")
    async with origin(answering(picture, heads=[])) as at:
        for _ in range(2):
            answer = await bench.ask(at.port, "/", (b"Cookie", b"a=1"))  # such requests have no others waiting
            while await answer.read():
                pass
            await answer.aclose()
            assert answer.explained.rule.min_lifetime == 100
            assert answer.explained.lifetime == 100
