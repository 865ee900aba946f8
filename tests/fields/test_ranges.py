"""Range and Content-Range (RFC 9110 §14)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields.ranges import (
    MAX_POSITION,
    MAX_RANGES,
    ByteRange,
    ContentRange,
    parse_content_range,
    parse_range,
    serialize_range,
)


@pytest.mark.rfc("9110", "14.1.2", "int-range")
@pytest.mark.rfc("9110", "14.1.2", "suffix")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=0-499", (ByteRange(0, 499),)),
        (b"bytes=500-", (ByteRange(500),)),
        (b"bytes=-500", (ByteRange(suffix=500),)),
        (b"bytes=-0", (ByteRange(suffix=0),)),
        (b"bytes=0-0", (ByteRange(0, 0),)),
        (b"bytes=007-08", (ByteRange(7, 8),)),
        (b"BYTES=0-1", (ByteRange(0, 1),)),
        (b" bytes=0-1\t", (ByteRange(0, 1),)),
        (b"bytes=0-0,-1", (ByteRange(0, 0), ByteRange(suffix=1))),
        (b"bytes=500-600 , 601-999", (ByteRange(500, 600), ByteRange(601, 999))),
        (b"bytes=9-, 0-3,\t5-5", (ByteRange(9), ByteRange(0, 3), ByteRange(5, 5))),
        (b"bytes=,0-1,,2-3,", (ByteRange(0, 1), ByteRange(2, 3))),
    ],
)
def test_parse_range(value: bytes, expected: tuple[ByteRange, ...]) -> None:
    assert parse_range(value) == expected


@pytest.mark.rfc("9110", "14.2", "malformed")
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=a-b",
        b"bytes=0",
        b"bytes=0-1-2",
        b"bytes=--1",
        b"bytes=+1-2",
        b"bytes=0 -1",
        b"bytes =0-1",
        b"bytes:0-1",
        b"bytes 0-1",
        b"bytes=0-1;2-3",
        b"bytes=0-1,x",
        b"bytes=0-1,bytes=2-3",
        "bytes=٠-١".encode(),
        b"bytes=0-\xb2",
        b"bytes=0-1\n",
    ],
)
def test_a_malformed_range_is_ignored(value: bytes) -> None:
    assert parse_range(value) is None


@pytest.mark.rfc("9110", "14.2", "unknown-unit")
@pytest.mark.parametrize("value", [b"items=0-1", b"byte=0-1", b"xbytes=0-1", b"seconds=1-2", b"none=0-1", b"=0-1"])
def test_another_unit_is_ignored(value: bytes) -> None:
    assert parse_range(value) is None


@pytest.mark.rfc("9110", "14.1.1", "invalid")
@pytest.mark.parametrize("value", [b"bytes=2-1", b"bytes=0-1,5-4", b"bytes=5-4,0-1"])
def test_a_range_that_ends_before_it_starts_makes_all_invalid(value: bytes) -> None:
    assert parse_range(value) is None


@pytest.mark.rfc("9110", "14.1.2", "large-numbers")
def test_huge_numbers_are_read() -> None:
    nines = b"9" * 5000
    assert parse_range(b"bytes=0-" + nines) == (ByteRange(0, MAX_POSITION),)
    assert parse_range(b"bytes=" + nines + b"-") == (ByteRange(MAX_POSITION),)
    assert parse_range(b"bytes=-" + nines) == (ByteRange(suffix=MAX_POSITION),)
    assert parse_range(b"bytes=" + b"0" * 5000 + b"7-9") == (ByteRange(7, 9),)
    assert parse_range(b"bytes=" + b"0" * 5000 + b"-9") == (ByteRange(0, 9),)


@pytest.mark.rfc("9110", "17.15", "range-attacks")
@pytest.mark.parametrize(("count", "read"), [(1, True), (MAX_RANGES, True), (MAX_RANGES + 1, False), (9000, False)])
def test_too_many_ranges_are_not_read(count: int, read: bool) -> None:
    parsed = parse_range(b"bytes=" + b",".join(b"%d-%d" % (at * 10, at * 10) for at in range(count)))
    assert parsed is None if not read else parsed is not None and len(parsed) == count


BOUNDED = st.integers(0, 10**18 - 1)
FROM_FIRST = st.builds(
    lambda first, more: ByteRange(first, None if more is None else first + more),
    st.integers(0, 10**17),
    st.none() | st.integers(0, 10**17),
)
ONE = FROM_FIRST | BOUNDED.map(lambda suffix: ByteRange(suffix=suffix))


@given(st.lists(ONE, min_size=1, max_size=MAX_RANGES))
def test_what_is_serialized_is_read_again(ranges: list[ByteRange]) -> None:
    assert parse_range(serialize_range(ranges)) == tuple(ranges)


@pytest.mark.rfc("9110", "14.4", "complete-length")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes 0-499/1234", ContentRange(0, 499, 1234)),
        (b"bytes 734-1233/1234", ContentRange(734, 1233, 1234)),
        (b"bytes 42-1233/*", ContentRange(42, 1233, None)),
        (b"bytes */1234", ContentRange(None, None, 1234)),
        (b"bytes */0", ContentRange(None, None, 0)),
        (b"bytes 0-0/1", ContentRange(0, 0, 1)),
        (b"Bytes  00-09/010 ", ContentRange(0, 9, 10)),
    ],
)
def test_parse_content_range(value: bytes, expected: ContentRange) -> None:
    assert parse_content_range(value) == expected
    assert parse_content_range(expected.serialize()) == expected


@pytest.mark.rfc("9110", "14.4", "invalid")
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes ",
        b"bytes 0-9",
        b"bytes 0-9/",
        b"bytes 0-9/9",
        b"bytes 5-4/10",
        b"bytes 10-10/10",
        b"bytes 0-/10",
        b"bytes -9/10",
        b"bytes */*",
        b"bytes=0-9/10",
        b"bytes 0-9/10, bytes 0-9/10",
        b"bytes\t0-9/10",
        b"bytes +0-9/10",
        b"bytes 0-9/1" + b"0" * 5000,
        b"bytes 0-1" + b"0" * 5000 + b"/*",
        b"bytes 1" + b"0" * 5000 + b"-9/*",
        b"bytes */1" + b"0" * 5000,
    ],
)
def test_an_invalid_content_range(value: bytes) -> None:
    assert parse_content_range(value) is None


@pytest.mark.rfc("9110", "14.4", "unit")
@pytest.mark.parametrize("value", [b"items 0-9/10", b"exampleunit 1.2-4.3/25", b" 0-9/10"])
def test_a_content_range_in_another_unit(value: bytes) -> None:
    assert parse_content_range(value) is None


@pytest.mark.parametrize("unit", [b"0-1,", b",", b" ", b"-", b"9", b"0", b"\t,", b"-1,", b'"', b"bytes=", b"*/"])
def test_hostile_values_take_linear_time(unit: bytes) -> None:
    body = unit * (64 * 1024 // len(unit))
    started = time.process_time()
    for value in (body, b"bytes=" + body, b"bytes=" + body + b"\x00", b"bytes=0-" + body):
        parse_range(value)
    for value in (body, b"bytes " + body, b"bytes 0-" + body, b"bytes 0-1/" + body + b"x", b"bytes " + body + b"0-1/2"):
        parse_content_range(value)
    assert time.process_time() - started < 0.5
