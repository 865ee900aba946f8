"""What a Range wants (RFC 9110 §14), what a 206 brings, and how parts make a whole (RFC 9111 §3.4)."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields.ranges import MAX_RANGES, ByteRange
from fwdproxy.messages import Headers, ResponseHead, Span
from fwdproxy.policy import ranges
from fwdproxy.policy.freshness import current_age, freshness
from fwdproxy.policy.ranges import MANY, STRONG_AFTER, Piece, Plan, Received, Spans, Unsatisfiable, Wanted, Whole
from tests.policy.builders import DATE, NOW, SETTINGS, at, fields, lines, meta, ok

LENGTH = 1000
TAGGED = ok('ETag: "a"', DATE)


def spans(*pairs: tuple[int, int]) -> Spans:
    return Spans(tuple(Span(start, end) for start, end in pairs))


def wanted(*request: str, head: ResponseHead = TAGGED, method: str = "GET", complete: int = LENGTH) -> Wanted:
    return ranges.wanted(fields(*request), method, head, complete, NOW)


@pytest.mark.rfc("9110", "14.1.2", "int-range")
@pytest.mark.rfc("9110", "14.1.2", "suffix")
@pytest.mark.rfc("9110", "14.1.2", "large-numbers")
@pytest.mark.rfc("9110", "14.2", "partial-content")
@pytest.mark.rfc("9110", "14.2", "unsatisfiable")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", spans((0, 1))),
        ("bytes=0-499", spans((0, 500))),
        ("bytes=500-999", spans((500, 1000))),
        ("bytes=999-999", spans((999, 1000))),
        ("bytes=990-", spans((990, 1000))),
        ("bytes=0-", spans((0, 1000))),
        ("bytes=0-1000", spans((0, 1000))),
        ("bytes=999-1000", spans((999, 1000))),
        (f"bytes=1-{'9' * 200}", spans((1, 1000))),
        ("bytes=-1", spans((999, 1000))),
        ("bytes=-999", spans((1, 1000))),
        ("bytes=-1000", spans((0, 1000))),
        ("bytes=-1001", spans((0, 1000))),
        (f"bytes=-{'9' * 200}", spans((0, 1000))),
        ("bytes=1000-", Unsatisfiable()),
        ("bytes=1000-1001", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        (f"bytes={'9' * 200}-", Unsatisfiable()),
        ("bytes=1000-, -0, 2000-3000", Unsatisfiable()),
    ],
)
def test_one_range(value: str, expected: Wanted) -> None:
    assert wanted(f"Range: {value}") == expected


@pytest.mark.rfc("9110", "14.1.1", "ranges")
@pytest.mark.rfc("9110", "14.2", "overlapping")
@pytest.mark.rfc("9110", "15.3.7.2", "order")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0-0,-1", spans((0, 1), (999, 1000))),
        ("-1,0-0", spans((999, 1000), (0, 1))),
        ("900-,10-19,500-509", spans((900, 1000), (10, 20), (500, 510))),
        # What isn't there is left out.
        ("0-9,1000-", spans((0, 10))),
        ("-0,5-6,4000-", spans((5, 7))),
        # What overlaps or adjoins is one part, at the place of the first.
        ("0-9,5-19", spans((0, 20))),
        ("0-9,10-19", spans((0, 20))),
        ("10-19,0-9", spans((0, 20))),
        ("0-99,20-29", spans((0, 100))),
        ("0-9,11-19", spans((0, 10), (11, 20))),
        ("100-109,0-9,105-120,500-509", spans((100, 121), (0, 10), (500, 510))),
        ("0-9,20-29,10-19", spans((0, 30))),
        ("50-59,0-9,20-29,10-19", spans((50, 60), (0, 30))),
        ("0-,-1", spans((0, 1000))),
        # More than two that overlap (RFC 9110 §14.2).
        ("0-,0-,0-", Whole()),
        ("0-99,50-149,100-199", Whole()),
        ("0-9,0-9,500-509,505-520", Whole()),
    ],
)
def test_several_ranges(value: str, expected: Wanted) -> None:
    assert wanted(f"Range: bytes={value}") == expected


@pytest.mark.rfc("9110", "17.15", "range-attacks")
@pytest.mark.parametrize(
    ("count", "descending", "honoured"),
    [
        (MANY, False, True),
        (MANY, True, True),
        (MANY + 1, False, True),
        (MANY + 1, True, False),
        (MAX_RANGES, False, True),
        (MAX_RANGES + 1, False, False),
        (10_000, False, False),
    ],
)
def test_many_small_ranges(count: int, descending: bool, honoured: bool) -> None:
    starts = sorted((number * 10 for number in range(count)), reverse=descending)
    asked = "Range: bytes=" + ",".join(f"{start}-{start}" for start in starts)
    expected = Spans(tuple(Span(start, start + 1) for start in starts)) if honoured else Whole()
    assert wanted(asked, complete=1_000_000) == expected


@pytest.mark.rfc("9110", "14.2", "get-only")
@pytest.mark.parametrize("method", ["HEAD", "POST", "QUERY", "OPTIONS", "get"])
def test_only_get_has_ranges(method: str) -> None:
    assert wanted("Range: bytes=0-9", method=method) == Whole()


@pytest.mark.rfc("9110", "14.2", "after-conditions")
@pytest.mark.parametrize("status", [203, 204, 206, 301, 304, 404, 500])
def test_only_a_200_has_ranges(status: int) -> None:
    assert wanted("Range: bytes=0-9", head=ok('ETag: "a"', DATE, status=status)) == Whole()


@pytest.mark.rfc("9110", "14.2", "malformed")
@pytest.mark.rfc("9110", "14.2", "unknown-unit")
@pytest.mark.parametrize(
    "request_lines",
    [
        [],
        ["Range: bytes=9-0"],
        ["Range: bytes=0-9,x"],
        ["Range: 0-9"],
        ["Range: items=0-9"],
        ["Range: bytes=0-9", "Range: bytes=20-29"],
        ["Range: bytes=0-9", "Range: bytes=0-9"],
    ],
)
def test_what_is_no_range_is_ignored(request_lines: list[str]) -> None:
    assert wanted(*request_lines) == Whole()


@pytest.mark.parametrize("value", ["0-", "0-0", "-1", "-0", "5-"])
def test_no_content_has_no_ranges(value: str) -> None:
    """RFC 9110 §14.2 lets us ignore Range then; a 206 could not even say which bytes it has."""
    assert wanted(f"Range: bytes={value}", complete=0) == Whole()


def test_several_ranges_of_coded_content_are_not_cut() -> None:
    coded = ok('ETag: "a"', "Content-Encoding: gzip", DATE)
    assert wanted("Range: bytes=0-9", head=coded) == spans((0, 10))
    assert wanted("Range: bytes=0-9,5-19", head=coded) == spans((0, 20))
    assert wanted("Range: bytes=0-9,20-29", head=coded) == Whole()


OLD = f"Last-Modified: {at(-STRONG_AFTER)}"


@pytest.mark.rfc("9110", "13.1.5", "strong-comparison")
@pytest.mark.rfc("9110", "13.1.5", "date")
@pytest.mark.rfc("9110", "13.1.5", "false")
@pytest.mark.rfc("9110", "8.8.2.2", "strong-date")
@pytest.mark.parametrize(
    ("if_range", "response_lines", "holds"),
    [
        ('"a"', ['ETag: "a"'], True),
        (' "a" ', ['ETag: "a"'], True),
        ('"b"', ['ETag: "a"'], False),
        ('W/"a"', ['ETag: "a"'], False),
        ('"a"', ['ETag: W/"a"'], False),
        ('W/"a"', ['ETag: W/"a"'], False),
        ('"a"', [], False),
        ('"a"', ["ETag: a"], False),
        ('"a", "b"', ['ETag: "a"'], False),
        ('"a"', ['ETag: "a"', 'ETag: "b"'], False),
        ("*", ['ETag: "a"'], False),
        ("a", ['ETag: "a"'], False),
        ("", ['ETag: "a"'], False),
        (at(-STRONG_AFTER), [OLD], True),
        (at(-STRONG_AFTER), [OLD, 'ETag: "a"'], True),
        # The same moment in another format.
        ("Tuesday, 14-Nov-23 21:56:40 GMT", [f"Last-Modified: {at(-1000)}"], True),
        # The date must be the same, not just later.
        (at(-STRONG_AFTER + 1), [OLD], False),
        (at(-STRONG_AFTER - 1), [OLD], False),
        # A date near that of the response is a weak validator.
        (at(-STRONG_AFTER + 1), [f"Last-Modified: {at(-STRONG_AFTER + 1)}"], False),
        (at(0), [f"Last-Modified: {at(0)}"], False),
        (at(10), [f"Last-Modified: {at(10)}"], False),
        (at(-100), [], False),
        ("yesterday", ["Last-Modified: yesterday"], False),
        (at(-100), [f"Last-Modified: {at(-100)}", f"Last-Modified: {at(-200)}"], False),
    ],
)
def test_if_range(if_range: str, response_lines: list[str], holds: bool) -> None:
    asked = wanted("Range: bytes=0-9", f"If-Range: {if_range}", head=ok(*response_lines, DATE))
    assert asked == (spans((0, 10)) if holds else Whole())
    beyond = wanted("Range: bytes=5000-", f"If-Range: {if_range}", head=ok(*response_lines, DATE))
    assert beyond == (Unsatisfiable() if holds else Whole())


def test_a_response_without_date_has_no_strong_date() -> None:
    assert wanted("Range: bytes=0-9", f"If-Range: {at(-1000)}", head=ok(f"Last-Modified: {at(-1000)}")) == Whole()


def test_if_range_twice_does_not_hold() -> None:
    assert wanted("Range: bytes=0-9", 'If-Range: "a"', 'If-Range: "a"') == Whole()


def test_a_response_just_fetched_has_ranges_too() -> None:
    request = fields("Range: bytes=0-9", f"If-Range: {at(-1000)}")
    head = ok(f"Last-Modified: {at(-1000)}", DATE)
    assert ranges.wanted(request, "GET", head, LENGTH, None) == spans((0, 10))


@pytest.mark.rfc("9110", "13.1.5", "without-range")
def test_if_range_without_range_is_ignored() -> None:
    assert wanted('If-Range: "b"') == Whole()


@pytest.mark.parametrize(
    ("request_lines", "method", "expected"),
    [
        (["Range: bytes=0-"], "GET", ByteRange(0)),
        (["Range: bytes=5-9"], "GET", ByteRange(5, 9)),
        (["Range: bytes=-9"], "GET", ByteRange(suffix=9)),
        (["Range: bytes=5-9, 20-"], "GET", None),
        (["Range: bytes=5-4"], "GET", None),
        (["Range: bytes=5-9"], "POST", None),
        (["Range: bytes=5-9", "Range: bytes=5-9"], "GET", None),
        ([], "GET", None),
    ],
)
def test_single(request_lines: list[str], method: str, expected: ByteRange | None) -> None:
    assert ranges.single(fields(*request_lines), method) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("bytes=0-", True), ("Bytes=00- ", True), ("bytes=1-", False), ("bytes=0-9", False), ("bytes=0-,5-6", False)],
)
def test_from_start(value: str, expected: bool) -> None:
    assert ranges.from_start(fields(f"Range: {value}")) is expected


@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (ok('ETag: "a"'), True),
        (ok('ETag: W/"a"'), False),
        (ok(f"Last-Modified: {at(-1000)}", DATE), False),
        (ok("ETag: a"), False),
        (ok('ETag: "a"', 'ETag: "b"'), False),
        (ok('ETag: "a"', status=206), False),
        (ok('ETag: "a"', status=203), False),
    ],
)
def test_combinable(head: ResponseHead, expected: bool) -> None:
    assert ranges.combinable(head) is expected


RANGE = "Content-Range: bytes 5-9/20"
SIZE = "Content-Length: 5"


@pytest.mark.rfc("9110", "14.4", "complete-length")
@pytest.mark.rfc("9110", "14.4", "invalid")
@pytest.mark.rfc("9110", "14.4", "unit")
@pytest.mark.rfc("9111", "3.3", "range-unit-understood")
@pytest.mark.parametrize(
    ("header_lines", "expected"),
    [
        ([RANGE, SIZE], Received(Span(5, 10), 20)),
        (["Content-Range: bytes 0-19/20", "Content-Length: 20"], Received(Span(0, 20), 20)),
        ([RANGE], None),
        ([SIZE], None),
        ([RANGE, "Content-Length: 6"], None),
        ([RANGE, "Content-Length: 4"], None),
        ([RANGE, "Content-Length: five"], None),
        ([RANGE, SIZE, SIZE], None),
        ([RANGE, RANGE, SIZE], None),
        ([RANGE, SIZE, "Transfer-Encoding: chunked"], None),
        ([RANGE, SIZE, "Content-Type: multipart/byteranges; boundary=x"], None),
        ([RANGE, SIZE, "Content-Type: Multipart/ByteRanges"], None),
        (["Content-Range: bytes 5-9/*", SIZE], None),
        (["Content-Range: bytes */20", SIZE], None),
        (["Content-Range: items 5-9/20", SIZE], None),
        (["Content-Range: bytes 5-9/9", SIZE], None),
        (["Content-Range: 5-9/20", SIZE], None),
    ],
)
def test_received(header_lines: list[str], expected: Received | None) -> None:
    assert ranges.received(ok(*header_lines, 'ETag: "a"', DATE, status=206)) == expected
    assert ranges.received(ok(*header_lines, 'ETag: "a"', DATE, status=200)) is None


def test_whole_head() -> None:
    digests = ["Content-Digest: sha-256=:AA==:", "Content-MD5: AAAA", "Repr-Digest: sha-256=:BB==:"]
    whole = ranges.whole_head(ok("Content-Type: text/plain", RANGE, SIZE, *digests, 'ETag: "a"', status=206))
    assert (whole.status, whole.reason) == (200, b"OK")
    assert lines(whole.headers) == ["Content-Type: text/plain", "Repr-Digest: sha-256=:BB==:", 'ETag: "a"']


NEWEST = meta('ETag: "a"', "Cache-Control: max-age=60", "Content-Type: text/plain", "X-Old: 1", DATE)
LATER = NOW + 500


def combined(*header_lines: str, newest=NEWEST, authorized: bool = False):
    return ranges.combined(
        newest,
        ok(*header_lines, RANGE, SIZE, status=206),
        authorized=authorized,
        request_time=LATER - 1,
        response_time=LATER,
        settings=SETTINGS,
    )


@pytest.mark.rfc("9111", "3.4", "update")
@pytest.mark.rfc("9110", "15.3.7.3", "strong-validator")
def test_the_newest_206_updates_the_head() -> None:
    meta = combined('ETag: "a"', "Cache-Control: max-age=3600", "X-New: 1", "Content-Digest: sha-256=:AA==:")
    assert meta is not None
    assert (meta.head.status, meta.request_time, meta.response_time) == (200, LATER - 1, LATER)
    assert lines(meta.head.headers) == [
        "Content-Type: text/plain",
        "X-Old: 1",
        'ETag: "a"',
        "Cache-Control: max-age=3600",
        "X-New: 1",
        f"Date: {at(500)}",
    ]
    assert freshness(meta).lifetime == 3600
    assert current_age(meta, LATER) == 1


@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
@pytest.mark.parametrize(
    ("kept", "received"),
    [
        (['ETag: "a"'], ['ETag: "b"']),
        (['ETag: "a"'], ['ETag: W/"a"']),
        (['ETag: W/"a"'], ['ETag: W/"a"']),
        (['ETag: W/"a"'], ['ETag: "a"']),
        (['ETag: "a"'], []),
        ([f"Last-Modified: {at(-1000)}"], [f"Last-Modified: {at(-1000)}"]),
        (['ETag: "a"'], ['ETag: "a"', 'ETag: "b"']),
        (['ETag: "a"'], ['ETag: "a"', "Content-Encoding: gzip"]),
        (['ETag: "a"', "Content-Encoding: gzip"], ['ETag: "a"', "Content-Encoding: br"]),
        # What may not be stored is not combined.
        (['ETag: "a"'], ['ETag: "a"', "Cache-Control: no-store"]),
        (['ETag: "a"'], ['ETag: "a"', "Cache-Control: private"]),
        (['ETag: "a"'], ['ETag: "a"', "Vary: *"]),
        (['ETag: "a"'], ['ETag: "a"', "Vary: Accept"]),
    ],
)
def test_other_parts_are_not_combined(kept: list[str], received: list[str]) -> None:
    assert combined(*received, newest=meta(*kept, DATE)) is None


def test_a_206_may_leave_out_what_the_client_knows() -> None:
    """RFC 9110 §15.3.7: an answer to If-Range need not repeat Content-Encoding."""
    coded = combined('ETag: "a"', newest=meta('ETag: "a"', "Content-Encoding: gzip", DATE))
    assert coded is not None
    assert coded.head.headers.get(b"content-encoding") == b"gzip"


@pytest.mark.rfc("9111", "3.5", "not-reused")
def test_a_part_that_somebody_was_authorized_for_counts_for_all() -> None:
    one = combined('ETag: "a"', authorized=True)
    assert one is not None
    assert one.authorized
    after = combined('ETag: "a"', newest=one)
    assert after is not None
    assert after.authorized
    none = combined('ETag: "a"')
    assert none is not None
    assert not none.authorized


def plan(parts: Sequence[tuple[int, int]], want: tuple[int, int]) -> Plan:
    return ranges.plan([Span(*part) for part in parts], Span(*want))


def made_of(missing: tuple[int, int] | None, *pieces: tuple[int | None, int, int]) -> Plan:
    made = tuple(Piece(index, Span(start, end)) for index, start, end in pieces)
    return Plan(made, None if missing is None else Span(*missing))


@pytest.mark.rfc("9111", "3.3", "completed-by-range")
@pytest.mark.parametrize(
    ("parts", "want", "expected"),
    [
        ([], (0, 10), made_of((0, 10), (None, 0, 10))),
        ([], (5, 5), made_of(None)),
        ([(0, 10)], (0, 10), made_of(None, (0, 0, 10))),
        ([(0, 100)], (40, 60), made_of(None, (0, 40, 60))),
        # The beginning, the end, the middle of what is wanted is there.
        ([(0, 4)], (0, 10), made_of((4, 10), (0, 0, 4), (None, 4, 10))),
        ([(6, 10)], (0, 10), made_of((0, 6), (None, 0, 6), (0, 6, 10))),
        ([(4, 6)], (0, 10), made_of((0, 10), (None, 0, 10))),
        ([(20, 30)], (0, 10), made_of((0, 10), (None, 0, 10))),
        ([(10, 30)], (0, 10), made_of((0, 10), (None, 0, 10))),
        ([(0, 5)], (5, 10), made_of((5, 10), (None, 5, 10))),
        # Both ends; and several parts.
        ([(0, 3), (7, 10)], (0, 10), made_of((3, 7), (0, 0, 3), (None, 3, 7), (1, 7, 10))),
        ([(0, 3), (4, 5), (7, 10)], (0, 10), made_of((3, 7), (0, 0, 3), (None, 3, 7), (2, 7, 10))),
        ([(0, 5), (5, 10)], (0, 10), made_of(None, (0, 0, 5), (1, 5, 10))),
        ([(5, 10), (0, 5)], (0, 10), made_of(None, (1, 0, 5), (0, 5, 10))),
        ([(0, 6), (3, 8), (7, 10)], (0, 10), made_of(None, (0, 0, 6), (1, 6, 8), (2, 8, 10))),
        # The part that reaches furthest is taken.
        ([(0, 2), (0, 9), (1, 5)], (0, 8), made_of(None, (1, 0, 8))),
        ([(9, 12), (5, 12), (8, 10)], (0, 12), made_of((0, 5), (None, 0, 5), (1, 5, 12))),
        # A part may reach beyond what is wanted.
        ([(5, 12)], (0, 11), made_of((0, 5), (None, 0, 5), (0, 5, 11))),
        ([(0, 5), (8, 20)], (2, 11), made_of((5, 8), (0, 2, 5), (None, 5, 8), (1, 8, 11))),
    ],
)
def test_plan(parts: list[tuple[int, int]], want: tuple[int, int], expected: Plan) -> None:
    assert plan(parts, want) == expected


PAIRS = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: Span(min(pair), max(pair)))


@pytest.mark.rfc("9111", "3.3", "incomplete-not-used")
@given(st.lists(PAIRS, max_size=8), PAIRS)
def test_a_plan_has_each_byte_once_and_from_where_it_is(parts: list[Span], want: Span) -> None:
    made = ranges.plan(parts, want)
    position = want.start
    for piece in made.pieces:
        assert piece.span.start == position < piece.span.end
        position = piece.span.end
        if piece.index is None:
            assert piece.span == made.missing
        else:
            part = parts[piece.index]
            assert part.start <= piece.span.start
            assert piece.span.end <= part.end
    assert position == want.end
    there = {at for part in parts for at in range(part.start, part.end)}
    absent = [at for at in range(want.start, want.end) if at not in there]
    assert made.missing == (Span(absent[0], absent[-1] + 1) if absent else None)
    assert sum(piece.index is None for piece in made.pieces) == (1 if absent else 0)


@pytest.mark.rfc("9111", "3.3", "completed-by-range")
@pytest.mark.parametrize(
    ("missing", "value"),
    [(Span(0, 1), b"bytes=0-0"), (Span(5, 19), b"bytes=5-18"), (Span(5, 20), b"bytes=5-"), (Span(0, 20), b"bytes=0-")],
)
def test_ask(missing: Span, value: bytes) -> None:
    sent = ranges.ask(missing, 20, b'"a"')
    assert sent == ((b"Range", value), (b"If-Range", b'"a"'))
    assert ranges.wanted(Headers(sent), "GET", TAGGED, 20, NOW) == Spans((missing,))


@pytest.mark.parametrize(
    ("start", "received", "expected"),
    [
        (0, 0, True),
        (100, 200, True),
        (ranges.AHEAD, 0, True),
        (ranges.AHEAD + 1, 0, False),
        (ranges.AHEAD + 1, 1, True),
    ],
)
def test_reachable(start: int, received: int, expected: bool) -> None:
    assert ranges.reachable(start, received) is expected


@given(st.binary(max_size=60), st.binary(max_size=30), st.integers(0, 10**6))
def test_nothing_makes_it_raise(value: bytes, other: bytes, complete: int) -> None:
    for prefix in (b"", b"bytes=", b"bytes="):
        request = Headers([(b"Range", prefix + value), (b"If-Range", other)])
        head = ResponseHead(200, Headers([(b"ETag", other), (b"Last-Modified", value), (b"Date", other)]))
        asked = ranges.wanted(request, "GET", head, complete, NOW)
        if isinstance(asked, Spans):
            assert all(0 <= span.start < span.end <= complete for span in asked.spans)
    received = ResponseHead(206, Headers([(b"Content-Range", b"bytes " + value), (b"Content-Length", other)]))
    assert isinstance(ranges.received(received), Received | None)


@pytest.mark.parametrize("unit", [b"0-,", b"1-1,", b",", b"9", b'"', b" "])
def test_hostile_fields_take_linear_time(unit: bytes) -> None:
    value = unit * (64 * 1024 // len(unit))
    started = time.process_time()
    request = Headers([(b"Range", b"bytes=" + value), (b"If-Range", b'"' + value)])
    ranges.wanted(request, "GET", ResponseHead(200, Headers([(b"ETag", b'"' + value + b'"')])), 10**6, NOW)
    ranges.received(ResponseHead(206, Headers([(b"Content-Range", b"bytes " + value), (b"Content-Length", value)])))
    assert time.process_time() - started < 0.5
