"""RFC 9111 §4.3: conditions sent, conditions received, and what the answers update."""

from dataclasses import replace

import pytest

from fwdproxy.fields.dates import format_date
from fwdproxy.messages import BodyRef, StoredMeta
from fwdproxy.policy import validation
from fwdproxy.policy.freshness import CREDENTIALS, current_age, freshness
from tests.policy.builders import DATE, NOW, SETTINGS, at, fields, get, lines, meta, ok, stored

LATER = NOW + 500
RFC850 = "Tuesday, 14-Nov-23 21:56:40 GMT"  # NOW - 1000


@pytest.mark.rfc("9111", "4.3.1", "entity-tags")
@pytest.mark.rfc("9111", "4.3.1", "last-modified")
@pytest.mark.parametrize(
    ("header_lines", "expected"),
    [
        ([], []),
        (['ETag: "a"'], ['If-None-Match: "a"']),
        (['ETag: W/"a"'], ['If-None-Match: W/"a"']),
        (["ETag: a"], []),
        ([f"Last-Modified: {at(-10)}"], [f"If-Modified-Since: {at(-10)}"]),
        ([f"Last-Modified: {RFC850}"], [f"If-Modified-Since: {RFC850}"]),
        (["Last-Modified: yesterday"], []),
        (['ETag: "a"', f"Last-Modified: {at(-10)}"], ['If-None-Match: "a"', f"If-Modified-Since: {at(-10)}"]),
    ],
)
def test_conditions(header_lines: list[str], expected: list[str]) -> None:
    sent = validation.conditions(meta(*header_lines, DATE))
    assert [f"{name.decode()}: {value.decode()}" for name, value in sent] == expected


@pytest.mark.rfc("9111", "4.3.2", "evaluated")
@pytest.mark.rfc("9111", "4.3.2", "origin-only")
@pytest.mark.rfc("9111", "4.3.2", "precedence")
@pytest.mark.rfc("9110", "13.1.2", "weak-comparison")
@pytest.mark.rfc("9110", "13.1.2", "star")
@pytest.mark.rfc("9110", "13.1.2", "not-modified")
@pytest.mark.rfc("9110", "13.1.3", "invalid")
@pytest.mark.rfc("9110", "13.1.3", "method")
@pytest.mark.rfc("9110", "13.1.3", "beside-if-none-match")
@pytest.mark.rfc("9110", "13.1.3", "not-modified")
@pytest.mark.rfc("9110", "13.2.2", "order")
@pytest.mark.parametrize(
    ("request_lines", "response_lines", "expected"),
    [
        ([], ['ETag: "a"'], 200),
        (['If-None-Match: "a"'], ['ETag: "a"'], 304),
        (['If-None-Match: "b"'], ['ETag: "a"'], 200),
        (['If-None-Match: "x", "a", "y"'], ['ETag: "a"'], 304),
        (['If-None-Match: "x"', 'If-None-Match: "a"'], ['ETag: "a"'], 304),
        # Weak comparison (RFC 9110 §13.1.2).
        (['If-None-Match: W/"a"'], ['ETag: "a"'], 304),
        (['If-None-Match: "a"'], ['ETag: W/"a"'], 304),
        (["If-None-Match: *"], ['ETag: "a"'], 304),
        (["If-None-Match: *"], [], 304),
        (['If-None-Match: "a"'], [], 200),
        (["If-None-Match: a"], ['ETag: "a"'], 200),
        (['If-None-Match: "a"'], ["ETag: a"], 200),
        (["If-None-Match: "], ['ETag: "a"'], 200),
        # If-None-Match takes precedence (RFC 9110 §13.2.2).
        (['If-None-Match: "b"', f"If-Modified-Since: {at(0)}"], ['ETag: "a"', f"Last-Modified: {at(-10)}"], 200),
        (['If-None-Match: "a"', f"If-Modified-Since: {at(-99)}"], ['ETag: "a"', f"Last-Modified: {at(-10)}"], 304),
        (["If-None-Match: ", f"If-Modified-Since: {at(0)}"], [f"Last-Modified: {at(-10)}"], 200),
        ([f"If-Modified-Since: {at(-10)}"], [f"Last-Modified: {at(-10)}"], 304),
        ([f"If-Modified-Since: {at(-9)}"], [f"Last-Modified: {at(-10)}"], 304),
        ([f"If-Modified-Since: {at(-11)}"], [f"Last-Modified: {at(-10)}"], 200),
        ([f"If-Modified-Since: {RFC850}"], [f"Last-Modified: {at(-1000)}"], 304),
        ([f"If-Modified-Since: {RFC850}"], [f"Last-Modified: {at(-999)}"], 200),
        (["If-Modified-Since: yesterday"], [f"Last-Modified: {at(-10)}"], 200),
        ([f"If-Modified-Since: {at(0)}", f"If-Modified-Since: {at(0)}"], [f"Last-Modified: {at(-10)}"], 200),
        # If-Range decides about the Range alone (RFC 9110 §13.1.5).
        (["Range: bytes=0-1", 'If-Range: "a"'], ['ETag: "a"'], 200),
        (["Range: bytes=0-1", 'If-Range: "b"'], ['ETag: "a"'], 200),
        (["Range: bytes=0-1", 'If-Range: "b"', 'If-None-Match: "a"'], ['ETag: "a"'], 304),
        # These are not the cache's to evaluate (RFC 9111 §4.3.2).
        (['If-Match: "b"'], ['ETag: "a"'], 200),
        ([f"If-Unmodified-Since: {at(-99)}"], [f"Last-Modified: {at(-10)}"], 200),
    ],
)
@pytest.mark.parametrize("received", [None, NOW])
def test_evaluate(request_lines: list[str], response_lines: list[str], expected: int, received: float | None) -> None:
    response = ok(*response_lines, DATE)
    assert validation.evaluate(fields(*request_lines), response, "GET", received=received) == expected
    assert validation.evaluate(fields(*request_lines), response, "HEAD", received=received) == expected
    assert validation.evaluate(fields(*request_lines), response, "QUERY", received=received) == expected
    assert validation.evaluate(fields(*request_lines), response, "POST", received=received) == 200


@pytest.mark.parametrize("status", [200, 206])
def test_conditions_turn_a_200_or_206_into_a_304(status: int) -> None:
    assert validation.evaluate(fields("If-None-Match: *"), ok(DATE, status=status), "GET") == 304


@pytest.mark.rfc("9110", "13.2.1", "other-statuses")
@pytest.mark.parametrize("status", [203, 204, 301, 304, 404, 500])
def test_conditions_say_nothing_of_other_statuses(status: int) -> None:
    """RFC 9110 §13.2.1, §15.4.5."""
    assert validation.evaluate(fields("If-None-Match: *"), ok(DATE, status=status), "GET") == status


@pytest.mark.rfc("9111", "4.3.2", "date-stands-in")
@pytest.mark.parametrize(
    ("date_lines", "since", "received", "expected"),
    [
        ([DATE], 0, NOW, 304),
        ([DATE], -1, NOW, 200),
        ([], 0, NOW, 304),
        ([], -1, NOW, 200),
        # A response just fetched is news, whatever the client's clock says.
        ([DATE], 10, None, 200),
        ([], 10, None, 200),
    ],
)
def test_a_stored_response_without_last_modified_goes_by_its_date(
    date_lines: list[str], since: int, received: float | None, expected: int
) -> None:
    """RFC 9111 §4.3.2."""
    request = fields(f"If-Modified-Since: {at(since)}")
    assert validation.evaluate(request, ok(*date_lines), "GET", received=received) == expected


@pytest.mark.rfc("9110", "15.4.5", "unasked")
@pytest.mark.parametrize(
    ("status", "sent", "expected"),
    [
        (304, [], True),
        (304, ["Accept: */*"], True),
        # These get a 412, a 206 or a 200, never a 304.
        (304, ['If-Match: "a"', f"If-Unmodified-Since: {at(0)}", 'If-Range: "a"', "Range: bytes=0-1"], True),
        (304, ['If-None-Match: "a"'], False),
        (304, [f"if-modified-since: {at(0)}"], False),
        (304, ["If-None-Match: "], False),
        (200, [], False),
        (412, [], False),
    ],
)
def test_a_304_that_nobody_asked_for(status: int, sent: list[str], expected: bool) -> None:
    assert validation.unasked(ok(DATE, status=status), fields(*sent)) is expected


def freshen(kept: StoredMeta, *not_modified: str) -> StoredMeta | None:
    head = ok(*not_modified, status=304)
    return validation.freshen(kept, head, request_time=LATER - 1, response_time=LATER, settings=SETTINGS)


@pytest.mark.rfc("9111", "4.3.4", "strong")
@pytest.mark.rfc("9111", "4.3.4", "weak")
@pytest.mark.parametrize(
    ("stored_lines", "not_modified", "expected"),
    [
        # A strong validator identifies those with the same strong validator (§4.3.4).
        (['ETag: "a"'], ['ETag: "a"'], True),
        (['ETag: "a"'], ['ETag: "b"'], False),
        (['ETag: W/"a"'], ['ETag: "a"'], False),
        ([], ['ETag: "a"'], False),
        ([f"Last-Modified: {at(-10)}"], ['ETag: "a"'], False),
        (['ETag: "a"', f"Last-Modified: {at(-10)}"], ['ETag: "a"', f"Last-Modified: {at(-5)}"], True),
        # A weak one those that it corresponds to.
        (['ETag: W/"a"'], ['ETag: W/"a"'], True),
        (['ETag: "a"'], ['ETag: W/"a"'], True),
        (['ETag: W/"a"'], ['ETag: W/"b"'], False),
        ([f"Last-Modified: {at(-10)}"], [f"Last-Modified: {at(-10)}"], True),
        ([f"Last-Modified: {at(-10)}"], [f"Last-Modified: {at(-5)}"], False),
        (['ETag: "a"'], [f"Last-Modified: {at(-10)}"], False),
        (['ETag: "a"', f"Last-Modified: {at(-10)}"], [f"Last-Modified: {at(-10)}"], True),
        (['ETag: "a"'], ["ETag: a"], False),
        # None at all speaks of the response whose validators were sent.
        (['ETag: "a"'], [], True),
        ([f"Last-Modified: {at(-10)}"], [], True),
        # One that has none can't have been asked about.
        ([], [], False),
        (["ETag: a", "Last-Modified: yesterday"], ["ETag: a", "Last-Modified: yesterday"], False),
        (["Last-Modified: yesterday"], ["Last-Modified: yesterday"], False),
    ],
)
def test_which_stored_response_a_304_speaks_of(
    stored_lines: list[str], not_modified: list[str], expected: bool
) -> None:
    assert (freshen(meta(*stored_lines, DATE), *not_modified) is not None) is expected


@pytest.mark.parametrize(
    "line",
    [
        "Cache-Control: no-store",
        "Cache-Control: private",
        'Cache-Control: private="vary"',
        "Connection: cache-control",
        "Vary: *",
        "Vary: Accept",
    ],
)
def test_a_304_that_forbids_storing_or_varies_otherwise_is_no_update(line: str) -> None:
    assert freshen(meta('ETag: "a"', DATE), 'ETag: "a"', line) is None


def test_an_unchanged_vary_is_an_update() -> None:
    kept = meta('ETag: "a"', "Vary: Foo, Bar", request=get("Foo: 1"))
    freshened = freshen(kept, 'ETag: "a"', "Vary: bar,foo")
    assert freshened is not None
    assert freshened.nominated == kept.nominated == ((b"bar", None), (b"foo", b"1"))


@pytest.mark.rfc("9111", "3.2", "update")
@pytest.mark.rfc("9111", "3.2", "not-storable")
@pytest.mark.rfc("9111", "3.2", "content-length")
@pytest.mark.rfc("9111", "3.2", "depends-upon")
@pytest.mark.rfc("9111", "4.3.4", "update")
def test_which_fields_a_304_updates() -> None:
    kept = meta(
        'ETag: "a"',
        "Age: 77",
        "Cache-Control: max-age=1",
        "Content-Type: text/plain",
        "Content-Encoding: gzip",
        "Content-Length: 10",
        "Content-Location: /foo",
        "X-Kept: 1",
        "X-Twice: 1",
        "X-Twice: 2",
        DATE,
    )
    freshened = freshen(
        kept,
        'ETag: "a"',
        "cache-control: max-age=3600",
        "Content-Type: text/plain;charset=utf-8",
        "Content-Encoding: br",
        "Content-Length: 0",
        "Content-Range: bytes 0-1/2",
        "Content-Location: /bar",
        "x-twice: 3",
        "X-New: 1",
        f"Date: {at(499)}",
        "Set-Cookie: a=b",
        "Connection: keep-alive, X-Hop",
        "Keep-Alive: 5",
        "X-Hop: 1",
        "Proxy-Authenticate: Basic",
    )
    assert freshened is not None
    assert lines(freshened.head.headers) == [
        "Content-Encoding: gzip",
        "Content-Length: 10",
        "X-Kept: 1",
        'ETag: "a"',
        "cache-control: max-age=3600",
        "Content-Type: text/plain;charset=utf-8",
        "Content-Location: /bar",
        "x-twice: 3",
        "X-New: 1",
        f"Date: {at(499)}",
    ]
    assert freshened.head.status == 200
    assert (freshened.request_time, freshened.response_time) == (LATER - 1, LATER)
    assert freshness(freshened).lifetime == 3600
    assert current_age(freshened, LATER) == 1


def test_fields_that_new_directives_name_are_dropped() -> None:
    freshened = freshen(meta('ETag: "a"', "X-User: 1"), 'ETag: "a"', 'Cache-Control: private="x-user"')
    assert freshened is not None
    assert b"x-user" not in freshened.head.headers


def test_a_304_without_date_was_made_when_it_came() -> None:
    freshened = freshen(meta('ETag: "a"', "Cache-Control: max-age=60", "Age: 50", DATE), 'ETag: "a"')
    assert freshened is not None
    assert freshened.head.headers.get_all(b"date") == (format_date(LATER),)
    assert current_age(freshened, LATER) == 1  # the response delay


def test_the_age_of_a_304_counts() -> None:
    freshened = freshen(meta('ETag: "a"', "Age: 50", DATE), 'ETag: "a"', "Age: 7", f"Date: {at(500)}")
    assert freshened is not None
    assert current_age(freshened, LATER) == 8


@pytest.mark.parametrize(
    ("line", "lifetime", "why"), [("X-A: 1", 100, "TenthOfAge"), ("Cache-Control: max-age=5", None, "")]
)
def test_a_heuristic_lifetime_stays_until_one_is_stated(line: str, lifetime: int | None, why: str) -> None:
    freshened = freshen(meta('ETag: "a"', heuristic=100), 'ETag: "a"', line)
    assert freshened is not None
    assert (freshened.heuristic_lifetime, freshened.heuristic_reason) == (lifetime, why)


def test_what_credentials_brought_stays_marked() -> None:
    kept = replace(meta('ETag: "a"'), heuristic_reason=CREDENTIALS)
    for line in ("X-A: 1", "Cache-Control: max-age=5"):
        freshened = freshen(kept, 'ETag: "a"', line)
        assert freshened is not None
        assert freshened.heuristic_reason == CREDENTIALS


STORED = ['ETag: "a"', f"Last-Modified: {at(-10)}", "Cache-Control: max-age=1", "Content-Length: 10", DATE]


@pytest.mark.rfc("9111", "4.3.5", "updates")
@pytest.mark.rfc("9111", "4.3.5", "mismatch")
@pytest.mark.rfc("9111", "4.3.5", "fields")
@pytest.mark.parametrize(
    ("head_lines", "updates"),
    [
        ([], True),
        (['ETag: "a"'], True),
        (['ETag: "a"', f"Last-Modified: {at(-10)}", "Content-Length: 10"], True),
        (['ETag: "b"'], False),
        (['ETag: W/"a"'], False),
        ([f"Last-Modified: {at(-5)}"], False),
        (['ETag: "a"', f"Last-Modified: {at(-5)}"], False),
        (['ETag: "a"', "Content-Length: 11"], False),
        (["Content-Length: 10"], True),
        (['ETag: "a"', "Content-Encoding: gzip"], False),
        (['ETag: "a"', "Cache-Control: no-store"], False),
        (['ETag: "a"', "Vary: Foo"], False),
    ],
)
def test_head_updates_or_drops(head_lines: list[str], updates: bool) -> None:
    """RFC 9111 §4.3.5."""
    head = ok(*head_lines, "X-New: 1", status=200)
    freshened = validation.freshen_from_head(
        stored(*STORED), head, request_time=LATER, response_time=LATER, settings=SETTINGS
    )
    assert (freshened is not None) is updates
    if freshened is not None:
        assert freshened.head.headers.get(b"x-new") == b"1"
        assert freshened.response_time == LATER


@pytest.mark.rfc("9111", "4.3.5", "mismatch")
def test_head_compares_the_length_of_what_is_stored() -> None:
    chunked = replace(stored('ETag: "a"'), body=BodyRef(7, b"", b"1234567"))
    for length, updates in (("7", True), ("8", False)):
        head = ok('ETag: "a"', f"Content-Length: {length}")
        freshened = validation.freshen_from_head(
            chunked, head, request_time=LATER, response_time=LATER, settings=SETTINGS
        )
        assert (freshened is not None) is updates


def test_a_head_response_that_contradicts_the_stored_status_drops_it() -> None:
    gone = stored("Cache-Control: max-age=60", status=404)
    assert validation.freshen_from_head(gone, ok(), request_time=LATER, response_time=LATER, settings=SETTINGS) is None


@pytest.mark.parametrize("status", [204, 304, 404, 410, 503])
def test_head_responses_other_than_200_say_nothing(status: int) -> None:
    kept = stored(*STORED)
    head = ok('ETag: "b"', status=status)
    assert (
        validation.freshen_from_head(kept, head, request_time=LATER, response_time=LATER, settings=SETTINGS)
        is kept.meta
    )
