"""One request, from its head to its answer: rewrite it, have it answered, and turn what goes wrong into a page.

What is stored or under way is asked first (`caching`), then the origin (`leading`, `fetching`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cachecontrol.heuristics import BaseHeuristic

from fwdproxy.anonymize.rewrite import Rewriting, forwards_left, rewrite
from fwdproxy.errors import OriginError, RequestRefused
from fwdproxy.exchange.answers import Answer, BytesBody, ClientRequest, Informational
from fwdproxy.exchange.asked import Asked
from fwdproxy.exchange.caching import Caching
from fwdproxy.exchange.fetching import Fetching, Passed
from fwdproxy.exchange.filling import FinishAlone
from fwdproxy.exchange.flights import Flights
from fwdproxy.exchange.keeping import Keeping
from fwdproxy.exchange.keyed import Keys
from fwdproxy.exchange.outcome import Outcome
from fwdproxy.exchange.replies import REFUSED, Replies
from fwdproxy.fields.cache_status import CacheStatus
from fwdproxy.messages import Headers, ResponseHead
from fwdproxy.origin.client import OriginClient
from fwdproxy.policy.decisions import PolicySettings, Reason
from fwdproxy.policy.keying import Keying
from fwdproxy.policy.rules import Rules
from fwdproxy.store.base import Store

logger = logging.getLogger("fwdproxy.exchange")

NO_STORE: Final = Reason("no-store-configured", "", "this proxy runs without a cache")


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """What the user chose of the exchange.

    ``forward_validators``: a client's own If-None-Match and If-Modified-Since reach the origin when nothing is
    stored (they can identify the client, so not by default; its condition is answered here instead).
    ``patience``: seconds that a request waits for the head of a response that another one has asked for; 0: none waits.
    ``range_limit``: bytes up to which an object is fetched whole when a client asks for a part of it.
    ``variance``: heed No-Vary-Search.
    """

    policy: PolicySettings
    rewriting: Rewriting
    heuristic: BaseHeuristic
    alone: FinishAlone = field(default_factory=FinishAlone)
    rules: Rules = field(default_factory=Rules)
    keying: Keying = field(default_factory=Keying)
    forward_validators: bool = False
    patience: float = 5.0
    range_limit: int = 16_000_000
    variance: bool = False
    name: str = "fwdproxy"
    vantage: str = "direct"


class Exchange:
    """Answers requests. One object per process, shared by all clients and both shells."""

    def __init__(
        self,
        origin: OriginClient,
        store: Store | None,
        settings: ExchangeSettings,
        *,
        clock: Callable[[], float] = time.time,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._replies = Replies(settings.name, settings.rewriting.via, clock, on_outcome)
        self.flights = Flights(settings.patience)
        keeping = None if store is None else self._keeping(store)
        self._fetching = Fetching(
            origin, keeping, settings.policy, clock, forward_validators=settings.forward_validators
        )
        self._caching: Caching | None = None
        if keeping is not None:
            self._caching = Caching(
                self._fetching, keeping, self._replies, settings.policy, clock, range_limit=settings.range_limit
            )

    def _keeping(self, store: Store) -> Keeping:
        settings = self._settings
        return Keeping(
            store,
            keys=Keys(store, settings.vantage, settings.keying, variance=settings.variance),
            flights=self.flights,
            rules=settings.rules,
            policy=settings.policy,
            heuristic=settings.heuristic,
            alone=settings.alone,
            clock=self._clock,
        )

    async def answer(self, request: ClientRequest, informational: Informational | None = None) -> Answer:
        """The answer to ``request``. Never raises but for cancellation: what goes wrong becomes an error page."""
        asked = Asked(
            request,
            rewrite(request.head, self._settings.rewriting),
            informational,
            self._clock(),
            time.monotonic(),
            request.body,
            CacheStatus(self._settings.name),
            forwards_conditions=self._settings.forward_validators,
        )
        try:
            return await self._answer(asked)
        except RequestRefused as error:
            return self._replies.page(asked, error.status, str(error), REFUSED)
        except OriginError as error:
            status = 504 if error.kind.endswith("_timeout") else 502
            return self._replies.page(asked, status, str(error), error.kind)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not leave a client without an answer
            logger.error("a request failed by a fault in fwdproxy: %s: %s", type(error).__name__, error)
            text = "a fault in the proxy itself; its log has the reason"
            return self._replies.page(asked, 502, text, "proxy_internal_error")

    def refuse(self, client: str, method: str, target: str, status: int, text: str) -> tuple[ResponseHead, bytes]:
        """The page for what a shell can't make a request of (see `Replies.refusal`)."""
        return self._replies.refusal(client, method, target, status, text)

    async def aclose(self, grace: float = 0.0) -> None:
        """Give fills and other work under way ``grace`` seconds, then give them up."""
        until = time.monotonic() + grace
        while self._caching is not None and (tasks := self._caching.tasks()):  # what ends may have begun more
            _, late = await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _answer(self, asked: Asked) -> Answer:
        if forwards_left(asked.request.head) == 0:
            asked.say(detail="max-forwards")
            own = ResponseHead(405 if asked.head.method == "TRACE" else 200, Headers([(b"Content-Length", b"0")]))
            return self._replies.answer(asked, own, BytesBody())
        if self._caching is not None:
            return await self._caching.answer(asked)
        asked.say(fwd="bypass")
        asked.decided(NO_STORE)
        fetched = await self._fetching.fetch(asked, self._fetching.unconditional(asked))
        assert isinstance(fetched, Passed)
        return await self._replies.passed(asked, fetched.response)
