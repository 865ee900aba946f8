"""What a response from the origin means to what is stored (RFC 9111 §3, §4.3, §4.4): keep, freshen, drop, forget."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from cachecontrol.heuristics import BaseHeuristic

from fwdproxy.errors import StoreError
from fwdproxy.exchange.asked import Asked
from fwdproxy.exchange.filling import Filled, Filling, FinishAlone
from fwdproxy.exchange.flights import Flights
from fwdproxy.exchange.keyed import Keys
from fwdproxy.messages import RequestHead, ResponseHead, Span, StoredMeta, StoredResponse, TargetURI
from fwdproxy.origin.client import OriginResponse
from fwdproxy.policy import controls, heuristics, integrity, invalidation, ranges, reuse, storing, validation
from fwdproxy.policy.decisions import Decision, PolicySettings, Reason
from fwdproxy.policy.keys import target_of
from fwdproxy.policy.rules import Rule, Rules
from fwdproxy.store.base import Store
from fwdproxy.store.purging import PurgeRule

logger = logging.getLogger("fwdproxy.exchange")


@dataclass(frozen=True, slots=True)
class Kept:
    """What to store of a response, and why it may be stored."""

    meta: StoredMeta
    reason: Reason


class Keeping:
    """Applies policy's decisions about stored responses to ``store``. ``clock`` gives Unix seconds."""

    def __init__(
        self,
        store: Store,
        *,
        keys: Keys,
        flights: Flights,
        rules: Rules,
        policy: PolicySettings,
        heuristic: BaseHeuristic,
        alone: FinishAlone,
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.keys = keys
        self.flights = flights
        self._rules = rules
        self._policy = policy
        self._heuristic = heuristic
        self._alone = alone
        self._clock = clock
        self._fillings: set[Filling] = set()

    def rule(self, target: TargetURI, response: ResponseHead | None) -> Rule:
        """The user's rule for a request, and for its response where one is known."""
        return self._rules.of(target, None if response is None else response.headers.get(b"content-type"))

    def decide(self, asked: Asked, stored: StoredResponse | None, *, known: bool = True) -> tuple[Decision, Rule]:
        """What to do with a request for which ``stored`` is there, or would be (§4), and the user's rule for it."""
        rule = self.rule(asked.head.target, None if stored is None else stored.meta.head)
        decision = reuse.decide(asked.head, stored, known=known, now=self._clock(), settings=self._policy, rule=rule)
        return decision, rule

    async def relate(
        self, request: RequestHead, response: ResponseHead, stored: StoredResponse | None, sent: float
    ) -> None:
        """Invalidate what an unsafe request changed (§4.4); freshen or drop ``stored`` by a HEAD response (§4.3.5).

        ``sent`` is when the request went out.
        """
        targets = invalidation.targets(request, response)
        if targets:
            try:
                await self.store.invalidate([await self.keys.of_target(target) for target in targets])
                # What a recipe of the user's files under another origin has its groups there.
                filed = target_of(await self.keys.of_target(request.target)).origin
                for origin in dict.fromkeys((str(request.target.origin), str(filed))):
                    for group in invalidation.groups(request, response):
                        await self.store.purge(PurgeRule("group", group, origin))
            except StoreError as error:  # in force for this process; the origin has acted, and its answer counts
                logger.warning("other processes could not be told of an invalidation: %s", error)
        if request.method == "HEAD" and stored is not None:
            meta = validation.freshen_from_head(
                stored, response, request_time=sent, response_time=self._clock(), settings=self._policy
            )
            if meta is None:
                await self.store.remove(stored)
            elif meta is not stored.meta and self._shared(request, meta):
                await self.store.freshen(stored, meta)

    async def freshen(
        self, request: RequestHead, stored: StoredResponse, not_modified: ResponseHead, sent: float
    ) -> StoredResponse | None:
        """``stored`` as the origin's 304 updates it (§4.3.4), or None when it was dropped.

        What a 304 says to a client with credentials is for that client, unless the origin lets it be shared (§3.5).
        """
        meta = validation.freshen(
            stored.meta, not_modified, request_time=sent, response_time=self._clock(), settings=self._policy
        )
        if meta is None:
            await self.store.remove(stored)
            return None
        if self._shared(request, meta):
            await self.store.freshen(stored, meta)
        return replace(stored, meta=meta)

    def _shared(self, request: RequestHead, meta: StoredMeta) -> bool:
        """Whether what came for ``request`` may count for others (§3.5)."""
        if b"authorization" not in request.headers:
            return True
        return storing.allows_authorized(controls.of_stored(meta), self.rule(request.target, meta.head))

    def storable(self, request: RequestHead, response: ResponseHead, sent: float) -> Kept | Reason:
        """What to store of ``response`` (§3), or the reason why nothing."""
        now = self._clock()
        rule = self.rule(request.target, response)
        lifetime, why = heuristics.ask(self._heuristic, request, response, now, settings=self._policy, rule=rule)
        decision = storing.decide(request, response, heuristic_lifetime=lifetime, settings=self._policy, rule=rule)
        if not decision.store:
            return decision.reason
        meta = storing.make_meta(
            request,
            response,
            request_time=sent,
            response_time=now,
            heuristic_lifetime=lifetime,
            heuristic_reason=why,
            settings=self._policy,
        )
        return Kept(meta, decision.reason)

    async def fill(self, asked: Asked, kept: Kept, response: OriginResponse) -> Filling:
        """A fill for the whole ``response``, not started yet: its first reader comes before."""
        key = asked.key or await self.keys.of_target(asked.head.target)
        key = await self.keys.learned(key, asked.head.target, response.head.headers)
        keep = response.length is not None and ranges.combinable(kept.meta.head)
        what = Filled(key, kept.meta, keep=keep)
        return self._open(asked, what, response, None)

    async def fill_part(
        self, asked: Asked, meta: StoredMeta, response: OriginResponse, span: Span, complete: int
    ) -> Filling:
        """A fill for ``span`` of a representation of ``complete`` bytes, not started yet."""
        assert asked.key is not None
        key = await self.keys.learned(asked.key, asked.head.target, meta.head.headers)
        return self._open(asked, Filled(key, meta, span, complete, keep=True), response, (span, complete))

    def _open(self, asked: Asked, what: Filled, response: OriginResponse, part: tuple[Span, int] | None) -> Filling:
        retention = self.rule(asked.head.target, what.meta.head).retention
        fill = self.store.open_fill(
            what.key,
            what.meta,
            response.length,
            part=part,
            moment=asked.moment,
            expires=None if retention is None else what.meta.response_time + retention,
        )
        head = response.head
        checks = integrity.expected(head.headers, head.status, part is not None)
        filling = Filling(
            response, fill, what, self._alone, digesting=None if checks is None else integrity.Digesting(checks)
        )
        self.flights.add(filling)
        return filling

    def start(self, filling: Filling) -> asyncio.Future[None]:
        """Begin to receive; the task is given up at the end of the program at the latest."""
        task = filling.start()
        self._fillings.add(filling)
        task.add_done_callback(lambda _: self._ended(filling))
        return task

    def give_up(self, filling: Filling) -> None:
        """A fill that never starts."""
        self.flights.drop(filling)
        filling.give_up()

    def _ended(self, filling: Filling) -> None:
        self._fillings.discard(filling)
        self.flights.drop(filling)

    def tasks(self) -> list[asyncio.Future[None]]:
        """The fills under way."""
        return [filling.task for filling in self._fillings]
