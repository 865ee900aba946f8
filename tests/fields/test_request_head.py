"""A request head is refused wherever two readers could take it differently (RFC 9112)."""

import pytest

from fwdproxy.fields.request_head import MAX_FIELDS, request_head_fault

SOUND = [
    b"GET http://a.test/ HTTP/1.1\r\nHost: a.test",
    b"GET / HTTP/1.0",
    b"GET / HTTP/1.0\r\nHost: a",
    b"CONNECT a.test:443 HTTP/1.1",
    b"OPTIONS * HTTP/1.1\r\nHost:a",
    b"M-SEARCH /x HTTP/1.1\r\nHost: a\r\nX-Empty:",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked",
    b"GET /caf\xe9 HTTP/1.1\r\nHost: a\r\nX-Latin: caf\xe9\t!",
]


@pytest.mark.parametrize("head", SOUND)
def test_sound_heads_pass(head: bytes) -> None:
    assert request_head_fault(head) is None


FAULTY = [
    (b"", 400),
    (b"GET /  HTTP/1.1\r\nHost: a", 400),
    (b"GET / HTTP/1.1 \r\nHost: a", 400),
    (b"GET / HTTP/2.0\r\nHost: a", 400),
    (b"GET / HTTP/3.9\r\nHost: a", 400),
    (b"GET /", 400),
    (b"G(T / HTTP/1.1\r\nHost: a", 400),
    (b"GET /#fragment HTTP/1.1\r\nHost: a", 400),
    (b"GET /a\x00b HTTP/1.1\r\nHost: a", 400),
    (b"GET / HTTP/1.1\nHost: a", 400),
    (b"GET / HTTP/1.1\r\nHost: a\nX: y", 400),
    (b"GET / HTTP/1.1\r\nHost: a\rX: y", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX : y", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n folded", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n: y", 400),
    (b"GET / HTTP/1.1", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nhost: b", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
    (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", 501),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
    (b"GET / HTTP/1.1\r\nHost: a" + b"\r\nX: y" * MAX_FIELDS, 431),
]


@pytest.mark.parametrize(("head", "status"), FAULTY)
def test_faulty_heads_are_refused(head: bytes, status: int) -> None:
    fault = request_head_fault(head)
    assert fault is not None
    assert fault[0] == status


def test_words_show_a_long_line_shortened() -> None:
    fault = request_head_fault(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 500)
    assert fault is not None
    assert len(fault[1]) < 120
