"""A purge and the other processes on the store: those that live, and those that are killed."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fwdproxy.store.base import NOTHING
from fwdproxy.store.disk import open_store
from fwdproxy.store.index import DATABASE
from fwdproxy.store.purging import PurgeRule
from tests.store.samples import ANY, LIMIT, NOW, body_of, content, key, meta, put
from tests.store.test_processes import Other

PURGES = [("all", ""), ("url", key("a").uri), ("prefix", "https://example.com/a"), ("host", "example.com")]


@pytest.fixture
def other(folder: Path) -> Iterator[Other]:
    other = Other(folder)
    other("known", 0, 1)
    yield other
    other.process.kill()
    other.process.communicate()


async def test_every_process_obeys_a_purge_at_once(folder: Path, other: Other) -> None:
    store = open_store(folder, LIMIT)
    for now, (kind, value) in enumerate(PURGES, int(NOW)):
        await put(store, key("a"), content(1000, "ours"), meta(at=now))
        await store.settle()
        assert other("find", "a", 1000, "ours") is True
        fill = store.open_fill(key("a"), meta(), None, moment=store.moment())
        await fill.write(b"begun before")
        stored_before = fill.will_store
        other("purge", kind, value)
        assert await store.lookup(key("a"), ANY) == NOTHING
        assert (stored_before, fill.will_store) == (True, False)
        await fill.complete()
        assert await store.lookup(key("a"), ANY) == NOTHING
        other("put", "a", 1000, "theirs", now + 0.5)
        assert await body_of(store, key("a")) == content(1000, "theirs")
        other("begin", "a")
        assert other("will store") is True
        await store.purge(PurgeRule("url", key("a").uri))
        assert other("will store") is False
        assert other("find", "a", 1000, "theirs") is None
        assert other("complete", "a") is False
    await store.aclose()


async def test_a_purge_outlives_the_process_that_was_killed_after_it(folder: Path, other: Other) -> None:
    other("put", "a", 1000, "x", NOW)
    other("purge", "url", key("a").uri)
    other.process.kill()
    other.process.communicate()
    store = open_store(folder, LIMIT)
    assert store.moment() == 1
    assert await store.lookup(key("a"), ANY) == NOTHING
    assert not store.open_fill(key("a"), meta(), None, moment=0).will_store
    await store.aclose()


async def test_what_is_committed_after_a_purge_by_another_process_was_checked_against_it(
    folder: Path, other: Other
) -> None:
    store = open_store(folder, LIMIT)
    with closing(sqlite3.connect(folder / "index" / DATABASE, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        await put(store, key("a"), b"named")  # stays pending
        await put(store, key("b"), b"not named")
        lock.execute("UPDATE PurgeState SET newest = 1")
        lock.execute("INSERT INTO Purge VALUES ('url', ?, X'', 1, 0)", (key("a").uri.encode(),))
        lock.execute("COMMIT")
    # Its process died before it told the others of the purge; the commit sees it nevertheless.
    await store.settle()
    assert await store.lookup(key("a"), ANY) == NOTHING
    assert await body_of(store, key("b")) == b"not named"
    assert await asyncio.to_thread(other, "find", "a", 5, "") is None
    await store.aclose()
