"""The heads of answers to range requests (RFC 9110 §15.3.7, §15.5.17)."""

import email
import email.policy

import pytest

from fwdproxy.messages import Span
from fwdproxy.policy.partial import multipart, partial_head, unsatisfiable_head
from tests.policy.builders import DATE, at, lines, ok

CONTENT = bytes(range(256)) * 4
WHOLE = ok(
    "Content-Type: image/png",
    f"Content-Length: {len(CONTENT)}",
    'ETag: "a"',
    f"Last-Modified: {at(-1000)}",
    "Cache-Control: max-age=60",
    "Vary: Accept",
    f"Expires: {at(60)}",
    "Content-Location: /page",
    "Content-Digest: sha-256=:AA==:",
    "Repr-Digest: sha-256=:BB==:",
    "Access-Control-Allow-Origin: *",
    "Set-Cookie: a=b",
    DATE,
    "Age: 7",
    "Via: 1.1 proxy",
)
SAME = [
    'ETag: "a"',
    f"Last-Modified: {at(-1000)}",
    "Cache-Control: max-age=60",
    "Vary: Accept",
    f"Expires: {at(60)}",
    "Content-Location: /page",
    "Repr-Digest: sha-256=:BB==:",
    "Access-Control-Allow-Origin: *",
    "Set-Cookie: a=b",
    DATE,
    "Age: 7",
    "Via: 1.1 proxy",
]


@pytest.mark.rfc("9110", "15.3.7", "fields")
@pytest.mark.rfc("9110", "15.3.7", "all-fields")
@pytest.mark.rfc("9110", "15.3.7.1", "content-range")
@pytest.mark.parametrize(("span", "said"), [(Span(0, 1), "0-0"), (Span(5, 1024), "5-1023"), (Span(0, 1024), "0-1023")])
def test_one_part(span: Span, said: str) -> None:
    head = partial_head(WHOLE, span, 1024)
    assert (head.status, head.reason) == (206, b"Partial Content")
    assert lines(head.headers) == [
        "Content-Type: image/png",
        *SAME,
        f"Content-Range: bytes {said}/1024",
        f"Content-Length: {span.length}",
    ]


@pytest.mark.rfc("9110", "14.6", "multipart")
@pytest.mark.rfc("9110", "15.3.7", "all-fields")
@pytest.mark.rfc("9110", "15.3.7.2", "no-content-range")
@pytest.mark.rfc("9110", "15.3.7.2", "content-type")
@pytest.mark.rfc("9110", "15.3.7.2", "order")
def test_several_parts() -> None:
    spans = [Span(900, 1024), Span(0, 1), Span(10, 20)]
    head, preambles, closing = multipart(WHOLE, spans, 1024, b"limit")
    body = b"".join(preamble + CONTENT[span.start : span.end] for preamble, span in zip(preambles, spans, strict=True))
    body += closing
    assert (head.status, head.reason) == (206, b"Partial Content")
    assert lines(head.headers) == [
        *SAME,
        "Content-Type: multipart/byteranges; boundary=limit",
        f"Content-Length: {len(body)}",
    ]
    # A reader of ours would forgive what we do wrong; this one is of the standard library.
    message = email.message_from_bytes(
        b"Content-Type: multipart/byteranges; boundary=limit\r\n\r\n" + body, policy=email.policy.HTTP
    )
    parts = list(message.iter_parts())
    assert [(part["Content-Type"], part["Content-Range"]) for part in parts] == [
        ("image/png", "bytes 900-1023/1024"),
        ("image/png", "bytes 0-0/1024"),
        ("image/png", "bytes 10-19/1024"),
    ]
    assert [part.get_payload(decode=True) for part in parts] == [CONTENT[span.start : span.end] for span in spans]


def test_parts_of_something_without_type_have_none() -> None:
    _, preambles, closing = multipart(ok(DATE), [Span(0, 1), Span(5, 6)], 9, b"x")
    assert preambles == (
        b"--x\r\nContent-Range: bytes 0-0/9\r\n\r\n",
        b"\r\n--x\r\nContent-Range: bytes 5-5/9\r\n\r\n",
    )
    assert closing == b"\r\n--x--\r\n"


@pytest.mark.rfc("9110", "15.5.17", "content-range")
def test_nothing_is_there() -> None:
    """A 416 tells the length, and has nothing by which it could be stored or taken for the representation."""
    head = unsatisfiable_head(WHOLE, 1024)
    assert (head.status, head.reason) == (416, b"Range Not Satisfiable")
    assert lines(head.headers) == [
        "Vary: Accept",
        "Access-Control-Allow-Origin: *",
        DATE,
        "Via: 1.1 proxy",
        "Content-Range: bytes */1024",
        "Content-Length: 0",
    ]
