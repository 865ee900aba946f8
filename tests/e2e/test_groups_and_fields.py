"""Fields by which an origin steers caches: groups, queries, targets, digests; and those that are none of ours."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import fetch
from tests.e2e.origin import Call, response
from tests.e2e.sites import FRESH

if TYPE_CHECKING:
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

BODY = b"what was meant\n"


# -- groups


@pytest.mark.rfc("9875", "3", "invalidates")
@pytest.mark.rfc("9875", "3", "safe")
@pytest.mark.rfc("9875", "2", "strings")
@pytest.mark.rfc("9875", "2.1", "same-string")
@pytest.mark.parametrize(
    ("method", "status", "named", "gone"),
    [
        ("POST", "200 OK", '"a"', {"a", "ab"}),
        ("DELETE", "204 No Content", '"z", "a";x=1', {"a", "ab"}),
        ("PUT", "303 See Other", '"b"', {"ab"}),
        ("POST", "200 OK", '"A"', set()),
        ("POST", "200 OK", "a", set()),
        ("POST", "200 OK", '"a', set()),
        ("POST", "404 Not Found", '"a"', set()),
        ("GET", "200 OK", '"a"', set()),
    ],
)
def test_a_group_is_invalidated_by_name(
    proxy: Program, origin: Origin, method: str, status: str, named: str, gone: set[str]
) -> None:
    # Groups of this test's own: those of an origin are the same in all its tests.
    own = origin.unique("group")
    pages = {}
    for name, groups in (("a", ["a"]), ("ab", ["a", "b"]), ("c", ["c"])):
        said = ", ".join(f'"{own}{group}"' for group in groups)
        pages[name] = origin.url(origin.page(b"page", FRESH, ("Cache-Groups", said)))
        fetch(proxy, pages[name])
    named = named.replace('"a', f'"{own}a').replace('"b', f'"{own}b').replace('"A', f'"{own}A')
    form = origin.page(b"", ("Cache-Group-Invalidation", named), ("Cache-Control", "no-store"), status=status)
    changed = fetch(proxy, origin.url(form), method=method, body=None if method == "GET" else b"x")
    assert changed.value("cache-group-invalidation") == named
    assert {name for name, url in pages.items() if not fetch(proxy, url).hit} == gone


@pytest.mark.rfc("9875", "2.1", "same-origin")
@pytest.mark.rfc("9111", "4.4", "other-origin")
def test_groups_end_at_the_origin(proxy: Program, origin: Origin, other_origin: Origin) -> None:
    groups = ("Cache-Groups", f'"{origin.unique()}"')
    here, there = origin.page(b"here", FRESH, groups), other_origin.page(b"there", FRESH, groups)
    urls = [origin.url(here), origin.url(here, host="127.0.0.1"), origin.url(here, "https"), other_origin.url(there)]
    for url in urls:
        fetch(proxy, url)
    form = origin.page(b"", ("Cache-Group-Invalidation", groups[1]))
    fetch(proxy, origin.url(form), method="POST", body=b"x")
    assert [fetch(proxy, url).hit for url in urls] == [False, True, True, True]


# -- queries


SEARCHES = [
    ('params=("utm")', "?q=1&utm=2", "?utm=3&q=1", True),
    ('params=("utm")', "?q=1", "?q=1&utm=3&utm=4", True),
    ('params=("utm")', "?q=1", "?q=2", False),
    ("params", "?q=1", "?other", True),
    ("params", "?q=1", "", True),
    ('params, except=("q")', "?q=1&x=2", "?y=4&q=1", True),
    ('params, except=("q")', "?q=1&x=2", "?q=3", False),
    ("key-order", "?a=1&b=2", "?b=2&a=1", True),
    ("key-order", "?a=1&a=2", "?a=2&a=1", False),
    ("key-order", "?a=%31", "?a=1", True),
    ("key-order=?0", "?a=1&b=2", "?b=2&a=1", False),
    ("params=5", "?q=1", "?q=2", False),
    ('params=("q"', "?q=1", "?q=2", False),
]


@pytest.mark.parametrize(("said", "first", "second", "same"), SEARCHES)
def test_no_vary_search(configured: Program, origin: Origin, said: str, first: str, second: str, same: bool) -> None:
    url = origin.url(path := origin.page(BODY, FRESH, ("No-Vary-Search", said)))
    fetch(configured, url + first)
    answer = fetch(configured, url + second)
    assert (answer.hit, answer.value("no-vary-search")) == (same, said)
    assert len(origin.seen(path)) == 2 - same
    assert fetch(configured, url + first).hit


def test_no_vary_search_counts_only_where_it_is_wanted(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(BODY, FRESH, ("No-Vary-Search", "params")))
    answers = [fetch(proxy, url + query) for query in ("?a", "?b", "")]
    assert [answer.hit for answer in answers] == [False] * 3
    assert len(origin.seen(path)) == 3


def test_a_post_invalidates_what_a_query_is_equivalent_to(configured: Program, origin: Origin) -> None:
    url = origin.url(origin.page(BODY, FRESH, ("No-Vary-Search", 'params=("utm")')))
    fetch(configured, url + "?utm=1")
    fetch(configured, url + "?utm=2", method="POST", body=b"x")
    assert not fetch(configured, url + "?utm=3").hit


# -- targeted fields


@pytest.mark.rfc("9213", "2.1", "invalid")
@pytest.mark.rfc("9213", "2.1", "types")
@pytest.mark.rfc("9213", "2.1", "parameters")
@pytest.mark.rfc("9213", "2.2", "first")
@pytest.mark.rfc("9213", "2.2", "instead")
@pytest.mark.rfc("9213", "2.2", "fallback")
@pytest.mark.rfc("9213", "2.2", "passed-on")
@pytest.mark.rfc("9213", "2.4", "suffix")
@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ([("CDN-Cache-Control", "max-age=600"), ("Cache-Control", "no-store")], True),
        ([("CDN-Cache-Control", "max-age=600;x=1"), ("Cache-Control", "private")], True),
        ([("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=600")], False),
        ([("CDN-Cache-Control", "private"), ("Cache-Control", "max-age=600")], False),
        ([("CDN-Cache-Control", "no-cache"), ("Cache-Control", "max-age=600")], False),
        ([("CDN-Cache-Control", "max-age=0"), ("Expires", "Sun, 06 Nov 2094 08:49:37 GMT")], False),
        ([("CDN-Cache-Control", "no-store"), ("Fwd-Cache-Control", "max-age=600")], True),
        ([("CDN-Cache-Control", "max-age=600"), ("Fwd-Cache-Control", "no-store")], False),
        ([("CDN-Cache-Control", "max-age=600"), ("Fwd-Cache-Control", "no-store, ("), FRESH], True),
        ([("CDN-Cache-Control", ""), ("Cache-Control", "max-age=600")], True),
        ([("CDN-Cache-Control", "max-age=("), ("Cache-Control", "no-store")], False),
        ([("CDN-Cache-Control", 'max-age="600"'), ("Cache-Control", "max-age=600")], False),
        ([("Else-Cache-Control", "max-age=600"), ("Cache-Control", "no-store")], False),
        ([("Else-Cache-Control", "no-store"), ("Cache-Control", "max-age=600")], True),
    ],
)
def test_a_targeted_field_governs(
    configured: Program, origin: Origin, fields: list[tuple[str, str]], stored: bool
) -> None:
    url = origin.url(origin.page(BODY, *fields))
    answers = [fetch(configured, url) for _ in range(2)]
    assert [answer.hit for answer in answers] == [False, stored]
    for answer in answers:
        assert all(answer.values(name) == [value] for name, value in fields)


@pytest.mark.rfc("9213", "2.2", "not-listed")
def test_no_targeted_field_counts_unless_it_is_listed(proxy: Program, origin: Origin) -> None:
    for kept, fields in (
        (False, [("CDN-Cache-Control", "max-age=600"), ("Cache-Control", "no-store")]),
        (True, [("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=600")]),
    ):
        url = origin.url(origin.page(BODY, *fields))
        fetch(proxy, url)
        assert fetch(proxy, url).hit == kept


# -- digests


def digest(algorithm: str, content: bytes) -> str:
    """A member of a digest field."""
    name = algorithm.replace("-", "")
    return f"{algorithm}=:{base64.b64encode(hashlib.new(name, content).digest()).decode()}:"


RIGHT, WRONG = digest("sha-256", BODY), digest("sha-256", b"something else")


@pytest.mark.rfc("9530", "2", "content-digest")
@pytest.mark.rfc("9530", "2", "ignored")
@pytest.mark.rfc("9530", "3", "repr-digest")
@pytest.mark.rfc("9530", "5", "algorithms")
@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("Content-Digest", RIGHT, True),
        ("Repr-Digest", RIGHT, True),
        ("Content-Digest", digest("sha-512", BODY), True),
        ("Content-Digest", WRONG, False),
        ("Repr-Digest", WRONG, False),
        ("Content-Digest", f"{RIGHT}, {digest('sha-512', b'else')}", False),
        ("Content-Digest", digest("md5", b"else"), True),
        ("Content-Digest", "sha-1024=:AAAA:", True),
        ("Content-Digest", "sha-256=junk", True),
        ("Content-Digest", "(((", True),
    ],
)
def test_what_is_not_what_its_digest_says_is_not_stored(
    proxy: Program, origin: Origin, name: str, value: str, stored: bool
) -> None:
    url = origin.url(origin.page(BODY, FRESH, (name, value)))
    printed = len(proxy.text())
    answers = [fetch(proxy, url) for _ in range(2)]
    assert [(answer.status, answer.body, answer.value(name)) for answer in answers] == [(200, BODY, value)] * 2
    assert [answer.hit for answer in answers] == [False, stored]
    if not stored:
        line = proxy.wait_for_text("is not stored: its content is not what", start=printed)
        assert url in line
        assert name in line


@pytest.mark.rfc("9530", "6.4", "trailers")
@pytest.mark.parametrize(("value", "stored"), [(RIGHT, True), (WRONG, False)], ids=["right", "wrong"])
def test_digests_in_trailers_count(proxy: Program, origin: Origin, value: str, stored: bool) -> None:
    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Transfer-Encoding", "chunked"), ("Trailer", "Content-Digest"))
        await call.chunk(BODY)
        await call.last_chunk(("Content-Digest", value))

    url = origin.url(origin.on(origin.unique(), handle))
    answers = [fetch(proxy, url) for _ in range(2)]
    assert [(answer.body, answer.complete) for answer in answers] == [(BODY, True)] * 2
    assert [answer.hit for answer in answers] == [False, stored]


# -- what concerns one browser, and what needs no asking


@pytest.mark.parametrize("value", ['"cache"', '"*"', '"cookies", "storage"'])
def test_clear_site_data_is_for_one_browser(proxy: Program, origin: Origin, value: str) -> None:
    other = origin.url(origin.page(b"other", FRESH))
    fetch(proxy, other)
    url = origin.url(origin.page(BODY, FRESH, ("Clear-Site-Data", value)))
    first, second = fetch(proxy, url), fetch(proxy, url)
    assert (first.value("clear-site-data"), second.value("clear-site-data")) == (value, None)
    assert (second.hit, second.body) == (True, BODY)
    assert fetch(proxy, other).hit


@pytest.mark.rfc("8246", "2.1", "not-validated")
@pytest.mark.rfc("8246", "2.1", "no-cache")
@pytest.mark.rfc("8246", "2", "fresh-only")
@pytest.mark.rfc("8246", "2", "arguments")
@pytest.mark.rfc("8246", "2", "repeated")
@pytest.mark.rfc("8246", "2", "request")
@pytest.mark.rfc("8246", "3", "authenticated")
@pytest.mark.parametrize(
    ("scheme", "said", "age", "asked", "hit"),
    [
        ("https", "max-age=600, immutable", 0, "max-age=0", True),
        ("https", "max-age=600, immutable", 100, "max-age=50", True),
        ("https", "max-age=600, immutable=x, immutable", 0, "max-age=0", True),
        ("http", "max-age=600, immutable", 0, "max-age=0", False),
        ("https", "max-age=600", 0, "max-age=0", False),
        ("https", "max-age=600", 0, "max-age=0, immutable", False),
        ("https", "max-age=600, immutable", 0, "no-cache", False),
        ("https", "max-age=10, immutable", 20, "max-age=0", False),
        ("https", "max-age=10, immutable", 20, "max-age=600", False),
    ],
)
def test_a_reload_of_what_is_immutable(
    proxy: Program, origin: Origin, scheme: str, said: str, age: int, asked: str, hit: bool
) -> None:
    fields = (("Cache-Control", said), ("Age", str(age)), ("ETag", '"i"'))
    not_modified = response(b"", FRESH, ("ETag", '"i"'), status="304 Not Modified")
    url = origin.url(path := origin.script(response(BODY, *fields), not_modified), scheme)
    fetch(proxy, url)
    answer = fetch(proxy, url, ("Cache-Control", asked))
    assert (answer.body, answer.hit) == (BODY, hit)
    assert len(origin.seen(path)) == (1 if hit else 2)
