"""Ranges: cut from what is stored, passed on a miss, combined and completed, read from a fill under way."""

from __future__ import annotations

import email
import subprocess
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Wire, fetch, request_head
from tests.e2e.configured import RANGE_LIMIT
from tests.e2e.origin import Call, pattern
from tests.e2e.programs import environment
from tests.e2e.sites import FRESH, file_of
from tests.e2e.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.clients import Answer
    from tests.e2e.origin import Handler, Origin
    from tests.e2e.programs import Program

BODY = pattern("ranges", 1000)
LARGE = pattern("large", 3 * RANGE_LIMIT)
TYPE = ("Content-Type", "application/x-test")
LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"
NOW = formatdate(usegmt=True)
ONLY_STORED = ("Cache-Control", "only-if-cached")


def asking(span: str) -> tuple[str, str]:
    return ("Range", f"bytes={span}")


def stored_page(proxy: Program, origin: Origin, *fields: tuple[str, str]) -> tuple[str, str]:
    """The path and URL of a page of `BODY` that is stored."""
    path = origin.page(BODY, FRESH, TYPE, *fields)
    assert fetch(proxy, origin.url(path)).stored
    return path, origin.url(path)


def is_part(answer: Answer, start: int, end: int, whole: bytes = BODY) -> bool:
    """Whether ``answer`` is just these bytes, and says so."""
    assert answer.status == 206, (answer.status, answer.cache_status)
    assert answer.value("content-range") == f"bytes {start}-{end - 1}/{len(whole)}"
    assert answer.value("content-length") == str(end - start)
    return answer.body == whole[start:end]


@pytest.mark.rfc("9110", "14.1.2", "int-range")
@pytest.mark.rfc("9110", "14.1.2", "suffix")
@pytest.mark.rfc("9110", "14.1.2", "large-numbers")
@pytest.mark.rfc("9110", "14.2", "partial-content")
@pytest.mark.rfc("9110", "15.3.7.1", "content-range")
@pytest.mark.rfc("9110", "15.3.7.2", "one-range")
@pytest.mark.rfc("9110", "15.3.7", "all-fields")
@pytest.mark.rfc("9211", "2.1", "modified")
@pytest.mark.parametrize(
    ("span", "start", "end"),
    [
        ("0-9", 0, 10),
        ("10-19", 10, 20),
        ("999-999", 999, 1000),
        ("990-", 990, 1000),
        ("0-", 0, 1000),
        ("-10", 990, 1000),
        ("-5000", 0, 1000),
        ("500-99999", 500, 1000),
        (f"7-{10**40}", 7, 1000),
        (f"-{10**200}", 0, 1000),
        ("0-4,5-9", 0, 10),
        ("5-9,0-7", 0, 10),
        ("0-4,2000-3000", 0, 5),
    ],
)
def test_one_range_of_a_stored_response(proxy: Program, origin: Origin, span: str, start: int, end: int) -> None:
    path, url = stored_page(proxy, origin, ("ETag", '"r"'), ("X-Own", "1"))
    answer = fetch(proxy, url, asking(span))
    assert is_part(answer, start, end)
    assert answer.hit
    assert [answer.value(name) for name in ("etag", "x-own", "content-type")] == ['"r"', "1", TYPE[1]]
    assert answer.values("age")
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9110", "14.2", "unsatisfiable")
@pytest.mark.rfc("9110", "15.5.17", "content-range")
@pytest.mark.parametrize("span", ["1000-", "5000-6000", "-0", "1000-1000,2000-", f"{10**30}-"])
def test_what_no_byte_satisfies_is_a_416(proxy: Program, origin: Origin, span: str) -> None:
    path, url = stored_page(proxy, origin)
    answer = fetch(proxy, url, asking(span))
    assert (answer.status, answer.body, answer.value("content-range")) == (416, b"", "bytes */1000")
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9110", "14.2", "unknown-unit")
@pytest.mark.rfc("9110", "14.2", "malformed")
@pytest.mark.rfc("9110", "14.2", "overlapping")
@pytest.mark.rfc("9110", "14.1.1", "invalid")
@pytest.mark.rfc("9110", "17.15", "range-attacks")
@pytest.mark.parametrize(
    "value",
    [
        "items=0-9",
        "bytes=9-5",
        "bytes=0-9,9-5",
        "bytes=a-b",
        "bytes=-",
        "bytes=",
        "bytes 0-9",
        "0-9",
        "bytes=0x1-5",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 900, 2)),
        "bytes=" + ",".join(["0-"] * 10),
    ],
    ids=lambda value: value[:20],
)
def test_a_range_that_is_none_or_too_much_gets_the_whole(proxy: Program, origin: Origin, value: str) -> None:
    path, url = stored_page(proxy, origin)
    answer = fetch(proxy, url, ("Range", value))
    assert (answer.status, answer.body, answer.value("content-range")) == (200, BODY, None)
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9110", "14.1.1", "ranges")
@pytest.mark.rfc("9110", "14.6", "multipart")
@pytest.mark.rfc("9110", "15.3.7.2", "no-content-range")
@pytest.mark.rfc("9110", "15.3.7.2", "content-type")
@pytest.mark.rfc("9110", "15.3.7.2", "order")
@pytest.mark.parametrize(
    ("spans", "parts"),
    [
        ("0-4,10-14", [(0, 5), (10, 15)]),
        ("500-599,0-9,-10", [(500, 600), (0, 10), (990, 1000)]),
        ("0-1,2-3,100-,7000-", [(0, 4), (100, 1000)]),
    ],
)
def test_several_ranges_come_in_parts(proxy: Program, origin: Origin, spans: str, parts: list[tuple[int, int]]) -> None:
    path, url = stored_page(proxy, origin)
    answer = fetch(proxy, url, asking(spans))
    assert (answer.status, answer.value("content-range"), answer.hit) == (206, None, True)
    kind = answer.value("content-type") or ""
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.body)
    assert message.get_content_type() == "multipart/byteranges"
    received = [part for part in message.walk() if not part.is_multipart()]
    assert [part["Content-Type"] for part in received] == [TYPE[1]] * len(parts)
    assert [part["Content-Range"] for part in received] == [f"bytes {a}-{b - 1}/1000" for a, b in parts]
    for start, end in parts:
        head = f"Content-Range: bytes {start}-{end - 1}/1000\r\n\r\n".encode()
        assert head + BODY[start:end] + b"\r\n--" in answer.body
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9110", "13.1.5", "strong-comparison")
@pytest.mark.rfc("9110", "13.1.5", "date")
@pytest.mark.rfc("9110", "13.1.5", "false")
@pytest.mark.rfc("9110", "13.1.5", "without-range")
@pytest.mark.rfc("9110", "13.2.2", "order")
@pytest.mark.rfc("9111", "4.3.2", "if-range")
@pytest.mark.rfc("9110", "8.8.2.2", "strong-date")
@pytest.mark.parametrize(
    ("fields", "asked", "status"),
    [
        ([("ETag", '"r"')], [("If-Range", '"r"')], 206),
        ([("ETag", '"r"')], [("If-Range", '"s"')], 200),
        ([("ETag", '"r"')], [("If-Range", 'W/"r"')], 200),
        ([("ETag", 'W/"r"')], [("If-Range", 'W/"r"')], 200),
        ([], [("If-Range", '"r"')], 200),
        ([("Last-Modified", LONG_AGO)], [("If-Range", LONG_AGO)], 206),
        ([("Last-Modified", LONG_AGO)], [("If-Range", "Sun, 06 Nov 1994 08:49:38 GMT")], 200),
        ([("Last-Modified", LONG_AGO)], [("If-Range", "yesterday")], 200),
        ([("Last-Modified", NOW), ("Date", NOW)], [("If-Range", NOW)], 200),
        ([("ETag", '"r"')], [("If-None-Match", '"r"')], 304),
        ([("ETag", '"r"')], [("If-None-Match", '"s"')], 206),
    ],
)
def test_if_range_and_a_stored_response(
    proxy: Program, origin: Origin, fields: list[tuple[str, str]], asked: list[tuple[str, str]], status: int
) -> None:
    path, url = stored_page(proxy, origin, *fields)
    answer = fetch(proxy, url, asking("0-9"), *asked)
    assert (answer.status, answer.body) == (status, {200: BODY, 206: BODY[:10], 304: b""}[status])
    assert fetch(proxy, url, *asked).status == (304 if status == 304 else 200)
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9110", "14.2", "get-only")
@pytest.mark.rfc("9110", "14.2", "after-conditions")
def test_only_a_get_of_a_200_has_ranges(proxy: Program, origin: Origin) -> None:
    _, url = stored_page(proxy, origin)
    head = fetch(proxy, url, asking("0-9"), method="HEAD")
    assert (head.status, head.value("content-length"), head.value("content-range")) == (200, "1000", None)
    missing = origin.url(origin.page(BODY, FRESH, status="404 Not Found"))
    for _ in range(2):
        answer = fetch(proxy, missing, asking("0-9"))
        assert (answer.status, answer.body) == (404, BODY)


# -- on a miss


def test_a_range_of_a_small_object_brings_all_of_it(configured: Program, origin: Origin) -> None:
    small = BODY[:RANGE_LIMIT]
    url = origin.url(path := origin.on(origin.unique(), file_of(small, FRESH)))
    assert is_part(fetch(configured, url, asking("10-19")), 10, 20, small)
    asked = origin.wait_for(path, 2)
    until(lambda: fetch(configured, url, ONLY_STORED).status == 200)
    whole = fetch(configured, url)
    assert (whole.body, whole.hit) == (small, True)
    assert len(origin.seen(path)) == 2
    # What is stored already need not come again; nobody else's condition goes with the rest.
    assert asked[0].value("range") == "bytes=10-19"
    assert asked[1].value("if-none-match") is None


@pytest.mark.rfc("9111", "3.3", "partial-as-incomplete")
@pytest.mark.rfc("9111", "3.3", "incomplete-not-used")
@pytest.mark.rfc("9111", "3.3", "partial-is-206")
def test_of_a_large_object_only_the_range_is_passed(configured: Program, origin: Origin) -> None:
    url = origin.url(path := origin.on(origin.unique(), file_of(LARGE, FRESH)))
    assert is_part(fetch(configured, url, asking("10-19")), 10, 20, LARGE)
    for span, start, end in (("10-19", 10, 20), ("12-14", 12, 15)):
        again = fetch(configured, url, asking(span))
        assert is_part(again, start, end, LARGE)
        assert again.hit, again.cache_status
    for beyond in (asking("10-20"), asking("0-15")):
        assert fetch(configured, url, beyond, ONLY_STORED).status == 504
    assert fetch(configured, url, ONLY_STORED).status == 504
    assert [seen.value("range") for seen in origin.seen(path)] == ["bytes=10-19"]


@pytest.mark.parametrize("span", ["0-", "0-9", "-5", "2990-", "0-1,10-11"])
def test_an_origin_without_ranges_is_no_loss(configured: Program, origin: Origin, span: str) -> None:
    url = origin.url(path := origin.page(LARGE, FRESH))
    first, second = fetch(configured, url, asking(span)), fetch(configured, url, asking(span))
    assert (first.status, second.status) == (206, 206)
    assert first.value("content-range") == second.value("content-range")
    assert len(first.body) == len(second.body)
    if "," not in span:
        assert first.body == second.body
    assert second.hit
    assert len(origin.seen(path)) == 1
    assert fetch(configured, url).body == LARGE


def test_the_first_range_of_a_player_brings_all(configured: Program, origin: Origin) -> None:
    url = origin.url(path := origin.on(origin.unique(), file_of(LARGE, FRESH)))
    assert is_part(fetch(configured, url, asking("0-")), 0, len(LARGE), LARGE)
    assert fetch(configured, url).hit
    assert [seen.value("range") for seen in origin.seen(path)] == [None]


def test_a_416_of_the_origin_is_passed_on(configured: Program, origin: Origin) -> None:
    url = origin.url(path := origin.on(origin.unique(), file_of(LARGE, FRESH)))
    for _ in range(2):
        answer = fetch(configured, url, asking("9000-"))
        assert (answer.status, answer.value("content-range")) == (416, f"bytes */{len(LARGE)}")
    assert len(origin.seen(path)) == 2
    assert fetch(configured, url).body == LARGE


@pytest.mark.rfc("9110", "14.4", "unit")
@pytest.mark.rfc("9110", "14.4", "invalid")
@pytest.mark.rfc("9111", "3.3", "range-unit-understood")
@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
@pytest.mark.parametrize(
    "fields",
    [
        [("ETag", '"v"'), ("Content-Range", "items 0-9/3000")],
        [("ETag", '"v"'), ("Content-Range", "bytes 9-0/3000")],
        [("ETag", '"v"'), ("Content-Range", "bytes 0-9/5")],
        [("ETag", '"v"'), ("Content-Range", "bytes 0-99/3000")],
        [("ETag", '"v"'), ("Content-Range", "bytes 0-9/*")],
        [("ETag", '"v"'), ("Content-Range", "junk")],
        [("ETag", '"v"')],
        [("ETag", 'W/"v"'), ("Content-Range", "bytes 0-9/3000")],
        [("Content-Range", "bytes 0-9/3000")],
    ],
)
def test_parts_that_fit_nothing_are_not_stored(
    configured: Program, origin: Origin, fields: list[tuple[str, str]]
) -> None:
    url = origin.url(path := origin.page(LARGE[:10], FRESH, *fields, status="206 Partial Content"))
    for _ in range(2):
        answer = fetch(configured, url, asking("0-9"))
        assert (answer.status, answer.body, answer.hit) == (206, LARGE[:10], False)
    assert len(origin.seen(path)) == 2


# -- parts combined


@pytest.mark.rfc("9111", "3.3", "completed-by-range")
@pytest.mark.rfc("9110", "13.1.5", "strong-sent")
@pytest.mark.rfc("9110", "15.3.7.3", "strong-validator")
@pytest.mark.rfc("9110", "15.3.7.3", "complete")
@pytest.mark.rfc("9211", "2.2", "partial")
def test_parts_are_combined_and_completed(configured: Program, origin: Origin) -> None:
    url = origin.url(path := origin.on(origin.unique(), file_of(LARGE, FRESH)))
    for span, start, end in (("0-999", 0, 1000), ("2000-2999", 2000, 3000)):
        assert is_part(fetch(configured, url, asking(span)), start, end, LARGE)
    middle = fetch(configured, url, asking("500-2499"))
    assert is_part(middle, 500, 2500, LARGE)
    assert middle.fwd == "partial", middle.cache_status
    whole = fetch(configured, url)
    assert (whole.status, whole.body, whole.hit) == (200, LARGE, True)
    asked = origin.seen(path)
    assert [seen.value("range") for seen in asked] == ["bytes=0-999", "bytes=2000-2999", "bytes=1000-1999"]
    assert [seen.value("if-range") for seen in asked] == [None, None, '"v1"']


@pytest.mark.parametrize("second", ["file", "whole", "416"])
def test_parts_of_two_versions_never_mix(configured: Program, origin: Origin, second: str) -> None:
    newer = LARGE[::-1]

    serve = file_of(newer, FRESH, etag='"v2"')

    async def unsatisfied(call: Call) -> None:
        if call.seen.value("if-range"):
            await call.respond(b"", ("Content-Range", "bytes */3000"), status="416 Range Not Satisfiable")
        else:
            await serve(call)

    async def whole(call: Call) -> None:
        await call.respond(newer, FRESH, ("ETag", '"v2"'))

    then = {"file": serve, "whole": whole, "416": unsatisfied}[second]
    url = origin.url(origin.script(file_of(LARGE, FRESH), then))
    assert is_part(fetch(configured, url, asking("0-999")), 0, 1000, LARGE)
    assert is_part(fetch(configured, url, asking("500-1499")), 500, 1500, newer)
    assert is_part(fetch(configured, url, asking("0-1499")), 0, 1500, newer)
    assert fetch(configured, url).body == newer


@pytest.mark.rfc("9111", "3.4", "update")
def test_a_stale_part_is_validated(configured: Program, origin: Origin) -> None:
    old = (("Cache-Control", "max-age=10"), ("Age", "20"))
    url = origin.url(path := origin.script(file_of(LARGE, *old), file_of(LARGE, FRESH, ("X-New", "1"))))
    fetch(configured, url, asking("0-999"))
    again = fetch(configured, url, asking("0-99"))
    assert is_part(again, 0, 100, LARGE)
    assert (again.fwd, again.parameter("fwd-status"), again.value("x-new")) == ("stale", "304", "1")
    assert fetch(configured, url, asking("0-99")).hit
    assert origin.seen(path)[1].value("if-none-match") == '"v1"'


# -- interrupted


def cut_at(count: int, *fields: tuple[str, str]) -> Handler:
    """Sends ``count`` bytes of `LARGE`, and cuts the connection."""

    async def handle(call: Call) -> None:
        await call.head(*fields, ("Content-Length", str(len(LARGE))))
        await call.send(LARGE[:count])
        call.close()

    return handle


@pytest.mark.rfc("9111", "3.3", "incomplete-recorded")
@pytest.mark.rfc("9111", "3.3", "completed-by-range")
def test_an_interrupted_body_is_completed(proxy: Program, origin: Origin) -> None:
    first = cut_at(1200, FRESH, ("ETag", '"v1"'), TYPE)
    url = origin.url(path := origin.script(first, file_of(LARGE, FRESH, TYPE)))
    broken = fetch(proxy, url)
    assert (broken.complete, broken.body) == (False, LARGE[:1200])
    until(lambda: fetch(proxy, url, asking("0-1199"), ONLY_STORED).status == 206)
    assert fetch(proxy, url, ONLY_STORED).status == 504
    whole, again = fetch(proxy, url), fetch(proxy, url)
    assert (whole.status, whole.body, whole.fwd) == (200, LARGE, "partial")
    assert (again.body, again.hit) == (LARGE, True)
    rest = origin.seen(path)[1]
    assert (rest.value("range"), rest.value("if-range")) == ("bytes=1200-", '"v1"')
    assert len(origin.seen(path)) == 2


@pytest.mark.parametrize("fields", [[], [("ETag", 'W/"v1"')], [("Last-Modified", LONG_AGO)]])
def test_what_breaks_off_without_a_strong_tag_is_not_stored(
    proxy: Program, origin: Origin, fields: list[tuple[str, str]]
) -> None:
    url = origin.url(path := origin.script(cut_at(1200, FRESH, *fields), file_of(LARGE, FRESH)))
    assert not fetch(proxy, url).complete
    whole = fetch(proxy, url)
    assert (whole.body, whole.hit) == (LARGE, False)
    assert [seen.value("range") for seen in origin.seen(path)] == [None, None]


def test_an_interrupted_download_resumes(proxy: Program, origin: Origin, tmp_path: Path) -> None:
    path = origin.script(cut_at(1200, FRESH, ("ETag", '"v1"')), file_of(LARGE, FRESH))
    url = origin.url(path)
    file = tmp_path / "download"
    command = ["curl", "-sS", "-x", proxy.url, "-C", "-", "-o", str(file), url]
    first = subprocess.run(command, capture_output=True, env=environment(), timeout=20, check=False)
    assert first.returncode in (18, 56), first
    assert file.read_bytes() == LARGE[:1200]
    printed = len(proxy.text())
    second = subprocess.run(command, capture_output=True, env=environment(), timeout=20, check=False)
    assert second.returncode == 0, second
    logged = proxy.wait_for_text(f"GET {url} 206", start=printed)
    assert "fwd=partial" in logged, logged
    assert file.read_bytes() == LARGE
    until(lambda: fetch(proxy, url, ONLY_STORED).status == 200)
    assert fetch(proxy, url).body == LARGE
    asked = origin.seen(path)
    assert asked[1].value("range") == "bytes=1200-"
    assert len(asked) == 2, [seen.value("range") for seen in asked]


def test_what_a_client_that_left_had_is_kept(proxy: Program, origin: Origin) -> None:
    body = pattern("left", 4_000_000)

    async def half(call: Call) -> None:
        await call.head(FRESH, ("ETag", '"v1"'), ("Content-Length", str(len(body))))
        await call.send(body[:1_000_000])
        await call.reader.read()  # until the proxy closes
        call.close()

    url = origin.url(path := origin.script(half, file_of(body, FRESH)))
    with Wire.to(proxy.port) as wire:
        wire.send(request_head("GET", url, ("Host", "localhost")))
        assert wire.read_head().status == 200
        assert wire.read_exactly(1_000_000) == body[:1_000_000]
    until(lambda: fetch(proxy, url, asking("0-999999"), ONLY_STORED).status == 206)
    assert fetch(proxy, url).body == body
    assert [seen.value("range") for seen in origin.seen(path)] == [None, "bytes=1000000-"]


# -- from a fill under way


def test_ranges_come_from_a_fill_under_way(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()

    async def slow(call: Call) -> None:
        await call.head(FRESH, TYPE, ("ETag", '"v1"'), ("Content-Length", "3000"))
        await call.send(LARGE[:2000])
        await gate.passed()
        await call.send(LARGE[2000:])

    url = origin.url(path := origin.on(origin.unique(), slow))
    with Wire.to(proxy.port) as leader, Wire.to(proxy.port) as tail, Wire.to(proxy.port) as several:
        leader.send(request_head("GET", url, ("Host", "localhost")))
        assert leader.read_head().status == 200
        assert leader.read_exactly(2000) == LARGE[:2000]
        there = fetch(proxy, url, asking("100-1999"))
        assert is_part(there, 100, 2000, LARGE)
        assert "collapsed" in there.cache_status
        matching = fetch(proxy, url, asking("100-199"), ("If-Range", '"v1"'))
        assert is_part(matching, 100, 200, LARGE)
        assert fetch(proxy, url, asking("9000-")).status == 416
        tail.send(request_head("GET", url, ("Host", "localhost"), asking("-500")))
        several.send(request_head("GET", url, ("Host", "localhost"), asking("0-9,2900-2909")))
        head = tail.read_head()
        assert (head.status, head.value("content-range")) == (206, "bytes 2500-2999/3000")
        gate.open()
        assert tail.read_exactly(500) == LARGE[2500:]
        parts = several.read()
        assert (parts.status, parts.complete) == (206, True)
        assert LARGE[:10] in parts.body
        assert LARGE[2900:2910] in parts.body
        assert leader.read_exactly(1000) == LARGE[2000:]
    assert len(origin.seen(path)) == 1
    assert fetch(proxy, url).body == LARGE
