"""The store's folder: ours or not, whole or not, left as it should be or not."""

import asyncio
import json
import logging
import os
import shutil
import stat
from pathlib import Path

import pytest

from fwdproxy.errors import StoreError
from fwdproxy.store import mounts, opening
from fwdproxy.store.base import NOTHING
from fwdproxy.store.disk import DiskStore, open_store
from fwdproxy.store.opening import Folder, open_folder
from tests.store.samples import ANY, LIMIT, best, body_files, body_of, content, key, meta, put, unfinished, wants

LARGE = 100_000


async def filled(folder: Path) -> None:
    """A store with a small body, a large one and a large variant, closed as it should be."""
    store = open_store(folder, LIMIT)
    await put(store, key("small"), b"small body")
    await put(store, key("large"), content(LARGE))
    await put(store, key("varied"), content(LARGE, "v"), meta(nominated=wants("gzip")[0]))
    await store.aclose()


def die(folder: Path) -> None:
    """Leave in the folder what a killed process leaves."""
    own = folder / "fills" / "1-dead"
    own.mkdir()
    (own / "lock").touch()
    (own / "half").write_bytes(b"half a body")


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as error:
        open_folder(path)
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def rot(file: Path) -> None:
    """Change one byte of a file in place."""
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)


def modes(folder: Path) -> set[tuple[bool, int]]:
    """(Is it a folder, its mode) of all that there is."""
    return {(each.is_dir(), stat.S_IMODE(each.stat().st_mode)) for each in (folder, *folder.rglob("*"))}


@pytest.mark.rfc("9111", "7", "protected")
async def test_the_folder_is_closed_to_others(folder: Path) -> None:
    store = open_store(folder, LIMIT)
    await put(store, key(), content(LARGE))
    fill = store.open_fill(key("b"), meta(), None)
    await fill.write(content(300_000))
    await fill.write(content(300_000))
    await store.settle()
    assert modes(folder) == {(True, 0o700), (False, 0o600)}
    fill.abort("enough")
    await store.aclose()


@pytest.mark.parametrize("content", [["notes.txt"], ["index"], ["fills"], ["lock", "cache.db"]])
def test_a_foreign_folder_is_refused_and_left_alone(folder: Path, content: list[str]) -> None:
    folder.mkdir()
    for name in content:
        (folder / name).write_text("mine")
    text = refusal(folder)
    assert str(folder) in text
    assert "name another folder" in text
    assert sorted(each.name for each in folder.iterdir()) == sorted(content)
    assert stat.S_IMODE(folder.stat().st_mode) != 0o700


@pytest.mark.parametrize("content", [[], ["lock"], ["store.json.new", "lock"], ["lost+found"]])
def test_a_folder_that_is_empty_or_was_just_begun_is_taken(folder: Path, content: list[str]) -> None:
    folder.mkdir()
    for name in content:
        (folder / name).touch()
    opened = open_folder(folder)
    assert opened.epoch == 1
    opened.leave()


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/self/cache")):
        text = refusal(path)
        assert str(path) in text
        assert "folder that you may write to" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(folder: Path) -> None:
    folder.mkdir(0o500)
    assert "Permission denied" in refusal(folder)


def test_a_network_file_system_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"40 27 0:40 / {tmp_path} rw - nfs4 server:/home rw\n")
    monkeypatch.setattr(mounts, "_MOUNTINFO", mountinfo)
    text = refusal(folder)
    assert "nfs4" in text
    assert "local disk" in text
    assert not folder.exists()


async def test_a_newer_format_is_refused(folder: Path) -> None:
    await filled(folder)
    (folder / "store.json").write_text(json.dumps({"format": 99, "epoch": 1, "boot": ""}))
    assert "format 99" in refusal(folder)


async def test_a_clean_stop_leaves_nothing_to_check(folder: Path) -> None:
    await filled(folder)
    assert list((folder / "fills").iterdir()) == []
    opened = open_folder(folder)
    assert (opened.unclean, opened.epoch) == (False, 1)
    opened.leave()


# After a process was killed


async def test_what_a_dead_process_was_receiving_goes_and_what_a_live_one_is_stays(folder: Path) -> None:
    first = open_store(folder, LIMIT)
    fill = first.open_fill(key(), meta(), None)
    for _ in range(3):
        await fill.write(content(300_000))
    die(folder)
    second = open_store(folder, LIMIT)
    assert [file.name for file in unfinished(first)] == [fill.ident]
    await fill.complete()
    await first.settle()
    assert await body_of(second, key()) == content(300_000) * 3
    await second.aclose()
    await first.aclose()


async def test_every_body_is_verified_once_after_an_unclean_stop(folder: Path) -> None:
    await filled(folder)
    die(folder)
    store = open_store(folder, LIMIT)
    for name, request in (("small", ANY), ("large", ANY), ("varied", wants("gzip")[1])):
        stored = await best(store, key(name), request)
        assert stored is not None
        assert stored.body.trusted
    # Verified now, so not looked at again, not even after a clean restart.
    await store.aclose()
    store = open_store(folder, LIMIT)
    for file in body_files(store):
        rot(file)
    assert await best(store, key("large")) is not None
    assert await best(store, key("varied"), wants("gzip")[1]) is not None
    await store.aclose()


async def test_what_is_invalidated_while_it_is_verified_is_gone(folder: Path) -> None:
    await filled(folder)
    die(folder)
    store = open_store(folder, LIMIT)
    found, _ = await asyncio.gather(store.lookup(key("large"), ANY), store.invalidate([key("large")]))
    assert found == NOTHING
    await store.aclose()


async def test_rot_is_found_after_an_unclean_stop(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    await filled(folder)
    die(folder)
    store = open_store(folder, LIMIT)
    for file in body_files(store):
        rot(file)
    assert await store.lookup(key("large"), ANY) == NOTHING
    assert await store.lookup(key("varied"), wants("gzip")[1]) == NOTHING
    assert await body_of(store, key("small")) == b"small body"
    await store.settle()
    assert (store.stats().objects, body_files(store)) == (1, [])
    assert "isn't what was received" in caplog.text
    await store.aclose()


async def test_rot_in_a_row_is_found_after_an_unclean_stop(folder: Path) -> None:
    await filled(folder)
    die(folder)
    database = folder / "index" / "cache.db"
    data = database.read_bytes()
    assert data.count(b"small body") == 1
    database.write_bytes(data.replace(b"small body", b"smell body"))
    store = open_store(folder, LIMIT)
    assert await store.lookup(key("small"), ANY) == NOTHING
    await store.aclose()


async def test_a_reboot_counts_as_an_unclean_stop(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(folder)
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n")
    monkeypatch.setattr(opening, "_BOOT_ID", boot)
    opened = open_folder(folder)
    assert (opened.unclean, opened.epoch) == (True, 2)
    opened.leave()
    opened = open_folder(folder)
    assert (opened.unclean, opened.epoch) == (False, 2)
    opened.leave()


async def test_a_marker_that_was_cut_is_written_anew(folder: Path) -> None:
    await filled(folder)
    (folder / "store.json").write_text('{"form')
    opened = open_folder(folder)
    assert opened.unclean
    assert opened.epoch > 1
    opened.leave()


async def test_files_that_no_row_owns_are_swept_after_an_unclean_stop(folder: Path) -> None:
    await filled(folder)
    die(folder)
    orphan = folder / "index" / "ab" / "orphan.body"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"moved into place, never committed")
    store = open_store(folder, LIMIT)
    fresh = [await put(store, key(number), content(LARGE, number)) for number in range(20)]
    await store.aclose()  # the writer thread has swept by then, or is made to by the next opening
    if orphan.exists():
        die(folder)
        store = open_store(folder, LIMIT)
        while orphan.exists():
            await store.settle()
        await store.aclose()
    store = open_store(folder, LIMIT)
    assert len(body_files(store)) == len(fresh) + 2
    for number in range(20):
        assert await body_of(store, key(number)) == content(LARGE, number)
    await store.aclose()


# A damaged database


def scribble(folder: Path) -> None:
    (folder / "index" / "cache.db").write_bytes(b"not a database, not at all" * 1000)


async def test_a_damaged_database_is_started_clean(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    await filled(folder)
    scribble(folder)
    with caplog.at_level(logging.WARNING):
        store = open_store(folder, LIMIT)
    assert [record.getMessage() for record in caplog.records if "starts empty" in record.getMessage()]
    assert await store.lookup(key("small"), ANY) == NOTHING
    await put(store, key("small"), b"anew")
    await store.settle()
    assert await body_of(store, key("small")) == b"anew"
    assert body_files(store) == []
    await store.aclose()


async def test_a_damaged_database_in_use_is_not_touched(folder: Path) -> None:
    await filled(folder)
    other = open_folder(folder)
    before = (folder / "index").stat().st_ino
    scribble(folder)
    text = refusal(folder)
    assert str(os.getpid()) in text
    assert (folder / "index").stat().st_ino == before
    other.leave()


async def test_damage_that_shows_while_in_use_makes_everything_a_miss(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(folder, LIMIT)
    for number in range(300):
        await put(store, key(number), content(20_000, number))
    await store.aclose()
    database = folder / "index" / "cache.db"
    size = database.stat().st_size
    with database.open("r+b") as file:  # the first pages stay, so the damage shows only later
        file.seek(200_000)
        file.write(b"\xa5" * (size - 200_000))
    store = open_store(folder, LIMIT)
    for number in range(300):
        found = await body_of(store, key(number))
        assert found in (None, content(20_000, number))
    await put(store, key("new"), b"new")
    assert await body_of(store, key("new")) in (None, b"new")
    await store.aclose()
    assert (folder / "damaged").exists()
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) < 10
    store = open_store(folder, LIMIT)
    assert store.stats().objects == 0
    assert not (folder / "damaged").exists()
    await put(store, key("new"), b"new")
    await store.aclose()


def test_a_lock_that_is_not_released_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LOCK_PATIENCE", 0.0)
    folder.mkdir()
    with opening._locked(folder):
        assert "locked" in refusal(folder)


def test_the_folder_may_go_while_the_store_is_open(folder: Path) -> None:
    opened: Folder = open_folder(folder)
    opened.index.close()
    shutil.rmtree(folder)
    opened.leave()


async def test_a_store_whose_folder_goes_answers_misses(store: DiskStore) -> None:
    await put(store, key(), content(LARGE))
    await store.settle()
    shutil.rmtree(store.directory)
    assert await store.lookup(key(), ANY) == NOTHING
    await put(store, key("b"), content(LARGE))
    assert (await store.lookup(key("c"), ANY)).best is None
