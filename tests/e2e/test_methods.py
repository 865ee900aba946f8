"""HEAD, POST and QUERY: what they get from the store, and what they do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import chunked, fetch, open_to, request_head
from tests.e2e.origin import Call, response
from tests.e2e.sites import FRESH, STALE

if TYPE_CHECKING:
    from tests.e2e.clients import Answer
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

BODY = b"0123456789"
NO_CACHE = ("Cache-Control", "no-cache")
FORM = ("Content-Type", "application/x-www-form-urlencoded")


# -- HEAD


@pytest.mark.rfc("9111", "4", "method")
@pytest.mark.rfc("9110", "9.3.2", "no-content")
@pytest.mark.parametrize(
    ("asked", "status", "length"),
    [
        ([], 200, "10"),
        ([("If-None-Match", '"h"')], 304, None),
        ([("If-None-Match", '"else"')], 200, "10"),
        ([("Cache-Control", "only-if-cached")], 200, "10"),
    ],
)
def test_head_from_a_stored_get(
    proxy: Program, origin: Origin, asked: list[tuple[str, str]], status: int, length: str | None
) -> None:
    url = origin.url(path := origin.page(BODY, FRESH, ("ETag", '"h"'), ("X-Own", "1")))
    fetch(proxy, url)
    answer = fetch(proxy, url, *asked, method="HEAD")
    assert (answer.status, answer.body, answer.value("content-length")) == (status, b"", length)
    assert (answer.hit, answer.value("x-own")) == (True, "1")
    assert [seen.method for seen in origin.seen(path)] == ["GET"]


@pytest.mark.rfc("9111", "4.3.5", "updates")
@pytest.mark.rfc("9111", "4.3.5", "mismatch")
@pytest.mark.rfc("9111", "4.3.5", "fields")
@pytest.mark.parametrize(
    ("fields", "length", "kept"),
    [
        ([("ETag", '"v1"')], 10, True),
        ([("ETag", '"v2"')], 10, False),
        ([("ETag", '"v1"')], 11, False),
        ([("ETag", '"v1"'), ("Last-Modified", "Sun, 06 Nov 1994 08:49:38 GMT")], 10, False),
        ([("ETag", '"v1"'), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")], 10, True),
    ],
)
def test_head_renews_or_drops_what_is_stored(
    proxy: Program, origin: Origin, fields: list[tuple[str, str]], length: int, kept: bool
) -> None:
    modified = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
    path = origin.script(
        response(BODY, FRESH, ("ETag", '"v1"'), modified),
        response(b"x" * length, FRESH, *fields, ("X-New", "1"), head_only=True),
        response(BODY, FRESH, ("ETag", '"v3"')),
    )
    url = origin.url(path)
    fetch(proxy, url)
    head = fetch(proxy, url, NO_CACHE, method="HEAD")
    assert (head.status, head.value("x-new"), head.hit) == (200, "1", False)
    after = fetch(proxy, url)
    assert (after.body, after.hit) == (BODY, kept)
    assert after.value("x-new") == ("1" if kept else None)
    assert [seen.method for seen in origin.seen(path)] == ["GET", "HEAD"] + ([] if kept else ["GET"])


@pytest.mark.rfc("9111", "4.3.4", "update")
def test_head_validates_what_is_stale(proxy: Program, origin: Origin) -> None:
    path = origin.script(
        response(BODY, *STALE, ("ETag", '"v1"')),
        response(b"", FRESH, ("ETag", '"v1"'), status="304 Not Modified"),
    )
    url = origin.url(path)
    fetch(proxy, url)
    head = fetch(proxy, url, method="HEAD")
    assert (head.status, head.body, head.value("content-length"), head.fwd) == (200, b"", "10", "stale")
    page = fetch(proxy, url)
    assert (page.body, page.hit) == (BODY, True)
    assert [(seen.method, seen.value("if-none-match")) for seen in origin.seen(path)] == [
        ("GET", None),
        ("HEAD", '"v1"'),
    ]


# -- POST


@pytest.mark.rfc("9110", "9.3.3", "not-for-post")
@pytest.mark.rfc("9110", "9.3.3", "stored")
@pytest.mark.rfc("9110", "9.3.3", "not-stored")
@pytest.mark.parametrize(
    ("status", "fields", "location", "kept"),
    [
        ("200 OK", [FRESH], "absolute", True),
        ("200 OK", [FRESH], "path", True),
        ("200 OK", [("Cache-Control", "s-maxage=600")], "path", True),
        ("200 OK", [FRESH], None, False),
        ("200 OK", [FRESH], "/elsewhere", False),
        ("200 OK", [FRESH], "?query", False),
        ("200 OK", [], "path", False),
        ("200 OK", [("ETag", '"v"')], "path", False),
        ("200 OK", [("Cache-Control", "public")], "path", False),
        ("200 OK", [("Cache-Control", "no-store, max-age=600")], "path", False),
        ("200 OK", [("Cache-Control", "private, max-age=600")], "path", False),
        ("201 Created", [FRESH], "path", False),
        ("404 Not Found", [FRESH], "path", False),
    ],
)
def test_a_post_is_stored_for_get_only_by_its_own_word(
    proxy: Program, origin: Origin, status: str, fields: list[tuple[str, str]], location: str | None, kept: bool
) -> None:
    async def handle(call: Call) -> None:
        content = await call.read_body()
        if call.seen.method != "POST":
            await call.respond(b"a page", ("Cache-Control", "no-store"))
            return
        own = {"absolute": origin.url(call.seen.path), "path": call.seen.path}.get(location or "", location)
        named = () if own is None else (("Content-Location", own),)
        await call.respond(b"made of " + content, *fields, *named, status=status)

    url = origin.url(path := origin.on(origin.unique(), handle))
    posted = [fetch(proxy, url, FORM, method="POST", body=content) for content in (b"a=1", b"a=2")]
    assert [answer.body for answer in posted] == [b"made of a=1", b"made of a=2"]
    assert [(answer.fwd, answer.stored) for answer in posted] == [("method", kept)] * 2
    page, head = fetch(proxy, url), fetch(proxy, url, method="HEAD")
    assert (page.hit, head.hit) == (kept, kept)
    assert page.body == (b"made of a=2" if kept else b"a page")
    assert [seen.method for seen in origin.seen(path)] == ["POST"] * 2 + ([] if kept else ["GET", "HEAD"])


# -- QUERY


def query(proxy: Program, url: str, content: bytes, *fields: tuple[str, str]) -> Answer:
    return fetch(proxy, url, *(fields or (FORM,)), method="QUERY", body=content)


def asked_page(origin: Origin, *fields: tuple[str, str]) -> str:
    """The path of a page that answers with the method and content of each request."""

    async def handle(call: Call) -> None:
        content = await call.read_body()
        await call.respond(f"{call.seen.method} {content.decode()}".encode(), FRESH, *fields)

    return origin.on(origin.unique(), handle)


@pytest.mark.rfc("10008", "2.7", "cached")
@pytest.mark.rfc("10008", "2.7", "content-in-key")
@pytest.mark.rfc("10008", "2.7", "metadata-in-key")
@pytest.mark.parametrize(
    ("content", "fields", "hit"),
    [
        (b"q=1", [FORM], True),
        (b"q=2", [FORM], False),
        (b"q=1 ", [FORM], False),
        (b"", [FORM], False),
        (b"q=1", [("Content-Type", "text/plain")], False),
        (b"q=1", [FORM, ("Content-Encoding", "gzip")], False),
        (b"q=1", [FORM, ("Content-Language", "de")], False),
        (b"q=1", [FORM, ("X-Else", "1")], True),
    ],
)
def test_a_query_is_found_by_its_content(
    proxy: Program, origin: Origin, content: bytes, fields: list[tuple[str, str]], hit: bool
) -> None:
    url = origin.url(path := asked_page(origin))
    first = query(proxy, url, b"q=1")
    assert (first.body, first.stored) == (b"QUERY q=1", True)
    second = query(proxy, url, content, *fields)
    assert (second.body, second.hit) == (b"QUERY " + content, hit)
    assert [seen.body for seen in origin.seen(path)] == [b"q=1"] + ([] if hit else [content])


@pytest.mark.rfc("10008", "2.7", "content-in-key")
def test_the_framing_of_a_query_does_not_matter(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := asked_page(origin))
    query(proxy, url, b"q=12")
    wire, target = open_to(proxy, url)
    with wire:
        head = request_head("QUERY", target, ("Host", "localhost"), FORM, ("Transfer-Encoding", "chunked"))
        answer = wire.send(head + chunked(b"q=", b"12")).read()
    assert (answer.body, answer.hit) == (b"QUERY q=12", True)
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("10008", "2", "safe")
def test_get_and_query_do_not_touch_each_other(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := asked_page(origin))
    assert fetch(proxy, url).body == b"GET "
    assert query(proxy, url, b"q").body == b"QUERY q"
    page, asked, head = fetch(proxy, url), query(proxy, url, b"q"), fetch(proxy, url, method="HEAD")
    assert [answer.hit for answer in (page, asked, head)] == [True, True, True]
    assert (page.body, asked.body, head.value("content-length")) == (b"GET ", b"QUERY q", "4")
    assert len(origin.seen(path)) == 2


@pytest.mark.rfc("9111", "4.4", "unsafe")
def test_an_unsafe_method_invalidates_every_query(proxy: Program, origin: Origin) -> None:
    url = origin.url(asked_page(origin))
    for content in (b"1", b"2"):
        query(proxy, url, content)
    fetch(proxy, url, FORM, method="POST", body=b"change")
    assert [query(proxy, url, content).hit for content in (b"1", b"2")] == [False, False]


@pytest.mark.rfc("10008", "2.6", "conditional")
def test_a_query_with_a_condition(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := asked_page(origin, ("ETag", '"q"')))
    query(proxy, url, b"q")
    same = query(proxy, url, b"q", FORM, ("If-None-Match", '"q"'))
    other = query(proxy, url, b"q", FORM, ("If-None-Match", '"z"'))
    assert (same.status, same.body, same.hit) == (304, b"", True)
    assert (other.status, other.body, other.hit) == (200, b"QUERY q", True)
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9111", "4.3.3", "not-modified")
def test_a_stale_query_is_validated_with_its_content(proxy: Program, origin: Origin) -> None:
    async def unchanged(call: Call) -> None:
        await call.read_body()
        await call.respond(b"", FRESH, ("ETag", '"q"'), status="304 Not Modified")

    url = origin.url(path := origin.script(response(b"found", *STALE, ("ETag", '"q"')), unchanged))
    answers = [query(proxy, url, b"content") for _ in range(3)]
    assert [answer.body for answer in answers] == [b"found"] * 3
    assert [answer.hit for answer in answers] == [False, False, True]
    asked = origin.seen(path)
    assert [(seen.body, seen.value("if-none-match")) for seen in asked] == [(b"content", None), (b"content", '"q"')]


def test_a_query_too_long_for_a_key_passes(proxy: Program, origin: Origin) -> None:
    content = b"q" * ((1 << 20) + 1)
    url = origin.url(path := origin.page(b"long", FRESH))
    for _ in range(2):
        answer = query(proxy, url, content)
        assert (answer.body, answer.fwd, answer.parameter("detail")) == (b"long", "bypass", "long-query")
    assert [seen.length for seen in origin.seen(path)] == [len(content)] * 2
