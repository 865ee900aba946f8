"""Vary: Accept-Encoding as the origin sees it, and never more than a bounded number of variants."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import fetch
from tests.e2e.origin import Call
from tests.e2e.sites import FRESH

if TYPE_CHECKING:
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

PAGE = b"as it is " * 50
ZIPPED = gzip.compress(PAGE, mtime=1)
KEPT = 32
"""Variants of one key."""


def accepting(*codings: str) -> list[tuple[str, str]]:
    return [("Accept-Encoding", value) for value in codings]


async def encoding(call: Call) -> None:
    """Answers with gzip whoever takes it, all others as it is."""
    offered = (call.seen.value("accept-encoding") or "").lower()
    vary = ("Vary", "Accept-Encoding")
    if "gzip" in offered and "gzip;q=0" not in offered:
        await call.respond(ZIPPED, FRESH, vary, ("Content-Encoding", "gzip"))
    else:
        await call.respond(PAGE, FRESH, vary)


@pytest.mark.rfc("9111", "4.1", "match")
@pytest.mark.rfc("9111", "4.1", "white-space")
@pytest.mark.rfc("9111", "4.1", "lines-combined")
@pytest.mark.rfc("9111", "4.1", "normalised")
@pytest.mark.rfc("9111", "4.1", "absent")
@pytest.mark.parametrize(
    ("first", "then", "hit"),
    [
        ("gzip, deflate, br", accepting("gzip, deflate, br"), True),
        ("gzip, deflate, br", accepting("br,gzip ,  deflate"), True),
        ("gzip, deflate, br", accepting("GZIP", "deflate", "br"), True),
        ("gzip, deflate, br", accepting("gzip;q=1.0, deflate, br"), True),
        ("gzip, deflate, br", accepting("gzip, deflate"), True),
        ("gzip, deflate, br", accepting("gzip"), True),
        ("gzip, deflate, br", accepting("x-gzip"), True),
        ("gzip, deflate, br", accepting("gzip, deflate, br, zstd"), False),
        ("gzip, deflate, br", accepting("deflate, br"), False),
        ("gzip, deflate, br", accepting("identity"), False),
        ("gzip, deflate, br", accepting("gzip;q=0, deflate, br"), False),
        ("gzip, deflate, br", accepting("gzip, deflate;q=0.5"), False),
        ("gzip, deflate, br", accepting("*"), False),
        ("gzip, deflate, br", [], False),
        ("br, deflate", accepting("br"), True),
        ("br, deflate", accepting("identity"), True),
        ("br, deflate", accepting("gzip"), False),
        ("br, deflate", accepting("br, gzip"), False),
        ("br, deflate", [], False),
    ],
)
def test_a_coding_that_the_origin_would_choose_again(
    proxy: Program, origin: Origin, first: str, then: list[tuple[str, str]], hit: bool
) -> None:
    url = origin.url(path := origin.on(origin.unique(), encoding))
    fetch(proxy, url, ("Accept-Encoding", first))
    answer = fetch(proxy, url, *then)
    assert answer.hit == hit, answer.cache_status
    if not hit:
        assert answer.fwd == "vary-miss"
        # The origin decides: nothing is coded or decoded here.
        assert origin.seen(path)[1].values("accept-encoding") == [value for _, value in then]
    zipped = answer.value("content-encoding") == "gzip"
    assert answer.body == (ZIPPED if zipped else PAGE)


def test_both_codings_stay_stored(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.on(origin.unique(), encoding))
    for offered, body in (("gzip, br", ZIPPED), ("br", PAGE), ("gzip, br", ZIPPED), ("br", PAGE), ("gzip", ZIPPED)):
        assert fetch(proxy, url, ("Accept-Encoding", offered)).body == body
    assert len(origin.seen(path)) == 2


@pytest.mark.rfc("9111", "4.1", "no-match")
def test_an_explosion_of_variants_is_bounded(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        name = call.seen.value("x-kind") or ""
        await call.respond(name.encode() * 20, FRESH, ("Vary", "X-Kind"))

    others = [origin.url(origin.page(b"other", FRESH)) for _ in range(3)]
    for other in others:
        fetch(proxy, other)
    url = origin.url(path := origin.on(origin.unique(), handle))
    fetch(proxy, url, ("X-Kind", "used"))
    count = KEPT + 4
    for number in range(count):
        name = f"kind {number}"
        assert fetch(proxy, url, ("X-Kind", name)).body == name.encode() * 20
        if number % 8 == 0:
            assert fetch(proxy, url, ("X-Kind", "used")).hit
    asked = len(origin.seen(path))
    assert asked == count + 1
    assert fetch(proxy, url, ("X-Kind", "used")).hit
    assert all(fetch(proxy, url, ("X-Kind", f"kind {number}")).hit for number in range(count - KEPT // 2, count))
    dropped = fetch(proxy, url, ("X-Kind", "kind 0"))
    assert (dropped.fwd, dropped.body) == ("vary-miss", b"kind 0" * 20)
    assert all(fetch(proxy, other).hit for other in others)
    assert len(origin.seen(path)) == asked + 1


def test_another_vary_takes_over(proxy: Program, origin: Origin) -> None:
    async def by_language(call: Call) -> None:
        language = call.seen.value("accept-language") or "none"
        await call.respond(language.encode(), FRESH, ("Vary", "Accept-Language"))

    async def by_kind(call: Call) -> None:
        await call.respond(b"by kind", FRESH, ("Vary", "X-Kind"))

    url = origin.url(origin.script(by_language, by_kind))
    german, french, kind = ("Accept-Language", "de"), ("Accept-Language", "fr"), ("X-Kind", "1")
    assert fetch(proxy, url, german).body == b"de"
    assert fetch(proxy, url, french, kind).body == b"by kind"
    assert fetch(proxy, url, french, kind).hit
    assert fetch(proxy, url, german).body == b"de"
