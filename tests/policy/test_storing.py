"""RFC 9111 §3: what may be stored, and what of it."""

import pytest

from fwdproxy.messages import RequestHead, ResponseHead, TargetURI
from fwdproxy.policy import storing
from fwdproxy.policy.decisions import PolicySettings
from tests.policy.builders import DATE, NOW, SETTINGS, TARGET, at, fields, get, lines, meta, ok

FRESH = "Cache-Control: max-age=60"
AUTH = "Authorization: Basic YTpi"
MODIFIED = f"Last-Modified: {at(-1000)}"


def code(
    request: RequestHead,
    response: ResponseHead,
    *,
    heuristic: int | None = None,
    settings: PolicySettings = SETTINGS,
) -> str:
    decision = storing.decide(request, response, heuristic_lifetime=heuristic, settings=settings)
    assert decision.store is (decision.reason.code == "stored")
    assert decision.reason.section.startswith("RFC ")
    assert decision.reason.text
    return decision.reason.code


@pytest.mark.rfc("9111", "3", "method-understood")
@pytest.mark.rfc("9111", "5.2.1.5", "no-store")
@pytest.mark.rfc("9110", "9.2.3", "cacheable")
@pytest.mark.rfc("9110", "9.3.1", "content")
@pytest.mark.parametrize(
    ("request_head", "expected"),
    [
        (get(), "stored"),
        (get(method="HEAD"), "head"),
        (get(method="POST"), "post"),
        (get(method="PUT"), "method"),
        (get(method="QUERY"), "stored"),
        (get("Content-Length: 5", method="QUERY"), "stored"),
        (get("Cache-Control: no-store", method="QUERY"), "request-no-store"),
        (get("Content-Length: 5", AUTH, method="QUERY"), "authorization"),
        (get(method="query"), "method"),
        (get(method="OPTIONS"), "method"),
        (get(method="get"), "method"),
        (get(method="M-SEARCH"), "method"),
        (get("Cache-Control: no-store"), "request-no-store"),
        (get("Cache-Control: max-age=0, No-Store"), "request-no-store"),
        (get('Cache-Control: x="no-store"'), "stored"),
        (get("Cache-Control: no-cache"), "stored"),
        (get("Cache-Control: only-if-cached"), "stored"),
        (get("Cookie: a=b"), "stored"),
        (get("Range: bytes=0-1"), "stored"),
        (get("Content-Length: 0"), "stored"),
        (get("Content-Length: 5"), "request-content"),
        (get("Transfer-Encoding: chunked"), "request-content"),
    ],
)
def test_requests(request_head: RequestHead, expected: str) -> None:
    assert code(request_head, ok(FRESH)) == expected


HERE = "Content-Location: /page?q=1"


@pytest.mark.rfc("9110", "9.3.3", "stored")
@pytest.mark.rfc("9110", "9.3.3", "not-stored")
@pytest.mark.parametrize(
    ("response_lines", "status", "expected"),
    [
        ([FRESH, HERE], 200, "stored"),
        (["Cache-Control: s-maxage=60", HERE], 200, "stored"),
        ([f"Expires: {at(60)}", DATE, HERE], 200, "stored"),
        ([FRESH, "Content-Location: ?q=1"], 200, "stored"),
        ([FRESH, "Content-Location: //origin.example/page?q=1"], 200, "stored"),
        ([FRESH, "Content-Location: HTTP://Origin.Example:80/page?q=1"], 200, "stored"),
        ([FRESH, "Content-Location: /a/../page?q=1"], 200, "stored"),
        # Stated, if not for long.
        (["Cache-Control: max-age=0", 'ETag: "a"', HERE], 200, "stored"),
        (["Cache-Control: max-age=0", HERE], 200, "no-lifetime"),
        # Without a stated lifetime nothing is stored, whatever a heuristic or a validator would make of it.
        ([HERE], 200, "post"),
        (["Cache-Control: public", MODIFIED, 'ETag: "a"', HERE], 200, "post"),
        # The content is what a GET would get only where it says so.
        ([FRESH], 200, "post"),
        ([FRESH, "Content-Location: /page"], 200, "post"),
        ([FRESH, "Content-Location: /page?q=2"], 200, "post"),
        ([FRESH, "Content-Location: /Page?q=1"], 200, "post"),
        ([FRESH, "Content-Location: https://origin.example/page?q=1"], 200, "post"),
        ([FRESH, "Content-Location: http://other.example/page?q=1"], 200, "post"),
        ([FRESH, "Content-Location: http://origin.example:8080/page?q=1"], 200, "post"),
        ([FRESH, "Content-Location: http://[/page?q=1"], 200, "post"),
        ([FRESH, "Content-Location: ./page?q=1"], 200, "stored"),
        # Nor where it isn't quite the same, or only to one who forgives.
        ([FRESH, "Content-Location: "], 200, "post"),
        ([FRESH, "Content-Location: ?"], 200, "post"),
        ([FRESH, "Content-Location: ;"], 200, "post"),
        ([FRESH, "Content-Location: /page;?q=1"], 200, "post"),
        ([FRESH, "Content-Location: /page?q=1#x"], 200, "post"),
        ([FRESH, "Content-Location: /pa\tge?q=1"], 200, "post"),
        ([FRESH, "Content-Location: /page?q=1 /x"], 200, "post"),
        ([FRESH, "Content-Location: http:/page?q=1"], 200, "post"),
        ([FRESH, "Content-Location: /%70age?q=1"], 200, "post"),
        ([FRESH, HERE, HERE], 200, "post"),
        ([FRESH, "Location: /page?q=1"], 200, "post"),
        # And only a 200 is such an answer.
        ([FRESH, HERE], 201, "post"),
        ([FRESH, HERE], 303, "post"),
        ([FRESH, HERE], 404, "post"),
        # All else counts as for a GET.
        (["Cache-Control: no-store, max-age=60", HERE], 200, "no-store"),
        (["Cache-Control: private, max-age=60", HERE], 200, "private"),
        ([FRESH, HERE, "Vary: *"], 200, "vary"),
    ],
)
def test_a_response_to_post_is_stored_only_by_its_own_word(
    response_lines: list[str], status: int, expected: str
) -> None:
    request = get("Content-Length: 5", method="POST")
    assert code(request, ok(*response_lines, status=status), heuristic=100) == expected


@pytest.mark.rfc("9110", "9.3.3", "stored")
@pytest.mark.rfc("9110", "9.3.3", "not-stored")
@pytest.mark.parametrize(
    ("path", "location", "expected"),
    [
        ("/a;v=1", "/a;v=1", "stored"),
        ("/a;v=1", "http://origin.example/a;v=1", "stored"),
        ("/a", "/a?", "post"),
        ("/a", "/a;", "post"),
        ("/a?", "/a", "post"),
        ("/a?", "/a?", "stored"),
        ("/\xe9", "/\xe9", "stored"),
        ("/", "http://origin.example", "stored"),
    ],
)
def test_the_location_of_a_post_is_its_very_target(path: str, location: str, expected: str) -> None:
    request = get(method="POST", target=TargetURI(TARGET.origin, path))
    assert code(request, ok(FRESH, f"Content-Location: {location}")) == expected


def test_what_a_post_asks_for_counts_too() -> None:
    assert code(get("Cache-Control: no-store", method="POST"), ok(FRESH, HERE)) == "request-no-store"
    assert code(get(AUTH, method="POST"), ok(FRESH, HERE)) == "authorization"


@pytest.mark.rfc("9111", "3", "final-status")
@pytest.mark.parametrize("status", [100, 101, 102, 103, 199])
def test_interim_responses_are_never_stored(status: int) -> None:
    assert code(get(), ok(FRESH, status=status)) == "interim"


FINAL = (200, 201, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 421, 451, 499)
FAILED = (500, 501, 502, 503, 504, 599)


@pytest.mark.rfc("9111", "3", "allowed")
@pytest.mark.parametrize("status", FINAL + FAILED)
@pytest.mark.parametrize("line", [FRESH, "Cache-Control: s-maxage=60", f"Expires: {at(60)}"])
def test_any_final_status_with_a_stated_lifetime_is_stored(status: int, line: str) -> None:
    assert code(get(), ok(line, DATE, status=status)) == "stored"


@pytest.mark.rfc("9111", "3", "status-understood")
@pytest.mark.parametrize(
    ("status", "expected"),
    [(206, "partial")] + [(status, "status") for status in (304, 407, 412, 416, 417, 428, 429, 431, 511)],
)
def test_statuses_that_answer_one_request_only(status: int, expected: str) -> None:
    assert code(get(), ok("Cache-Control: public, max-age=60", 'ETag: "a"', status=status)) == expected


@pytest.mark.rfc("9111", "3", "allowed")
@pytest.mark.rfc("9111", "5.2.2.9", "public")
@pytest.mark.rfc("9110", "15.1", "heuristic-statuses")
@pytest.mark.rfc("9110", "15.4", "redirects")
@pytest.mark.parametrize("status", range(200, 600))
def test_heuristically_cacheable_statuses(status: int) -> None:
    """RFC 9110 §15.1: without a stated lifetime only these, or what is marked public, may be stored."""
    listed = status in {200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}
    never = status == 206 or status in {304, 407, 412, 416, 417, 428, 429, 431, 511}
    assert (code(get(), ok(MODIFIED, DATE, status=status), heuristic=100) == "stored") is listed
    public = ok("Cache-Control: public", MODIFIED, DATE, status=status)
    assert (code(get(), public, heuristic=100) == "stored") is not never


@pytest.mark.rfc("9111", "3", "no-store")
@pytest.mark.rfc("9111", "3", "private")
@pytest.mark.rfc("9111", "5.2.2.5", "no-store")
@pytest.mark.rfc("9111", "5.2.2.7", "private")
@pytest.mark.rfc("9111", "5.2.2.7", "qualified")
@pytest.mark.rfc("9111", "4.2.1", "conflicts")
@pytest.mark.rfc("9110", "12.5.5", "star")
@pytest.mark.parametrize(
    ("response_lines", "expected"),
    [
        (["Cache-Control: no-store"], "no-store"),
        (["Cache-Control: NO-STORE, max-age=60"], "no-store"),
        (["Cache-Control: max-age=60", "Cache-Control: no-store"], "no-store"),
        (["Cache-Control: no-store, public, max-age=60"], "no-store"),
        (['Cache-Control: x="no-store", max-age=60'], "stored"),
        (['Cache-Control: x="a, no-store, max-age=60'], "no-store"),
        (["Cache-Control: private, max-age=60"], "private"),
        (["Cache-Control: private, public, s-maxage=60"], "private"),
        (['Cache-Control: private="", max-age=60'], "private"),
        (['Cache-Control: private="x-user", max-age=60'], "stored"),
        (['Cache-Control: private="set-cookie, x-user", max-age=60'], "stored"),
        (['Cache-Control: private="cache-control", max-age=60'], "qualified"),
        (['Cache-Control: private="content-type", max-age=60'], "qualified"),
        (['Cache-Control: no-cache="vary", max-age=60'], "qualified"),
        (['Cache-Control: no-cache="set-cookie", max-age=60'], "stored"),
        (["Cache-Control: no-cache, max-age=60"], "no-lifetime"),
        (["Cache-Control: no-cache", 'ETag: "a"'], "stored"),
        (["Cache-Control: no-cache", MODIFIED], "stored"),
        ([FRESH, "Vary: *"], "vary"),
        ([FRESH, "Vary: Accept, *"], "vary"),
        ([FRESH, "Vary: Accept Encoding"], "vary"),
        ([FRESH, "Vary: Accept-Encoding"], "stored"),
        ([FRESH, "Connection: close, X-Hop"], "stored"),
        ([FRESH, "Connection: Cache-Control"], "connection-options"),
        ([FRESH, "Connection: close", "Connection: vary"], "connection-options"),
        ([FRESH, "Set-Cookie: a=b"], "stored"),
    ],
)
def test_directives(response_lines: list[str], expected: str) -> None:
    assert code(get(), ok(*response_lines)) == expected


@pytest.mark.rfc("9111", "3", "status-understood")
@pytest.mark.rfc("9111", "5.2.2.3", "must-understand")
@pytest.mark.rfc("9111", "5.2.2.3", "no-store-ignored")
@pytest.mark.parametrize(
    ("status", "directives", "expected"),
    [
        (200, "must-understand, no-store, max-age=60", "stored"),
        (200, "no-store, must-understand, max-age=60", "stored"),
        (404, "must-understand, no-store, max-age=60", "stored"),
        (299, "must-understand, no-store, max-age=60", "must-understand"),
        (599, "must-understand, max-age=60", "must-understand"),
        (206, "must-understand, no-store, max-age=60", "partial"),
        (200, "must-understand, private, max-age=60", "private"),
        (200, "no-store, max-age=60", "no-store"),
    ],
)
def test_must_understand(status: int, directives: str, expected: str) -> None:
    assert code(get(), ok(f"Cache-Control: {directives}", status=status)) == expected


@pytest.mark.rfc("9111", "3", "authorization")
@pytest.mark.rfc("9111", "3.5", "allowing-directives")
@pytest.mark.rfc("9111", "5.2.2.8", "not-cacheable-by-itself")
@pytest.mark.parametrize(
    ("response_lines", "expected"),
    [
        ([FRESH], "authorization"),
        ([f"Expires: {at(60)}", DATE], "authorization"),
        (["Cache-Control: max-age=60, proxy-revalidate"], "authorization"),
        (["Cache-Control: max-age=60, public"], "stored"),
        (["Cache-Control: max-age=60, must-revalidate"], "stored"),
        (["Cache-Control: s-maxage=60"], "stored"),
        (["Cache-Control: s-maxage=0", 'ETag: "a"'], "stored"),
        (["Cache-Control: public, private"], "private"),
        (["Cache-Control: public, no-store"], "no-store"),
    ],
)
def test_authorization(response_lines: list[str], expected: str) -> None:
    """RFC 9111 §3.5."""
    assert code(get("Authorization: Basic YTpi"), ok(*response_lines)) == expected


@pytest.mark.parametrize(
    ("request_lines", "response_lines", "heuristic", "expected"),
    [
        ([], [], None, "no-lifetime"),
        ([], [], 10, "stored"),
        ([], ['ETag: "a"'], None, "stored"),
        ([], ['ETag: W/"a"'], None, "stored"),
        ([], ["ETag: a"], None, "no-lifetime"),
        ([], [MODIFIED], None, "stored"),
        ([], ["Last-Modified: yesterday"], None, "no-lifetime"),
        ([], ["Cache-Control: max-age=0"], None, "no-lifetime"),
        ([], ["Cache-Control: max-age=x"], None, "no-lifetime"),
        ([], ["Cache-Control: max-age=0", 'ETag: "a"'], None, "stored"),
        ([], ["Cache-Control: max-age=0, stale-if-error=60"], None, "stored"),
        ([], ["Cache-Control: max-age=0, stale-while-revalidate=60"], None, "stored"),
        ([], ["Expires: 0", DATE], None, "no-lifetime"),
        ([], ["Expires: 0", DATE, MODIFIED], None, "stored"),
        ([], [f"Expires: {at(-60)}", DATE], None, "no-lifetime"),
        ([], [f"Expires: {at(60)}", DATE], None, "stored"),
        ([], [f"Expires: {at(60)}"], None, "stored"),
        # Cookies took part, nothing is stated, and a date would not tell one client's page from another's.
        (["Cookie: a=b"], [MODIFIED], None, "no-lifetime"),
        (["Cookie: a=b"], [MODIFIED, 'ETag: "a"'], None, "stored"),
        (["Cookie: a=b"], [MODIFIED, FRESH], None, "stored"),
        ([], [MODIFIED, "Set-Cookie: a=b"], None, "no-lifetime"),
        ([], [MODIFIED, "Set-Cookie: a=b", 'ETag: "a"'], None, "stored"),
    ],
)
def test_what_could_never_be_reused_is_not_stored(
    request_lines: list[str], response_lines: list[str], heuristic: int | None, expected: str
) -> None:
    assert code(get(*request_lines), ok(*response_lines), heuristic=heuristic) == expected


def test_grace_makes_a_response_worth_keeping_for_bad_times() -> None:
    assert code(get(), ok("Cache-Control: max-age=0"), settings=PolicySettings(grace=60)) == "stored"


@pytest.mark.rfc("9111", "3.1", "all-fields")
@pytest.mark.rfc("9111", "3.1", "connection-fields")
@pytest.mark.rfc("9111", "3.1", "hop-by-hop")
@pytest.mark.rfc("9111", "3.1", "qualified-fields")
@pytest.mark.rfc("9111", "3.1", "proxy-fields")
@pytest.mark.rfc("9111", "5.2.2.7", "qualified")
def test_fields_that_are_not_stored() -> None:
    response = ok(
        "Cache-Control: max-age=60, private=\"x-user\", no-cache='y'",
        'Cache-Control: no-cache="x-fresh"',
        "Connection: keep-alive, X-Hop",
        "Keep-Alive: 5",
        "Proxy-Authenticate: Basic",
        "Proxy-Connection: keep-alive",
        "Transfer-Encoding: chunked",
        "Trailer: X-Sum",
        "Upgrade: h2c",
        "X-Hop: 1",
        "X-User: me",
        "X-Fresh: 1",
        "Set-Cookie: a=b",
        "set-cookie2: a=b",
        "Clear-Site-Data: *",
        "Authentication-Info: x",
        "X-Kept: 1",
        "Cache-Status: cdn; hit",
        "X-Kept: 2",
    )
    assert lines(storing.storable_head(response, None).headers) == [
        "Cache-Control: max-age=60, private=\"x-user\", no-cache='y'",
        'Cache-Control: no-cache="x-fresh"',
        "X-Kept: 1",
        "Cache-Status: cdn; hit",
        "X-Kept: 2",
    ]


def test_meta() -> None:
    request = get("Accept-Encoding: br,gzip", "Authorization: Basic YTpi", "X-A: 1")
    kept = meta("Vary: X-A, Accept-Encoding, X-B", "Cache-Control: public, max-age=60", request=request, delay=0.5)
    assert kept.method == "GET"
    assert kept.request_time == NOW - 0.5
    assert kept.response_time == NOW
    assert kept.nominated == ((b"accept-encoding", b"br, gzip"), (b"x-a", b"1"), (b"x-b", None))
    assert kept.authorized
    assert kept.heuristic_lifetime is None
    assert kept.head.headers.get(b"date") == at(0).encode()
    assert not meta(FRESH).authorized


@pytest.mark.parametrize(
    ("header_lines", "expected"),
    [
        ([], False),
        (["Content-Length: 0"], False),
        (["Content-Length: 1"], True),
        (["Content-Length: 0", "Content-Length: 0"], True),
        (["Transfer-Encoding: chunked"], True),
    ],
)
def test_has_content(header_lines: list[str], expected: bool) -> None:
    assert storing.has_content(fields(*header_lines)) is expected


@pytest.mark.rfc("9110", "8.6", "no-content")
@pytest.mark.parametrize(("status", "kept"), [(200, True), (204, False), (205, True), (404, True)])
def test_a_length_is_stored_only_where_one_may_be(status: int, kept: bool) -> None:
    """RFC 9110 §8.6."""
    assert (b"content-length" in meta(FRESH, "Content-Length: 0", status=status).head.headers) is kept


def test_what_has_too_many_directives_is_not_stored() -> None:
    assert code(get(), ok(FRESH + ", public" * 256)) == "no-store"
    assert code(get("Cache-Control: " + "max-stale, " * 257), ok(FRESH)) == "request-no-store"
