"""What the RFCs ask of a proxy in passing, and what only shows on the wire."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Wire, fetch, request_head
from tests.e2e.origin import Call, response_head

if TYPE_CHECKING:
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

FRESH = ("Cache-Control", "max-age=600")


@pytest.mark.rfc("9111", "5.2", "passed-on")
def test_directives_are_passed_on_both_ways(proxy: Program, origin: Origin) -> None:
    said = 'max-age=600, Community="UCI", s-maxage=5, proxy-revalidate'
    url = origin.url(path := origin.page(b"page", ("Cache-Control", said)))
    asked = "min-fresh=1, frob=2"
    for _ in range(2):
        assert fetch(proxy, url, ("Cache-Control", asked)).values("cache-control") == [said]
    assert origin.seen(path)[0].values("cache-control") == [asked]


@pytest.mark.rfc("9111", "5.2.1.6", "no-transform")
@pytest.mark.rfc("9111", "5.2.2.6", "no-transform")
@pytest.mark.rfc("9110", "7.7", "no-transform")
@pytest.mark.parametrize("asked", [(), (("Cache-Control", "no-transform"),)])
@pytest.mark.parametrize("said", ["max-age=600", "max-age=600, no-transform"])
@pytest.mark.parametrize("coding", ["gzip", "frob"])
def test_content_is_never_transformed(
    proxy: Program, origin: Origin, asked: tuple[tuple[str, str], ...], said: str, coding: str
) -> None:
    content = gzip.compress(b"as it is " * 100, mtime=1)
    fields = (("Content-Encoding", coding), ("Content-Type", "text/html;charset=x"), ("Cache-Control", said))
    url = origin.url(origin.page(content, *fields))
    for hit in (False, True):
        answer = fetch(proxy, url, *asked, ("Accept-Encoding", f"identity, {coding}"))
        assert (answer.hit, answer.body) == (hit, content)
        assert answer.value("content-encoding") == coding
        assert answer.value("content-type") == "text/html;charset=x"


@pytest.mark.rfc("9110", "7.7", "path-unchanged")
@pytest.mark.parametrize("rest", ["/A/../b//%7e%2F", "/a;b=c/.", "/%41?%62=c&&d=+", "?x=/../y"])
def test_path_and_query_are_sent_as_they_are(proxy: Program, origin: Origin, rest: str) -> None:
    path = origin.unique()

    async def handle(call: Call) -> None:
        await call.respond(call.seen.target.encode(), FRESH)

    origin.on_prefix(path, handle)
    url = origin.url(path + rest)
    with Wire.to(proxy.port) as wire:
        answer = wire.send(request_head("GET", url, ("Host", f"localhost:{origin.http_port}"))).read()
    assert answer.body.decode() == path + rest


@pytest.mark.rfc("9110", "7.7", "path-unchanged")
def test_an_empty_path_is_sent_as_a_slash(proxy: Program, origin: Origin) -> None:
    origin.on("/", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: no-store\r\n\r\nroot")
    before = len(origin.seen("/"))
    for rest in ("", "?q"):
        with Wire.to(proxy.port) as wire:
            url = origin.url(rest)
            answer = wire.send(request_head("GET", url, ("Host", f"localhost:{origin.http_port}"))).read()
        assert answer.body == b"root"
    assert [seen.target for seen in origin.seen("/")[before:]] == ["/", "/?q"]


@pytest.mark.rfc("9110", "9.3.7", "options")
@pytest.mark.rfc("9110", "9.3.8", "trace")
@pytest.mark.rfc("9110", "9.2.3", "cacheable")
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "FROB"])
def test_responses_to_other_methods_are_not_stored(proxy: Program, origin: Origin, method: str) -> None:
    url = origin.url(path := origin.page(b"not for others", FRESH, ("ETag", '"o"')))
    answers = [fetch(proxy, url, method=method) for _ in range(2)] + [fetch(proxy, url)]
    assert [answer.fwd for answer in answers] == ["method", "method", "uri-miss"]
    assert [seen.method for seen in origin.seen(path)] == [method, method, "GET"]


@pytest.mark.rfc("9110", "12.5.5", "no-star-added")
@pytest.mark.parametrize("vary", [[], ["Accept"], ["Accept", "Cookie"]])
def test_vary_is_passed_on_as_it_is(proxy: Program, origin: Origin, vary: list[str]) -> None:
    url = origin.url(origin.page(b"page", FRESH, *(("Vary", name) for name in vary)))
    for hit in (False, True):
        answer = fetch(proxy, url)
        assert (answer.values("vary"), answer.hit) == (vary, hit)


@pytest.mark.rfc("9211", "2", "appended")
@pytest.mark.rfc("9211", "2", "syntax")
def test_the_cache_status_of_others_is_kept(proxy: Program, origin: Origin) -> None:
    url = origin.url(origin.page(b"page", FRESH, ("Cache-Status", '"Far cache"; hit; ttl=9'), ("cache-status", "near")))
    for begins in ("fwdproxy; fwd=uri-miss", "fwdproxy; hit"):
        values = fetch(proxy, url).values("cache-status")
        assert values[:2] == ['"Far cache"; hit; ttl=9', "near"]
        assert len(values) == 3
        assert values[2].startswith(begins)


@pytest.mark.rfc("9211", "2.2", "bypass")
@pytest.mark.rfc("9211", "2.2", "fwd")
@pytest.mark.rfc("9211", "2.8", "detail")
def test_what_the_cache_does_not_handle_is_told_as_bypassed(proxy: Program, origin: Origin) -> None:
    url = origin.url(origin.page(b"page", FRESH, ("ETag", '"e"')))
    fetch(proxy, url)
    answer = fetch(proxy, url, ("If-Match", '"e"'))
    assert (answer.fwd, answer.parameter("detail")) == ("bypass", "precondition")


@pytest.mark.rfc("9110", "13.1.1", "if-match")
@pytest.mark.rfc("9110", "13.1.4", "if-unmodified-since")
@pytest.mark.parametrize("field", [("If-Match", '"old"'), ("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")])
def test_preconditions_reach_the_origin(proxy: Program, origin: Origin, field: tuple[str, str]) -> None:
    async def handle(call: Call) -> None:
        failed = call.seen.value(field[0]) is not None
        await call.respond(b"page", FRESH, status="412 Precondition Failed" if failed else "200 OK")

    url = origin.url(path := origin.on(origin.unique(), handle))
    fetch(proxy, url)
    assert fetch(proxy, url, field).status == 412
    assert origin.seen(path)[1].value(field[0]) == field[1]
    assert fetch(proxy, url).hit


@pytest.mark.rfc("9110", "8.6", "incorrect")
def test_a_wrong_length_is_not_passed_on(proxy: Program, origin: Origin) -> None:
    lengths = (("Content-Length", "5"), ("Content-Length", "4"), FRESH)
    url = origin.url(origin.on(origin.unique(), response_head(*lengths) + b"12345"))
    answer = fetch(proxy, url)
    assert answer.status == 502
    assert answer.complete


@pytest.mark.rfc("9110", "11.6.1", "www-authenticate")
def test_challenges_are_passed_on_as_they_are(proxy: Program, origin: Origin) -> None:
    challenges = ['Digest realm="a, b", qop="auth"', "Basic realm=c, Frob"]
    fields = [("WWW-Authenticate", challenge) for challenge in challenges]
    url = origin.url(origin.page(b"who are you?", *fields, status="401 Unauthorized"))
    for _ in range(2):
        answer = fetch(proxy, url)
        assert (answer.status, answer.values("www-authenticate"), answer.hit) == (401, challenges, False)
