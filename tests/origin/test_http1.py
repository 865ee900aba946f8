"""What a response's bytes mean, or that they mean nothing: tables over the parser, whole and byte by byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.errors import OriginError
from fwdproxy.messages import Headers
from fwdproxy.origin.http1 import End, Incoming, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Outcome:
    """What one response came to."""

    def __init__(self) -> None:
        self.interim: list[int] = []
        self.final: Incoming | None = None
        self.body = b""
        self.end: End | None = None


def parse(
    raw: bytes, *, method: str = "GET", upgrade: bool = False, eof: bool = False, step: int = 0
) -> tuple[Outcome, ResponseParser]:
    parser = ResponseParser()
    parser.expect(method, upgrade=upgrade)
    outcome = Outcome()
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)] if step else [raw]
    events = [event for piece in pieces for event in parser.receive(piece)]
    if eof:
        events += parser.receive_eof()
    for event in events:
        if isinstance(event, bytes):
            outcome.body += event
        elif isinstance(event, End):
            outcome.end = event
        elif event.head.status < 200 and event.head.status != 101:
            outcome.interim.append(event.head.status)
        else:
            outcome.final = event
    return outcome, parser


# raw, method, status, fields, body, length, reusable
SOUND = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", "GET", 200, ((b"Content-Length", b"5"),), b"hello", 5, True),
    "no reason, no space": (
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        "GET",
        200,
        ((b"Content-Length", b"0"),),
        b"",
        0,
        True,
    ),
    "empty reason": (
        b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
        "GET",
        404,
        ((b"Content-Length", b"0"),),
        b"",
        0,
        True,
    ),
    "space round values": (
        OK + b"A: \t b c \t\r\nContent-Length: 1 \r\n\r\nx",
        "GET",
        200,
        ((b"A", b"b c"), (b"Content-Length", b"1")),
        b"x",
        1,
        True,
    ),
    "empty value": (
        OK + b"A:\r\nB:  \r\nContent-Length: 0\r\n\r\n",
        "GET",
        200,
        ((b"A", b""), (b"B", b""), (b"Content-Length", b"0")),
        b"",
        0,
        True,
    ),
    "order, case, repetition": (
        OK + b"b: 1\r\nA: 2\r\nB: 3\r\ncontent-LENGTH: 0\r\n\r\n",
        "GET",
        200,
        ((b"b", b"1"), (b"A", b"2"), (b"B", b"3"), (b"content-LENGTH", b"0")),
        b"",
        0,
        True,
    ),
    "obs-text": (
        OK + b"A: caf\xe9\r\nContent-Length: 0\r\n\r\n",
        "GET",
        200,
        ((b"A", b"caf\xe9"), (b"Content-Length", b"0")),
        b"",
        0,
        True,
    ),
    "obs-fold becomes space": (
        OK + b"A: b\r\n \t c\r\n d\r\nContent-Length: 0\r\n\r\n",
        "GET",
        200,
        ((b"A", b"b c d"), (b"Content-Length", b"0")),
        b"",
        0,
        True,
    ),
    "HEAD has no body": (OK + b"Content-Length: 5\r\n\r\n", "HEAD", 200, ((b"Content-Length", b"5"),), b"", 0, True),
    "HEAD of a chunked response": (CHUNKED, "HEAD", 200, ((b"Transfer-Encoding", b"chunked"),), b"", 0, True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", 204, (), b"", 0, True),
    "204 that states a length": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "GET",
        204,
        ((b"Content-Length", b"5"),),
        b"",
        0,
        True,
    ),
    "304 that states a length": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "GET",
        304,
        ((b"Content-Length", b"5"),),
        b"",
        0,
        True,
    ),
    "Connection: close": (
        OK + b"Connection: keep-alive, Close\r\nContent-Length: 1\r\n\r\nx",
        "GET",
        200,
        ((b"Connection", b"keep-alive, Close"), (b"Content-Length", b"1")),
        b"x",
        1,
        False,
    ),
    "HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
        "GET",
        200,
        ((b"Connection", b"keep-alive"), (b"Content-Length", b"1")),
        b"x",
        1,
        False,
    ),
    "bytes behind the body": (
        OK + b"Content-Length: 1\r\n\r\nxy",
        "GET",
        200,
        ((b"Content-Length", b"1"),),
        b"x",
        1,
        False,
    ),
    "body to a HEAD": (OK + b"Content-Length: 1\r\n\r\nx", "HEAD", 200, ((b"Content-Length", b"1"),), b"", 0, False),
    "a second response": (
        OK + b"Content-Length: 1\r\n\r\nx" + OK + b"\r\n",
        "GET",
        200,
        ((b"Content-Length", b"1"),),
        b"x",
        1,
        False,
    ),
}


@pytest.mark.parametrize("step", [0, 1, 7], ids=["whole", "bytes", "sevens"])
@pytest.mark.parametrize(
    ("raw", "method", "status", "fields", "body", "length", "reusable"), SOUND.values(), ids=SOUND.keys()
)
def test_sound(raw, method, status, fields, body, length, reusable, step):
    outcome, parser = parse(raw, method=method, step=step)
    assert outcome.final is not None
    assert outcome.final.head.status == status
    assert outcome.final.head.headers == Headers(fields)
    assert (outcome.final.length, outcome.final.delimited) == (length, True)
    assert outcome.body == body
    assert outcome.end == End(Headers())
    assert parser.reusable is reusable


# the chunked body, content, trailers, reusable
CHUNKS = {
    "one": (b"5\r\nhello\r\n0\r\n\r\n", b"hello", (), True),
    "none": (b"0\r\n\r\n", b"", (), True),
    "hexadecimal": (b"A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n", b"01234567890123456789a", (), True),
    "extensions": (b'5;a;b=c;d="e f"\r\nhello\r\n0;x=y\r\n\r\n', b"hello", (), True),
    "leading zeros": (b"00005\r\nhello\r\n000\r\n\r\n", b"hello", (), True),
    "trailers": (b"5\r\nhello\r\n0\r\nA: b \r\nDigest: c\r\n\r\n", b"hello", ((b"A", b"b"), (b"Digest", b"c")), True),
    "line ends in content": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", (), True),
    "bytes behind": (b"1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"x", (), False),
    "garbage behind": (b"1\r\nx\r\n0\r\n\r\nzzz", b"x", (), False),
    "a line end behind": (b"1\r\nx\r\n0\r\n\r\n\r\n", b"x", (), False),
    "a bare LF behind": (b"1\r\nx\r\n0\r\n\r\n\n", b"x", (), False),
    "a bare CR behind": (b"1\r\nx\r\n0\r\n\r\n\r", b"x", (), False),
    "four line ends behind": (b"1\r\nx\r\n0\r\n\r\n\r\n\r\n", b"x", (), False),
    "trailers, then fields of a second response": (
        b"0\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nC: d\r\n\r\n",
        b"",
        ((b"A", b"b"),),
        False,
    ),
}


@pytest.mark.parametrize("step", [0, 1, 3], ids=["whole", "bytes", "threes"])
@pytest.mark.parametrize(("raw", "content", "trailers", "reusable"), CHUNKS.values(), ids=CHUNKS.keys())
def test_chunked(raw, content, trailers, reusable, step):
    outcome, parser = parse(CHUNKED + raw, step=step)
    assert outcome.final is not None
    assert (outcome.final.length, outcome.final.delimited) == (None, True)
    assert outcome.body == content
    assert outcome.end == End(Headers(trailers))
    assert parser.reusable is reusable


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" chunked \t", b"\tCHUNKED"])
@pytest.mark.parametrize("step", [0, 1])
def test_llhttp_and_we_agree_on_chunked(value, step):
    outcome, _ = parse(OK + b"Transfer-Encoding:" + value + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n", step=step)
    assert outcome.body == b"hello"
    assert outcome.end is not None


def test_upgrade_offered_beside_a_chunked_response():
    raw = OK + b"Upgrade: h2,h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    outcome, parser = parse(raw)
    assert (outcome.body, parser.reusable) == (b"x", True)
    assert outcome.end is not None


INCOMPLETE = "http_response_incomplete"
PROTOCOL = "http_protocol_error"
CODING = "http_response_transfer_coding"
SIZE = "http_response_header_section_size"

FAULTS = {
    "HTTP/0.9": (b"<html>hello", PROTOCOL),
    "HTTP/0.9 in words": (b"HTTP/0.9 200 OK\r\n\r\n", PROTOCOL),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n\r\n", PROTOCOL),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\n\r\n", PROTOCOL),
    "small letters": (b"http/1.1 200 OK\r\n\r\n", PROTOCOL),
    "another protocol": (b"ICY 200 OK\r\n\r\n", PROTOCOL),
    "line ends before": (b"\r\n" + OK + b"\r\n", PROTOCOL),
    "status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", PROTOCOL),
    "status of four digits": (b"HTTP/1.1 2000 OK\r\n\r\n", PROTOCOL),
    "status 099": (b"HTTP/1.1 099 OK\r\n\r\n", PROTOCOL),
    "status 600": (b"HTTP/1.1 600 OK\r\n\r\n", PROTOCOL),
    "two spaces": (b"HTTP/1.1  200 OK\r\n\r\n", PROTOCOL),
    "tab in place of space": (b"HTTP/1.1\t200 OK\r\n\r\n", PROTOCOL),
    "NUL in reason": (b"HTTP/1.1 200 O\0K\r\n\r\n", PROTOCOL),
    "CR in reason": (b"HTTP/1.1 200 O\rK\r\n\r\n", PROTOCOL),
    "bare LF after status line": (b"HTTP/1.1 200 OK\nA: b\r\n\r\n", PROTOCOL),
    "bare LF throughout": (b"HTTP/1.1 200 OK\nA: b\n\n", PROTOCOL),
    "bare LF after a field": (OK + b"A: b\nB: c\r\n\r\n", PROTOCOL),
    "bare CR in a value": (OK + b"A: b\rc\r\n\r\n", PROTOCOL),
    "bare CR before a name": (OK + b"\rA: b\r\n\r\n", PROTOCOL),
    "NUL in a value": (OK + b"A: b\0c\r\n\r\n", PROTOCOL),
    "control in a value": (OK + b"A: b\x01c\r\n\r\n", PROTOCOL),
    "DEL in a value": (OK + b"A: b\x7f\r\n\r\n", PROTOCOL),
    "NUL in a name": (OK + b"A\0: b\r\n\r\n", PROTOCOL),
    "high byte in a name": (OK + b"\xe9: b\r\n\r\n", PROTOCOL),
    "space before the colon": (OK + b"A : b\r\n\r\n", PROTOCOL),
    "tab before the colon": (OK + b"A\t: b\r\n\r\n", PROTOCOL),
    "space in a name": (OK + b"A B: c\r\n\r\n", PROTOCOL),
    "no name": (OK + b": b\r\n\r\n", PROTOCOL),
    "no colon": (OK + b"A\r\n\r\n", PROTOCOL),
    "space before the first field": (OK + b" A: b\r\n\r\n", PROTOCOL),
    "tab before the first field": (OK + b"\tA: b\r\n\r\n", PROTOCOL),
    "two lengths": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", PROTOCOL),
    "the same length twice": (OK + b"Content-Length: 1\r\ncontent-length: 1\r\n\r\nx", PROTOCOL),
    "list of lengths": (OK + b"Content-Length: 1, 1\r\n\r\nx", PROTOCOL),
    "folded length": (OK + b"Content-Length: 1\r\n 0\r\n\r\nx", PROTOCOL),
    "empty length": (OK + b"Content-Length: \r\n\r\n", PROTOCOL),
    "signed length": (OK + b"Content-Length: +1\r\n\r\nx", PROTOCOL),
    "negative length": (OK + b"Content-Length: -1\r\n\r\nx", PROTOCOL),
    "hexadecimal length": (OK + b"Content-Length: 0x1\r\n\r\nx", PROTOCOL),
    "length with underscore": (OK + b"Content-Length: 1_0\r\n\r\nx", PROTOCOL),
    "length beyond 18 digits": (OK + b"Content-Length: 1000000000000000000\r\n\r\nx", PROTOCOL),
    "length beyond 64 bits": (OK + b"Content-Length: 18446744073709551617\r\n\r\nx", PROTOCOL),
    "chunked and length": (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", None),
    "length and chunked": (OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
    "gzip, chunked": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", CODING),
    "gzip, then chunked": (OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CODING),
    "chunked, gzip": (OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", CODING),
    "chunked twice": (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CODING),
    "chunked, chunked": (OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", CODING),
    "identity": (OK + b"Transfer-Encoding: identity\r\n\r\n", CODING),
    "empty coding": (OK + b"Transfer-Encoding:\r\n\r\n", None),
    "xchunked": (OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", CODING),
    "quoted chunked": (OK + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', CODING),
    "chunked with parameter": (OK + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", CODING),
    "chunked in HTTP/1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CODING),
    "chunked 204": (b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CODING),
    "chunked 103": (b"HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CODING),
    "101 unasked": (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "http_upgrade_failed"),
    "head too large": (OK + b"A: " + b"x" * 70000 + b"\r\n\r\n", SIZE),
    "head without end": (OK + b"A: " + b"x" * 70000, SIZE),
    "too many fields": (OK + b"A: b\r\n" * 257 + b"\r\n", SIZE),
    "interim responses without end": (b"HTTP/1.1 100 C\r\n\r\n" * 101, PROTOCOL),
    "no chunk size": (CHUNKED + b"\r\nhello", CODING),
    "chunk size 0x5": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", CODING),
    "chunk size +5": (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", CODING),
    "chunk size -5": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", CODING),
    "chunk size 5_0": (CHUNKED + b"5_0\r\nhello", CODING),
    "space before the size": (CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", CODING),
    "space behind the size": (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", CODING),
    "size beyond 64 bits": (CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n", CODING),
    "bare LF behind the size": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", CODING),
    "bare LF behind the data": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", CODING),
    "data longer than its size": (CHUNKED + b"5\r\nhellox\r\n0\r\n\r\n", CODING),
    "data shorter than its size": (CHUNKED + b"6\r\nhello\r\n0\r\n\r\n", CODING),
    "bare LF in an extension": (CHUNKED + b"5;a=b\nhello\r\n0\r\n\r\n", CODING),
    "bare CR in an extension": (CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n", CODING),
    "NUL in an extension": (CHUNKED + b"5;a\0\r\nhello\r\n0\r\n\r\n", CODING),
    "line end in a quoted extension": (CHUNKED + b'5;a="b\r\n"\r\nhello\r\n0\r\n\r\n', CODING),
    "endless extension": (CHUNKED + b"5;" + b"a" * 70000, CODING),
    "huge extension": (CHUNKED + b"5;" + b"a" * 70000 + b"\r\nhello\r\n0\r\n\r\n", CODING),
    "huge extensions in every chunk": (CHUNKED + (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 100, CODING),
    "bare LF at the end": (CHUNKED + b"0\r\n\n", CODING),
    "space before a trailer's colon": (CHUNKED + b"0\r\nA : b\r\n\r\n", CODING),
    "NUL in a trailer": (CHUNKED + b"0\r\nA: \0\r\n\r\n", CODING),
    "folded trailer": (CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n", CODING),
    "Content-Length as a trailer": (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", CODING),
    "trailers too large": (CHUNKED + b"0\r\nA: " + b"x" * 70000 + b"\r\n\r\n", CODING),
    "too many trailers": (CHUNKED + b"0\r\n" + b"A: b\r\n" * 257 + b"\r\n", "http_response_trailer_section_size"),
}


@pytest.mark.parametrize("step", [0, 1, 1000], ids=["whole", "bytes", "thousands"])
@pytest.mark.parametrize(("raw", "kind"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(raw, kind, step):
    if len(raw) > 5000:
        step *= 50  # long ones byte by byte take seconds and show no more
    with pytest.raises(OriginError) as caught:
        parse(raw, step=step)
    assert caught.value.sent
    assert kind is None or caught.value.kind == kind


CUT = {
    "nothing": (b"", "connection_terminated"),
    "in the status line": (b"HTTP/1.1 2", INCOMPLETE),
    "in the head": (OK + b"Content-Le", INCOMPLETE),
    "after an interim response": (b"HTTP/1.1 100 Continue\r\n\r\n", "connection_terminated"),
    "before the body": (OK + b"Content-Length: 5\r\n\r\n", INCOMPLETE),
    "in the body": (OK + b"Content-Length: 5\r\n\r\nhell", INCOMPLETE),
    "before the first chunk": (CHUNKED, INCOMPLETE),
    "in a chunk": (CHUNKED + b"5\r\nhell", INCOMPLETE),
    "between chunks": (CHUNKED + b"5\r\nhello\r\n", INCOMPLETE),
    "in the last chunk": (CHUNKED + b"5\r\nhello\r\n0\r\n", INCOMPLETE),
    "in the trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n", INCOMPLETE),
}


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(("raw", "kind"), CUT.values(), ids=CUT.keys())
def test_cut(raw, kind, step):
    with pytest.raises(OriginError) as caught:
        parse(raw, eof=True, step=step)
    assert caught.value.kind == kind


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_body_that_ends_with_the_connection(version):
    outcome, parser = parse(b"HTTP/" + version + b" 200 OK\r\n\r\nhello", eof=True, step=4)
    assert outcome.final is not None
    assert (outcome.final.length, outcome.final.delimited) == (None, False)
    assert (outcome.body, outcome.end) == (b"hello", End(Headers()))
    assert not parser.reusable


def test_interim_responses_come_first():
    raw = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        + OK
        + b"Content-Length: 1\r\n\r\nx"
    )
    outcome, parser = parse(raw)
    assert (outcome.interim, outcome.body, parser.reusable) == ([100, 103], b"x", True)


@pytest.mark.parametrize("step", [0, 1])
def test_switch_of_protocols(step):
    raw = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw\0bytes"
    outcome, parser = parse(raw, upgrade=True, step=step)
    assert outcome.final is not None
    assert outcome.final.head.status == 101
    assert (outcome.body, outcome.end, parser.reusable) == (b"raw\0bytes", None, False)


def test_one_parser_reads_one_response_after_another():
    parser = ResponseParser()
    for method, raw, last in [
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n", End(Headers())),
        ("GET", OK + b"Content-Length: 5\r\n\r\nhello", End(Headers())),
        ("GET", CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\n\r\n", End(Headers([(b"A", b"b")]))),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", End(Headers())),
        ("GET", CHUNKED + b"1\r\nx\r\n0\r\n\r\n", End(Headers())),
    ]:
        parser.expect(method)
        assert parser.receive(raw)[-1] == last
        assert parser.reusable


@given(
    content=st.lists(st.binary(min_size=1, max_size=300), max_size=8), cuts=st.lists(st.integers(0, 4000), max_size=12)
)
def test_any_segmentation_gives_the_same_chunked_body(content, cuts):
    raw = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in content) + b"0\r\nA: b\r\n\r\n"
    parser = ResponseParser()
    parser.expect("GET")
    edges = [0, *sorted(cut % len(raw) for cut in cuts), len(raw)]
    events = [event for start, end in pairwise(edges) for event in parser.receive(raw[start:end])]
    assert b"".join(event for event in events if isinstance(event, bytes)) == b"".join(content)
    assert events[-1] == End(Headers([(b"A", b"b")]))
    assert parser.reusable


@given(st.binary(max_size=200))
def test_no_bytes_at_all_bring_anything_but_events_or_an_origin_error(noise):
    for start in (b"", b"HTTP/1.1 200 OK\r\n", CHUNKED):
        parser = ResponseParser()
        parser.expect("GET")
        try:
            parser.receive(start + noise)
            parser.receive_eof()
        except OriginError as error:
            assert error.sent
