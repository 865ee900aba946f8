from dataclasses import replace

import pytest

from fwdproxy.messages import StoredResponse
from fwdproxy.policy.answering import conditional, from_origin, from_stored
from fwdproxy.policy.decisions import Reason, Serve
from tests.policy.builders import DATE, NOW, at, lines, ok, stored

FRESH = Reason("max-age", "RFC 9111 §5.2.2.1", "the origin states a lifetime")


def serve(found: StoredResponse, status: int = 200, age: int = 12) -> Serve:
    return Serve(found, status, age, 48, stale=False, reason=FRESH)


@pytest.mark.rfc("9111", "4", "age")
@pytest.mark.rfc("9110", "7.6.3", "via")
def test_from_stored() -> None:
    found = stored("Cache-Control: max-age=60", "age: 5", "Age: 6", DATE, "Via: 1.1 cdn", "Content-Length: 10")
    assert lines(from_stored(serve(found), via="fwdproxy").headers) == [
        "Cache-Control: max-age=60",
        DATE,
        "Via: 1.1 cdn",
        "Content-Length: 10",
        "Age: 12",
        "Via: 1.1 fwdproxy",
    ]
    assert b"via" not in from_stored(serve(stored(DATE)), via=None).headers


@pytest.mark.parametrize(("status", "length"), [(200, b"10"), (404, b"10"), (204, None), (302, b"10")])
def test_the_length_of_the_stored_content_is_told(status: int, length: bytes | None) -> None:
    found = stored(DATE, status=status)  # as received in chunks
    assert from_stored(serve(found, status), via=None).headers.get(b"content-length") == length


@pytest.mark.rfc("9110", "15.3.6", "reset-content")
def test_a_205_says_that_it_has_no_content() -> None:
    """RFC 9110 §15.3.6."""
    found = stored(DATE, status=205, body=b"")
    assert from_stored(serve(found, 205), via=None).headers.get_all(b"content-length") == (b"0",)


def test_a_204_stored_with_a_length_is_answered_without() -> None:
    found = stored(DATE)
    before = replace(found.meta, head=ok(DATE, "Content-Length: 0", status=204))
    assert lines(from_stored(serve(replace(found, meta=before), 204), via=None).headers) == [DATE, "Age: 12"]


@pytest.mark.rfc("9110", "8.6", "no-content")
@pytest.mark.parametrize(
    ("status", "kept"), [(100, False), (103, False), (200, True), (204, False), (205, True), (304, False), (404, True)]
)
def test_from_origin_leaves_a_length_only_where_one_may_be(status: int, kept: bool) -> None:
    """RFC 9110 §8.6."""
    head = from_origin(ok("Content-Length: 0", DATE, status=status), via=None, now=NOW)
    assert (b"content-length" in head.headers) is kept


@pytest.mark.rfc("9111", "5.1", "first")
@pytest.mark.rfc("9111", "5.1", "invalid")
@pytest.mark.rfc("9111", "1.2.2", "overflow")
@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([], []),
        (["Age: 5"], ["Age: 5"]),
        (["age: 5"], ["age: 5"]),
        (["Age: 5, 100"], ["Age: 5"]),
        (["Age: 5", "Age: 100"], ["Age: 5"]),
        (["Age: 5", "age: 5"], ["Age: 5"]),
        (["Age: 0005"], ["Age: 5"]),
        (["Age: 99999999999"], ["Age: 2147483648"]),
        (["Age: "], []),
        (["Age: -5"], []),
        (["Age: 5.0"], []),
        (["Age: x, 5"], []),
        (["Age: x", "Age: 5"], []),
    ],
)
def test_from_origin_passes_on_one_valid_age_or_none(ages: list[str], expected: list[str]) -> None:
    """RFC 9111 §5.1: the one that the age of the stored response is counted from."""
    assert lines(from_origin(ok(*ages, DATE), via=None, now=NOW).headers) == [*expected, DATE]


@pytest.mark.rfc("9110", "15.4.5", "fields")
@pytest.mark.rfc("9110", "15.4.5", "no-other-fields")
def test_not_modified_has_the_fields_of_rfc_9110() -> None:
    found = stored(
        'ETag: "a"',
        f"Last-Modified: {at(-10)}",
        "Content-Location: /a",
        "Vary: Accept",
        "Cache-Control: max-age=60",
        f"Expires: {at(60)}",
        DATE,
        "Content-Type: text/plain",
        "Content-Length: 10",
        "Content-Encoding: gzip",
        "Content-Language: en",
        "Content-MD5: x",
        "Access-Control-Allow-Origin: *",
    )
    head = from_stored(serve(found, 304), via=None)
    assert (head.status, head.reason) == (304, b"Not Modified")
    assert lines(head.headers) == [
        'ETag: "a"',
        "Content-Location: /a",
        "Vary: Accept",
        "Cache-Control: max-age=60",
        f"Expires: {at(60)}",
        DATE,
        "Access-Control-Allow-Origin: *",
        "Age: 12",
    ]


def test_not_modified_without_entity_tag_keeps_last_modified() -> None:
    head = from_stored(serve(stored(f"Last-Modified: {at(-10)}", DATE), 304), via=None)
    assert lines(head.headers) == [f"Last-Modified: {at(-10)}", DATE, "Age: 12"]


def test_what_the_origin_said_to_this_client_alone_goes_with_the_answer() -> None:
    found = stored(DATE, "Set-Cookie: of=another")
    not_modified = ok("Set-Cookie: a=b", "set-cookie: c=d", "X-A: 1", "Clear-Site-Data: *", status=304)
    head = from_stored(serve(found), via=None, not_modified=not_modified)
    assert head.headers.get_all(b"set-cookie") == (b"a=b", b"c=d")
    assert b"clear-site-data" in head.headers
    assert b"x-a" not in head.headers
    assert b"set-cookie" not in from_stored(serve(found), via=None).headers


@pytest.mark.rfc("9110", "6.6.1", "date-added")
@pytest.mark.rfc("9110", "7.6.1", "listed-removed")
@pytest.mark.rfc("9110", "7.6.1", "known-removed")
def test_from_origin() -> None:
    response = ok(
        "Connection: close, X-Hop",
        "X-Hop: 1",
        "Transfer-Encoding: chunked",
        "Proxy-Authenticate: Basic",
        "Set-Cookie: a=b",
        "Age: 5",
        "Via: 1.0 cdn",
    )
    assert lines(from_origin(response, via="fwdproxy", now=NOW).headers) == [
        "Set-Cookie: a=b",
        "Age: 5",
        "Via: 1.0 cdn",
        DATE,
        "Via: 1.1 fwdproxy",
    ]
    dated = ok(f"Date: {at(-5)}")
    assert lines(from_origin(dated, via=None, now=NOW).headers) == [f"Date: {at(-5)}"]


def test_conditional() -> None:
    head = ok('ETag: "a"', "Content-Type: text/plain", "Set-Cookie: a=b")
    assert conditional(head, 200) is head
    assert lines(conditional(head, 304).headers) == ['ETag: "a"', "Set-Cookie: a=b"]
