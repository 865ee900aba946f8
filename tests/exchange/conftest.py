"""An exchange with a real store and a real origin client, whose clock the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fwdproxy.anonymize.rewrite import Rewriting
from fwdproxy.exchange.answers import Answer, ClientRequest
from fwdproxy.exchange.core import Exchange, ExchangeSettings
from fwdproxy.exchange.outcome import Outcome
from fwdproxy.messages import Field, Headers, Origin, RequestHead, TargetURI
from fwdproxy.origin.client import OriginClient
from fwdproxy.origin.settings import OriginSettings
from fwdproxy.policy.decisions import PolicySettings
from fwdproxy.policy.heuristics import TenthOfAge
from fwdproxy.store.disk import DiskStore, open_store


@dataclass
class Bench:
    """The exchange under test. ``now`` is its clock, in Unix seconds."""

    exchange: Exchange
    store: DiskStore
    now: float
    origin: OriginClient
    settings: ExchangeSettings
    outcomes: list[Outcome] = field(default_factory=list)

    def configure(self, **changes: Any) -> None:
        """A new exchange with other settings on the same store."""
        self.settings = replace(self.settings, **changes)
        self.exchange = Exchange(
            self.origin, self.store, self.settings, clock=lambda: self.now, on_outcome=self.outcomes.append
        )

    async def ask(self, port: int, path: str = "/", *fields: Field, method: str = "GET") -> Answer:
        target = TargetURI(Origin("http", "127.0.0.1", port), path)
        return await self.exchange.answer(ClientRequest(RequestHead(method, target, Headers(fields)), client="client"))

    async def get(self, port: int, path: str = "/", *fields: Field, method: str = "GET") -> tuple[int, str, bytes]:
        """Status, our Cache-Status and the whole body of one request."""
        answer = await self.ask(port, path, *fields, method=method)
        body = b""
        while data := await answer.read():
            body += data
        await answer.aclose()
        return answer.head.status, status_of(answer), body


def status_of(answer: Answer) -> str:
    return answer.head.headers.get_all(b"cache-status")[-1].decode()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    origin = OriginClient(OriginSettings(connect_timeout=5, head_timeout=5, idle_timeout=5))
    store = open_store(tmp_path / "cache", 100_000_000)
    settings = ExchangeSettings(PolicySettings(), Rewriting(), TenthOfAge())
    made = Bench(Exchange(origin, store, settings), store, 1_800_000_000.0, origin, settings)
    made.configure()
    yield made
    await made.exchange.aclose()
    await origin.aclose()
    await store.aclose()
