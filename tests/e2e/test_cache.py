"""The main job: one store, shared by every client, over plain HTTP and over intercepted HTTPS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Wire, curl, fetch, open_to, request_head
from tests.e2e.origin import Call, pattern, response, response_head

if TYPE_CHECKING:
    from tests.e2e.conftest import Start
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

FRESH = ("Cache-Control", "max-age=600")
STALE = (("Cache-Control", "max-age=10"), ("Age", "20"))
"""A response that is stale when it arrives: no test has to wait for that."""

both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])


@pytest.mark.rfc("9111", "4", "uri")
@pytest.mark.rfc("9110", "9.3.1", "get")
@pytest.mark.rfc("9211", "2.1", "hit")
@pytest.mark.rfc("9211", "2.2", "uri-miss")
@pytest.mark.rfc("9211", "2.5", "stored")
@both_schemes
@pytest.mark.parametrize("length", [0, 7, 32 * 1024, 3_000_000])
def test_a_second_client_is_answered_from_the_store(proxy: Program, origin: Origin, scheme: str, length: int) -> None:
    path = origin.unique("shared")
    body = pattern(path, length)

    async def handle(call: Call) -> None:
        await call.respond(body, FRESH, ("Content-Type", "application/octet-stream"))

    url = origin.url(origin.on(path, handle), scheme)
    first, second = curl(proxy, url), curl(proxy, url)
    assert (first.status, second.status) == (200, 200)
    assert first.body == body
    assert second.body == body
    assert (first.fwd, first.stored) == ("uri-miss", True), first.cache_status
    assert second.hit, second.cache_status
    assert second.value("content-type") == "application/octet-stream"
    assert len(origin.seen(path)) == 1


@both_schemes
def test_a_chunked_response_is_stored_too(proxy: Program, origin: Origin, scheme: str) -> None:
    path = origin.unique("chunked")

    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Transfer-Encoding", "chunked"))
        for number in range(5):
            await call.chunk(b"%d" % number * 1000)
        await call.last_chunk()

    url = origin.url(origin.on(path, handle), scheme)
    first, second = fetch(proxy, url), fetch(proxy, url)
    assert first.complete
    assert first.body == b"".join(b"%d" % number * 1000 for number in range(5))
    assert second.body == first.body
    assert second.hit
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9111", "2", "key")
@pytest.mark.rfc("9111", "4", "uri")
def test_http_and_https_and_queries_are_different_pages(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        await call.respond(f"{call.seen.secure} {call.seen.target}".encode(), FRESH)

    path = origin.on(origin.unique(), handle)
    urls = [origin.url(path), origin.url(path, "https"), origin.url(path) + "?a=1", origin.url(path) + "?a=2"]
    bodies = [fetch(proxy, url).body for url in urls]
    assert len(set(bodies)) == 4
    assert [fetch(proxy, url).body for url in urls] == bodies
    assert len(origin.seen(path)) == 4


@pytest.mark.parametrize("kind", ["fwdproxy", "mitmdump"])
def test_a_restart_keeps_the_cache(start: Start, origin: Origin, kind: str) -> None:
    small = origin.page(b"small", FRESH, ("ETag", '"s"'))
    large = origin.page(pattern("large", 500_000), FRESH)
    program = start(kind)
    before = [fetch(program, origin.url(path)).body for path in (small, large)]
    fetch(program, origin.url(small, "https"))
    certificate = program.ca_file.read_bytes()
    program.stop()

    again = start(kind)
    answers = [fetch(again, origin.url(path)) for path in (small, large)]
    assert [answer.hit for answer in answers] == [True, True]
    assert [answer.body for answer in answers] == before
    assert fetch(again, origin.url(small, "https")).hit
    assert again.ca_file.read_bytes() == certificate
    assert len(origin.seen(small)) == 2
    assert len(origin.seen(large)) == 1


@pytest.mark.rfc("9111", "4.3.1", "entity-tags")
@pytest.mark.rfc("9111", "4.3.3", "not-modified")
@pytest.mark.rfc("9111", "4.3.4", "update")
@pytest.mark.rfc("9211", "2.2", "stale")
@pytest.mark.rfc("9211", "2.3", "fwd-status")
def test_a_stale_response_is_validated_and_kept_on_304(proxy: Program, origin: Origin) -> None:
    path = origin.script(
        response(b"the body", *STALE, ("ETag", '"v1"'), ("X-Old", "1")),
        response(b"", FRESH, ("ETag", '"v1"'), ("X-New", "2"), status="304 Not Modified"),
    )
    url = origin.url(path)
    first, second, third = (fetch(proxy, url) for _ in range(3))
    assert [answer.status for answer in (first, second, third)] == [200, 200, 200]
    assert {answer.body for answer in (first, second, third)} == {b"the body"}
    assert second.fwd == "stale"
    assert second.parameter("fwd-status") == "304"
    assert third.hit
    assert third.value("x-old") == "1"
    assert third.value("x-new") == "2"
    asked = origin.seen(path)
    assert len(asked) == 2
    assert asked[0].value("if-none-match") is None
    assert asked[1].value("if-none-match") == '"v1"'


@pytest.mark.rfc("9111", "4.3.1", "last-modified")
def test_last_modified_validates_where_there_is_no_etag(proxy: Program, origin: Origin) -> None:
    changed = "Sun, 06 Nov 1994 08:49:37 GMT"
    path = origin.script(
        response(b"dated", *STALE, ("Last-Modified", changed)),
        response(b"", FRESH, ("Last-Modified", changed), status="304 Not Modified"),
    )
    bodies = [fetch(proxy, origin.url(path)).body for _ in range(3)]
    assert bodies == [b"dated"] * 3
    asked = origin.seen(path)
    assert len(asked) == 2
    assert asked[1].value("if-modified-since") == changed


@pytest.mark.rfc("9111", "4.3.3", "full-response")
def test_a_stale_response_is_replaced_on_200(proxy: Program, origin: Origin) -> None:
    path = origin.script(
        response(b"old", *STALE, ("ETag", '"v1"')),
        response(b"newer", FRESH, ("ETag", '"v2"')),
    )
    answers = [fetch(proxy, origin.url(path)) for _ in range(3)]
    assert [answer.body for answer in answers] == [b"old", b"newer", b"newer"]
    assert answers[1].fwd == "stale"
    assert answers[2].hit
    assert answers[2].value("etag") == '"v2"'
    assert len(origin.seen(path)) == 2


@pytest.mark.rfc("9111", "4.3.2", "evaluated")
@pytest.mark.rfc("9211", "2.1", "modified")
@pytest.mark.rfc("9110", "15.4.5", "no-content")
def test_a_clients_own_condition_is_answered_from_the_store(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"x" * 50, FRESH, ("ETag", '"same"')))
    fetch(proxy, url)
    unchanged = fetch(proxy, url, ("If-None-Match", 'W/"same", "else"'))
    changed = fetch(proxy, url, ("If-None-Match", '"else"'))
    assert (unchanged.status, unchanged.body, unchanged.hit) == (304, b"", True)
    assert unchanged.value("etag") == '"same"'
    assert (changed.status, changed.body, changed.hit) == (200, b"x" * 50, True)
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9110", "15.4.5", "forwarded")
def test_a_clients_condition_on_a_miss_does_not_spoil_the_store(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        fields = (FRESH, ("ETag", '"v"'))
        if call.seen.value("if-none-match") == '"v"':
            await call.respond(b"", *fields, status="304 Not Modified")
        else:
            await call.respond(b"whole", *fields)

    url = origin.url(origin.on(origin.unique(), handle))
    assert fetch(proxy, url, ("If-None-Match", '"v"')).status == 304
    after = fetch(proxy, url)
    assert (after.status, after.body) == (200, b"whole")


@pytest.mark.rfc("9110", "9.3.1", "get")
@pytest.mark.rfc("9110", "9.3.2", "no-content")
def test_head_is_answered_from_a_stored_get(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"0123456789", FRESH, ("ETag", '"h"')))
    fetch(proxy, url)
    answer = fetch(proxy, url, method="HEAD")
    assert (answer.status, answer.body, answer.value("content-length")) == (200, b"", "10")
    assert answer.hit
    assert [seen.method for seen in origin.seen(path)] == ["GET"]


@pytest.mark.rfc("9110", "9.3.2", "not-for-get")
def test_the_answer_to_head_is_no_page(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"0123456789", FRESH))
    head = fetch(proxy, url, method="HEAD")
    page = fetch(proxy, url)
    assert (head.status, head.body) == (200, b"")
    assert (page.status, page.body) == (200, b"0123456789")
    assert [seen.method for seen in origin.seen(path)] == ["HEAD", "GET"]


@pytest.mark.rfc("9111", "4", "nominated")
@pytest.mark.rfc("9111", "4.1", "no-match")
@pytest.mark.rfc("9211", "2.2", "vary-miss")
def test_vary_keeps_variants_apart(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        language = call.seen.value("accept-language") or "none"
        await call.respond(language.encode(), FRESH, ("Vary", "Accept-Language"))

    url = origin.url(path := origin.on(origin.unique(), handle))
    german, french = ("Accept-Language", "de"), ("Accept-Language", "fr")
    answers = [fetch(proxy, url, german), fetch(proxy, url, french), fetch(proxy, url)]
    assert [answer.body for answer in answers] == [b"de", b"fr", b"none"]
    assert [answer.fwd for answer in answers] == ["uri-miss", "vary-miss", "vary-miss"]
    again = [fetch(proxy, url, german), fetch(proxy, url, french), fetch(proxy, url)]
    assert [answer.body for answer in again] == [b"de", b"fr", b"none"]
    assert all(answer.hit for answer in again)
    assert len(origin.seen(path)) == 3


@pytest.mark.rfc("9111", "4", "write-through")
@pytest.mark.rfc("9111", "4.4", "unsafe")
@pytest.mark.rfc("9111", "4.4", "unknown-method")
@pytest.mark.rfc("9110", "9.3.4", "put")
@pytest.mark.rfc("9110", "9.3.5", "delete")
@pytest.mark.rfc("9211", "2.2", "method")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "FROB"])
def test_an_unsafe_method_invalidates(proxy: Program, origin: Origin, method: str) -> None:
    url = origin.url(path := origin.page(b"page", FRESH))
    fetch(proxy, url)
    assert fetch(proxy, url).hit
    changed = fetch(proxy, url, method=method, body=b"change")
    assert (changed.status, changed.fwd) == (200, "method")
    assert not fetch(proxy, url).hit
    assert [seen.method for seen in origin.seen(path)] == ["GET", method, "GET"]
    assert origin.seen(path)[1].body == b"change"


@pytest.mark.rfc("9111", "4.4", "errors")
def test_a_failed_post_does_not_invalidate(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        await call.read_body()
        failed = call.seen.method == "POST"
        await call.respond(b"page", FRESH, status="500 Oh No" if failed else "200 OK")

    url = origin.url(origin.on(origin.unique(), handle))
    fetch(proxy, url)
    assert fetch(proxy, url, method="POST", body=b"x").status == 500
    assert fetch(proxy, url).hit


@pytest.mark.rfc("9111", "4.4", "other-uris")
@pytest.mark.rfc("9111", "4.4", "other-origin")
def test_a_posts_location_is_invalidated_on_the_same_origin_only(
    proxy: Program, origin: Origin, other_origin: Origin
) -> None:
    here = origin.page(b"here", FRESH)
    elsewhere = other_origin.page(b"elsewhere", FRESH)
    for url in (origin.url(here), other_origin.url(elsewhere)):
        fetch(proxy, url)
    for target in (origin.url(here), other_origin.url(elsewhere)):
        form = origin.page(b"", ("Location", target), status="201 Created")
        fetch(proxy, origin.url(form), method="POST", body=b"x")
    assert not fetch(proxy, origin.url(here)).hit
    assert fetch(proxy, other_origin.url(elsewhere)).hit


@pytest.mark.rfc("9111", "3", "no-store")
@pytest.mark.rfc("9111", "3", "private")
@pytest.mark.rfc("9111", "3", "authorization")
@pytest.mark.rfc("9111", "5.2.1.5", "no-store")
@pytest.mark.rfc("9111", "5.2.2.5", "no-store")
@pytest.mark.rfc("9111", "5.2.2.7", "private")
@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ([("Cache-Control", "no-store")], []),
        ([("Cache-Control", "max-age=600, private")], []),
        ([("Cache-Control", 'max-age=600, PRIVATE="X-Mine, Date"'), ("Cache-Control", "private")], []),
        ([FRESH], [("Cache-Control", "no-store")]),
        ([FRESH], [("Authorization", "Basic Zm9vOmJhcg==")]),
        ([FRESH, ("Vary", "*")], []),
        ([("Expires", "0")], []),
        ([], []),
    ],
    ids=["no-store", "private", "private-twice", "asked-no-store", "authorization", "vary-star", "expired", "nothing"],
)
def test_what_must_not_be_reused_is_not(
    proxy: Program, origin: Origin, answer: list[tuple[str, str]], asked: list[tuple[str, str]]
) -> None:
    url = origin.url(path := origin.page(b"mine", *answer))
    answers = [fetch(proxy, url, *asked) for _ in range(2)]
    assert [entry.body for entry in answers] == [b"mine", b"mine"]
    assert not any(entry.hit for entry in answers)
    assert len(origin.seen(path)) == 2


@pytest.mark.rfc("9111", "3.5", "allowing-directives")
@pytest.mark.rfc("9111", "5.2.2.9", "public")
@pytest.mark.rfc("9110", "11.6.2", "authorization")
def test_authorization_is_shared_when_the_origin_says_so(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"ours", ("Cache-Control", "public, max-age=600")))
    fetch(proxy, url, ("Authorization", "Basic Zm9vOmJhcg=="))
    assert fetch(proxy, url).hit
    assert origin.seen(path)[0].value("authorization") == "Basic Zm9vOmJhcg=="


@pytest.mark.rfc("9111", "7.3", "set-cookie")
def test_no_other_client_gets_a_stored_cookie(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"page", FRESH, ("Set-Cookie", "session=secret; Path=/")))
    first = fetch(proxy, url)
    second = fetch(proxy, url)
    assert first.value("set-cookie") == "session=secret; Path=/"
    assert second.body == b"page"
    assert second.values("set-cookie") == []
    assert second.hit
    assert len(origin.seen(path)) == 1


def test_a_cookie_stops_the_heuristic_but_not_an_explicit_lifetime(proxy: Program, origin: Origin) -> None:
    guessed = origin.page(b"guessed", ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"))
    plain = origin.page(b"plain", ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"))
    explicit = origin.page(b"explicit", FRESH)
    cookie = ("Cookie", "session=1")
    for path in (guessed, explicit):
        assert fetch(proxy, origin.url(path), cookie).status == 200
    fetch(proxy, origin.url(plain))
    assert fetch(proxy, origin.url(plain)).hit
    assert fetch(proxy, origin.url(explicit), cookie).hit
    again = fetch(proxy, origin.url(guessed), cookie)
    assert again.body == b"guessed"
    assert not again.hit
    assert origin.seen(explicit)[0].value("cookie") == "session=1"


def test_a_range_gets_its_bytes_and_never_spoils_the_whole(proxy: Program, origin: Origin) -> None:
    body = pattern("range", 1000)

    async def handle(call: Call) -> None:
        asked = call.seen.value("range")
        fields = (FRESH, ("ETag", '"r"'), ("Accept-Ranges", "bytes"))
        if asked == "bytes=10-19":
            partial = ("Content-Range", "bytes 10-19/1000")
            await call.respond(body[10:20], *fields, partial, status="206 Partial Content")
        else:
            await call.respond(body, *fields)

    url = origin.url(path := origin.on(origin.unique(), handle))
    for _ in range(2):
        part = fetch(proxy, url, ("Range", "bytes=10-19"))
        assert (part.status, part.body) == (206, body[10:20])
        assert part.value("content-range") == "bytes 10-19/1000"
    whole = fetch(proxy, url)
    assert (whole.status, whole.body) == (200, body)
    again = fetch(proxy, url, ("Range", "bytes=10-19"))
    assert (again.status, again.body) == (206, body[10:20])
    assert fetch(proxy, url).hit
    assert origin.seen(path)[0].value("range") == "bytes=10-19"


@pytest.mark.rfc("9111", "5.2.1.7", "only-if-cached")
def test_only_if_cached_never_asks_the_origin(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"page", FRESH))
    only = ("Cache-Control", "only-if-cached")
    assert fetch(proxy, url, only).status == 504
    assert origin.seen(path) == []
    fetch(proxy, url)
    answer = fetch(proxy, url, only)
    assert (answer.status, answer.body, answer.hit) == (200, b"page", True)


@pytest.mark.rfc("9111", "5.2.1.4", "no-cache")
@pytest.mark.rfc("9111", "5.4", "pragma")
@pytest.mark.parametrize(
    "field", [("Cache-Control", "no-cache"), ("Cache-Control", "max-age=0"), ("Pragma", "no-cache")]
)
def test_a_client_may_insist_on_the_origin(proxy: Program, origin: Origin, field: tuple[str, str]) -> None:
    url = origin.url(path := origin.page(b"page", FRESH))
    fetch(proxy, url)
    answer = fetch(proxy, url, field)
    assert answer.fwd in ("request", "stale"), answer.cache_status
    assert len(origin.seen(path)) == 2
    assert fetch(proxy, url).hit


def test_the_reason_bypass_when_the_request_says_no_store(proxy: Program, origin: Origin) -> None:
    url = origin.url(origin.page(b"page", FRESH))
    answer = fetch(proxy, url, ("Cache-Control", "no-store"))
    assert answer.fwd in ("bypass", "request", "uri-miss"), answer.cache_status
    assert not answer.stored
    assert not fetch(proxy, url).hit


@pytest.mark.rfc("9111", "4", "age")
@pytest.mark.rfc("9211", "2.4", "ttl")
def test_age_is_sent_once_and_counts_on(proxy: Program, origin: Origin) -> None:
    url = origin.url(origin.page(b"aged", FRESH, ("Age", "100")))
    first, second = fetch(proxy, url), fetch(proxy, url)
    assert first.values("age") == ["100"]
    (age,) = second.values("age")
    assert 100 <= int(age) <= 110
    lifetime = second.parameter("ttl")
    assert lifetime is not None
    assert 490 <= int(lifetime) <= 500


@pytest.mark.rfc("9110", "6.6.1", "date-added")
def test_date_is_added_where_it_is_missing(proxy: Program, origin: Origin) -> None:
    head = response_head(FRESH, ("Content-Length", "2"), date=False)
    url = origin.url(origin.on(origin.unique(), head + b"ok"))
    first, second = fetch(proxy, url), fetch(proxy, url)
    assert len(first.values("date")) == 1
    assert second.values("date") == first.values("date")


@pytest.mark.rfc("9111", "3", "allowed")
@pytest.mark.parametrize("status", ["301 Moved Permanently", "404 Not Found", "410 Gone", "503 Busy"])
def test_any_status_with_a_lifetime_is_stored(proxy: Program, origin: Origin, status: str) -> None:
    url = origin.url(path := origin.page(b"said once", FRESH, status=status))
    first, second = fetch(proxy, url), fetch(proxy, url)
    assert (first.status, second.status) == (int(status[:3]), int(status[:3]))
    assert second.hit
    assert second.body == b"said once"
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9111", "4.3.3", "server-error")
def test_an_error_during_validation_is_told(proxy: Program, origin: Origin) -> None:
    path = origin.script(
        response(b"good", *STALE, ("ETag", '"g"')),
        response(b"broken", status="503 Broken"),
        response(b"", FRESH, ("ETag", '"g"'), status="304 Not Modified"),
    )
    answers = [fetch(proxy, origin.url(path)) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 503, 200]
    assert answers[2].body == b"good"


def test_an_origin_that_is_not_there_is_a_gateway_error(proxy: Program) -> None:
    answer = fetch(proxy, "http://localhost:1/nobody")
    assert answer.status in (502, 503, 504)
    assert b"Traceback" not in answer.body
    assert "text/html" in (answer.value("content-type") or "")


def test_one_connection_serves_many_requests(proxy: Program, origin: Origin) -> None:
    paths = [origin.page(b"%d" % number, FRESH) for number in range(4)]
    for path in (paths[0], paths[2]):
        fetch(proxy, origin.url(path, "https"))
    wire, _ = open_to(proxy, origin.url(paths[0], "https"))
    with wire:
        for number, path in enumerate(paths):
            answer = wire.send(request_head("GET", path, ("Host", f"localhost:{origin.https_port}"))).read()
            assert (answer.body, answer.hit) == (b"%d" % number, number in (0, 2))


def test_origin_connections_are_shared_by_clients(proxy: Program, origin: Origin) -> None:
    paths = [origin.page(b"x") for _ in range(5)]
    for path in paths:
        fetch(proxy, origin.url(path, "https"))
    assert len({origin.seen(path)[0].connection for path in paths}) == 1


def test_pipelined_requests_are_answered_in_order(proxy: Program, origin: Origin) -> None:
    slow, quick = origin.page(b"slow"), origin.page(b"quick", FRESH)
    fetch(proxy, origin.url(quick))
    with Wire.to(proxy.port) as wire:
        for path in (slow, quick, slow):
            wire.send(request_head("GET", origin.url(path), ("Host", f"localhost:{origin.http_port}")))
        assert [wire.read().body for _ in range(3)] == [b"slow", b"quick", b"slow"]


@both_schemes
def test_the_access_log_has_the_same_reason(proxy: Program, origin: Origin, scheme: str) -> None:
    url = origin.url(origin.page(b"page", FRESH), scheme)
    printed = len(proxy.text())
    fetch(proxy, url)
    miss = proxy.wait_for_text(f"GET {url} ", start=printed)
    assert "uri-miss" in miss
    printed = len(proxy.text())
    fetch(proxy, url)
    assert "; hit;" in proxy.wait_for_text(f"GET {url} ", start=printed)
