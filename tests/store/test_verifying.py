"""Looking for rot."""

from pathlib import Path

import pytest

from fwdproxy.errors import StoreError
from fwdproxy.store.base import NOTHING, Verified
from fwdproxy.store.disk import DiskStore, open_store
from tests.store.samples import ANY, LIMIT, best, body_files, body_of, content, key, meta, put, wants
from tests.store.test_disk import change_rows
from tests.store.test_opening import die, rot
from tests.store.test_purges import stored_rows, until

LARGE = 100_000

pytestmark = pytest.mark.usefixtures("hasty")


async def verify_all(store: DiskStore, limit: int = 50) -> Verified:
    """All pieces added up."""
    checked, size, after = 0, 0, b""
    removed: tuple[str, ...] = ()
    while True:
        piece = await store.verify(after=after, limit=limit)
        assert piece.checked <= limit
        checked, size, removed = checked + piece.checked, size + piece.bytes, (*removed, *piece.removed)
        if piece.next is None:
            return Verified(checked, size, removed, None)
        after = piece.next


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_what_is_sound_stays(store: DiskStore, limit: int) -> None:
    for number in range(4):
        await put(store, key(number), content(LARGE, number))
    await put(store, key("small"), b"small")
    for coding in ("gzip", "br"):
        await put(store, key("varied"), content(LARGE, coding), meta(nominated=wants(coding)[0]))
    await store.settle()
    assert await verify_all(store, limit) == Verified(7, 6 * LARGE + 5, (), None)
    assert await body_of(store, key("varied"), wants("br")[1]) == content(LARGE, "br")
    assert store.stats().objects == 7


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
async def test_a_body_file_that_is_not_what_was_received_is_removed(store: DiskStore, how: str) -> None:
    nominated, request = wants("gzip")
    await put(store, key("a"), content(LARGE))
    await put(store, key("b"), content(LARGE), meta(nominated=nominated))
    await store.settle()
    for file in body_files(store):
        if how == "changed":
            rot(file)
        elif how == "cut":
            file.write_bytes(b"")
        else:
            file.unlink()
    assert sorted((await verify_all(store)).removed) == [key("a").uri, key("b").uri]
    assert (await store.lookup(key("a"), ANY), await store.lookup(key("b"), request)) == (NOTHING, NOTHING)
    await until(lambda: stored_rows(store) == 0)
    await until(lambda: body_files(store) == [])
    assert (await verify_all(store)).removed == ()


async def test_a_rotten_small_body_and_unreadable_rows_are_removed(store: DiskStore) -> None:
    for name in ("rotten", "unreadable", "sound"):
        await put(store, key(name), f"the body of {name}".encode())
    await put(store, key("varied"), b"body", meta(nominated=wants("gzip")[0]))
    await store.settle()
    find = "instr(value, CAST('the body of rotten' AS BLOB))"
    change_rows(
        store,
        f"UPDATE Cache SET value = CAST(substr(value, 1, {find} - 1) || CAST('the body is rotten' AS BLOB)"
        f" || substr(value, {find} + 18) AS BLOB) WHERE {find}",
    )
    change_rows(store, "UPDATE Cache SET value = X'ff' WHERE instr(key, CAST('/unreadable' AS BLOB))")
    change_rows(store, "UPDATE Cache SET value = CAST(X'ff' AS TEXT) WHERE substr(key, 1, 1) = CAST('v' AS BLOB)")
    for nonsense in (b"knonsense", b"other", b"n-without-moment"):
        change_rows(store, "INSERT INTO Cache (key, raw, value, mode, tag) VALUES (?, 1, X'02', 1, 1)", nonsense)
    done = await verify_all(store)
    assert {key("rotten").uri, key("unreadable").uri} <= set(done.removed)
    assert len(done.removed) == 6
    assert sum("unreadable row" in name for name in done.removed) == 4
    assert await store.lookup(key("rotten"), ANY) == NOTHING
    assert await body_of(store, key("sound")) == b"the body of sound"
    await until(lambda: stored_rows(store) == 2)  # the sound one, and the list that names what is gone


async def test_files_that_nobody_owns_are_removed(store: DiskStore) -> None:
    await put(store, key(), content(LARGE))
    await store.settle()
    (owned,) = body_files(store)
    owned.with_name("left.body").write_bytes(b"left over")
    assert (await verify_all(store)).removed == ()
    await until(lambda: body_files(store) == [owned])


async def test_what_was_verified_need_not_be_again(folder: Path) -> None:
    store = open_store(folder, LIMIT)
    for size in (1000, LARGE):
        await put(store, key(size), content(size))
    await store.aclose()
    die(folder)
    store = open_store(folder, LIMIT)
    assert (await verify_all(store)).checked == 2
    for size in (1000, LARGE):
        stored = await best(store, key(size))
        assert stored is not None
        assert stored.body.trusted
    await store.aclose()
    with pytest.raises(StoreError, match="out of use"):
        await store.verify()
