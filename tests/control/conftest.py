"""An admin with a real store, exchange and origin client, and an origin that answers by path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fwdproxy.anonymize.rewrite import Rewriting
from fwdproxy.config import Settings
from fwdproxy.control import chosen
from fwdproxy.control.admin import Admin
from fwdproxy.control.client import Running
from fwdproxy.control.messages import Command, Done, Event
from fwdproxy.exchange.core import Exchange, ExchangeSettings
from fwdproxy.origin.client import OriginClient
from fwdproxy.origin.settings import OriginSettings
from fwdproxy.policy.heuristics import TenthOfAge
from fwdproxy.store.disk import DiskStore, open_store
from tests.origin.scripted import Peer, origin

NOW = 1_800_000_000.0
DATE = b"Date: Fri, 15 Jan 2027 08:00:00 GMT\r\n"


async def events(doer: Admin | Running, command: Command) -> list[Any]:
    """All that answers a command, without the `Done` that must come last, and once."""
    found: list[Event] = []
    async with aclosing(doer.do(command)) as answers:
        found += [event async for event in answers]
    assert found.pop() == Done()
    assert Done() not in found
    return found


@dataclass
class Site:
    """An origin on loopback: by path, the field lines and the body that it answers with."""

    port: int = 0
    pages: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], Awaitable[None]] | None = None
    """Awaited before each answer, with the path."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def script(self, peer: Peer) -> None:
        while head := await peer.head():
            path = head.split(b" ")[1].decode()
            self.asked.append(path)
            if self.before is not None:
                await self.before(path)
            fields, body = self.pages.get(path.partition("?")[0], (b"", b"none"))
            status = b"200 OK" if path.partition("?")[0] in self.pages else b"404 Not Found"
            await peer.say(b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (status, DATE, fields, len(body), body))


@dataclass
class Cache:
    """A cache in use. ``now`` is its clock, in Unix seconds."""

    folder: Path
    store: DiskStore
    client: OriginClient
    site: Site
    now: float = NOW

    def admin(self, *, running: bool = True, **settings: Any) -> Admin:
        """An admin by these settings; ``running``: with an exchange."""
        chose = Settings(data_dir=self.folder, **settings)
        exchange = Exchange(
            self.client,
            self.store,
            ExchangeSettings(
                policy=chosen.policy_of(chose),
                rewriting=Rewriting(),
                heuristic=TenthOfAge(),
                rules=chosen.rules_of(chose),
                keying=chosen.keying_of(chose),
                variance=chose.cache.no_vary_search,
            ),
            clock=lambda: self.now,
        )
        return Admin(self.store, exchange if running else None, chose, clock=lambda: self.now)


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    client = OriginClient(OriginSettings(connect_timeout=5, head_timeout=5, idle_timeout=5))
    store = open_store(tmp_path / "cache", 100_000_000)
    site = Site(
        pages={
            "/fresh": (b"Cache-Control: max-age=60\r\nCache-Tag: news\r\nContent-Type: Text/Plain; a=b\r\n", b"fresh"),
            "/big": (b"Cache-Control: max-age=60\r\n", b"x" * 100_000),
            "/private": (b"Cache-Control: no-store\r\n", b"private"),
        }
    )
    async with origin(site.script) as at:
        site.port = at.port
        yield Cache(tmp_path, store, client, site)
    await client.aclose()
    await store.aclose()
