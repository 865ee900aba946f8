"""RFC 9111 §4: when a stored response answers a request, and with which words when not."""

import pytest

from fwdproxy.messages import Origin, StoredResponse, TargetURI
from fwdproxy.policy import reuse
from fwdproxy.policy.decisions import Decision, Forward, PolicySettings, Refuse, Serve, Validate
from fwdproxy.policy.freshness import CREDENTIALS, MAX_AGE
from tests.policy.builders import DATE, NOW, SETTINGS, at, get, stored

TAG = 'ETag: "v1"'
HOUR = "Cache-Control: max-age=3600"


def decide(
    *request_lines: str,
    found: StoredResponse | None,
    later: float = 0.0,
    method: str = "GET",
    known: bool = True,
    settings: PolicySettings = SETTINGS,
) -> Decision:
    return reuse.decide(get(*request_lines, method=method), found, known=known, now=NOW + later, settings=settings)


def told(decision: Decision) -> str:
    """A decision in few words, as the tables have it."""
    assert decision.reason.section.startswith("RFC ")
    match decision:
        case Serve():
            return f"{'stale' if decision.stale else 'fresh'} {decision.reason.code}"
        case Validate() | Forward():
            return f"{type(decision).__name__.lower()} {decision.fwd} {decision.reason.code}"
        case Refuse():
            return f"{decision.status} {decision.reason.code}"


@pytest.mark.rfc("9111", "4", "method")
@pytest.mark.rfc("9111", "4", "write-through")
@pytest.mark.rfc("9111", "5.2.1.5", "stored-already")
@pytest.mark.rfc("9111", "4.3.2", "origin-only")
@pytest.mark.rfc("9110", "9.3.1", "get")
@pytest.mark.rfc("9110", "9.3.1", "content")
@pytest.mark.rfc("9110", "9.3.3", "not-for-post")
@pytest.mark.rfc("9110", "13.1.1", "if-match")
@pytest.mark.rfc("9110", "13.1.4", "if-unmodified-since")
@pytest.mark.parametrize(
    ("method", "request_lines", "expected"),
    [
        ("POST", [], "forward method method"),
        ("PUT", [], "forward method method"),
        ("DELETE", [], "forward method method"),
        ("OPTIONS", [], "forward method method"),
        ("M-SEARCH", [], "forward method method"),
        ("get", [], "forward method method"),
        ("get", ["Range: bytes=0-1"], "forward method method"),
        ("GET", ["Range: bytes=0-1"], "fresh max-age"),
        ("GET", ["Range: bytes=0-1", 'If-Range: "other"'], "fresh max-age"),
        ("GET", ["Range: bytes=0-1", 'If-Match: "v1"'], "forward bypass precondition"),
        ("HEAD", ["Range: bytes=0-1"], "fresh max-age"),
        ("GET", ['If-Match: "v1"'], "forward bypass precondition"),
        ("GET", [f"If-Unmodified-Since: {at(0)}"], "forward bypass precondition"),
        ("GET", ["Content-Length: 5"], "forward bypass request-content"),
        ("GET", ["Content-Length: 0"], "fresh max-age"),
        ("GET", ["Transfer-Encoding: chunked"], "forward bypass request-content"),
        ("HEAD", ["Content-Length: 5"], "forward bypass request-content"),
        ("QUERY", ["Content-Length: 5"], "fresh max-age"),
        ("QUERY", ["Transfer-Encoding: chunked"], "fresh max-age"),
        ("QUERY", [], "fresh max-age"),
        ("QUERY", ['If-Match: "v1"'], "forward bypass precondition"),
        ("GET", [], "fresh max-age"),
        ("HEAD", [], "fresh max-age"),
        ("GET", ["Cookie: a=b"], "fresh max-age"),
        ("GET", ["Authorization: Basic YTpi"], "fresh max-age"),
        ("GET", ["Cache-Control: no-store"], "fresh max-age"),
    ],
)
def test_which_requests_the_cache_answers(method: str, request_lines: list[str], expected: str) -> None:
    assert told(decide(*request_lines, found=stored(HOUR, TAG, DATE), method=method)) == expected


@pytest.mark.rfc("9111", "4.1", "no-match")
@pytest.mark.rfc("9111", "5.2.1.7", "only-if-cached")
@pytest.mark.rfc("9211", "2.2", "uri-miss")
@pytest.mark.rfc("9211", "2.2", "vary-miss")
@pytest.mark.parametrize(
    ("request_lines", "known", "expected"),
    [
        ([], False, "forward uri-miss uri-miss"),
        ([], True, "forward vary-miss vary-miss"),
        (["Range: bytes=0-1"], True, "forward vary-miss vary-miss"),
        (["Cache-Control: no-cache"], False, "forward uri-miss uri-miss"),
        (["Cache-Control: only-if-cached"], False, "504 only-if-cached"),
        (["Cache-Control: only-if-cached"], True, "504 only-if-cached"),
        (["Cache-Control: only-if-cached", "Range: bytes=0-1"], True, "504 only-if-cached"),
    ],
)
def test_nothing_found(request_lines: list[str], known: bool, expected: str) -> None:
    assert told(decide(*request_lines, found=None, known=known)) == expected


@pytest.mark.rfc("9111", "4", "no-cache")
@pytest.mark.rfc("9111", "4", "fresh-or-allowed")
@pytest.mark.rfc("9111", "4.2", "fresh")
@pytest.mark.rfc("9111", "5.2.2.1", "max-age")
@pytest.mark.rfc("9111", "5.2.2.2", "must-revalidate")
@pytest.mark.rfc("9111", "5.2.2.4", "no-cache")
@pytest.mark.rfc("9111", "5.2.2.4", "qualified")
@pytest.mark.parametrize(
    ("cache_control", "later", "expected"),
    [
        ("max-age=60", 0, "fresh max-age"),
        ("max-age=60", 59.9, "fresh max-age"),
        ("max-age=60", 60, "validate stale stale"),
        ("max-age=0", 0, "validate stale stale"),
        ("s-maxage=60, max-age=0", 10, "fresh s-maxage"),
        ("s-maxage=0, max-age=60", 10, "validate stale stale"),
        ("no-cache, max-age=60", 0, "validate stale no-cache"),
        ("No-Cache", 0, "validate stale no-cache"),
        ('no-cache="x-a", max-age=60', 0, "fresh max-age"),
        ('no-cache="", max-age=60', 0, "validate stale no-cache"),
        ("max-age=60, must-revalidate", 0, "fresh max-age"),
        ("max-age=60, must-revalidate", 60, "validate stale stale"),
        ("max-age=60, proxy-revalidate", 0, "fresh max-age"),
    ],
)
def test_freshness(cache_control: str, later: float, expected: str) -> None:
    assert told(decide(found=stored(f"Cache-Control: {cache_control}", TAG, DATE), later=later)) == expected


@pytest.mark.rfc("9111", "5.2.1.1", "max-age")
@pytest.mark.rfc("9111", "5.2.1.2", "max-stale")
@pytest.mark.rfc("9111", "5.2.1.2", "any-age")
@pytest.mark.rfc("9111", "5.2.1.3", "min-fresh")
@pytest.mark.rfc("9111", "5.2.1.4", "no-cache")
@pytest.mark.rfc("9111", "5.2.1.7", "only-if-cached")
@pytest.mark.rfc("9111", "5.4", "pragma")
@pytest.mark.rfc("9211", "2.2", "request")
@pytest.mark.rfc("9211", "2.2", "stale")
@pytest.mark.parametrize(
    ("request_lines", "later", "expected"),
    [
        (["Cache-Control: no-cache"], 0, "validate request request-no-cache"),
        (["Cache-Control: NO-CACHE"], 0, "validate request request-no-cache"),
        (["Cache-Control: no-cache"], 9999, "validate stale request-no-cache"),
        (["Pragma: no-cache"], 0, "validate request request-no-cache"),
        (["Pragma: x, No-Cache"], 0, "validate request request-no-cache"),
        (["Pragma: extension"], 0, "fresh max-age"),
        (["Pragma: no-cache", "Cache-Control: max-age=9999"], 0, "fresh max-age"),
        (["Cache-Control: max-age=0"], 0, "validate request request-max-age"),
        (["Cache-Control: max-age=0"], 1, "validate request request-max-age"),
        (["Cache-Control: max-age=600"], 599, "fresh max-age"),
        (["Cache-Control: max-age=600"], 600, "validate request request-max-age"),
        (["Cache-Control: max-age=600"], 601, "validate request request-max-age"),
        (["Cache-Control: max-age=x"], 1, "validate request request-max-age"),
        (["Cache-Control: max-age=600, max-stale"], 601, "validate request request-max-age"),
        (["Cache-Control: min-fresh=600"], 3000, "fresh max-age"),
        (["Cache-Control: min-fresh=600"], 3001, "validate request request-min-fresh"),
        (["Cache-Control: min-fresh=9999"], 0, "validate request request-min-fresh"),
        (["Cache-Control: min-fresh=x"], 0, "validate request request-min-fresh"),
        (["Cache-Control: min-fresh=0"], 3599, "fresh max-age"),
        (["Cache-Control: max-stale"], 999_999, "stale request-max-stale"),
        (["Cache-Control: max-stale=100"], 3700, "stale request-max-stale"),
        (["Cache-Control: max-stale=100"], 3701, "validate stale stale"),
        (["Cache-Control: max-stale=x"], 3600, "stale request-max-stale"),
        (["Cache-Control: max-stale=x"], 3601, "validate stale stale"),
        (["Cache-Control: max-stale, max-stale=100"], 3601, "validate stale stale"),
        (["Cache-Control: max-stale, max-age=4000"], 3601, "stale request-max-stale"),
        (["Cache-Control: max-stale, max-age=10"], 3601, "validate stale stale"),
        (["Cache-Control: max-stale, min-fresh=10"], 3601, "validate stale stale"),
        (["Cache-Control: max-stale, no-cache"], 3601, "validate stale request-no-cache"),
        (["Cache-Control: only-if-cached"], 0, "fresh max-age"),
        (["Cache-Control: only-if-cached"], 3600, "504 only-if-cached"),
        (["Cache-Control: only-if-cached, max-stale"], 3600, "stale request-max-stale"),
        (["Cache-Control: only-if-cached, no-cache"], 0, "504 only-if-cached"),
        (["Cache-Control: only-if-cached, max-age=1"], 2, "504 only-if-cached"),
        (["Cache-Control: no-transform, foo=bar"], 0, "fresh max-age"),
    ],
)
def test_request_directives(request_lines: list[str], later: float, expected: str) -> None:
    """RFC 9111 §5.2.1, against a response that is fresh for 3600 seconds."""
    assert told(decide(*request_lines, found=stored(HOUR, TAG, DATE), later=later)) == expected


@pytest.mark.rfc("9111", "4.2.4", "prohibited")
@pytest.mark.rfc("9111", "4.2.4", "permitted")
@pytest.mark.rfc("9111", "5.2.2.2", "must-revalidate")
@pytest.mark.rfc("9111", "5.2.2.4", "no-cache")
@pytest.mark.rfc("9111", "5.2.2.8", "proxy-revalidate")
@pytest.mark.rfc("9111", "5.2.2.10", "stale")
@pytest.mark.rfc("5861", "3", "served")
@pytest.mark.rfc("5861", "3", "window")
@pytest.mark.parametrize(
    ("cache_control", "request_line", "later", "expected"),
    [
        # RFC 5861 §3; the window is as long as it says.
        ("max-age=60, stale-while-revalidate=30", None, 59.9, "fresh max-age"),
        ("max-age=60, stale-while-revalidate=30", None, 60, "stale stale-while-revalidate"),
        ("max-age=60, stale-while-revalidate=30", None, 89.9, "stale stale-while-revalidate"),
        ("max-age=60, stale-while-revalidate=30", None, 90, "validate stale stale"),
        ("s-maxage=60, stale-while-revalidate=30", None, 60, "stale stale-while-revalidate"),
        ("s-maxage=60, stale-while-revalidate=30", None, 89, "stale stale-while-revalidate"),
        ("s-maxage=60, stale-while-revalidate=30", None, 90, "validate stale stale"),
        ("s-maxage=60, max-age=600, stale-while-revalidate=30", None, 90, "validate stale stale"),
        ("max-age=0, stale-while-revalidate=30", None, 0, "stale stale-while-revalidate"),
        ("max-age=60, stale-while-revalidate=1", None, 60.9, "stale stale-while-revalidate"),
        ("max-age=60, stale-while-revalidate=1", None, 61, "validate stale stale"),
        ("max-age=60, stale-while-revalidate=0", None, 60, "validate stale stale"),
        ("max-age=60, stale-while-revalidate", None, 60, "validate stale stale"),
        ("max-age=60, stale-while-revalidate=5, stale-while-revalidate=9", None, 60, "validate stale stale"),
        ('max-age=60, stale-while-revalidate="30"', None, 89, "stale stale-while-revalidate"),
        ("max-age=60, stale-while-revalidate=99999999999", None, 10**8, "stale stale-while-revalidate"),
        ('max-age=60, stale-while-revalidate=30, no-cache="x-a"', None, 89, "stale stale-while-revalidate"),
        ("max-age=60, stale-while-revalidate=x", None, 60, "validate stale stale"),
        ("max-age=60, stale-if-error=30", None, 60, "validate stale stale"),
        # What forbids it wins (§4.2.4).
        ("max-age=60, stale-while-revalidate=30, must-revalidate", None, 60, "validate stale stale"),
        ("max-age=60, stale-while-revalidate=30, proxy-revalidate", None, 60, "validate stale stale"),
        ("max-age=60, stale-while-revalidate=30, no-cache", None, 60, "validate stale no-cache"),
        # A client that wants nothing stale gets nothing stale.
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: no-cache", 60, "validate stale request-no-cache"),
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: max-age=999", 60, "validate stale stale"),
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: min-fresh=0", 60, "validate stale stale"),
        ("max-age=60, stale-while-revalidate=30", "Pragma: no-cache", 60, "validate stale request-no-cache"),
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: max-stale=5", 70, "stale stale-while-revalidate"),
        # One that wants nobody asked takes it; who validates it then is the cache.
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: only-if-cached", 89, "stale stale-while-revalidate"),
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: only-if-cached", 90, "504 only-if-cached"),
        ("max-age=60, stale-while-revalidate=30", "Cache-Control: only-if-cached, max-age=9", 70, "504 only-if-cached"),
        # max-stale gives way to them too.
        ("max-age=60", "Cache-Control: max-stale", 61, "stale request-max-stale"),
        ("max-age=60, must-revalidate", "Cache-Control: max-stale", 61, "validate stale stale"),
        ("max-age=60, proxy-revalidate", "Cache-Control: max-stale", 61, "validate stale stale"),
        ("max-age=60, no-cache", "Cache-Control: max-stale", 61, "validate stale no-cache"),
        ("s-maxage=60", "Cache-Control: max-stale", 61, "validate stale stale"),
        ("s-maxage=60, stale-while-revalidate=30", "Cache-Control: max-stale", 99, "validate stale stale"),
    ],
)
def test_staleness(cache_control: str, request_line: str | None, later: float, expected: str) -> None:
    found = stored(f"Cache-Control: {cache_control}", TAG, DATE)
    assert told(decide(*([request_line] if request_line else []), found=found, later=later)) == expected


@pytest.mark.rfc("9111", "4.2.4", "permitted")
@pytest.mark.parametrize(
    ("response_lines", "request_line", "expected"),
    [
        ([], "Cache-Control: max-stale", "validate stale stale"),
        (["Cache-Control: max-age=0"], "Cache-Control: max-stale", "validate stale stale"),
        (["Expires: 0"], "Cache-Control: max-stale=99", "validate stale stale"),
        # The origin says that others may have it.
        (["Cache-Control: max-age=1"], "Cache-Control: max-stale", "stale request-max-stale"),
        (["Cache-Control: max-age=0, stale-while-revalidate=60"], "X-A: 1", "stale stale-while-revalidate"),
    ],
)
def test_no_client_gets_by_max_stale_what_may_be_anothers_own(
    response_lines: list[str], request_line: str, expected: str
) -> None:
    """Stored for its entity tag alone: with that the origin tells one client's page from another's."""
    found = stored(*response_lines, TAG, DATE, why=CREDENTIALS)
    assert told(decide(request_line, found=found, later=5)) == expected
    assert told(decide("Cache-Control: max-stale", found=stored(*response_lines, TAG, DATE), later=5))[:6] == "stale "


def test_grace_is_for_failing_origins_only() -> None:
    found = stored("Cache-Control: max-age=60", TAG, DATE)
    assert told(decide(found=found, later=61, settings=PolicySettings(grace=600))) == "validate stale stale"


@pytest.mark.rfc("8246", "2", "fresh-only")
@pytest.mark.rfc("8246", "2.1", "not-validated")
@pytest.mark.rfc("8246", "2.1", "no-cache")
@pytest.mark.rfc("8246", "3", "authenticated")
@pytest.mark.parametrize(
    ("scheme", "cache_control", "request_line", "expected"),
    [
        ("https", "max-age=3600, immutable", "Cache-Control: max-age=0", "fresh max-age"),
        ("https", "max-age=3600, immutable", "Cache-Control: no-cache", "validate request request-no-cache"),
        ("https", "max-age=3600, immutable", "Cache-Control: min-fresh=9999", "validate request request-min-fresh"),
        ("https", "max-age=5, immutable", "Cache-Control: max-age=0", "validate stale stale"),
        ("http", "max-age=3600, immutable", "Cache-Control: max-age=0", "validate request request-max-age"),
        ("http", "max-age=3600, immutable", "Cache-Control: max-age=20", "fresh max-age"),
    ],
)
def test_immutable(scheme: str, cache_control: str, request_line: str, expected: str) -> None:
    """RFC 8246 §2: while it is fresh, a reload need not ask again; over plain HTTP it does (§3)."""
    found = stored(f"Cache-Control: {cache_control}", TAG, DATE)
    request = get(request_line, target=TargetURI(Origin(scheme, "origin.example", 443), "/"))
    decision = reuse.decide(request, found, known=True, now=NOW + 10, settings=SETTINGS)
    assert told(decision) == expected


@pytest.mark.parametrize(
    ("request_lines", "expected"),
    [
        ([], "fresh heuristic"),
        (["Cookie: a=b"], "validate request heuristic-personal"),
        (["Authorization: Basic YTpi"], "validate request heuristic-personal"),
    ],
)
def test_heuristic_lifetimes_are_for_requests_without_credentials(request_lines: list[str], expected: str) -> None:
    found = stored(f"Last-Modified: {at(-10_000)}", DATE, heuristic=1000)
    assert told(decide(*request_lines, found=found)) == expected


@pytest.mark.rfc("9111", "3.5", "not-reused")
@pytest.mark.rfc("9111", "3.5", "allowing-directives")
@pytest.mark.parametrize(
    ("cache_control", "expected"),
    [
        ("max-age=60", "forward miss authorization"),
        ("max-age=60, public", "fresh max-age"),
        ("max-age=60, must-revalidate", "fresh max-age"),
        ("s-maxage=60", "fresh s-maxage"),
    ],
)
def test_responses_to_requests_with_authorization(cache_control: str, expected: str) -> None:
    """RFC 9111 §3.5 holds at reuse too: a 304 may have taken the permission back."""
    found = stored(f"Cache-Control: {cache_control}", DATE, request=get("Authorization: Basic YTpi"))
    assert told(decide(found=found)) == expected


@pytest.mark.rfc("9111", "4.3.2", "evaluated")
@pytest.mark.rfc("9211", "2.1", "modified")
@pytest.mark.rfc("10008", "2.6", "conditional")
@pytest.mark.rfc("10008", "2.7", "cached")
@pytest.mark.parametrize(
    ("request_lines", "status"),
    [
        ([], 200),
        (['If-None-Match: "v1"'], 304),
        (['If-None-Match: "v2"'], 200),
        ([f"If-Modified-Since: {at(-1000)}"], 304),
        ([f"If-Modified-Since: {at(-1001)}"], 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "QUERY"])
def test_the_clients_condition_is_answered_from_the_store(request_lines: list[str], status: int, method: str) -> None:
    found = stored(HOUR, TAG, f"Last-Modified: {at(-1000)}", DATE)
    decision = decide(*request_lines, found=found, method=method)
    assert isinstance(decision, Serve)
    assert decision.status == status


@pytest.mark.rfc("9211", "2.4", "ttl")
def test_serve_tells_age_and_ttl() -> None:
    found = stored("Cache-Control: max-age=60", "Age: 10", DATE)
    assert decide(found=found, later=7.5) == Serve(found, 200, 17, 43, stale=False, reason=MAX_AGE)
    stale = decide("Cache-Control: max-stale", found=found, later=70)
    assert isinstance(stale, Serve)
    assert (stale.age, stale.ttl, stale.stale) == (80, -20, True)


@pytest.mark.rfc("9111", "4.3.1", "entity-tags")
@pytest.mark.rfc("9111", "4.3.1", "last-modified")
def test_validate_carries_conditions() -> None:
    modified = f"Last-Modified: {at(-1000)}"
    decision = decide(found=stored("Cache-Control: max-age=0", TAG, modified, DATE))
    assert isinstance(decision, Validate)
    assert decision.conditions == (
        (b"If-None-Match", b'"v1"'),
        (b"If-Modified-Since", at(-1000).encode()),
    )
    without = decide(found=stored("Cache-Control: max-age=5", DATE), later=5)
    assert isinstance(without, Validate)
    assert without.conditions == ()


@pytest.mark.parametrize(
    ("request_lines", "status"),
    [
        (["Range: bytes=0-1"], 200),
        (["Range: bytes=0-1", 'If-Range: "v1"'], 200),
        (["Range: bytes=0-1", 'If-Range: "v2"'], 200),
        (["Range: bytes=0-1", f"If-Range: {at(-1000)}"], 200),
        # If-Range is looked at only where nothing else says 304 (RFC 9110 §13.2.2).
        (["Range: bytes=0-1", 'If-Range: "v2"', 'If-None-Match: "v1"'], 304),
    ],
)
def test_a_range_is_cut_from_the_answer_elsewhere(request_lines: list[str], status: int) -> None:
    decision = decide(*request_lines, found=stored(HOUR, TAG, f"Last-Modified: {at(-1000)}", DATE))
    assert isinstance(decision, Serve)
    assert decision.status == status


@pytest.mark.parametrize(("line", "status"), [(None, 200), ('If-None-Match: "v1"', 304), ('If-None-Match: "x"', 200)])
def test_after_a_validation(line: str | None, status: int) -> None:
    found = stored("Cache-Control: no-cache, max-age=60", TAG, DATE)
    serve = reuse.serve_validated(found, get(*([line] if line else [])), now=NOW + 2)
    assert (serve.status, serve.age, serve.ttl, serve.stale, serve.reason.code) == (status, 2, 58, False, "validated")
