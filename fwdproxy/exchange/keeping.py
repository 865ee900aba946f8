"""What a response from the origin means to what is stored (RFC 9111 §3, §4.3, §4.4): keep, freshen, drop, forget."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from cachecontrol.heuristics import BaseHeuristic

from fwdproxy.errors import StoreError
from fwdproxy.exchange.filling import Filling, FinishAlone
from fwdproxy.messages import CacheKey, RequestHead, ResponseHead, StoredMeta, StoredResponse
from fwdproxy.origin.client import OriginResponse
from fwdproxy.policy import heuristics, invalidation, keys, storing, validation
from fwdproxy.policy.decisions import PolicySettings, Reason
from fwdproxy.store.base import Store

logger = logging.getLogger("fwdproxy.exchange")


class Keeping:
    """Applies policy's decisions about stored responses to ``store``. ``clock`` gives Unix seconds."""

    def __init__(
        self,
        store: Store,
        *,
        policy: PolicySettings,
        heuristic: BaseHeuristic,
        alone: FinishAlone,
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self._policy = policy
        self._heuristic = heuristic
        self._alone = alone
        self._clock = clock
        self._fillings: set[Filling] = set()

    async def relate(
        self, vantage: str, request: RequestHead, response: ResponseHead, stored: StoredResponse | None, sent: float
    ) -> None:
        """Invalidate what an unsafe request changed (§4.4); freshen or drop ``stored`` by a HEAD response (§4.3.5).

        ``sent`` is when the request went out.
        """
        targets = invalidation.targets(request, response)
        if targets:
            try:
                await self.store.invalidate([keys.key_of(vantage, target) for target in targets])
            except StoreError as error:  # in force for this process; the origin has acted, and its answer counts
                logger.warning("other processes could not be told of an invalidation: %s", error)
        if request.method == "HEAD" and stored is not None:
            meta = validation.freshen_from_head(stored, response, request_time=sent, response_time=self._clock())
            if meta is None:
                await self.store.remove(stored)
            elif meta is not stored.meta:
                await self.store.freshen(stored, meta)

    async def freshen(self, stored: StoredResponse, not_modified: ResponseHead, sent: float) -> StoredResponse | None:
        """``stored`` as the origin's 304 updates it (§4.3.4), or None when it was dropped."""
        meta = validation.freshen(stored.meta, not_modified, request_time=sent, response_time=self._clock())
        if meta is None:
            await self.store.remove(stored)
            return None
        await self.store.freshen(stored, meta)
        return replace(stored, meta=meta)

    def storable(self, request: RequestHead, response: OriginResponse, sent: float) -> StoredMeta | Reason | None:
        """What to store of ``response`` (§3), or the reason why nothing; None where no rule had to be asked."""
        if request.method == "HEAD" or not response.delimited:
            return None
        now = self._clock()
        lifetime, why = heuristics.ask(self._heuristic, request, response.head, now)
        decision = storing.decide(request, response.head, heuristic_lifetime=lifetime, settings=self._policy)
        if not decision.store:
            return decision.reason
        return storing.make_meta(
            request,
            response.head,
            request_time=sent,
            response_time=now,
            heuristic_lifetime=lifetime,
            heuristic_reason=why,
        )

    def fill(self, key: CacheKey, meta: StoredMeta, response: OriginResponse) -> Filling:
        """A fill for ``response``, not started yet: its first reader comes before."""
        return Filling(response, self.store.open_fill(key, meta, response.length), self._alone)

    def start(self, filling: Filling) -> asyncio.Future[None]:
        """Begin to receive; the task is given up at the end of the program at the latest."""
        task = filling.start()
        self._fillings.add(filling)
        task.add_done_callback(lambda _: self._fillings.discard(filling))
        return task

    def tasks(self) -> list[asyncio.Future[None]]:
        """The fills under way."""
        return [filling.task for filling in self._fillings]
