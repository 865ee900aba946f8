"""What happens when the database can't be written."""

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from fwdproxy.store import disk
from fwdproxy.store.base import NOTHING
from fwdproxy.store.disk import DiskStore, open_store
from fwdproxy.store.index import DATABASE, is_damage
from tests.store.samples import ANY, LIMIT, best, body_files, body_of, content, key, meta, put, read_all, unfinished


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows; what is there can be written again."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_full_disk_stores_nothing_and_loses_nothing(store: DiskStore, caplog: pytest.LogCaptureFixture) -> None:
    await put(store, key("old"), content(100_000))
    await put(store, key("gone"), content(1000))
    await store.settle()
    with full_disk():
        for size in (1000, 100_000):
            await put(store, key(size), content(size))
        await store.invalidate([key("gone")])
        assert "other processes may still use" in caplog.text
        assert await store.lookup(key("gone"), ANY) == NOTHING
        assert await body_of(store, key("old")) == content(100_000)
        assert await store.lookup(key(1000), ANY) == NOTHING
        assert await store.lookup(key(100_000), ANY) == NOTHING
    await store.settle()
    assert await store.lookup(key("gone"), ANY) == NOTHING
    assert store.stats().objects == len(body_files(store)) == 1
    assert unfinished(store) == []
    await put(store, key(1000), content(1000))
    await store.settle()
    assert await body_of(store, key(1000)) == content(1000)


async def test_a_lock_held_by_another_process_delays_and_loses_nothing(store: DiskStore) -> None:
    with closing(sqlite3.connect(store.directory / "index" / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await put(store, key(), content(100_000))
        stored = await best(store, key())
        assert stored is not None
        await store.freshen(stored, meta(etag="new"))
        assert await body_of(store, key()) == content(100_000)
        assert len(unfinished(store)) == 1
        other.execute("ROLLBACK")
    await store.settle()
    stored = await best(store, key())
    assert stored is not None
    assert stored.meta == meta(etag="new")
    assert (len(unfinished(store)), len(body_files(store))) == (0, 1)


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
async def test_an_invalidation_does_not_wait_for_ever_for_a_lock(
    store: DiskStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setattr(disk, "INVALIDATION_PATIENCE", 0.05)
    await put(store, key(), content(1000))
    await store.settle()
    with closing(sqlite3.connect(store.directory / "index" / DATABASE, isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        async with asyncio.timeout(2):
            await store.invalidate([key()])
        assert [record.getMessage() for record in caplog.records] == [
            "the cache's database can't be written; other processes may still use what was invalidated"
        ]
        assert await store.lookup(key(), ANY) == NOTHING
        other.execute("ROLLBACK")
    await store.settle()
    assert (await store.lookup(key(), ANY), store.stats().objects) == (NOTHING, 0)


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_removed_folder_stores_nothing_and_fails_nobody(
    store: DiskStore, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    store.directory.rename(store.directory.with_name("gone"))  # at once: the writer thread may be making files
    fill = store.open_fill(key(), meta(), size)
    assert not fill.will_store
    assert "folder is gone" in fill.obstacle
    store.open_fill(key(2), meta(), size).abort("enough")
    assert caplog.text.count("its folder is gone") == 1
    reader = fill.reader()
    await fill.write(content(size))
    await fill.complete()
    assert await read_all(reader) == content(size)
    assert await store.lookup(key(), ANY) == NOTHING
    await store.invalidate([key()])


async def test_a_body_file_that_cannot_be_moved_undoes_only_its_response(store: DiskStore) -> None:
    fill = store.open_fill(key("lost"), meta(), None)
    await fill.write(content(100_000))
    with closing(sqlite3.connect(store.directory / "index" / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # so that the commit comes after the next lines
        await fill.complete()
        await put(store, key("kept"), content(100_000))
        fill.path.unlink()
        other.execute("ROLLBACK")
    await store.settle()
    assert await store.lookup(key("lost"), ANY) == NOTHING
    assert await body_of(store, key("kept")) == content(100_000)


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_CORRUPT | 1 << 8, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_BUSY, False),
        (sqlite3.SQLITE_IOERR, False),
        (None, False),
    ],
)
def test_only_a_torn_database_is_damage(code: int | None, damage: bool) -> None:
    error = sqlite3.DatabaseError("text")
    if code is not None:
        error.sqlite_errorcode = code
    assert is_damage(error) is damage


async def test_the_store_opens_while_another_process_writes(store: DiskStore) -> None:
    await put(store, key(), b"x")
    await store.settle()
    second = open_store(store.directory, LIMIT)
    assert await body_of(second, key()) == b"x"
    await second.aclose()
