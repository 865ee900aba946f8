"""The store as the exchange sees it."""

import asyncio
import os
import pickle
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fwdproxy.errors import FillAborted
from fwdproxy.messages import BodyRef, Headers
from fwdproxy.store import records
from fwdproxy.store.base import NOTHING, BodyReader, BrokenBody, Found
from fwdproxy.store.bodies import digest_of
from fwdproxy.store.disk import DEFAULT_SIZE, DiskStore, default_size, open_store
from fwdproxy.store.fills import INLINE_LIMIT
from fwdproxy.store.variants import MAX_VARIANTS
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

SMALL, LARGE = 1000, 100_000
BOTH = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["inline", "file"])


def change_rows(store: DiskStore, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(store.directory / "index" / "cache.db")) as connection, connection:
        connection.execute(statement, values)


def rows(store: DiskStore) -> int:
    with closing(sqlite3.connect(store.directory / "index" / "cache.db")) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM Cache").fetchone()[0])


# Storing and finding


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT - 1, INLINE_LIMIT, LARGE, 1_000_000])
async def test_what_is_stored_is_found_at_once_and_after_the_commit(store: DiskStore, size: int) -> None:
    body = content(size)
    assert await store.lookup(key(), ANY) == NOTHING
    ident = await put(store, key(), body)
    for _ in range(2):
        found = await store.lookup(key(), ANY)
        assert found.best is not None
        assert (found.known, found.others) == (True, ())
        assert (found.best.key, found.best.ident, found.best.meta) == (key(), ident, meta())
        reference = found.best.body
        assert (reference.length, reference.digest, reference.trusted) == (size, digest_of(body), True)
        assert (reference.inline is None) == (size >= INLINE_LIMIT) == (reference.path is not None)
        assert await body_of(store, key()) == body
        await store.settle()
    assert unfinished(store) == []
    assert len(body_files(store)) == (size >= INLINE_LIMIT)


async def test_vantage_kind_and_uri_make_the_key(store: DiskStore) -> None:
    await put(store, key("a"), b"here")
    for other in (key("b"), key("a", "elsewhere"), replace(key("a"), kind="POST")):
        assert await store.lookup(other, ANY) == NOTHING


@BOTH
async def test_a_response_is_found_after_a_restart(folder: Path, size: int) -> None:
    first = open_store(folder, LIMIT)
    ident = await put(first, key(), content(size))
    await first.aclose()
    second = open_store(folder, LIMIT)
    stored = await best(second, key())
    assert stored is not None
    assert (stored.ident, stored.meta, stored.body.trusted) == (ident, meta(), True)
    assert await body_of(second, key()) == content(size)
    await second.aclose()


@BOTH
async def test_a_new_response_replaces_the_old_one(store: DiskStore, size: int) -> None:
    await put(store, key(), content(size, "old"))
    await store.settle()
    ident = await put(store, key(), content(LARGE, "new"), meta(at=NOW + 1))
    stored = await best(store, key())
    assert stored is not None
    assert stored.ident == ident
    await store.settle()
    assert await body_of(store, key()) == content(LARGE, "new")
    assert (store.stats().objects, len(body_files(store))) == (1, 1)


@pytest.mark.rfc("9111", "4", "most-recent")
async def test_a_slow_older_response_does_not_replace_a_newer_one(store: DiskStore) -> None:
    slow = store.open_fill(key(), meta(at=NOW), None)
    await slow.write(content(LARGE, "old"))
    await put(store, key(), b"new", meta(at=NOW + 5))
    await slow.complete()
    assert await body_of(store, key()) == b"new"
    await store.settle()
    assert await body_of(store, key()) == b"new"
    assert (body_files(store), unfinished(store)) == ([], [])


async def test_an_aborted_fill_stores_nothing(store: DiskStore) -> None:
    for size in (SMALL, LARGE):
        fill = store.open_fill(key(), meta(), None)
        await fill.write(content(size))
        fill.abort("the origin went away")
    await store.settle()
    assert await store.lookup(key(), ANY) == NOTHING
    assert (body_files(store), unfinished(store)) == ([], [])


async def test_a_uri_beyond_ascii_is_a_key_too(store: DiskStore) -> None:
    strange = replace(key(), uri="http://example.com/\udc80\0?" + "x" * 100_000)
    await put(store, strange, b"body")
    await store.settle()
    assert await body_of(store, strange) == b"body"


async def test_a_hundred_fills_at_once(store: DiskStore) -> None:
    bodies = {number: content(number * 977, number) for number in range(100)}
    await asyncio.gather(*(put(store, key(number), body) for number, body in bodies.items()))
    found = {number: await body_of(store, key(number)) for number in bodies}
    assert found == bodies
    await store.settle()
    assert {number: await body_of(store, key(number)) for number in bodies} == bodies
    assert store.stats().objects == 100


# Vary


@pytest.mark.parametrize("settled", [False, True])
async def test_each_request_gets_its_variant(store: DiskStore, settled: bool) -> None:
    for coding in ("gzip", "br"):
        nominated, _ = wants(coding)
        await put(store, key(), content(LARGE, coding), meta(nominated=nominated, etag=coding))
    if settled:
        await store.settle()
        assert (store.stats().objects, rows(store)) == (2, 3)
    for coding, other in (("gzip", "br"), ("br", "gzip")):
        found = await store.lookup(key(), wants(coding)[1])
        assert found.best is not None
        assert found.best.meta.nominated == wants(coding)[0]
        assert [variant.etag for variant in found.others] == [f'"{other}"'.encode()]
        assert await body_of(store, key(), wants(coding)[1]) == content(LARGE, coding)
    missed = await store.lookup(key(), wants("zstd")[1])
    assert (missed.best, missed.known, len(missed.others)) == (None, True, 2)


async def test_the_same_selection_replaces_only_its_variant(store: DiskStore) -> None:
    for number, coding in enumerate(("gzip", "br", "gzip")):
        await put(store, key(), content(LARGE, number), meta(at=NOW + number, nominated=wants(coding)[0]))
        await store.settle()
    assert await body_of(store, key(), wants("gzip")[1]) == content(LARGE, 2)
    assert await body_of(store, key(), wants("br")[1]) == content(LARGE, 1)
    assert (store.stats().objects, len(body_files(store))) == (2, 2)


async def test_responses_with_and_without_vary_replace_each_other(store: DiskStore) -> None:
    nominated, request = wants("gzip")
    await put(store, key(), content(LARGE, 0), meta(nominated=nominated))
    await put(store, key(), content(LARGE, 1), meta(nominated=wants("br")[0]))
    await put(store, key(), b"plain", meta(at=NOW + 1))
    await store.settle()
    assert await body_of(store, key(), request) == b"plain"
    assert (rows(store), body_files(store)) == (1, [])
    await put(store, key(), b"varied", meta(at=NOW + 2, nominated=nominated))
    await store.settle()
    assert await body_of(store, key(), request) == b"varied"
    assert await best(store, key()) is None
    assert rows(store) == 2


async def test_the_number_of_variants_is_bounded(store: DiskStore) -> None:
    for number in range(MAX_VARIANTS):
        await put(store, key(), content(LARGE, number), meta(nominated=wants(f"c{number}")[0]))
    await store.settle()
    assert await body_of(store, key(), wants("c0")[1]) is not None  # so c0 isn't the least recently used one
    store._chores._flush_at = 0.0
    await asyncio.to_thread(store._chores._flush)
    await put(store, key(), b"new", meta(nominated=wants("new")[0]))
    await put(store, key("other"), b"other")
    await store.settle()
    assert store.stats().objects == MAX_VARIANTS + 1
    assert len(body_files(store)) == MAX_VARIANTS - 1
    assert await body_of(store, key(), wants("c0")[1]) == content(LARGE, 0)
    assert await body_of(store, key(), wants("c1")[1]) is None
    assert await body_of(store, key(), wants("new")[1]) == b"new"
    assert await body_of(store, key("other")) == b"other"


# Changes


@pytest.mark.parametrize("nominated", [(), wants("gzip")[0]], ids=["plain", "variant"])
@pytest.mark.parametrize("settled", [False, True])
@BOTH
async def test_freshening_changes_the_head_and_keeps_the_body(
    store: DiskStore, size: int, settled: bool, nominated: tuple[tuple[bytes, bytes | None], ...]
) -> None:
    request = Headers([(b"accept-encoding", b"gzip")])
    ident = await put(store, key(), content(size), meta(nominated=nominated))
    if settled:
        await store.settle()
    old = await best(store, key(), request)
    assert old is not None
    new = meta(at=NOW + 50, etag="new", nominated=nominated)
    await store.freshen(old, new)
    for _ in range(2):
        stored = await best(store, key(), request)
        assert stored is not None
        assert (stored.ident, stored.meta) == (ident, new)
        assert await body_of(store, key(), request) == content(size)
        await store.settle()


async def test_freshening_what_is_gone_brings_nothing_back(store: DiskStore) -> None:
    await put(store, key(), b"old")
    old = await best(store, key())
    assert old is not None
    await put(store, key(), b"new", meta(at=NOW + 1, etag="new"))
    await store.freshen(old, meta(at=NOW + 2, etag="freshened"))
    await store.settle()
    stored = await best(store, key())
    assert stored is not None
    assert stored.meta == meta(at=NOW + 1, etag="new")
    await store.invalidate([key()])
    await store.freshen(stored, meta(at=NOW + 3))
    await store.settle()
    assert await store.lookup(key(), ANY) == NOTHING


async def test_freshening_with_another_selection_ends_the_copy(store: DiskStore) -> None:
    await put(store, key(), b"body")
    stored = await best(store, key())
    assert stored is not None
    await store.freshen(stored, meta(nominated=wants("gzip")[0]))
    assert await store.lookup(key(), ANY) == NOTHING


@pytest.mark.parametrize("settled", [False, True])
async def test_removing_takes_that_copy_and_no_other(store: DiskStore, settled: bool) -> None:
    for coding in ("gzip", "br"):
        await put(store, key(), content(LARGE, coding), meta(nominated=wants(coding)[0]))
    if settled:
        await store.settle()
    stored = await best(store, key(), wants("gzip")[1])
    assert stored is not None
    await store.remove(stored)
    for _ in range(2):
        assert await body_of(store, key(), wants("gzip")[1]) is None
        assert await body_of(store, key(), wants("br")[1]) == content(LARGE, "br")
        await store.settle()
    await put(store, key(), b"newer", meta(nominated=wants("gzip")[0]))
    await store.remove(stored)
    assert await body_of(store, key(), wants("gzip")[1]) == b"newer"
    await store.settle()
    assert len(body_files(store)) == 1


@pytest.mark.parametrize("settled", [False, True])
async def test_invalidating_takes_everything_of_a_key(store: DiskStore, settled: bool) -> None:
    await put(store, key("plain"), content(LARGE))
    for coding in ("gzip", "br"):
        await put(store, key("varied"), content(LARGE, coding), meta(nominated=wants(coding)[0]))
    await put(store, key("other"), b"stays")
    if settled:
        await store.settle()
    await store.invalidate([key("plain"), key("varied"), key("unknown"), key("plain")])
    assert await store.lookup(key("plain"), ANY) == NOTHING
    assert await store.lookup(key("varied"), wants("br")[1]) == NOTHING
    assert await body_of(store, key("other")) == b"stays"
    assert (rows(store), body_files(store)) == (1, [])


async def test_what_was_asked_for_before_an_invalidation_is_not_stored(store: DiskStore) -> None:
    fill = store.open_fill(key(), meta(), None)
    reader = fill.reader()
    await fill.write(content(LARGE))
    await store.invalidate([key()])
    assert not fill.will_store
    await fill.complete()
    assert await read_all(reader) == content(LARGE)
    await put(store, key("other"), b"x")
    await store.settle()
    assert await store.lookup(key(), ANY) == NOTHING
    assert (body_files(store), unfinished(store)) == ([], [])
    await put(store, key(), b"asked for afterwards")
    assert await body_of(store, key()) == b"asked for afterwards"


# Bodies


async def test_a_reader_is_not_cut_by_removal(store: DiskStore) -> None:
    await put(store, key(), content(LARGE))
    await store.settle()
    stored = await best(store, key())
    assert stored is not None
    reader = store.open_body(stored.body)
    await store.invalidate([key()])
    assert body_files(store) == []
    assert await read_all(reader, 1000) == content(LARGE)


async def test_a_body_that_is_gone_is_broken(store: DiskStore) -> None:
    await put(store, key(), content(LARGE))
    await store.settle()
    stored = await best(store, key())
    assert stored is not None
    await store.remove(stored)
    await store.settle()
    with pytest.raises(BrokenBody):
        store.open_body(stored.body)
    with pytest.raises(BrokenBody):
        store.open_body(BodyRef(1, b""))


async def test_a_body_cut_while_it_is_read_is_broken(store: DiskStore) -> None:
    await put(store, key(), content(LARGE))
    await store.settle()
    stored = await best(store, key())
    assert stored is not None
    reader = store.open_body(stored.body)
    os.truncate(body_files(store)[0], 10)
    with pytest.raises(BrokenBody):
        await read_all(reader)


@pytest.mark.parametrize("size", [LARGE - 1, LARGE + 1, 0, None])
async def test_a_body_file_of_another_length_is_a_miss_and_its_row_goes(store: DiskStore, size: int | None) -> None:
    await put(store, key(), content(LARGE))
    await store.settle()
    (file,) = body_files(store)
    if size is None:
        file.unlink()
    else:
        os.truncate(file, size)
    assert await store.lookup(key(), ANY) == NOTHING
    await store.settle()
    assert (rows(store), body_files(store)) == (0, [])


async def test_a_large_body_takes_little_memory(store: DiskStore) -> None:
    size, piece = 80_000_000, content(65_536)
    before = peak = resident()
    fill = store.open_fill(key(), meta(), size)
    reader = asyncio.ensure_future(length_of(fill.reader()))
    for start in range(0, size, len(piece)):
        await fill.write(piece[: size - start])
        peak = max(peak, resident())
    await fill.complete()
    assert await reader == size
    stored = await best(store, key())
    assert stored is not None
    assert await length_of(store.open_body(stored.body)) == size
    assert max(peak, resident()) - before < 10_000_000


def resident() -> int:
    """Bytes of memory that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def length_of(reader: BodyReader) -> int:
    total = 0
    while piece := await reader.read():
        total += len(piece)
    reader.close()
    return total


# Rows that can't be


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE Cache SET mode = 4, value = ?", pickle.dumps([1])),
        ("UPDATE Cache SET value = ?", b"\xff" + b"of a later version"),
        ("UPDATE Cache SET value = ?", b""),
        ("UPDATE Cache SET value = substr(value, 1, ?)", 40),
        ("UPDATE Cache SET tag = ?", None),
        ("UPDATE Cache SET key = ?", records.primary_row(key("moved"))),
    ],
)
@pytest.mark.parametrize("nominated", [(), wants("gzip")[0]], ids=["plain", "variant"])
async def test_a_row_that_is_no_record_is_a_miss_and_goes(
    store: DiskStore, statement: str, value: object, nominated: tuple[tuple[bytes, bytes | None], ...]
) -> None:
    await put(store, key(), content(SMALL), meta(nominated=nominated))
    await store.settle()
    which = "mode != 8" if nominated else "1"
    change_rows(store, f"{statement} WHERE {which}", value)
    for where in (key(), key("moved")):
        assert (await store.lookup(where, wants("gzip")[1])).best is None
    await store.settle()
    assert await store.lookup(key(), ANY) == NOTHING
    assert rows(store) == 0
    await put(store, key(), b"new")
    await store.settle()
    assert await body_of(store, key()) == b"new"


async def test_a_list_of_variants_that_is_unreadable_goes(store: DiskStore) -> None:
    await put(store, key(), content(SMALL), meta(nominated=wants("gzip")[0]))
    await store.settle()
    change_rows(store, "UPDATE Cache SET value = ? WHERE mode = 8", b"\xff")
    assert await store.lookup(key(), wants("gzip")[1]) == NOTHING


# Size


async def test_the_least_recently_used_responses_are_evicted(folder: Path) -> None:
    store = open_store(folder, 3_000_000)
    kept = key("kept")
    await put(store, kept, content(LARGE, "kept"))
    varied = key("varied")
    await put(store, varied, content(LARGE, "v"), meta(nominated=wants("gzip")[0]))
    readers = []
    for number in range(60):
        assert await body_of(store, kept) == content(LARGE, "kept")
        await put(store, key(number), content(LARGE, number))
        await store.settle()
        stored = await best(store, key(number))
        assert stored is not None
        readers.append(store.open_body(stored.body))
        store._chores._check_at = 0.0
    await wait_for(lambda: store.stats().bytes < 3_000_000)
    assert store.stats().limit == store.size_limit == 3_000_000
    assert store.stats().bytes > 2_000_000
    assert await body_of(store, kept) == content(LARGE, "kept")
    assert await body_of(store, key(59)) == content(LARGE, 59)
    assert await body_of(store, key(0)) is None
    assert await store.lookup(varied, wants("gzip")[1]) == NOTHING
    await wait_for(lambda: len(body_files(store)) == store.stats().objects)
    for number, reader in enumerate(readers):
        assert await read_all(reader) == content(LARGE, number)
    await store.aclose()


async def test_small_rows_are_evicted_too_and_pages_given_back(folder: Path) -> None:
    store = open_store(folder, 8_000_000)
    for number in range(600):
        await put(store, key(number), content(20_000, number))
    await wait_for(lambda: store.stats().bytes < 8_000_000)
    assert await body_of(store, key(599)) == content(20_000, 599)
    await wait_for(lambda: (store.directory / "index" / "cache.db").stat().st_size < 13_000_000)
    await store.aclose()


async def test_what_is_larger_than_the_store_passes_through(folder: Path) -> None:
    store = open_store(folder, 1_000_000)
    body = content(1_500_000)
    for length in (len(body), None):
        fill = store.open_fill(key(), meta(), length)
        reader = asyncio.ensure_future(read_all(fill.reader()))
        await asyncio.sleep(0)
        for start in range(0, len(body), 50_000):
            await fill.write(body[start : start + 50_000])
        await fill.complete()
        assert await reader == body
    await store.settle()
    assert (await store.lookup(key(), ANY), unfinished(store)) == (NOTHING, [])
    await store.aclose()


def test_the_default_size_is_ten_gigabytes_or_a_tenth_of_the_free_disk(tmp_path: Path) -> None:
    size = default_size(tmp_path / "not" / "there")
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert size <= DEFAULT_SIZE == 10**10
    assert size == DEFAULT_SIZE or abs(size - free // 10) < 10**8
    assert default_size(tmp_path, 10**12) == DEFAULT_SIZE


async def test_use_is_remembered_over_a_restart(folder: Path) -> None:
    store = open_store(folder, LIMIT)
    await put(store, key("a"), b"a")
    await put(store, key("b"), b"b")
    await store.settle()
    before = time.time()
    await store.lookup(key("a"), ANY)
    await store.aclose()
    with closing(sqlite3.connect(folder / "index" / "cache.db")) as connection:
        used = dict(connection.execute("SELECT key, access_time FROM Cache").fetchall())
    assert used[records.primary_row(key("a"))] >= before > used[records.primary_row(key("b"))]


# The end


async def test_closing_writes_what_is_pending_and_aborts_what_is_under_way(folder: Path) -> None:
    store = open_store(folder, LIMIT)
    fill = store.open_fill(key("unfinished"), meta(), None)
    reader = fill.reader()
    await fill.write(content(300_000))
    for number in range(50):
        await put(store, key(number), content(number * 1000, number))
    await store.aclose()
    await store.aclose()
    with pytest.raises(FillAborted, match="closing"):
        await read_all(reader)
    assert list((folder / "fills").iterdir()) == []
    assert await store.lookup(key(1), ANY) == Found()
    again = open_store(folder, LIMIT)
    for number in range(50):
        assert await body_of(again, key(number)) == content(number * 1000, number)
    await again.aclose()


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait, a few seconds at most, for what the writer thread does in the background."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
