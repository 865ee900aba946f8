"""A store on disk and one in memory behind one face."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fwdproxy.messages import CacheKey
from fwdproxy.store import enforcing, memory
from fwdproxy.store.base import NOTHING
from fwdproxy.store.disk import DiskStore, open_store
from fwdproxy.store.memory import MemoryStore, open_memory
from fwdproxy.store.mounts import file_system_of
from fwdproxy.store.purging import PurgeRule
from fwdproxy.store.split import SplitStore
from tests.store.samples import ANY, LIMIT, NOW, best, body_files, body_of, content, key, meta, put
from tests.store.test_purges import rules_kept, stored_rows, until

pytestmark = [
    pytest.mark.skipif(file_system_of(memory.PLACE) != "tmpfs", reason="no tmpfs on /dev/shm"),
    pytest.mark.usefixtures("hasty"),
]

SECRET, OPEN = key("secret"), key("open")


def is_secret(where: CacheKey) -> bool:
    return "secret" in where.uri


class Parts:
    def __init__(self, folder: Path) -> None:
        self.disk: DiskStore = open_store(folder, LIMIT)
        self.memory: MemoryStore = open_memory(10_000_000, self.disk)
        self.split = SplitStore(self.disk, self.memory, is_secret)


@pytest.fixture
async def parts(folder: Path) -> AsyncIterator[Parts]:
    parts = Parts(folder)
    yield parts
    await parts.split.aclose()
    assert not parts.memory.directory.exists()


@pytest.mark.parametrize("size", [1000, 100_000], ids=["inline", "file"])
async def test_each_response_lies_where_it_may(parts: Parts, size: int) -> None:
    split = parts.split
    for where in (SECRET, OPEN):
        await put(split, where, content(size, where))
    for _ in range(2):
        for where in (SECRET, OPEN):
            assert await body_of(split, where) == content(size, where)
        await split.settle()
    assert (parts.disk.stats().objects, parts.memory.stats().objects) == (1, 1)
    assert len(body_files(parts.disk)) == (size >= 32768)
    both = split.stats()
    assert (both.objects, both.limit) == (2, LIMIT + 10_000_000)
    assert both.bytes == parts.disk.stats().bytes + parts.memory.stats().bytes
    assert await parts.disk.lookup(SECRET, ANY) == NOTHING


async def test_changes_reach_the_right_one(parts: Parts) -> None:
    split = parts.split
    for where in (SECRET, OPEN):
        await put(split, where, b"body")
        stored = await best(split, where)
        assert stored is not None
        await split.freshen(stored, meta(at=NOW + 5))
        stored = await best(split, where)
        assert stored is not None
        assert stored.meta == meta(at=NOW + 5)
        await split.remove(stored)
        assert await split.lookup(where, ANY) == NOTHING
        await put(split, where, b"body")
    await put(parts.disk, SECRET, b"from before the user's rule")
    await split.invalidate([SECRET, OPEN])
    for store in (split, parts.disk, parts.memory):
        assert await store.lookup(SECRET, ANY) == await store.lookup(OPEN, ANY) == NOTHING


async def test_a_purge_concerns_both(parts: Parts) -> None:
    split = parts.split
    for where in (SECRET, OPEN):
        await put(split, where, content(100_000))
    await split.settle()
    fill = split.open_fill(SECRET, meta(), None, moment=split.moment())
    await split.purge(PurgeRule("host", "example.com"))
    assert split.moment() == 1
    assert not fill.will_store
    fill.abort("enough")
    for where in (SECRET, OPEN):
        assert await split.lookup(where, ANY) == NOTHING
    await until(lambda: stored_rows(parts.disk) == stored_rows(parts.memory) == 0)
    for where in (SECRET, OPEN):
        await put(split, where, b"new")
        assert await body_of(split, where) == b"new"


async def test_a_purge_by_another_process_concerns_both(parts: Parts, folder: Path) -> None:
    await put(parts.split, SECRET, b"body")
    await parts.split.settle()
    another = open_store(folder, LIMIT)
    await another.purge(PurgeRule("url", SECRET.uri))
    assert await parts.split.lookup(SECRET, ANY) == NOTHING
    await another.aclose()


async def test_a_memory_that_missed_a_purge_while_it_was_in_force_trusts_nothing_from_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(folder)
    real = parts.memory._sweeper.do
    await put(parts.split, SECRET, b"body")
    await put(parts.split, OPEN, b"body")
    await parts.split.settle()
    # As after a long sleep of this process: another one has carried the purge out and dropped it.
    monkeypatch.setattr(enforcing, "LINGER", 0.0)
    monkeypatch.setattr(parts.memory._sweeper, "do", lambda: 1.0)
    await parts.split.purge(PurgeRule("url", "https://example.com/else"))
    await until(lambda: rules_kept(folder) == 0)
    assert await parts.split.lookup(SECRET, ANY) == NOTHING  # it can't be told whether it was named
    assert await body_of(parts.split, OPEN) == b"body"
    monkeypatch.setattr(parts.memory._sweeper, "do", real)
    await put(parts.split, SECRET, b"new")
    await until(lambda: parts.memory._sweeper.swept == 1)
    assert await body_of(parts.split, SECRET) == b"new"
    await parts.split.aclose()


async def test_people_see_both_as_one(parts: Parts) -> None:
    split = parts.split
    for number in range(3):
        await put(split, key(f"secret{number}"), content(40_000, number))
        await put(split, key(f"open{number}"), content(40_000, number))
    await split.settle()
    for limit in (1, 2, 50):
        listed, after = [], b""
        while True:
            page = await split.browse(after=after, limit=limit)
            listed += [item.key.uri.rpartition("/")[2] for item in page.items]
            if page.next is None:
                break
            after = page.next
        assert listed == ["open0", "open1", "open2", "secret0", "secret1", "secret2"]
        checked, after = 0, b""
        while True:
            done = await split.verify(after=after, limit=limit)
            checked += done.checked
            assert done.removed == ()
            if done.next is None:
                break
            after = done.next
        assert checked == 6
    split.set_note("a", b"note")
    assert await split.note("a") == await parts.disk.note("a") == b"note"


async def test_a_memory_with_purges_of_its_own_is_refused(folder: Path) -> None:
    disk, alone = open_store(folder, LIMIT), open_memory(10_000_000)
    with pytest.raises(ValueError, match="beside"):
        SplitStore(disk, alone, is_secret)
    await put(alone, replace(SECRET), b"body")
    await alone.purge(PurgeRule("all"))
    assert await alone.lookup(SECRET, ANY) == NOTHING
    await asyncio.gather(disk.aclose(), alone.aclose())
