"""From a data folder to something that does commands: the running proxy, or the store of a stopped one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from fwdproxy import config
from fwdproxy.config import Settings
from fwdproxy.control.client import running
from fwdproxy.control.messages import Command, Event
from fwdproxy.errors import FwdProxyError

UNLIMITED: Final = 9 * 10**18
"""Whoever only looks after a store evicts nothing: the proxy that fills it may have been given more room by a flag."""


class Doer(Protocol):
    """A running proxy, or an `Admin` on its store."""

    def do(self, command: Command) -> AsyncGenerator[Event]:
        """The events that answer ``command``. Raises FwdProxyError."""
        ...


def settings_of(config_file: Path | None, data_dir: str | None) -> Settings:
    """The settings of the proxy that is meant. Raises ConfigError."""
    return config.load(config_file, {"data_dir": data_dir}, listens=False)


def work(settings: Settings, job: Callable[[list[Doer]], Coroutine[Any, Any, int]], *, fetches: bool = False) -> int:
    """Do ``job`` with the proxies that run on this data folder, newest first, else with its store; its exit status.

    ``fetches``: only a running proxy will do. Raises FwdProxyError.
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
        async with _opened(settings) as admin:
            return await job([admin])

    return asyncio.run(reach())


async def each(doer: Doer, command: Command) -> AsyncIterator[Event]:
    """The events of one command, released at the end."""
    async with aclosing(doer.do(command)) as events:
        async for event in events:
            yield event


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Doer]:
    # These bring the exchange and the origin client along, which a running proxy's clients don't need.
    from fwdproxy.control.admin import Admin  # noqa: PLC0415
    from fwdproxy.store.disk import default_size, open_store  # noqa: PLC0415

    folder = settings.cache_dir
    if not (folder / "store.json").exists():
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
