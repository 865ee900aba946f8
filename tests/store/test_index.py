"""diskcache as the index: no pickle, files and rows together, no writes on get."""

import os
import pickle
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import diskcache
import pytest

from fwdproxy.store.index import DATABASE, MODE_PICKLE, MODE_RAW, Bodied, Index, Listed, PlainDisk, RefusedRow


class Bomb:
    """What unpickling this does would be seen."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "index"
    folder.mkdir()
    index = Index(folder)
    yield index
    index.close()


def bodied(index: Index, name: str, body: bytes = b"body") -> Bodied:
    source = Path(index.directory) / "source"
    source.write_bytes(body)
    return Bodied(b"record of " + name.encode(), source, name, len(body))


def files(index: Index) -> list[str]:
    return sorted(str(file.relative_to(index.directory)) for file in Path(index.directory).glob("??/*"))


def plant(index: Index, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(Path(index.directory) / DATABASE)) as connection, connection:
        connection.execute(statement, values)


def test_a_row_gives_back_its_bytes_and_epoch(index: Index) -> None:
    index.set(b"k", b"value", tag=3)
    assert index.find(b"k") == (b"value", 3)
    assert index.find(b"other") is None


@pytest.mark.parametrize("value", [{"a": 1}, [1], 1.5, None, object()])
def test_only_plain_values_are_stored(index: Index, value: object) -> None:
    with pytest.raises(TypeError):
        index.set(b"k", value)
    with pytest.raises(TypeError):
        index.set(value, b"v")


@pytest.mark.parametrize("mode", [MODE_PICKLE, 3, 99])
def test_a_row_of_another_kind_is_refused_and_not_unpickled(index: Index, tmp_path: Path, mode: int) -> None:
    index.set(b"k", b"value", tag=1)
    bomb = pickle.dumps(Bomb(tmp_path / "trace"))
    plant(index, "UPDATE Cache SET mode = ?, value = ?", mode, bomb)
    with pytest.raises(RefusedRow):
        index.find(b"k")
    (Path(index.directory) / "ab").mkdir()
    (Path(index.directory) / "ab" / "x").write_bytes(bomb)
    plant(index, "UPDATE Cache SET mode = ?, value = NULL, filename = 'ab/x'", mode)
    with pytest.raises(RefusedRow):
        index.find(b"k")
    assert not (tmp_path / "trace").exists()


def test_a_pickled_key_is_refused(index: Index, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "trace"))
    plant(index, "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, ?, ?)", bomb, MODE_RAW, b"v")
    with pytest.raises(RefusedRow):
        list(index)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(("column", "value"), [("value", "text"), ("value", 7), ("tag", "text"), ("tag", None)])
def test_a_row_without_bytes_or_epoch_is_refused(index: Index, column: str, value: object) -> None:
    index.set(b"k", b"value", tag=1)
    plant(index, f"UPDATE Cache SET {column} = ?", value)
    with pytest.raises(RefusedRow):
        index.find(b"k")


def test_nothing_of_diskcaches_disk_that_unpickles_is_left() -> None:
    for name in ("put", "get", "store", "fetch", "remove"):
        assert getattr(PlainDisk, name) is not getattr(diskcache.Disk, name)


def test_files_are_closed_to_others(index: Index) -> None:
    index.set(b"k", b"value", tag=1)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in Path(index.directory).glob("cache.db*")}
    assert modes == dict.fromkeys(("cache.db", "cache.db-wal", "cache.db-shm"), 0o600)


def test_a_get_writes_nothing(index: Index) -> None:
    index.set(b"k", b"value", tag=1)
    wal = Path(index.directory) / (DATABASE + "-wal")
    before = wal.read_bytes()
    for _ in range(3):
        index.find(b"k")
    assert wal.read_bytes() == before
    assert (index.cull_limit, index.eviction_policy, index.statistics) == (0, "none", 0)


def test_one_row_owns_record_and_file(index: Index) -> None:
    with index.group():
        index.set(b"k", bodied(index, "ab/1"), tag=1)
    assert index.find(b"k") == (b"record of ab/1", 1)
    assert files(index) == ["ab/1"]
    assert index.knows_file("ab/1")
    assert not index.knows_file("ab/2")
    with index.group():
        index.set(b"k", bodied(index, "cd/2"), tag=1)
        assert files(index) == ["ab/1", "cd/2"]  # the old one goes after the commit
    assert files(index) == ["cd/2"]
    with index.group():
        index.delete(b"k")
        assert files(index) == ["cd/2"]
    assert files(index) == []


def test_a_rollback_keeps_the_old_file_and_takes_the_new_one_back(index: Index) -> None:
    with index.group():
        index.set(b"k", bodied(index, "ab/old"), tag=1)

    def fail() -> None:
        with index.group():
            index.set(b"k", bodied(index, "ab/new"), tag=1)
            index.set(b"l", bodied(index, "ab/other"), tag=1)
            index.delete(b"k")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert files(index) == ["ab/old"]
    assert index.find(b"k") == (b"record of ab/old", 1)
    with index.group():
        index.set(b"m", b"x", tag=1)
    assert files(index) == ["ab/old"]


def test_rewriting_a_row_keeps_its_file_and_epoch(index: Index) -> None:
    with index.group():
        index.set(b"k", bodied(index, "ab/1"), tag=7)
    with index.group():
        index.rewrite(b"k", b"new record")
    assert index.find(b"k") == (b"new record", 7)
    assert files(index) == ["ab/1"]


def test_the_least_recently_used_rows_are_known(index: Index) -> None:
    with index.group():
        for name in (b"a", b"b", b"c"):
            index.set(name, b"v" * 10, tag=1)
        index.set(b"d", Listed(b"list"), tag=1)
        index.set(b"e", bodied(index, "ab/1", b"x" * 5000), tag=1)
        index.touch([(5.0, b"a"), (1.0, b"b"), (2.0, b"d"), (3.0, b"e"), (9.0, b"gone")])
    oldest = index.oldest(4)
    assert [(each.row, each.is_list) for each in oldest] == [(b"b", False), (b"d", True), (b"e", False), (b"a", False)]
    assert oldest[2].size > 5000
    assert index.last_uses([b"a", b"b", b"gone"]) == {b"a": 5.0, b"b": 1.0}


def test_what_is_stored_is_counted(index: Index) -> None:
    empty = index.used()
    with index.group():
        index.set(b"a", Listed(b"list"), tag=1)
        index.set(b"b", bodied(index, "ab/1", b"x" * 100_000), tag=1)
        index.set(b"c", b"y" * 100_000, tag=1)
    assert index.objects() == 2
    assert 190_000 < index.used() - empty < 250_000
    with index.group():
        index.delete(b"b")
        index.delete(b"c")
    assert index.used() - empty < 20_000
    free = index.free_pages()
    assert free > 20
    index.give_back(10)
    assert index.free_pages() == free - 10


def test_a_lock_held_elsewhere_is_a_timeout_and_undoes_nothing_else(index: Index) -> None:
    with closing(sqlite3.connect(Path(index.directory) / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(diskcache.Timeout), index.group():
            pytest.fail("the lock was free")
        other.execute("ROLLBACK")
    with index.group():
        index.set(b"k", b"v", tag=1)
    assert index.find(b"k") == (b"v", 1)
