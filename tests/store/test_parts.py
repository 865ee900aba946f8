"""Stored parts of a representation, messages that end early, and bodies read from the middle."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fwdproxy.errors import FillAborted
from fwdproxy.messages import CacheKey, Headers, Nominated, Span, StoredMeta
from fwdproxy.store.base import NOTHING, Found
from fwdproxy.store.disk import DiskStore, open_store
from fwdproxy.store.variants import MAX_PARTS, MAX_VARIANTS
from tests.store.samples import (
    ANY,
    LIMIT,
    NOW,
    best,
    body_files,
    body_of,
    content,
    key,
    meta,
    put,
    read_all,
    unfinished,
    wants,
)

WHOLE = 400_000
BODY = content(WHOLE, "whole")
SMALL, LARGE = Span(100, 1000), Span(50_000, 300_000)
BOTH = pytest.mark.parametrize("span", [SMALL, LARGE], ids=["inline", "file"])
SETTLED = pytest.mark.parametrize("settled", [False, True])


async def put_part(
    store: DiskStore, span: Span, what: StoredMeta | None = None, *, body: bytes = BODY, where: CacheKey | None = None
) -> str:
    fill = store.open_fill(where or key(), what or meta(), span.length, part=(span, len(body)), moment=store.moment())
    for start in range(span.start, span.end, 65536):
        await fill.write(body[start : min(start + 65536, span.end)])
    await fill.complete()
    return fill.ident


async def cut(store: DiskStore, received: int, *, length: int | None = WHOLE, keep: bool = True) -> None:
    """A message that ends early."""
    fill = store.open_fill(key(), meta(), length)
    if received:
        await fill.write(BODY[:received])
    fill.abort("the origin went away", keep=keep)


async def spans(store: DiskStore, request: Headers = ANY, where: CacheKey | None = None) -> list[tuple[int, int]]:
    """What is stored in parts, once each part has been read and is right."""
    found = await store.lookup(where or key(), request)
    assert found.best is None or not found.parts
    for part in found.parts:
        assert part.complete == WHOLE
        assert part.stored.body.trusted
        assert await read_all(store.open_body(part.stored.body)) == BODY[part.span.start : part.span.end]
    return [(part.span.start, part.span.end) for part in found.parts]


def objects(store: DiskStore) -> tuple[int, int]:
    """Stored responses, and body files."""
    return store.stats().objects, len(body_files(store))


# Parts


@BOTH
@SETTLED
@pytest.mark.rfc("9111", "3.3", "partial-as-incomplete")
async def test_a_part_is_found_as_a_part_only(store: DiskStore, span: Span, settled: bool) -> None:
    ident = await put_part(store, span)
    if settled:
        await store.settle()
        assert unfinished(store) == []
    found = await store.lookup(key(), ANY)
    assert (found.best, found.known, found.others) == (None, True, ())
    (part,) = found.parts
    assert (part.span, part.complete) == (span, WHOLE)
    assert (part.stored.key, part.stored.ident, part.stored.meta) == (key(), ident, meta())
    assert await spans(store) == [(span.start, span.end)]


@BOTH
async def test_a_part_is_found_after_a_restart(folder: Path, span: Span) -> None:
    first = open_store(folder, LIMIT)
    await put_part(first, span)
    await first.aclose()
    second = open_store(folder, LIMIT)
    assert await spans(second) == [(span.start, span.end)]
    await second.aclose()


@SETTLED
@pytest.mark.parametrize("nominated", [(), wants("gzip")[0]], ids=["plain", "variant"])
@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
async def test_parts_of_one_representation_stand_side_by_side_by_start(
    store: DiskStore, settled: bool, nominated: Nominated
) -> None:
    for number, span in enumerate([Span(300_000, WHOLE), Span(0, 10), Span(5, 90_000)]):
        await put_part(store, span, meta(at=NOW + number, nominated=nominated))
        if settled:
            await store.settle()
    assert await spans(store, wants("gzip")[1]) == [(0, 10), (5, 90_000), (300_000, WHOLE)]
    if nominated:
        missed = await store.lookup(key(), wants("br")[1])
        assert (missed.parts, missed.known, missed.others) == ((), True, ())


async def test_parts_with_different_codings_are_of_different_representations(store: DiskStore) -> None:
    plain = meta(at=NOW)
    coded = replace(plain, head=replace(plain.head, headers=plain.head.headers.adding((b"Content-Encoding", b"gzip"))))
    await put_part(store, Span(0, 100), coded)
    await put_part(store, Span(100, 200), plain)
    assert await spans(store) == [(100, 200)]


@SETTLED
@pytest.mark.parametrize(
    ("held", "new", "after"),
    [
        ([(0, 100), (50, 60_000)], (0, 70_000), [(0, 70_000)]),
        ([(0, 100)], (0, 100), [(0, 100)]),
        ([(0, 70_000)], (10, 20), [(0, 70_000), (10, 20)]),
        ([(0, 200_000)], (100_000, 300_000), [(0, 200_000), (100_000, 300_000)]),
    ],
)
async def test_a_part_replaces_those_within_it(
    store: DiskStore,
    settled: bool,
    held: Sequence[tuple[int, int]],
    new: tuple[int, int],
    after: list[tuple[int, int]],
) -> None:
    for bounds in (*held, new):
        await put_part(store, Span(*bounds))
        if settled:
            await store.settle()
    assert await spans(store) == after
    await store.settle()
    assert await spans(store) == after
    assert store.stats().objects == len(after)


@SETTLED
@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
async def test_another_entity_tag_replaces_parts_and_whole_responses(store: DiskStore, settled: bool) -> None:
    async def step() -> None:
        if settled:
            await store.settle()

    for span in (Span(0, 60_000), LARGE):
        await put_part(store, span, meta(etag="old"))
        await step()
    await put_part(store, SMALL, meta(at=NOW + 1, etag="new"))
    await step()
    assert await spans(store) == [(SMALL.start, SMALL.end)]
    await put(store, key(), content(60_000, "newer"), meta(at=NOW + 2, etag="newer"))
    await step()
    assert await body_of(store, key()) == content(60_000, "newer")
    await put_part(store, LARGE, meta(at=NOW + 3, etag="newest"))
    assert await spans(store) == [(LARGE.start, LARGE.end)]
    await store.settle()
    assert await spans(store) == [(LARGE.start, LARGE.end)]
    assert objects(store) == (1, 1)


@SETTLED
async def test_the_whole_replaces_its_parts_and_makes_later_ones_superfluous(store: DiskStore, settled: bool) -> None:
    await put_part(store, LARGE, meta(at=NOW + 1))
    if settled:
        await store.settle()
    await put(store, key(), BODY, meta(at=NOW))  # its head came before the part did, and its end after
    assert await body_of(store, key()) == BODY
    await put_part(store, SMALL, meta(at=NOW + 2))
    for _ in range(2):
        assert (await store.lookup(key(), ANY)).parts == ()
        assert await body_of(store, key()) == BODY
        await store.settle()
    assert objects(store) == (1, 1)


async def test_an_older_part_of_something_else_changes_nothing(store: DiskStore) -> None:
    await put(store, key(), b"newer", meta(at=NOW + 5, etag="newer"))
    await put_part(store, LARGE, meta(at=NOW, etag="older"))
    assert await body_of(store, key()) == b"newer"
    await store.settle()
    assert objects(store) == (1, 0)


@SETTLED
async def test_a_part_that_is_the_whole_is_stored_as_such(store: DiskStore, settled: bool) -> None:
    await put_part(store, SMALL)
    await put_part(store, Span(0, WHOLE), meta(at=NOW + 1))
    if settled:
        await store.settle()
    assert await body_of(store, key()) == BODY


async def test_the_number_of_parts_is_bounded_and_the_latest_stay(store: DiskStore) -> None:
    for number in range(MAX_PARTS + 3):
        await put_part(store, Span(number * 100, number * 100 + 50), meta(at=NOW + number))
    expected = [(number * 100, number * 100 + 50) for number in range(3, MAX_PARTS + 3)]
    assert await spans(store) == expected
    await store.settle()
    assert await spans(store) == expected
    assert store.stats().objects == MAX_PARTS


async def test_many_parts_push_out_no_variant(store: DiskStore) -> None:
    for number in range(MAX_VARIANTS - 1):
        await put(store, key(), b"x", meta(nominated=wants(f"c{number}")[0]))
    for number in range(MAX_PARTS):
        await put_part(store, Span(number, number + 1), meta(nominated=wants("parts")[0]))
    await store.settle()
    assert len(await spans(store, wants("parts")[1])) == MAX_PARTS
    assert await body_of(store, key(), wants("c0")[1]) == b"x"
    assert store.stats().objects == MAX_VARIANTS - 1 + MAX_PARTS


async def test_the_parts_of_the_most_recent_selection_count(store: DiskStore) -> None:
    # The origin has changed its Vary; RFC 9111 §4 wants the most recent response, whether it is whole or not.
    both = Headers([(b"Accept-Encoding", b"gzip"), (b"Accept", b"text/html")])
    by_accept: Nominated = ((b"accept", b"text/html"),)
    await put(store, key(), BODY, meta(at=NOW, nominated=wants("gzip")[0], etag="old"))
    await put_part(store, SMALL, meta(at=NOW + 9, nominated=by_accept, etag="new"))
    assert await spans(store, both) == [(SMALL.start, SMALL.end)]
    assert [other.etag for other in (await store.lookup(key(), both)).others] == [b'"old"']
    await put_part(store, SMALL, meta(at=NOW - 9, nominated=by_accept, etag="new"))
    await store.settle()
    assert await body_of(store, key(), wants("gzip")[1]) == BODY


@SETTLED
@BOTH
async def test_freshening_a_part_keeps_its_place_and_bytes(store: DiskStore, span: Span, settled: bool) -> None:
    await put_part(store, span)
    if settled:
        await store.settle()
    (part,) = (await store.lookup(key(), ANY)).parts
    await store.freshen(part.stored, meta(at=NOW + 50))
    for _ in range(2):
        assert await spans(store) == [(span.start, span.end)]
        assert (await store.lookup(key(), ANY)).parts[0].stored.meta == meta(at=NOW + 50)
        await store.settle()


@SETTLED
async def test_removing_a_part_leaves_the_others(store: DiskStore, settled: bool) -> None:
    for span in (SMALL, LARGE):
        await put_part(store, span)
    if settled:
        await store.settle()
    await store.remove((await store.lookup(key(), ANY)).parts[1].stored)
    assert await spans(store) == [(SMALL.start, SMALL.end)]
    await store.settle()
    assert objects(store) == (1, 0)
    await store.remove((await store.lookup(key(), ANY)).parts[0].stored)
    assert await store.lookup(key(), ANY) == NOTHING


async def test_a_part_whose_file_is_cut_goes_and_the_others_stay(store: DiskStore) -> None:
    for span in (SMALL, LARGE):
        await put_part(store, span)
    await store.settle()
    os.truncate(body_files(store)[0], 10)
    assert await spans(store) == [(SMALL.start, SMALL.end)]
    await store.settle()
    assert objects(store) == (1, 0)


@pytest.mark.parametrize("rotten", [False, True])
async def test_parts_of_an_earlier_epoch_are_verified_first(folder: Path, rotten: bool) -> None:
    first = open_store(folder, LIMIT)
    for span in (SMALL, LARGE):
        await put_part(first, span)
    await first.aclose()
    with closing(sqlite3.connect(folder / "index" / "cache.db")) as connection, connection:
        connection.execute("UPDATE Cache SET tag = tag - 1")
    if rotten:
        file = next((folder / "index").glob("??/*"))
        file.write_bytes(bytes(LARGE.length))
    second = open_store(folder, LIMIT)
    small, large = (SMALL.start, SMALL.end), (LARGE.start, LARGE.end)
    assert await spans(second) == ([small] if rotten else [small, large])
    await second.aclose()


# Messages that end early


@pytest.mark.parametrize("received", [1, 20_000, 32_768, 262_144, 399_999])
@pytest.mark.rfc("9111", "3.3", "incomplete-recorded")
async def test_what_arrived_of_a_cut_message_is_stored_as_a_part(store: DiskStore, received: int) -> None:
    what = meta()
    headers = what.head.headers.adding((b"Content-Length", b"400000"))
    fill = store.open_fill(key(), replace(what, head=replace(what.head, headers=headers)), WHOLE)
    reader, late = fill.reader(), fill.reader(received // 2)
    for start in range(0, received, 65536):
        await fill.write(BODY[start : min(start + 65536, received)])
    fill.abort("the origin went away", keep=True)
    assert not fill.will_store
    got = b""
    with pytest.raises(FillAborted, match="the origin went away"):
        while True:
            got += await reader.read()
    assert got == BODY[:received]
    await store.settle()
    assert await spans(store) == [(0, received)]
    assert (await store.lookup(key(), ANY)).parts[0].stored.meta == what
    assert unfinished(store) == []
    assert await late.read(1) == BODY[received // 2 :][:1]


@pytest.mark.parametrize(
    ("received", "length", "keep"),
    [(0, WHOLE, True), (1000, None, True), (100_000, None, True), (100_000, WHOLE, False)],
)
async def test_what_is_not_worth_keeping_leaves_nothing(
    store: DiskStore, received: int, length: int | None, keep: bool
) -> None:
    await cut(store, received, length=length, keep=keep)
    await store.settle()
    assert await store.lookup(key(), ANY) == NOTHING
    assert (body_files(store), unfinished(store)) == ([], [])


async def test_a_part_that_is_cut_is_a_shorter_part(store: DiskStore) -> None:
    fill = store.open_fill(key(), meta(), LARGE.length, part=(LARGE, WHOLE))
    await fill.write(BODY[LARGE.start : LARGE.start + 70_000])
    fill.abort("the origin went away", keep=True)
    await store.settle()
    assert await spans(store) == [(LARGE.start, LARGE.start + 70_000)]


async def test_a_message_that_is_cut_after_its_last_byte_is_whole(store: DiskStore) -> None:
    await cut(store, WHOLE)
    await store.settle()
    assert await body_of(store, key()) == BODY


async def test_a_cut_message_is_kept_by_a_task_that_is_being_cancelled(store: DiskStore) -> None:
    fill = store.open_fill(key(), meta(), 100 * WHOLE)
    written = asyncio.Event()

    async def receive() -> None:
        try:
            for _ in range(3):
                await fill.write(BODY)  # each leaves a write to the disk under way
            written.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            fill.abort("its client left", keep=True)
            raise

    receiving = asyncio.ensure_future(receive())
    await written.wait()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await store.settle()
    (part,) = (await store.lookup(key(), ANY)).parts
    assert (part.span, part.complete) == (Span(0, 3 * WHOLE), 100 * WHOLE)
    assert await read_all(store.open_body(part.stored.body)) == BODY * 3


async def test_an_invalidation_while_what_arrived_is_kept_keeps_it_from_being_stored(store: DiskStore) -> None:
    await cut(store, 300_000)
    await store.invalidate([key()])
    await store.settle()
    assert await store.lookup(key(), ANY) == NOTHING
    assert (body_files(store), unfinished(store)) == ([], [])


async def test_closing_waits_for_what_is_being_kept(folder: Path) -> None:
    first = open_store(folder, LIMIT)
    await cut(first, 300_000)
    await first.aclose()
    second = open_store(folder, LIMIT)
    assert await spans(second) == [(0, 300_000)]
    await second.aclose()


# From the middle


@pytest.mark.parametrize("size", [1000, 300_000], ids=["inline", "file"])
@pytest.mark.parametrize("start", [0, 1, 999, 1000])
@SETTLED
async def test_a_stored_body_is_read_from_any_byte(store: DiskStore, size: int, start: int, settled: bool) -> None:
    await put(store, key(), BODY[:size])
    if settled:
        await store.settle()
    stored = await best(store, key())
    assert stored is not None
    assert await read_all(store.open_body(stored.body, start)) == BODY[start:size]


# All of a URI


@SETTLED
async def test_an_invalidation_takes_every_kind_and_content_of_its_uri(store: DiskStore, settled: bool) -> None:
    get = key()
    queries = [replace(get, kind="QUERY", content=digest) for digest in ("", "a", "b")]
    others = [key("a/"), key("A"), key("ab"), key("a", "elsewhere"), replace(key("b"), kind="QUERY", content="a")]
    await put_part(store, LARGE)
    for where in (*queries, *others):
        await put(store, where, content(60_000, str(where)))
    await put(store, queries[0], content(60_000, 1), meta(nominated=wants("gzip")[0]))
    under_way = store.open_fill(replace(get, kind="QUERY", content="c"), meta(), None)
    if settled:
        await store.settle()
    for where in queries[1:]:
        assert await body_of(store, where) == content(60_000, str(where))
    await store.invalidate([queries[1]])
    assert not under_way.will_store
    for where in (get, *queries):
        assert await store.lookup(where, wants("gzip")[1]) == NOTHING
    for where in others:
        assert await body_of(store, where) == content(60_000, str(where))
    assert objects(store) == (len(others), len(others))
    await put(store, queries[1], b"asked for afterwards")
    assert await body_of(store, queries[1]) == b"asked for afterwards"


# What expires


@pytest.mark.parametrize("nominated", [(), wants("gzip")[0]], ids=["plain", "variant"])
@SETTLED
async def test_what_expires_is_gone_by_itself(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, nominated: Nominated, settled: bool
) -> None:
    request = wants("gzip")[1]
    start = time.time()
    fill = store.open_fill(key(), meta(nominated=nominated), None, expires=start + 1000)
    await fill.write(b"body")
    await fill.complete()
    if settled:
        await store.settle()
    assert await body_of(store, key(), request) == b"body"
    monkeypatch.setattr(time, "time", lambda: start + 1001)
    assert await store.lookup(key(), request) == NOTHING


@pytest.mark.parametrize("size", [10, 100_000])
async def test_what_has_expired_when_it_is_complete_is_not_stored(store: DiskStore, size: int) -> None:
    fill = store.open_fill(key(), meta(), None, expires=time.time() - 1)
    await fill.write(content(size))
    await fill.complete()
    assert await store.lookup(key(), ANY) == Found()
    await store.settle()
    assert (objects(store), unfinished(store)) == ((0, 0), [])
