"""Does what people ask of a cache: on the store that a proxy has open, or on one that was opened for it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from fwdproxy.config import Settings
from fwdproxy.control import chosen, urls
from fwdproxy.control.describe import Describer
from fwdproxy.control.messages import (
    IN_MEMORY,
    Checked,
    Command,
    Done,
    Entry,
    Event,
    Explain,
    Fetch,
    Ls,
    Progress,
    Purge,
    Purged,
    Remark,
    Show,
    Statistics,
    Stats,
    Verify,
    Warm,
)
from fwdproxy.control.visiting import Visitor
from fwdproxy.errors import FwdProxyError
from fwdproxy.exchange.core import Exchange
from fwdproxy.exchange.keyed import Keys
from fwdproxy.messages import TargetURI
from fwdproxy.store.base import Store

VANTAGE: Final = "direct"


class Admin:
    """``exchange`` is None where no proxy runs: then nothing can be fetched. ``clock`` gives Unix seconds.

    ``limit``: the bytes to tell as allowed, where the store was opened without that limit.
    """

    def __init__(
        self,
        store: Store,
        exchange: Exchange | None,
        settings: Settings,
        *,
        limit: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limit = limit
        self._store = store
        self._settings = settings
        keying = chosen.keying_of(settings)
        self._keys = Keys(store, VANTAGE, keying, variance=settings.cache.no_vary_search)
        self._describe = Describer(chosen.rules_of(settings), clock)
        self._visitor = None if exchange is None else Visitor(exchange)

    async def do(self, command: Command) -> AsyncGenerator[Event]:
        """The events that answer ``command``; the last is `Done`. Raises FwdProxyError, whose text is for people."""
        async with aclosing(self._events(command)) as events:
            async for event in events:
                yield event
        yield Done()

    def _events(self, command: Command) -> AsyncGenerator[Event]:
        match command:
            case Purge():
                return self._purge(command)
            case Stats():
                return self._statistics()
            case Ls():
                return self._list(command)
            case Show():
                return self._show(command)
            case Verify():
                return self._verify()
            case Explain():
                return self._explain(command)
            case Warm() | Fetch():
                return self._running().do(command)

    def _running(self) -> Visitor:
        if self._visitor is None:
            raise FwdProxyError("no proxy runs, and without one nothing can be fetched; start it with: fwdproxy run")
        return self._visitor

    async def _purge(self, command: Purge) -> AsyncGenerator[Event]:
        keyed = ""
        if command.kind == "url":
            keyed = (await self._keys.of_target(urls.target_of(command.value))).uri
        for rule in urls.purge_rules(command.kind, command.value, command.origin, keyed):
            await self._store.purge(rule)
            yield Purged(kind=rule.kind, value=rule.value)
        if command.kind in ("prefix", "host", "group") and self._settings.recipes:
            keys = ", ".join(dict.fromkeys(recipe.key for recipe in self._settings.recipes))
            yield Remark(
                text=f"a purge by {command.kind} goes by the URIs that responses are kept under, and your recipes make "
                f"these others than were asked for: {keys}; purge by their hosts, too, if you mean what lies there"
            )

    async def _statistics(self) -> AsyncGenerator[Event]:
        stats = self._store.stats()
        in_memory = self._settings.cache.memory
        yield Statistics(
            objects=stats.objects,
            bytes=stats.bytes,
            limit=int(self._limit or stats.limit),
            folder=IN_MEMORY if in_memory else str(self._settings.cache_dir),
            memory=in_memory or any(rule.memory for rule in self._settings.rules),
        )

    async def _show(self, command: Show) -> AsyncGenerator[Event]:
        for entry in await self._stored(urls.target_of(command.url)):
            yield entry

    async def _list(self, command: Ls) -> AsyncGenerator[Event]:
        left = max(0, command.limit)
        prefix = urls.prefix_of(command.prefix) if command.prefix else ""
        host = urls.host_of(command.host) if command.host else ""
        after: bytes | None = b""
        while after is not None and left:
            page = await self._store.browse(prefix=prefix, host=host, after=after, limit=min(left, 200))
            for listed in page.items:
                yield self._describe.entry(listed)
            left -= len(page.items)
            after = page.next

    async def _stored(self, target: TargetURI) -> list[Entry]:
        """All that is stored for a target, under its own URI and under that of its key."""
        found = []
        for uri in dict.fromkeys((str(target), (await self._keys.of_target(target)).uri)):
            after: bytes | None = b""
            while after is not None:
                page = await self._store.browse(prefix=uri, after=after)
                found += [self._describe.entry(each, target) for each in page.items if each.key.uri == uri]
                after = page.next
        return found

    async def _verify(self) -> AsyncGenerator[Event]:
        total = self._store.stats().objects
        checked, read = 0, 0
        removed: list[str] = []
        after: bytes | None = b""
        while after is not None:
            page = await self._store.verify(after=after)
            checked += page.checked
            read += page.bytes
            removed += page.removed
            after = page.next
            yield Progress(done=checked, total=max(total, checked))
        yield Checked(checked=checked, bytes=read, removed=tuple(removed))

    async def _explain(self, command: Explain) -> AsyncGenerator[Event]:
        target = urls.target_of(command.url)
        headers = urls.headers_of(command.fields)
        key = await self._keys.of_target(target)
        stored = tuple(await self._stored(target))
        plan = self._describe.plan(target, key.uri, self._keys.why(target), stored)
        if command.dry_run:
            yield plan
        else:
            yield self._describe.answered(plan, target, await self._running().visit(target, headers))
