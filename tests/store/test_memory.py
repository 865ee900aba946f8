"""A store in memory only."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fwdproxy.errors import StoreError
from fwdproxy.store import memory
from fwdproxy.store.memory import open_memory
from fwdproxy.store.mounts import file_system_of
from tests.store.samples import body_of, content, key, put

ROOT = Path(__file__).parents[2]
LIMIT = 10_000_000

pytestmark = pytest.mark.skipif(file_system_of(memory.PLACE) != "tmpfs", reason="no tmpfs on /dev/shm")


@pytest.fixture
def place() -> Path:
    return memory.PLACE


def own_folders(place: Path) -> set[Path]:
    return set(place.glob(f"fwdproxy-{os.getuid()}-*"))


async def test_it_stores_and_leaves_nothing_behind(place: Path) -> None:
    store = open_memory(LIMIT)
    folder = store.directory.parent
    assert folder in own_folders(place)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert store.size_limit == LIMIT
    for size in (1000, 100_000):
        await put(store, key(size), content(size))
    await store.settle()
    for size in (1000, 100_000):
        assert await body_of(store, key(size)) == content(size)
    await store.aclose()
    await store.aclose()
    assert folder not in own_folders(place)


async def test_each_has_its_own(place: Path) -> None:
    one, other = open_memory(LIMIT), open_memory(LIMIT)
    await put(one, key(), b"body")
    await one.settle()
    assert await body_of(other, key()) is None
    await other.aclose()
    assert await body_of(one, key()) == b"body"
    await one.aclose()


@pytest.fixture
def living() -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """The folder of another process's store, and that process."""
    program = (
        "from fwdproxy.store.memory import open_memory; s = open_memory(10**7); print(s.directory, flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield Path(process.stdout.readline().strip()).parent, process
    process.kill()
    process.communicate()


async def test_what_a_killed_process_leaves_is_removed_by_the_next(
    place: Path, living: tuple[Path, "subprocess.Popen[str]"]
) -> None:
    folder, process = living
    one = open_memory(LIMIT)
    assert folder in own_folders(place)  # its process lives
    process.kill()
    process.communicate()
    assert folder in own_folders(place)
    following = open_memory(LIMIT)
    assert folder not in own_folders(place)
    assert one.directory.parent in own_folders(place)
    await one.aclose()
    await following.aclose()


async def test_only_our_own_folders_are_removed(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir(0o700)
    link = place / f"fwdproxy-{os.getuid()}-link-of-a-test"
    file = place / f"fwdproxy-{os.getuid()}-file-of-a-test"
    open_to_all = place / f"fwdproxy-{os.getuid()}-open-of-a-test"
    link.symlink_to(target)
    file.touch()
    open_to_all.mkdir(0o755)
    try:
        await open_memory(LIMIT).aclose()
        assert target.is_dir()
        assert file.exists()
        assert open_to_all.exists()
    finally:
        link.unlink()
        file.unlink()
        open_to_all.rmdir()


@pytest.mark.parametrize("exists", [True, False])
def test_where_there_is_no_memory_it_says_what_to_do(tmp_path: Path, exists: bool) -> None:
    place = tmp_path if exists else tmp_path / "none"
    if file_system_of(tmp_path) == "tmpfs" and exists:
        pytest.skip("the tests' folder lies in memory")
    with pytest.raises(StoreError, match="mount a tmpfs there"):
        open_memory(LIMIT, place=place)


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(StoreError, match="allow it less"):
        open_memory(2**60)
