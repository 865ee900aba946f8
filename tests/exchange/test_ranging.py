"""Answers cut out of what is stored: bytes right, ends told, files closed."""

from __future__ import annotations

import email
import email.policy
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fwdproxy.errors import FillAborted, OriginError, StoreError
from fwdproxy.exchange.answers import NO_TRAILERS, Body, BytesBody, StoredBody
from fwdproxy.exchange.ranging import ChainBody, StoredSource, answer
from fwdproxy.messages import BodyRef, CacheKey, Headers, ResponseHead, Span, StoredMeta
from fwdproxy.store.base import BodyReader, Store
from fwdproxy.store.disk import open_store

KEY = CacheKey("direct", "GET", "http://origin.example/")
HEAD = ResponseHead(200, Headers([(b"ETag", b'"a"'), (b"Content-Type", b"text/plain")]), b"OK")
SMALL = bytes(range(256)) * 4
LARGE = bytes(range(251)) * 2000
NOW = 1_800_000_000.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "cache", 100_000_000)
    yield opened
    await opened.aclose()


async def stored(store: Store, content: bytes) -> BodyRef:
    meta = StoredMeta("GET", HEAD, NOW, NOW)
    fill = store.open_fill(KEY, meta, len(content))
    await fill.write(content)
    await fill.complete()
    found = (await store.lookup(KEY, Headers())).best
    assert found is not None
    return found.body


async def read(body: Body) -> bytes:
    content = b""
    while data := await body.read():
        content += data
    assert await body.read() == b""
    await body.aclose()
    return content


def request(*values: str) -> Headers:
    return Headers((b"Range", value.encode()) for value in values)


@pytest.mark.rfc("9110", "14.2", "partial-content")
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["inline", "file"])
@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (0, None), (1, 200), (100, 1024), (-1, None), (-1000, None), (70, 71)]
)
async def test_one_range(store: Store, content: bytes, start: int, end: int | None) -> None:
    source = StoredSource(store, await stored(store, content))
    spec = f"{start}" if start < 0 else f"{start}-{'' if end is None else end - 1}"
    head, body = answer(HEAD, source, request(f"bytes={spec}"), "GET", NOW)
    expected = content[start:end]
    assert head.status == 206
    assert head.headers.get(b"content-length") == b"%d" % len(expected)
    first = start % len(content)
    assert head.headers.get(b"content-range") == b"bytes %d-%d/%d" % (first, first + len(expected) - 1, len(content))
    assert await read(body) == expected


@pytest.mark.rfc("9110", "14.6", "multipart")
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["inline", "file"])
async def test_several_ranges(store: Store, content: bytes) -> None:
    source = StoredSource(store, await stored(store, content))
    head, body = answer(HEAD, source, request("bytes=500-599, 0-0, -24"), "GET", NOW)
    received = await read(body)
    assert head.status == 206
    assert head.headers.get(b"content-length") == b"%d" % len(received)
    kind = head.headers.get(b"content-type") or b""
    message = email.message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + received, policy=email.policy.HTTP)
    size = len(content)
    parts = [(part["Content-Range"], part.get_payload(decode=True)) for part in message.walk()][1:]
    assert parts == [
        (f"bytes 500-599/{size}", content[500:600]),
        (f"bytes 0-0/{size}", content[:1]),
        (f"bytes {size - 24}-{size - 1}/{size}", content[-24:]),
    ]


async def test_each_multipart_answer_has_a_boundary_of_its_own(store: Store) -> None:
    source = StoredSource(store, await stored(store, SMALL))
    kinds = {
        answer(HEAD, source, request("bytes=0-0,5-5"), "GET", NOW)[0].headers.get(b"content-type") for _ in range(3)
    }
    assert len(kinds) == 3


@pytest.mark.rfc("9110", "15.3.7.2", "one-range")
@pytest.mark.parametrize("value", ["bytes=0-9", "bytes=0-4,5-9", "bytes=0-9,5000000-"])
async def test_what_comes_to_one_range_is_no_multipart(store: Store, value: str) -> None:
    head, body = answer(HEAD, StoredSource(store, await stored(store, SMALL)), request(value), "GET", NOW)
    assert (head.status, head.headers.get(b"content-type")) == (206, b"text/plain")
    assert await read(body) == SMALL[:10]


@pytest.mark.rfc("9110", "14.2", "unsatisfiable")
async def test_beyond_the_end(store: Store) -> None:
    head, body = answer(HEAD, StoredSource(store, await stored(store, SMALL)), request("bytes=1024-"), "GET", NOW)
    assert head.status == 416
    assert head.headers.get(b"content-range") == b"bytes */1024"
    assert body.complete == b""


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "inline", "file"])
async def test_without_range_all_is_sent(store: Store, content: bytes) -> None:
    source = StoredSource(store, await stored(store, content))
    for asked in (Headers(), request("bytes=9-0"), request("bytes=0-0", "bytes=5-5")):
        head, body = answer(HEAD, source, asked, "GET", NOW)
        assert head is HEAD
        assert await read(body) == content


async def test_a_small_body_is_in_memory(store: Store) -> None:
    """So a shell can send it with its head, in one piece."""
    source = StoredSource(store, await stored(store, SMALL))
    assert source.open(Span(0, len(SMALL))).complete == SMALL
    assert source.open(Span(5, 9)).complete == SMALL[5:9]


async def test_a_file_that_has_gone_is_told_before_the_head_is_sent(store: Store) -> None:
    body = await stored(store, LARGE)
    await store.invalidate([KEY])  # its file is gone when that returns
    for asked in (Headers(), request("bytes=5-9"), request("bytes=0-9,100-109")):
        with pytest.raises(StoreError):
            answer(HEAD, StoredSource(store, body), asked, "GET", NOW)


async def test_what_is_invalidated_while_it_is_read_is_read_to_its_end(store: Store) -> None:
    body = await stored(store, LARGE)
    _, several = answer(HEAD, StoredSource(store, body), request("bytes=0-99999,200000-299999"), "GET", NOW)
    await store.invalidate([KEY])  # its file is gone when that returns
    received = await read(several)
    assert LARGE[:100_000] in received
    assert LARGE[200_000:300_000] in received


class Reader:
    """A reader of a file that ends early."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.closed = False

    async def read(self, limit: int = 65536) -> bytes:
        data, self.content = self.content[:limit], self.content[limit:]
        return data

    def close(self) -> None:
        self.closed = True


async def test_a_stored_body_gives_just_what_it_is_to_give() -> None:
    reader: BodyReader = Reader(b"x" * 100_000)
    body = StoredBody(reader, 70_000)
    assert await read(body) == b"x" * 70_000


async def test_a_short_file_is_a_cut_message() -> None:
    body = StoredBody(Reader(b"12345"), 7)
    assert await body.read() == b"12345"
    with pytest.raises(FillAborted, match="2 bytes early"):
        await body.read()


class Watched:
    """A body that notes when it is closed."""

    complete: bytes | None = None
    trailers = NO_TRAILERS

    def __init__(self, *pieces: bytes, closing: Exception | None = None) -> None:
        self.pieces = list(pieces)
        self.closed = 0
        self._closing = closing

    async def read(self) -> bytes:
        if self.closed:
            raise OriginError("test", "read after the end")
        return self.pieces.pop(0) if self.pieces else b""

    async def aclose(self) -> None:
        self.closed += 1
        if self._closing is not None:
            raise self._closing


async def test_a_chain_is_read_in_order() -> None:
    one, two = Watched(b"1", b"2"), Watched()
    chain = ChainBody([b"<", one, b"", two, b"|", BytesBody(b"3"), BytesBody(), b">"])
    assert chain.complete is None
    assert await read(chain) == b"<12|3>"
    assert (one.closed, two.closed) == (1, 1)
    assert not chain.trailers


async def test_a_chain_closes_each_body_when_it_has_been_read() -> None:
    one, two = Watched(b"1"), Watched(b"2")
    chain = ChainBody([one, two])
    assert await chain.read() == b"1"
    assert one.closed == 0
    assert await chain.read() == b"2"
    assert (one.closed, two.closed) == (1, 0)
    await chain.aclose()
    assert (one.closed, two.closed) == (1, 1)
    assert await chain.read() == b""


async def test_a_chain_that_is_left_closes_what_was_not_read() -> None:
    bodies = [Watched(b"1"), Watched(b"2", closing=OriginError("test", "it resists")), Watched(b"3")]
    chain = ChainBody([b"<", *bodies])
    assert await chain.read() == b"<"
    with pytest.raises(OriginError, match="resists"):
        await chain.aclose()
    assert [body.closed for body in bodies] == [1, 1, 1]


async def test_a_chain_passes_on_what_cuts_it() -> None:
    chain = ChainBody([b"<", StoredBody(Reader(b"1"), 2), b">"])
    assert [await chain.read(), await chain.read()] == [b"<", b"1"]
    with pytest.raises(FillAborted):
        await chain.read()
    await chain.aclose()


async def test_an_empty_chain_has_ended() -> None:
    assert await read(ChainBody([])) == b""
