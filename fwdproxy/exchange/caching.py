"""One request and what is stored or under way for it: ask policy, act, say why.

The steps are those of RFC 9111 §4: look up, then serve, join what is under way, validate or forward; what comes back
from the origin is related to what is stored, and stored or passed on. Nothing here decides by itself: every choice is
policy's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from fwdproxy.errors import OriginError, StoreError
from fwdproxy.exchange.answers import Answer
from fwdproxy.exchange.asked import Asked, read_content
from fwdproxy.exchange.explained import Explained
from fwdproxy.exchange.fetching import Fetched, Fetching, Freshened, Passed, StoodIn, Stored
from fwdproxy.exchange.flights import Flight, FlightId
from fwdproxy.exchange.joining import Joining
from fwdproxy.exchange.keeping import Keeping
from fwdproxy.exchange.leading import Leading
from fwdproxy.exchange.parts import PARTIAL, Parts
from fwdproxy.exchange.ranging import StoredSource
from fwdproxy.exchange.replies import Replies
from fwdproxy.policy import collapsing, keys, reuse, stale
from fwdproxy.policy.decisions import Decision, Forward, PolicySettings, Reason, Refuse, Serve, Validate
from fwdproxy.store.base import NOTHING

logger = logging.getLogger("fwdproxy.exchange")

WAITS: Final = 2
"""How often a request waits for another: once, and once more when Vary sorts those that waited into several groups."""

UPGRADE: Final = Forward(
    "bypass", Reason("upgrade", "RFC 9110 §7.8", "a request that changes the protocol is passed on")
)
CONTENT: Final = Forward(
    "bypass", Reason("request-content", "RFC 9110 §9.3.1", "content in a GET request is not part of the key")
)
LONG_QUERY: Final = Forward(
    "bypass", Reason("long-query", "RFC 10008 §2.7", "the content is too long to be part of a key")
)
UNREADABLE: Final = Forward("miss", Reason("unreadable", "", "the stored response could not be read"))
PARTLY: Final = Forward("partial", PARTIAL)


class Caching:
    """Answers requests from the store, from fills under way, and from the origin. ``clock`` gives Unix seconds.

    ``range_limit``: bytes up to which an object is fetched whole when a client asks for a part of it.
    """

    def __init__(
        self,
        fetching: Fetching,
        keeping: Keeping,
        replies: Replies,
        policy: PolicySettings,
        clock: Callable[[], float],
        *,
        range_limit: int,
    ) -> None:
        self._fetching = fetching
        self._keeping = keeping
        self._flights = keeping.flights
        self._replies = replies
        self._policy = policy
        self._clock = clock
        self._parts = Parts(fetching, keeping, replies, policy, clock)
        self._joining = Joining(keeping, replies, self._parts)
        self._leading = Leading(fetching, keeping, self._joining, self._parts, range_limit=range_limit)

    def tasks(self) -> list[asyncio.Future[Any]]:
        """What is under way without a client: fills, and work in the background."""
        return [*self._keeping.tasks(), *self._leading.tasks()]

    async def answer(self, asked: Asked) -> Answer:
        """The answer to a request. Raises OriginError, and what the request's body raises."""
        head = asked.head
        asked.moment = self._keeping.store.moment()
        asked.rule = self._keeping.rule(head.target, None)
        if asked.request.upgrade is not None:
            return await self._alone(asked, UPGRADE)
        if asked.body is not None and head.method in ("GET", "HEAD"):
            return await self._alone(asked, CONTENT)
        if asked.body is not None and head.method == "QUERY":
            asked.query, asked.body = await read_content(asked.body)
            if asked.query is None:
                return await self._alone(asked, LONG_QUERY)
            asked.content = keys.content_digest(head.headers, asked.query)
        asked.key = await self._keeping.keys.of(head, asked.content)
        asked.explained = Explained(asked.key, self._keeping.keys.why(head.target))
        return await self._share(asked)

    async def _share(self, asked: Asked) -> Answer:
        """Answer from what is stored or under way, else ask the origin; waiting for others where policy allows."""
        until = time.monotonic() + self._flights.patience
        flight: Flight | None = None
        waits = 0
        while True:
            try:
                chosen = await self._without_asking(asked, flight)
            finally:
                if flight is not None:
                    flight.release()
            if isinstance(chosen, Answer):
                return chosen
            if asked.key is None or _passes_by(chosen):
                assert isinstance(chosen, Forward)
                return await self._alone(asked, chosen)
            ident = self._flights.identify(asked.key, asked.head.headers, asked.found)
            flight = self._to_wait_for(asked, ident) if waits < WAITS else None
            if flight is None or not await flight.wait(until - time.monotonic()):
                return await self._lead(asked, ident, chosen)
            waits += 1

    async def _without_asking(self, asked: Asked, waited: Flight | None) -> Answer | Forward | Validate:
        """The answer where the origin need not be asked, else how to ask it. ``waited``: what was waited for."""
        if waited is not None:
            # What came may have told which parts of a query count (No-Vary-Search).
            asked.key = await self._keeping.keys.of(asked.head, asked.content)
        decision = await self._from_store(asked)
        if isinstance(decision, Answer) or _passes_by(decision):
            return decision
        joined = self._joining.join(asked, decision)
        if joined is None and waited is not None and waited.failure is not None and isinstance(decision, Validate):
            stood_in = self._stand_in(asked, decision, waited.failure)
            return decision if stood_in is None else await self._reply(asked, stood_in)
        return joined or decision

    async def _from_store(self, asked: Asked) -> Answer | Forward | Validate:
        """The answer from what is stored, or a refusal where nobody may be asked; else how to ask the origin."""
        decision = await self._look_up(asked)
        if isinstance(decision, Serve):
            served = await self._serve(asked, decision)
            if served is not None:
                return served
            decision = self._decide(asked)
            if not isinstance(decision, Refuse):
                decision = UNREADABLE
        if asked.found.parts and not _passes_by(decision):
            hit = await self._parts.hit(asked)
            if hit is not None:
                answer, serve = hit
                self._served(asked, serve)
                return answer
            if isinstance(decision, Forward):
                decision = PARTLY if asked.found.parts else UNREADABLE
        return self._refuse(asked, decision) if isinstance(decision, Refuse) else decision

    async def _look_up(self, asked: Asked) -> Decision:
        store = self._keeping.store
        asked.moment = store.moment()
        asked.found = NOTHING if asked.key is None else await store.lookup(asked.key, asked.head.headers)
        return self._decide(asked)

    def _decide(self, asked: Asked) -> Decision:
        decision, asked.rule = self._keeping.decide(asked, asked.found.best, known=asked.found.known)
        return decision

    async def _serve(self, asked: Asked, serve: Serve, *, freshened: Freshened | None = None) -> Answer | None:
        """The answer from what is stored; None when it can't be read, which is a miss."""
        stored = serve.stored
        try:
            source = StoredSource(self._keeping.store, stored.body)
            not_modified = None if freshened is None else freshened.not_modified
            answer = self._replies.stored(asked, serve, source, not_modified=not_modified)
        except StoreError as error:
            origin = asked.request.head.target.origin
            logger.warning("stored response of %s can't be read and is dropped: %s", origin, error)
            await self._keeping.store.remove(stored)
            asked.found = NOTHING
            return None
        self._served(asked, serve)
        return answer

    def _served(self, asked: Asked, serve: Serve) -> None:
        if serve.reason is stale.WHILE_REVALIDATE:
            self._leading.revalidate(asked, serve.stored)

    def _refuse(self, asked: Asked, refuse: Refuse) -> Answer:
        asked.decided(refuse.reason)
        return self._replies.page(asked, refuse.status, refuse.reason.text, refuse.reason.code)

    def _to_wait_for(self, asked: Asked, ident: FlightId) -> Flight | None:
        if not collapsing.waits(asked.head) or not self._flights.shared(ident[0]):
            return None
        return self._flights.current(ident)

    def _stand_in(self, asked: Asked, decision: Validate, failure: OriginError) -> StoodIn | None:
        """What the one that this request waited for has met allows a stale response here, too (RFC 5861 §4)."""
        served = stale.on_error(decision.stored, asked.head, now=self._clock(), settings=self._policy, rule=asked.rule)
        if served is None:
            return None
        asked.say(fwd=decision.fwd, collapsed=True, detail=f"{served.reason.code}:{failure.kind}")
        return StoodIn(served, failure)

    # -- towards the origin --------------------------------------------------------------------------------------

    async def _alone(self, asked: Asked, decision: Forward) -> Answer:
        """Pass the request on; the response is for this client only, but for a POST that says otherwise."""
        if asked.rule.offline:
            return self._refuse(asked, reuse.NOTHING_OFFLINE)
        asked.say(fwd=decision.fwd)
        asked.decided(decision.reason)
        may_store = asked.head.method == "POST" and decision.fwd == "method"
        fetched = await self._fetching.fetch(asked, self._fetching.unconditional(asked), may_store=may_store)
        return await self._reply(asked, fetched)

    async def _lead(self, asked: Asked, ident: FlightId, decision: Forward | Validate) -> Answer:
        """Ask the origin; others may wait for what comes."""
        asked.say(fwd=decision.fwd)
        asked.decided(decision.reason)
        return await self._reply(asked, await self._leading.lead(asked, ident, decision))

    async def _reply(self, asked: Asked, fetched: Fetched | Answer) -> Answer:
        match fetched:
            case Answer():
                return fetched
            case Stored(filling=filling):
                try:
                    answer = self._replies.filled(asked, filling, fetched.head)
                except BaseException:
                    self._keeping.give_up(filling)
                    raise
                self._keeping.start(filling)
                self._leading.fetch_whole(asked, fetched)
                return answer
            case Passed():
                answer = await self._replies.passed(asked, fetched.response)
                self._leading.fetch_whole(asked, fetched)
                return answer
            case StoodIn():
                served = await self._serve(asked, fetched.serve)
                if served is None:
                    raise fetched.failure
                return served
            case Freshened():
                serve = reuse.serve_validated(fetched.stored, asked.head, now=self._clock(), rule=asked.rule)
                served = await self._serve(asked, serve, freshened=fetched)
                if served is not None:
                    return served
                asked.say(fwd=UNREADABLE.fwd)
                asked.decided(UNREADABLE.reason)
                return await self._reply(asked, await self._leading.fetch(asked, UNREADABLE))


def _passes_by(decision: Decision) -> bool:
    return isinstance(decision, Forward) and decision.fwd in ("bypass", "method")
