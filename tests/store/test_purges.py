"""Purges of a store: in force at once, for all that was asked for before them, until all is deleted."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fwdproxy.errors import StoreError
from fwdproxy.messages import CacheKey, Span, StoredMeta
from fwdproxy.store import enforcing, index
from fwdproxy.store.base import NOTHING
from fwdproxy.store.disk import DiskStore, open_store
from fwdproxy.store.index import DATABASE
from fwdproxy.store.purging import PurgeRule
from tests.store.samples import ANY, LIMIT, NOW, best, body_files, body_of, content, key, meta, put, wants

ALL = PurgeRule("all")
SMALL, LARGE = 1000, 100_000
BOTH = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["inline", "file"])

pytestmark = pytest.mark.usefixtures("hasty")


def tagged(tags: str, **rest: Any) -> StoredMeta:
    plain = meta(**rest)
    headers = plain.head.headers.adding((b"Cache-Tag", tags.encode()))
    return replace(plain, head=replace(plain.head, headers=headers))


def url(name: object) -> PurgeRule:
    return PurgeRule("url", key(name).uri)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what is done in the background."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def stored_rows(store: DiskStore) -> int:
    with closing(sqlite3.connect(store.directory / "index" / DATABASE)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM Cache").fetchone()[0])


def rules_kept(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "index" / DATABASE)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM Purge").fetchone()[0])


@BOTH
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "pending"])
@pytest.mark.parametrize(
    "rule",
    [
        ALL,
        url("a"),
        PurgeRule("prefix", "https://example.com/a"),
        PurgeRule("host", "example.com"),
        PurgeRule("tag", "T2"),
    ],
    ids=lambda rule: rule.kind,
)
async def test_what_is_purged_is_a_miss_at_once(store: DiskStore, rule: PurgeRule, committed: bool, size: int) -> None:
    other = CacheKey("direct", "GET", "https://other.example/")
    await put(store, key("a"), content(size), tagged("t1, t2"))
    await put(store, key("a", "elsewhere"), content(size), tagged("t2"))
    await put(store, other, content(size), tagged("t1"))
    if committed:
        await store.settle()
    assert store.moment() == 0
    await store.purge(rule)
    assert store.moment() == 1
    assert await store.lookup(key("a"), ANY) == NOTHING
    assert await store.lookup(key("a", "elsewhere"), ANY) == NOTHING
    assert (await best(store, other) is None) == (rule == ALL)
    await put(store, key("a"), content(size, "new"), tagged("t2", at=NOW + 1))
    assert await body_of(store, key("a")) == content(size, "new")
    await store.settle()
    assert await body_of(store, key("a")) == content(size, "new")


async def test_variants_parts_and_queries_are_purged_too(store: DiskStore) -> None:
    query = CacheKey("direct", "QUERY", key("a").uri, "digest")
    await put(store, query, b"answer")
    for coding in ("gzip", "br"):
        await put(store, key("a"), content(LARGE, coding), meta(nominated=wants(coding)[0]))
    part = store.open_fill(key("b"), meta(), 10, part=(Span(0, 10), 100))
    await part.write(b"0123456789")
    await part.complete()
    assert len((await store.lookup(key("b"), ANY)).parts) == 1
    await store.purge(PurgeRule("host", ".example.com"))
    for name in ("a", "b"):
        for coding in ("gzip", "br"):
            assert await store.lookup(key(name), wants(coding)[1]) == NOTHING
    assert await store.lookup(query, ANY) == NOTHING
    await until(lambda: stored_rows(store) == 0)
    assert body_files(store) == []


async def test_only_the_variants_with_a_tag_go(store: DiskStore) -> None:
    for coding, tag in (("gzip", "old"), ("br", "new")):
        plain = tagged(tag)
        await put(store, key(), coding.encode(), replace(plain, nominated=wants(coding)[0]))
    await store.settle()
    await store.purge(PurgeRule("tag", "old"))
    found = await store.lookup(key(), wants("gzip")[1])
    assert (found.best, found.known, len(found.others)) == (None, True, 1)  # what is purged isn't offered by its tag
    assert await body_of(store, key(), wants("br")[1]) == b"br"


async def test_what_is_purged_is_deleted_in_the_background(store: DiskStore) -> None:
    for number in range(300):
        await put(store, key(number), content(SMALL, number))
    await put(store, key("large"), content(LARGE))
    for coding in ("gzip", "br"):
        await put(store, key("varied"), content(LARGE), meta(nominated=wants(coding)[0]))
    other = CacheKey("direct", "GET", "https://other.example/")
    await put(store, other, content(LARGE))
    await store.settle()
    await store.purge(PurgeRule("host", "example.com"))
    await until(lambda: stored_rows(store) == 1)
    await until(lambda: len(body_files(store)) == 1)
    assert await body_of(store, other) == content(LARGE)


async def test_a_response_asked_for_before_the_purge_is_not_stored(store: DiskStore) -> None:
    before = store.moment()
    await store.purge(url("a"))
    late = store.open_fill(key("a"), meta(), None, moment=before)
    other = store.open_fill(key("b"), meta(), None, moment=before)
    assert (late.will_store, other.will_store) == (False, True)
    assert "purged" in late.obstacle
    for fill in (late, other):
        await fill.write(b"body")
        await fill.complete()
    assert await store.lookup(key("a"), ANY) == NOTHING
    assert await body_of(store, key("b")) == b"body"


@BOTH
async def test_a_fill_under_way_is_not_stored_and_not_joined(store: DiskStore, size: int) -> None:
    fill = store.open_fill(key("a"), tagged("x"), None, moment=store.moment())
    other = store.open_fill(key("b"), meta(), None, moment=store.moment())
    for each in (fill, other):
        await each.write(content(size))
    assert fill.will_store
    await store.purge(PurgeRule("tag", "x"))
    assert (fill.will_store, other.will_store) == (False, True)
    reader = fill.reader()
    for each in (fill, other):
        await each.complete()
    assert await reader.read(SMALL) == content(size)[:SMALL]
    reader.close()
    await store.settle()
    assert await store.lookup(key("a"), ANY) == NOTHING
    assert await body_of(store, key("b")) == content(size)


async def test_a_new_head_does_not_save_what_was_purged(store: DiskStore) -> None:
    await put(store, key(), b"body", tagged("old"))
    await store.settle()
    stored = await best(store, key())
    assert stored is not None
    await store.purge(PurgeRule("tag", "old"))
    await store.freshen(stored, tagged("new", at=NOW + 5))
    assert await store.lookup(key(), ANY) == NOTHING
    await store.settle()
    assert await store.lookup(key(), ANY) == NOTHING


async def test_what_was_stored_after_the_purge_can_be_freshened(store: DiskStore) -> None:
    await store.purge(url("a"))
    await put(store, key("a"), b"body")
    stored = await best(store, key("a"))
    assert stored is not None
    await store.freshen(stored, meta(at=NOW + 5))
    await store.settle()
    stored = await best(store, key("a"))
    assert stored is not None
    assert stored.meta == meta(at=NOW + 5)


@pytest.mark.parametrize("rule", [ALL, url("a"), PurgeRule("tag", "x")], ids=lambda rule: rule.kind)
async def test_a_purge_survives_restarts(folder: Path, rule: PurgeRule) -> None:
    first = open_store(folder, LIMIT)
    await put(first, key("a"), b"body", tagged("x"))
    await first.settle()
    await first.purge(rule)
    await first.aclose()
    second = open_store(folder, LIMIT)
    assert second.moment() == 1
    assert await second.lookup(key("a"), ANY) == NOTHING
    assert not second.open_fill(key("a"), tagged("x"), None, moment=0).will_store
    await until(lambda: stored_rows(second) == 0)
    await second.purge(ALL)
    assert second.moment() == 2
    await second.aclose()


async def test_purges_are_dropped_when_they_are_carried_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcing, "LINGER", 0.0)
    store = open_store(folder, LIMIT)
    await put(store, key("a"), b"old")
    await put(store, key("b"), b"other")
    await store.settle()
    waiting = store.open_fill(key("b"), meta(at=NOW + 1), None, moment=store.moment())
    await store.purge(url("a"))
    await until(lambda: rules_kept(folder) == 0)
    await until(lambda: store.purges.current().idle(2**62))
    assert (store.moment(), store.purges.current().dropped) == (1, 1)
    assert await store.lookup(key("a"), ANY) == NOTHING
    assert await body_of(store, key("b")) == b"other"
    await waiting.write(b"newer")
    await waiting.complete()  # it was looked at when the purge came
    assert await body_of(store, key("b")) == b"newer"
    unseen = store.open_fill(key("b"), meta(at=NOW + 2), None, moment=0)
    assert not unseen.will_store  # whether it was purged can't be told any more
    unseen.abort("enough")
    await store.aclose()
    again = open_store(folder, LIMIT)
    assert (again.moment(), await body_of(again, key("b"))) == (1, b"newer")
    await again.aclose()


async def test_purges_stay_known_for_a_while(store: DiskStore) -> None:
    await store.purge(url("a"))
    await put(store, key("b"), b"body")
    assert store.purges.droppable(5, time.time()) == 0
    assert store.purges.droppable(5, time.time() + enforcing.LINGER + 1) == 5


async def test_the_same_purge_again_takes_the_place_of_the_first(store: DiskStore) -> None:
    for _ in range(3):
        await store.purge(url("a"))
    assert (store.moment(), rules_kept(store.directory)) == (3, 1)
    await store.purge(url("b"))
    await store.purge(ALL)
    assert (store.moment(), rules_kept(store.directory)) == (5, 1)


async def test_many_purges_at_once_have_numbers_of_their_own(store: DiskStore) -> None:
    await asyncio.gather(*(store.purge(url(number)) for number in range(20)))
    assert (store.moment(), rules_kept(store.directory)) == (20, 20)


async def test_a_purge_that_cannot_be_written_says_so_and_purges_nothing(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enforcing, "PATIENCE", 0.05)
    await put(store, key(), b"body")
    await store.settle()
    with closing(sqlite3.connect(store.directory / "index" / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="nothing was purged"):
            await store.purge(ALL)
        other.execute("ROLLBACK")
    assert await body_of(store, key()) == b"body"
    assert store.moment() == 0
    await store.aclose()
    with pytest.raises(StoreError, match="out of use"):
        await store.purge(ALL)


async def test_a_purge_that_cannot_be_understood_counts_for_everything(folder: Path) -> None:
    store = open_store(folder, LIMIT)
    await put(store, key(), b"body")
    await store.settle()
    await store.purge(url("other"))
    with closing(sqlite3.connect(folder / "index" / DATABASE)) as connection, connection:
        connection.execute("UPDATE Purge SET kind = 'of a later version'")
    await store.aclose()
    again = open_store(folder, LIMIT)
    assert await again.lookup(key(), ANY) == NOTHING
    await again.aclose()


async def test_nothing_is_asked_of_the_database_while_nothing_is_purged(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, key(), b"body")
    asked: list[str] = []
    real = index.Index.query

    def query(self: index.Index, statement: str, values: Any = ()) -> list[Any]:
        asked.append(statement)
        return real(self, statement, values)

    await store.settle()
    monkeypatch.setattr(index.Index, "query", query)
    assert await body_of(store, key()) == b"body"
    assert asked == []


async def test_what_has_expired_is_deleted(store: DiskStore) -> None:
    soon = time.time() + 0.2
    for name, nominated in (("single", ()), ("varied", wants("gzip")[0])):
        fill = store.open_fill(key(name), meta(nominated=nominated), None, expires=soon)
        await fill.write(content(LARGE))
        await fill.complete()
    await put(store, key("lasting"), content(LARGE))
    await store.settle()
    await until(lambda: stored_rows(store) == 1)
    await until(lambda: len(body_files(store)) == 1)
    assert await body_of(store, key("lasting")) == content(LARGE)
