"""Small values beside the responses."""

import asyncio
from pathlib import Path

import pytest

from fwdproxy.store.disk import DiskStore, open_store
from fwdproxy.store.notes import LARGEST, MAX_WAITING
from fwdproxy.store.purging import PurgeRule
from tests.store.samples import LIMIT, body_of, content, key, put
from tests.store.test_purges import stored_rows, until

pytestmark = pytest.mark.usefixtures("hasty")


async def test_a_note_is_there_at_once_and_after_a_restart(folder: Path) -> None:
    first = open_store(folder, LIMIT)
    assert await first.note("a") is None
    first.set_note("a", b"one")
    assert await first.note("a") == b"one"
    first.set_note("a", b"")
    first.set_note("\udc80\0ü", b"\xff")
    assert await first.note("a") == b""
    await first.aclose()
    assert await first.note("a") is None
    second = open_store(folder, LIMIT)
    assert (await second.note("a"), await second.note("\udc80\0ü"), await second.note("b")) == (b"", b"\xff", None)
    second.set_note("a", None)
    assert await second.note("a") is None
    await second.aclose()
    third = open_store(folder, LIMIT)
    assert await third.note("a") is None
    await third.aclose()


async def test_notes_are_no_responses(store: DiskStore) -> None:
    for number in range(300):
        store.set_note(f"note {number}", b"value")
    await put(store, key(), b"body")
    await until(lambda: stored_rows(store) == 301)
    assert store.stats().objects == 1
    assert await store.note("note 299") == b"value"
    assert len((await store.browse()).items) == 1
    assert (await store.verify(limit=1000)).checked == 1


async def test_a_value_that_is_too_large_is_not_kept(store: DiskStore) -> None:
    store.set_note("a", bytes(LARGEST))
    assert await store.note("a") == bytes(LARGEST)
    store.set_note("a", bytes(LARGEST + 1))
    assert await store.note("a") is None


async def test_not_more_notes_wait_than_fit(store: DiskStore) -> None:
    for number in range(MAX_WAITING + 10):  # without giving the writer a chance to look
        store._notes._waiting[b"n%d" % number] = b"x" * 9
    store.set_note("one too many", b"value")
    store._notes._waiting.clear()
    assert await store.note("one too many") is None


async def test_a_purge_of_everything_concerns_notes(store: DiskStore) -> None:
    store.set_note("a", b"old")
    store.set_note("b", b"old")
    await until(lambda: stored_rows(store) == 2)
    await store.purge(PurgeRule("host", "example.com"))
    assert await store.note("a") == b"old"
    await store.purge(PurgeRule("all"))
    assert await store.note("a") is None
    store.set_note("b", b"new")
    assert await store.note("b") == b"new"
    await until(lambda: stored_rows(store) == 1)
    assert await store.note("b") == b"new"


async def test_notes_are_evicted_like_anything_else(folder: Path) -> None:
    store = open_store(folder, 2_000_000)
    for number in range(500):
        store.set_note(f"note {number}", bytes(4000))
    await until(lambda: stored_rows(store) == 500)
    for number in range(20):
        await put(store, key(number), content(100_000, number))
        await asyncio.sleep(0)
    await until(lambda: store.stats().bytes <= 2_000_000 and stored_rows(store) < 500)
    assert await body_of(store, key(19)) == content(100_000, 19)
    await store.aclose()
