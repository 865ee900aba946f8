"""Commands over the socket of a running proxy: the same events as from `Admin` itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import pytest

from fwdproxy import __version__
from fwdproxy.config import CacheTable
from fwdproxy.control import client, server, sockets
from fwdproxy.control.client import Running, running
from fwdproxy.control.messages import LONGEST_COMMAND, Fetch, Fetched, Ls, Purge, Statistics, Stats, Warm
from fwdproxy.control.server import Control, serve_control
from fwdproxy.errors import FwdProxyError
from fwdproxy.values import Timeout
from tests.control.conftest import Cache, events


@pytest.fixture
async def control(cache: Cache) -> AsyncIterator[Control]:
    made = await serve_control(cache.admin(), cache.folder / "control")
    yield made
    await made.aclose()


async def raw(control: Control, line: bytes) -> list[bytes]:
    """The lines that answer ``line``."""
    connection = sockets.connect(control.path)
    assert connection is not None
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    writer.write(line)
    writer.write_eof()
    try:
        return (await reader.read()).splitlines()
    finally:
        writer.close()


async def test_commands_are_answered_as_by_the_admin(cache: Cache, control: Control) -> None:
    [proxy] = running(cache.folder / "control")
    urls = (cache.site.url("/fresh"), cache.site.url("/none"))
    assert {each.how for each in await events(proxy, Warm(urls=urls))} == {"stored", "failed"}
    assert [entry.url for entry in await events(proxy, Ls())] == [urls[0]]
    assert await events(proxy, Ls()) == await events(control.admin, Ls())
    assert len(await events(proxy, Fetch(url=cache.site.url("/big")))) > 1
    assert isinstance((await events(proxy, Stats()))[0], Statistics)


async def test_faults_are_told_in_the_admins_words(cache: Cache, control: Control) -> None:
    proxy = Running(control.path)
    with pytest.raises(FwdProxyError, match=r"^'\*' is not a host; write its name"):
        await events(proxy, Purge(kind="host", value="*"))
    assert await events(proxy, Ls()) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"nonsense\n", b"the proxy doesn't know that command"),
        (b'{"is":"reboot"}\n', b"the proxy doesn't know that command"),
        (b'{"is":"ls","limit":"many"}\n', b"the proxy doesn't know that command"),
        (b"\xff\n", b"the proxy doesn't know that command"),
    ],
    ids=["no JSON", "unknown", "wrong type", "no text"],
)
async def test_bad_commands_are_refused(control: Control, line: bytes, complaint: bytes) -> None:
    hello, failure = await raw(control, line)
    assert hello == b'{"is":"hello","version":"%b","pid":%d}' % (__version__.encode(), os.getpid())
    assert failure.startswith(b'{"is":"failure","text":"' + complaint)


async def test_a_command_without_end_is_not_read_to_its_end(control: Control) -> None:
    lines: list[bytes] = []
    with contextlib.suppress(ConnectionError):  # as the system has it when unread bytes are left
        lines = await raw(control, b"x" * (LONGEST_COMMAND * 3))
    assert all(line.startswith((b'{"is":"hello"', b'{"is":"failure","text":"a command is longer')) for line in lines)
    await asyncio.wait_for(_idle(control), 5)
    assert len(await events(Running(control.path), Stats())) == 1


async def test_who_says_nothing_is_let_go(control: Control) -> None:
    assert len(await raw(control, b"")) == 1


async def test_who_leaves_ends_the_command(cache: Cache, control: Control) -> None:
    asked = asyncio.Event()

    async def never(path: str) -> None:
        asked.set()
        await asyncio.Event().wait()

    cache.site.before = never
    task = asyncio.ensure_future(events(Running(control.path), Warm(urls=(cache.site.url("/fresh"),))))
    await asked.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(_idle(control), 5)


async def _idle(control: Control) -> None:
    while control._tasks:
        await asyncio.wait(control._tasks)


async def test_a_proxy_that_stops_ends_what_is_under_way(cache: Cache, control: Control) -> None:
    asked = asyncio.Event()

    async def never(path: str) -> None:
        asked.set()
        await asyncio.Event().wait()

    cache.site.before = never
    task = asyncio.ensure_future(events(Running(control.path), Warm(urls=(cache.site.url("/fresh"),))))
    await asked.wait()
    await control.aclose()
    with pytest.raises(FwdProxyError, match="the proxy stopped in the middle; try again when it runs"):
        await task
    assert running(cache.folder / "control") == []
    assert not control.path.exists()
    with pytest.raises(FwdProxyError, match="the proxy stopped meanwhile"):
        await events(Running(control.path), Stats())


async def test_new_settings_hold_for_the_next_command(cache: Cache, control: Control) -> None:
    await events(control.admin, Warm(urls=(cache.site.url("/fresh"),)))
    cache.now += 31
    control.admin = cache.admin(cache=CacheTable(retention=Timeout(30)))
    assert [entry.outdated for entry in await events(Running(control.path), Ls())] == [True]


async def test_another_version_is_told_of(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "__version__", "9.9")
    with pytest.raises(FwdProxyError, match=f"the proxy that runs is version 9.9, and this is {__version__}; start it"):
        await events(Running(control.path), Stats())


async def test_a_proxy_that_hangs_is_told_of(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HELLO_PATIENCE", 0.05)
    listener, path = sockets.listen(cache.folder / "control")
    with listener, pytest.raises(FwdProxyError, match="the proxy behind .* does not answer; stop it and try again"):
        await events(Running(path), Stats())


async def test_a_proxy_that_takes_no_more_connections_runs_all_the_same(
    cache: Cache, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tells all proxies of something has to know of it."""
    monkeypatch.setattr(sockets, "BACKLOG", 0)
    monkeypatch.setattr(sockets, "_PATIENCE", 0.05)
    listener, path = sockets.listen(cache.folder / "control")
    with listener, contextlib.ExitStack() as waiting:
        with contextlib.suppress(FwdProxyError):
            while True:
                connection = sockets.connect(path)
                assert connection is not None
                waiting.enter_context(connection)
        assert len(running(cache.folder / "control")) == 2
        with pytest.raises(FwdProxyError, match="can't talk to the proxy behind .*: it does not answer; stop it"):
            await events(Running(path), Stats())


async def test_an_argument_that_is_no_text_is_told_of(control: Control) -> None:
    with pytest.raises(FwdProxyError, match=r"^'http://a.example/\\udcff' is not UTF-8 text; write it in UTF-8"):
        await events(Running(control.path), Fetch(url="http://a.example/\udcff"))


async def test_many_at_once(cache: Cache, control: Control) -> None:
    proxy = Running(control.path)
    urls = [cache.site.url(f"/fresh?{number}") for number in range(5)]
    told = await asyncio.gather(*(events(proxy, Warm(urls=(url,))) for url in urls))
    assert [fetched for [fetched] in told] == [Fetched(url=url, how="stored", status=200, bytes=5) for url in urls]
