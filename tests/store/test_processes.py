"""Several processes on one store, and processes that are killed."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fwdproxy.store.disk import open_store
from tests.store.child import KEYS, size_of
from tests.store.samples import LIMIT, NOW, best, body_files, body_of, content, key, meta, put, unfinished, wants

ROOT = Path(__file__).parents[2]
ROUNDS = 4


def child(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.store.child", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Other:
    """Another process on the store, which does what it is told."""

    def __init__(self, folder: Path) -> None:
        self.process = child("obey", folder)

    def __call__(self, *command: object) -> Any:
        self.tell(*command)
        return self.hear()

    def tell(self, *command: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def other(folder: Path) -> Iterator[Other]:
    other = Other(folder)
    other("known", 0, 1)
    yield other
    other.process.kill()
    other.process.communicate()


@pytest.mark.parametrize("size", [1000, 100_000], ids=["inline", "file"])
async def test_each_process_sees_what_the_other_did(folder: Path, other: Other, size: int) -> None:
    store = open_store(folder, LIMIT)
    await put(store, key("a"), content(size, "ours"))
    await store.settle()
    assert other("find", "a", size, "ours") is True
    other("put", "a", size, "theirs", NOW + 1)
    assert await body_of(store, key("a")) == content(size, "theirs")
    stored = await best(store, key("a"))
    assert stored is not None
    await store.freshen(stored, meta(at=NOW + 9, etag="freshened"))
    await store.settle()
    reader = store.open_body(stored.body)
    other("invalidate", "a")
    assert await body_of(store, key("a")) is None
    assert await reader.read(10) == content(size, "theirs")[:10]
    reader.close()
    other("put", "b", size, "theirs", NOW)
    await store.invalidate([key("b")])
    assert other("find", "b", size, "theirs") is None
    assert body_files(store) == []
    other("close")
    await put(store, key("c"), content(size))
    await store.aclose()


async def test_two_processes_write_at_once(folder: Path, other: Other) -> None:
    store = open_store(folder, LIMIT)
    other.tell("many", 0, 150)
    await asyncio.gather(*(put(store, key(number), content(50_000, number)) for number in range(150, 300)))
    await store.settle()
    await asyncio.to_thread(other.hear)
    assert other("known", 0, 300) == 300
    for number in range(300):
        assert await body_of(store, key(number)) == content(50_000, number)
    assert store.stats().objects == len(body_files(store)) == 300
    await store.aclose()


async def test_a_process_that_is_killed_leaves_nothing_wrong(folder: Path) -> None:
    dice = random.Random(7)
    whole = 0
    for round_ in range(ROUNDS):
        process = child("load", folder, round_)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        await asyncio.sleep(dice.uniform(0.02, 0.4))
        process.kill()
        process.communicate()
        store = open_store(folder, LIMIT)
        assert unfinished(store) == []
        files = 0
        for name in range(KEYS):
            stored = await best(store, key(name), wants("gzip")[1])
            if stored is None:
                continue
            version = (stored.meta.head.headers.get(b"etag") or b"").decode()[1:-1]
            assert version.startswith(f"{name}/")
            assert await body_of(store, key(name), wants("gzip")[1]) == content(size_of(version), version)
            whole += 1
            files += stored.body.path is not None
        async with asyncio.timeout(10):
            while len(body_files(store)) != files:  # what the killed one left without a row is swept
                await asyncio.sleep(0.01)
        await store.aclose()
    assert whole > ROUNDS * KEYS / 4


async def test_a_process_killed_while_it_shares_the_store_does_not_disturb_the_other(folder: Path) -> None:
    store = open_store(folder, LIMIT)
    await put(store, key("ours"), content(100_000))
    fill = store.open_fill(key("growing"), meta(), None)
    for _ in range(2):
        await fill.write(content(300_000))
    process = child("load", folder, 1)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    await asyncio.sleep(0.1)
    process.kill()
    process.communicate()
    assert len(unfinished(store)) >= 1
    another = open_store(folder, LIMIT)  # it clears away what the dead one left, and nothing of ours
    assert [file.name for file in unfinished(store)] == [fill.ident]
    await fill.complete()
    await store.settle()
    assert await body_of(another, key("growing")) == content(300_000) * 2
    assert await body_of(another, key("ours")) == content(100_000)
    await another.aclose()
    await store.aclose()
