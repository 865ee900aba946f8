"""Commands where several processes, or settings that a running one doesn't have, come into it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from fwdproxy.config import CacheTable
from fwdproxy.control import sockets
from fwdproxy.control.messages import Warm
from fwdproxy.control.server import Control, serve_control
from fwdproxy.store import memory
from fwdproxy.store.memory import open_memory
from fwdproxy.store.mounts import file_system_of
from tests.control.conftest import Cache, cache, events

__all__ = ["cache"]

IN_MEMORY = CacheTable(memory=True)
needs_memory = pytest.mark.skipif(file_system_of(memory.PLACE) != "tmpfs", reason="no tmpfs on /dev/shm")


async def run(at: Cache, *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command about the cache in the folder of ``at``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fwdproxy", *arguments, "--data-dir", str(at.folder)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def served(at: Cache, **settings: Any) -> AsyncIterator[Control]:
    control = await serve_control(at.admin(**settings), at.folder / "control")
    try:
        yield control
    finally:
        await control.aclose()


@pytest.fixture
async def in_memory(cache: Cache) -> AsyncIterator[Cache]:
    """Another process's cache on the same data folder, in memory only."""
    store = open_memory(10_000_000)
    yield replace(cache, store=store)
    await store.aclose()


async def fill(at: Cache, *paths: str, **settings: Any) -> list[str]:
    urls = [at.site.url(path) for path in paths]
    await events(at.admin(**settings), Warm(urls=tuple(urls)))
    return urls


@needs_memory
async def test_all_that_any_process_stores_is_seen(cache: Cache, in_memory: Cache) -> None:
    [kept] = await fill(in_memory, "/fresh", cache=IN_MEMORY)
    [big] = await fill(cache, "/big")
    async with served(in_memory, cache=IN_MEMORY), served(cache), served(cache):
        status, out, err = await run(cache, "cache", "ls")
        assert (status, sorted(line.split()[-1] for line in out.splitlines()), err) == (0, sorted([kept, big]), "")
        assert (await run(cache, "cache", "ls", "--limit", "1"))[2].startswith("there are more than these 1;")
        assert (await run(cache, "cache", "show", kept))[0] == 0
        stats = (await run(cache, "cache", "stats", "--json"))[1]
        told = [(each["objects"], each["folder"]) for each in map(json.loads, stats.splitlines())]
        assert sorted(told) == sorted([(1, "memory"), (1, str(cache.folder / "cache"))])
        assert (await run(cache, "cache", "verify"))[1] == "2 responses, 100 kB: none broken\n"
        status, out, _ = await run(cache, "cache", "forget", "127.0.0.1")
        assert (status, out) == (0, "forgot 2 responses of 127.0.0.1; nothing of it is left\n")
        assert (await run(cache, "cache", "show", kept))[0] == 1


@needs_memory
async def test_a_process_that_hangs_keeps_no_other_from_obeying(cache: Cache, in_memory: Cache) -> None:
    [kept] = await fill(in_memory, "/fresh", cache=IN_MEMORY)
    async with served(in_memory, cache=IN_MEMORY):
        listener, path = sockets.listen(cache.folder / "control")
        with listener:
            os.utime(path, (2e9, 2e9))  # the newest
            looking, purging = await asyncio.gather(
                run(cache, "cache", "show", kept), run(cache, "cache", "purge", "--tag", "none")
            )
            assert looking[0] == 0
            assert looking[2] == purging[2]
            assert (purging[0], purging[1]) == (1, "purged: tag none\n")
            assert purging[2] == f"fwdproxy: the proxy behind {path} does not answer; stop it and try again\n"
            status, _, err = await run(cache, "cache", "forget", "127.0.0.1")
            assert (status, "does not answer" in err) == (1, True)
        assert (await run(cache, "cache", "show", kept))[0] == 1


async def test_a_file_is_tried_beside_a_proxy_that_was_not_started_with_it(cache: Cache) -> None:
    file = cache.folder / "c.toml"
    file.write_text(
        "[[recipes]]\npattern = 'http://127\\.0\\.0\\.1:\\d+/[a-z]+/(fresh)'\nkey = 'http://127.0.0.1:"
        f"{cache.site.port}/\\1'\n[[rules]]\nmax_lifetime = '5m'\n"
    )
    [fresh] = await fill(cache, "/fresh")
    url = cache.site.url("/mirror/fresh")
    async with served(cache):
        status, out, _ = await run(cache, "explain", "--dry-run", "--json", "--config", str(file), url)
        told = json.loads(out)
        assert (status, told["key"], told["rule"]) == (0, fresh, ["max_lifetime: fresh for at most 5m"])
        assert [entry["url"] for entry in told["stored"]] == [fresh]
        plain = json.loads((await run(cache, "explain", "--dry-run", "--json", url))[1])
        assert (plain["key"], plain.get("rule", []), plain.get("stored", [])) == (url, [], [])
        file.write_text("[[recipes]]\npattern = '('\nkey = 'http://a.internal/'\n")
        status, _, err = await run(cache, "explain", "--dry-run", "--config", str(file), url)
        assert (status, err.startswith(f"fwdproxy: {file}: recipe 1: the pattern '(' of a recipe can't")) == (1, True)


async def test_what_an_origin_said_of_queries_counts_for_a_file_that_is_tried(cache: Cache) -> None:
    file = cache.folder / "c.toml"
    file.write_text("[cache]\nno_vary_search = true\n")
    cache.site.pages["/fresh"] = (b"Cache-Control: max-age=60\r\nNo-Vary-Search: params\r\n", b"fresh")
    heeding = CacheTable(no_vary_search=True)
    await fill(cache, "/fresh?a=1", cache=heeding)
    async with served(cache, cache=heeding):
        url = cache.site.url("/fresh?b=2")
        told = json.loads((await run(cache, "explain", "--dry-run", "--json", "--config", str(file), url))[1])
        assert (told["key"], len(told["stored"])) == (cache.site.url("/fresh"), 1)
        file.write_text("")
        told = json.loads((await run(cache, "explain", "--dry-run", "--json", "--config", str(file), url))[1])
        assert (told["key"], told.get("stored", [])) == (url, [])
