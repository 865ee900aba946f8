"""From a data folder to something that does commands: the running proxy, or the store of a stopped one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import typer

from fwdproxy import config
from fwdproxy.config import Settings
from fwdproxy.control.client import running
from fwdproxy.control.messages import IN_MEMORY, Command, Entry, Event, Ls, Show, Statistics, Stats
from fwdproxy.errors import FwdProxyError
from fwdproxy.policy.keying import Recipe

UNLIMITED: Final = 9 * 10**18
"""Whoever only looks after a store evicts nothing: the proxy that fills it may have been given more room by a flag."""


class Doer(Protocol):
    """A running proxy, or an `Admin` on its store."""

    def do(self, command: Command) -> AsyncGenerator[Event]:
        """The events that answer ``command``. Raises FwdProxyError."""
        ...


def settings_of(config_file: Path | None, data_dir: str | None) -> Settings:
    """The settings of the proxy that is meant. Raises ConfigError."""
    return config.load(config_file, {"data_dir": data_dir}, listens=False, check_recipe=Recipe.build)


def work(
    settings: Settings,
    job: Callable[[list[Doer]], Coroutine[Any, Any, int]],
    *,
    fetches: bool = False,
    needs_cache: bool = True,
) -> int:
    """Do ``job`` with the proxies that run on this data folder, newest first, else with its store; its exit status.

    ``fetches``: only a running proxy will do. ``needs_cache``: at least a store must be there; else ``job`` may get
    nobody. Raises FwdProxyError.
    """

    async def reach() -> int:
        proxies: list[Doer] = [*running(settings.control_dir)]
        if proxies:
            return await job(proxies)
        if fetches:
            raise FwdProxyError(
                f"no proxy runs on the data folder {settings.data_dir}, and only a running one fetches; start it with: "
                f"fwdproxy run --data-dir {settings.data_dir}"
            )
        if not needs_cache and not _exists(settings):
            return await job([])
        async with _opened(settings) as admin:
            return await job([admin])

    return asyncio.run(reach())


async def every(doers: list[Doer], command: Command) -> tuple[list[tuple[Doer, list[Event]]], list[FwdProxyError]]:
    """What each of them answers, and the faults of those that don't; all are asked at once, so that none waits for
    another. Raises FwdProxyError where none answers.
    """

    async def one(doer: Doer) -> tuple[Doer, list[Event]] | FwdProxyError:
        try:
            return doer, [event async for event in each(doer, command)]
        except FwdProxyError as error:
            return error

    told = await asyncio.gather(*map(one, doers))
    faults = [result for result in told if isinstance(result, FwdProxyError)]
    if len(faults) == len(told):
        raise faults[0]
    return [result for result in told if not isinstance(result, FwdProxyError)], faults


async def holders(doers: list[Doer]) -> list[Doer]:
    """Those to ask for all that is stored: one for the folder, which they share, and each that stores in memory.

    Those that don't answer are told of. Raises FwdProxyError where none does.
    """
    if len(doers) == 1:
        return doers
    told, faults = await every(doers, Stats())
    for fault in faults:
        typer.echo(f"fwdproxy: {fault}", err=True)
    found: list[Doer] = []
    has_folder = False
    for doer, events in told:
        for said in events:
            if isinstance(said, Statistics) and (said.memory or not has_folder):
                found.append(doer)
                has_folder = has_folder or said.folder != IN_MEMORY
    return found


async def stored(doers: list[Doer], command: Ls | Show) -> AsyncIterator[Entry]:
    """The stored responses that all of them tell of, each once."""
    seen = set()
    for doer in doers:
        async for event in each(doer, command):
            if isinstance(event, Entry):
                one = (event.vantage, event.kind, event.url, event.content, event.ident)
                if one not in seen:
                    seen.add(one)
                    yield event


async def each(doer: Doer, command: Command) -> AsyncIterator[Event]:
    """The events of one command, released at the end."""
    async with aclosing(doer.do(command)) as events:
        async for event in events:
            yield event


def _exists(settings: Settings) -> bool:
    return (settings.cache_dir / "store.json").exists()


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Doer]:
    # These bring the exchange and the origin client along, which a running proxy's clients don't need.
    from fwdproxy.control.admin import Admin  # noqa: PLC0415
    from fwdproxy.store.disk import default_size, open_store  # noqa: PLC0415

    folder = settings.cache_dir
    if not _exists(settings):
        raise FwdProxyError(f"there is no cache in {folder}, and no proxy runs; name the data folder with --data-dir")
    if folder.stat().st_uid != os.geteuid():
        # What root leaves there, the proxy could not write.
        raise FwdProxyError(f"the cache in {folder} belongs to another user; run this command as that user")
    store = open_store(folder, UNLIMITED)
    try:
        limit = settings.cache.size or default_size(folder, store.stats().bytes)
        yield Admin(store, None, settings, limit=limit)
    finally:
        await store.aclose()
