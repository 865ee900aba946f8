"""Ranges through the exchange: from what is stored, from fills under way, and completed from the origin."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

import pytest

from fwdproxy.messages import Field
from tests.exchange.conftest import Bench, status_of
from tests.exchange.test_collapsing import Gated, taken
from tests.exchange.test_core import DATE
from tests.origin.scripted import Peer, origin

BODY = bytes(range(256)) * 400  # 102,400 bytes
FRESH = b"Cache-Control: max-age=600\r\n"


@dataclass
class Ranged:
    """An origin of one object that knows Range, If-Range and If-None-Match; ``cut`` ends its first body early."""

    body: bytes = BODY
    etag: bytes = b'"v1"'
    cache: bytes = FRESH
    cut: int | None = None
    heads: list[bytes] = field(default_factory=list)

    async def script(self, peer: Peer) -> None:
        while head := await peer.head():
            self.heads.append(head)
            start, end = 0, len(self.body)
            status, extra = b"200 OK", b""
            asked = re.search(rb"\r\nRange: bytes=(\d*)-(\d*)\r\n", head)
            only_if = re.search(rb"\r\nIf-Range: (.*)\r\n", head)
            if self.etag and b"If-None-Match: " + self.etag in head:
                await peer.say(b"HTTP/1.1 304 Not Modified\r\nETag: " + self.etag + b"\r\n" + self.cache + b"\r\n")
                continue
            if asked and (only_if is None or only_if[1] == self.etag):
                if asked[1]:
                    start, end = int(asked[1]), min(int(asked[2] or end), end - 1) + 1
                else:
                    start = max(0, end - int(asked[2]))
                if start >= len(self.body):
                    await peer.say(b"HTTP/1.1 416 No\r\nContent-Range: bytes */%d\r\nContent-Length: 0\r\n\r\n" % end)
                    continue
                status, extra = (
                    b"206 Partial Content",
                    b"Content-Range: bytes %d-%d/%d\r\n"
                    % (
                        start,
                        end - 1,
                        len(self.body),
                    ),
                )
            tag = b"ETag: " + self.etag + b"\r\n" if self.etag else b""
            lines = b"HTTP/1.1 %b\r\n%b%b%b%bContent-Type: a/b\r\n" % (status, DATE, self.cache, tag, extra)
            content = self.body[start:end]
            await peer.say(lines + b"Content-Length: %d\r\n\r\n" % len(content))
            if self.cut is not None:
                cut, self.cut = self.cut, None
                await peer.say(content[:cut])
                return
            await peer.say(content)

    @property
    def asked(self) -> list[bytes]:
        """The Range of each request that came, empty for none."""
        found = (re.search(rb"\r\nRange: (.*)\r\n", head) for head in self.heads)
        return [match[1] if match else b"" for match in found]


def part(value: bytes, *more: Field) -> tuple[Field, ...]:
    return ((b"Range", b"bytes=" + value), *more)


STORED = [
    pytest.param(b"0-9", 206, BODY[:10], b"bytes 0-9/102400", id="first"),
    pytest.param(b"50000-", 206, BODY[50000:], b"bytes 50000-102399/102400", id="open"),
    pytest.param(b"-7", 206, BODY[-7:], b"bytes 102393-102399/102400", id="suffix"),
    pytest.param(b"102390-999999", 206, BODY[102390:], b"bytes 102390-102399/102400", id="beyond the end"),
    pytest.param(b"102400-", 416, b"", b"bytes */102400", id="unsatisfiable"),
    pytest.param(b"9-0", 200, BODY, None, id="backwards: ignored"),
]


@pytest.mark.rfc("9111", "3.3", "partial-is-206")
@pytest.mark.rfc("9110", "14.1.1", "invalid")
@pytest.mark.rfc("9110", "14.1.2", "int-range")
@pytest.mark.rfc("9110", "14.1.2", "suffix")
@pytest.mark.rfc("9110", "14.2", "partial-content")
@pytest.mark.rfc("9110", "14.2", "malformed")
@pytest.mark.rfc("9110", "14.2", "unsatisfiable")
@pytest.mark.rfc("9110", "14.4", "complete-length")
@pytest.mark.rfc("9110", "15.3.7.1", "content-range")
@pytest.mark.rfc("9110", "15.5.17", "content-range")
@pytest.mark.parametrize(("value", "status", "body", "content_range"), STORED)
@pytest.mark.parametrize("size", [102_400, 300], ids=["file", "inline"])
async def test_from_a_complete_stored_response(
    bench: Bench, value: bytes, status: int, body: bytes, content_range: bytes | None, size: int
) -> None:
    if size == 300 and status == 206:
        value, body, content_range = b"10-19", BODY[10:20], b"bytes 10-19/300"
    elif size == 300:
        body, content_range = body[:300], content_range and b"bytes */300"
    at_origin = Ranged(BODY[:size])
    async with origin(at_origin.script) as at:
        await bench.get(at.port)
        answer = await bench.ask(at.port, "/", *part(value))
        assert answer.head.status == status
        assert answer.head.headers.get(b"content-range") == content_range
        assert await taken(answer) == body
    assert len(at_origin.heads) == 1


@pytest.mark.rfc("9110", "14.1.1", "ranges")
@pytest.mark.rfc("9110", "14.6", "multipart")
@pytest.mark.rfc("9110", "15.3.7.2", "order")
async def test_several_ranges_are_multipart(bench: Bench) -> None:
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        await bench.get(at.port)
        answer = await bench.ask(at.port, "/", *part(b"0-4,1000-1004,-5"))
        kind = answer.head.headers.get(b"content-type") or b""
        assert kind.startswith(b"multipart/byteranges; boundary=")
        body = await taken(answer)
        assert answer.head.headers.get(b"content-length") == b"%d" % len(body)
    boundary = kind.partition(b"boundary=")[2].strip(b'"')
    parts = body.split(b"--" + boundary)
    assert parts[-1].strip() == b"--"
    contents = [each.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for each in parts[1:-1]]
    assert contents == [BODY[:5], BODY[1000:1005], BODY[-5:]]


async def test_from_a_fill_under_way_once_its_bytes_are_there(bench: Bench) -> None:
    go_on = asyncio.Event()
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b'ETag: "a"\r\nContent-Length: 102400\r\n\r\n')
        await peer.say(BODY[:50_000])
        await go_on.wait()
        await peer.say(BODY[50_000:])
        await peer.head()

    async with origin(script) as at:
        leader = await bench.ask(at.port)
        _, said, body = await bench.get(at.port, "/", *part(b"100-199"))
        assert (body, "collapsed" in said) == (BODY[100:200], True)
        late = asyncio.create_task(bench.get(at.port, "/", *part(b"-10")))
        go_on.set()
        assert (await late)[2] == BODY[-10:]
        assert await taken(leader) == BODY
    assert len(heads) == 1


@pytest.mark.rfc("9111", "3.3", "partial-as-incomplete")
@pytest.mark.parametrize("limit", [1_000_000, 1000], ids=["small object", "large object"])
async def test_a_range_on_a_miss(bench: Bench, limit: int) -> None:
    bench.configure(range_limit=limit)
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        status, said, body = await bench.get(at.port, "/", *part(b"1000-1999"))
        assert (status, body) == (206, BODY[1000:2000])
        assert "fwd=uri-miss; fwd-status=206; stored" in said
        assert (await bench.get(at.port, "/", *part(b"1500-1599")))[1:] == (
            "fwdproxy; hit; ttl=600; detail=max-age",
            BODY[1500:1600],
        )
        await bench.exchange.aclose(grace=5)
        if limit > 1000:
            assert at_origin.asked == [b"bytes=1000-1999", b""]
            assert "hit" in (await bench.get(at.port))[1]
        else:
            assert at_origin.asked == [b"bytes=1000-1999"]


async def test_all_from_the_start_is_fetched_whole(bench: Bench) -> None:
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        answer = await bench.ask(at.port, "/", *part(b"0-"))
        assert (answer.head.status, answer.head.headers.get(b"content-range")) == (206, b"bytes 0-102399/102400")
        assert await taken(answer) == BODY
        assert "hit" in (await bench.get(at.port))[1]
    assert at_origin.asked == [b""]


@pytest.mark.rfc("9111", "3.3", "completed-by-range")
@pytest.mark.rfc("9110", "15.3.7.3", "strong-validator")
@pytest.mark.rfc("9110", "15.3.7.3", "complete")
@pytest.mark.rfc("9211", "2.2", "partial")
@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
async def test_parts_are_combined_and_completed(bench: Bench) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        await bench.get(at.port, "/", *part(b"0-999"))
        await bench.get(at.port, "/", *part(b"500-1999"))
        assert (await bench.get(at.port, "/", *part(b"800-1200")))[2] == BODY[800:1201]
        assert len(at_origin.heads) == 2
        status, said, body = await bench.get(at.port)
        assert (status, body) == (200, BODY)
        assert "fwd=partial; fwd-status=206" in said
        assert at_origin.asked[2] == b"bytes=2000-"
        assert b'If-Range: "v1"' in at_origin.heads[2]
        assert "hit" in (await bench.get(at.port))[1]
    assert len(at_origin.heads) == 3


@pytest.mark.rfc("9111", "3.3", "incomplete-recorded")
@pytest.mark.rfc("9111", "3.3", "completed-by-range")
async def test_an_interrupted_download_resumes(bench: Bench) -> None:
    at_origin = Ranged(cut=70_000)
    async with origin(at_origin.script) as at:
        answer = await bench.ask(at.port)
        with pytest.raises(Exception, match="."):
            await taken(answer)
        await bench.store.settle()
        status, said, body = await bench.get(at.port, "/", *part(b"40000-"))
        assert (status, body) == (206, BODY[40_000:])
        assert "fwd=partial" in said
        assert at_origin.asked[1] == b"bytes=70000-"
        assert (await bench.get(at.port))[2] == BODY
    assert len(at_origin.heads) == 2


@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
async def test_what_has_changed_meanwhile_is_not_combined(bench: Bench) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        await bench.get(at.port, "/", *part(b"0-49999"))
        at_origin.etag, at_origin.body = b'"v2"', BODY[::-1]
        assert (await bench.get(at.port))[2] == BODY[::-1]
        assert (await bench.get(at.port, "/", *part(b"0-9")))[2] == BODY[::-1][:10]


@pytest.mark.rfc("9110", "13.1.5", "strong-sent")
@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
@pytest.mark.parametrize("etag", [b"", b'W/"v1"'], ids=["none", "weak"])
async def test_without_a_strong_validator_parts_are_passed_on(bench: Bench, etag: bytes) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged(etag=etag)
    async with origin(at_origin.script) as at:
        for _ in range(2):
            status, said, body = await bench.get(at.port, "/", *part(b"0-9"))
            assert (status, body, "stored" in said) == (206, BODY[:10], False)
    assert len(at_origin.heads) == 2


@pytest.mark.rfc("9111", "4.3.2", "if-range")
@pytest.mark.rfc("9110", "13.1.5", "strong-comparison")
@pytest.mark.rfc("9110", "13.1.5", "false")
@pytest.mark.parametrize(("tag", "status"), [(b'"v1"', 206), (b'"other"', 200), (b'W/"v1"', 200)])
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "miss"])
async def test_if_range(bench: Bench, tag: bytes, status: int, stored: bool) -> None:
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        if stored:
            await bench.get(at.port)
        answer = await bench.ask(at.port, "/", *part(b"10-19", (b"If-Range", tag)))
        assert answer.head.status == status
        assert await taken(answer) == (BODY[10:20] if status == 206 else BODY)
        await bench.exchange.aclose(grace=5)
    assert not any(b"If-Range" in head for head in at_origin.heads)


async def test_a_stale_response_is_validated_for_a_range(bench: Bench) -> None:
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        await bench.get(at.port)
        bench.now += 700
        status, said, body = await bench.get(at.port, "/", *part(b"10-19"))
        assert (status, body) == (206, BODY[10:20])
        assert "fwd=stale; fwd-status=304" in said
    assert len(at_origin.heads) == 2


async def test_stale_parts_are_validated(bench: Bench) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        await bench.get(at.port, "/", *part(b"0-99"))
        bench.now += 700
        status, said, body = await bench.get(at.port, "/", *part(b"10-19"))
        assert (status, body) == (206, BODY[10:20])
        assert "fwd=stale; fwd-status=304" in said
        assert "hit" in (await bench.get(at.port, "/", *part(b"20-29")))[1]
    assert len(at_origin.heads) == 2


# What goes wrong with parts, and what many ask of them at once


def lose_parts(bench: Bench) -> None:
    """Take the files of all stored bodies away."""
    for file in bench.store.directory.rglob("*"):
        if file.is_file() and file.stat().st_size in (50_000, 50_176):
            file.unlink()


@pytest.mark.parametrize("later", [0, 700], ids=["fresh", "stale"])
@pytest.mark.parametrize("wanted", [b"10-19", b"0-"], ids=["stored", "more"])
async def test_parts_that_cannot_be_read_are_asked_for_again(bench: Bench, later: int, wanted: bytes) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged()
    async with origin(at_origin.script) as at:
        await bench.get(at.port, "/", *part(b"0-49999"))
        await bench.store.settle()
        lose_parts(bench)
        bench.now += later
        status, said, body = await bench.get(at.port, "/", *part(wanted))
        assert (status, body) == (206, BODY[10:20] if wanted == b"10-19" else BODY)
        assert "; hit" not in said
        assert "; fwd=" in said


@pytest.mark.rfc("9111", "4", "collapse")
async def test_one_request_completes_the_parts_for_all(bench: Bench) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged()
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        head = await peer.head()
        at_origin.heads.append(head)
        asked.set()
        await go_on.wait()
        lines = b"HTTP/1.1 206 Partial Content\r\n" + DATE + FRESH + b'ETag: "v1"\r\n'
        await peer.say(
            lines + b"Content-Range: bytes 50000-102399/102400\r\nContent-Length: 52400\r\n\r\n" + BODY[50_000:60_000]
        )
        await go_on.wait()
        await peer.say(BODY[60_000:])
        await peer.head()

    async def first(peer: Peer) -> None:
        head = await peer.head()
        lines = b"HTTP/1.1 206 Partial Content\r\n" + DATE + FRESH + b'ETag: "v1"\r\nConnection: close\r\n'
        at_origin.heads.append(head)
        await peer.say(lines + b"Content-Range: bytes 0-49999/102400\r\nContent-Length: 50000\r\n\r\n" + BODY[:50_000])

    async with origin(first, script) as at:
        await bench.get(at.port, "/", *part(b"0-49999"))
        asks = [asyncio.create_task(bench.ask(at.port)) for _ in range(5)]
        await asyncio.wait_for(asked.wait(), 5)
        await Gated(at).waiting(bench, 4)
        go_on.set()
        answers = await asyncio.gather(*asks)
        assert [await taken(answer) for answer in answers] == [BODY] * 5
        said = [status_of(answer) for answer in answers]
        assert all("fwd=partial" in each for each in said)
        assert sum("; collapsed" in each for each in said) == 4
    assert at_origin.asked == [b"bytes=0-49999", b"bytes=50000-"]


@pytest.mark.rfc("5861", "3", "revalidated")
async def test_parts_served_stale_are_validated_in_the_background(bench: Bench) -> None:
    bench.configure(range_limit=0)
    at_origin = Ranged(cache=b"Cache-Control: max-age=600, stale-while-revalidate=600\r\n")
    async with origin(at_origin.script) as at:
        await bench.get(at.port, "/", *part(b"0-99"))
        bench.now += 700
        _, said, body = await bench.get(at.port, "/", *part(b"10-19"))
        assert (said, body) == ("fwdproxy; hit; ttl=-100; detail=stale-while-revalidate", BODY[10:20])
        await bench.exchange.aclose(grace=5)
    assert b'If-None-Match: "v1"' in at_origin.heads[1]


@pytest.mark.parametrize("cache", [b"Cache-Control: no-store\r\n", b"Cut"], ids=["not stored", "cut"])
async def test_a_whole_fetch_in_vain_is_not_repeated(bench: Bench, cache: bytes) -> None:
    """An origin whose parts may be stored, but whose whole may not, or never comes."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            heads.append(head)
            if b"\r\nRange:" in head:
                said = b"Content-Range: bytes 0-9/1000\r\nContent-Length: 10\r\n\r\n0123456789"
                await peer.say(b"HTTP/1.1 206 Partial Content\r\n" + DATE + FRESH + said)
            elif cache == b"Cut":
                await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b"Content-Length: 1000\r\n\r\n" + bytes(500))
                return
            else:
                await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + cache + b"Content-Length: 1000\r\n\r\n" + bytes(1000))

    async with origin(script) as at:
        for _ in range(3):
            assert (await bench.get(at.port, "/", *part(b"0-9")))[2] == b"0123456789"
            await bench.exchange.aclose(grace=5)
    assert [b"\r\nRange:" in head for head in heads] == [True, False, True, True]


async def test_what_is_fetched_whole_already_is_not_fetched_twice(bench: Bench) -> None:
    go_on = asyncio.Event()
    heads: list[bytes] = []
    body = bytes(5_000_000)

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            heads.append(head)
            if b"\r\nRange:" in head:
                said = b"Content-Range: bytes 4000000-4000009/5000000\r\nContent-Length: 10\r\n\r\n" + bytes(10)
                await peer.say(b"HTTP/1.1 206 Partial Content\r\n" + DATE + FRESH + b'ETag: "a"\r\n' + said)
            else:
                await peer.say(b"HTTP/1.1 200 OK\r\n" + DATE + FRESH + b'ETag: "a"\r\nContent-Length: 5000000\r\n\r\n')
                await go_on.wait()
                await peer.say(body)

    async with origin(script) as at:
        whole = await bench.ask(at.port)
        await bench.get(at.port, "/", *part(b"4000000-4000009"))  # too far ahead to wait for
        go_on.set()
        assert await taken(whole) == body
        await bench.exchange.aclose(grace=5)
    assert len(heads) == 2
