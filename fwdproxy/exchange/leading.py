"""Towards the origin with others waiting (RFC 9111 §4), what a client that leaves has begun, and background work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from fwdproxy.errors import FwdProxyError, OriginError
from fwdproxy.exchange.answers import Answer
from fwdproxy.exchange.asked import Asked
from fwdproxy.exchange.fetching import RANGE_FIELDS, Fetched, Fetching, Freshened, Passed, StoodIn, Stored
from fwdproxy.exchange.flights import Flight, FlightId
from fwdproxy.exchange.joining import Joining
from fwdproxy.exchange.keeping import Keeping
from fwdproxy.exchange.parts import Parts
from fwdproxy.messages import CacheKey, StoredResponse
from fwdproxy.policy import collapsing, validation
from fwdproxy.policy.decisions import Forward, Reason, Validate
from fwdproxy.policy.freshness import freshness
from fwdproxy.store.base import NOTHING

logger = logging.getLogger("fwdproxy.exchange")

WHOLE: Final = Reason("whole", "RFC 9111 §3.4", "the rest of what a client asked a part of")


class Leading:
    """Asks origins. ``range_limit``: bytes up to which an object is fetched whole when a part of it was asked for."""

    def __init__(
        self, fetching: Fetching, keeping: Keeping, joining: Joining, parts: Parts, *, range_limit: int
    ) -> None:
        self._fetching = fetching
        self._keeping = keeping
        self._flights = keeping.flights
        self._joining = joining
        self._parts = parts
        self._range_limit = range_limit
        self._background: dict[CacheKey, asyncio.Task[None]] = {}
        self._orphans: set[asyncio.Task[Any]] = set()

    def tasks(self) -> list[asyncio.Task[Any]]:
        """What goes on without a client that waits for it."""
        return [*self._background.values(), *self._orphans]

    async def lead(self, asked: Asked, ident: FlightId, decision: Forward | Validate) -> Fetched | Answer:
        """What the origin has to say; others may wait for it. Raises OriginError."""
        flights = self._flights
        if not flights.patience or not collapsing.leads(asked.head) or not flights.shared(ident[0]):
            return await self.fetch(asked, decision)
        flight = flights.lead(ident)
        task = asyncio.create_task(self._fly(asked, ident, flight, decision), name="fetch")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # This client has gone. Those that wait for the same are not to begin again.
            asked.informational = None
            asked.silent = True
            if not flight.waiting:
                task.cancel()
            self._orphans.add(task)
            task.add_done_callback(self._orphaned)
            raise

    async def fetch(self, asked: Asked, decision: Forward | Validate) -> Fetched | Answer:
        """What the origin has to say, by the parts that are stored, the client's Range, or neither.

        Raises OriginError.
        """
        if isinstance(decision, Validate):
            plain = self._fetching.unconditional(asked).without(RANGE_FIELDS)
            return await self._fetching.validate(asked, decision.stored, decision.conditions, plain)
        if asked.found.parts:
            completed = await self._parts.complete(asked)
            if completed is not None:
                return completed
        return await self._fetching.fetch_range(asked)

    async def _fly(
        self, asked: Asked, ident: FlightId, flight: Flight, decision: Forward | Validate
    ) -> Fetched | Answer:
        """Fetch, and let those that wait know what came."""
        filling, failure = None, None
        try:
            fetched = await self.fetch(asked, decision)
            match fetched:
                case Stored():
                    filling = fetched.filling
                case StoodIn():
                    failure = fetched.failure
            if not self._for_others(asked, fetched):
                self._flights.not_shared(ident[0])
        except OriginError as error:
            failure = error
            raise
        finally:
            self._flights.land(ident, flight, filling, failure)
        return fetched

    def _for_others(self, asked: Asked, fetched: Fetched | Answer) -> bool:
        """Whether others that ask for the same have some use of what came."""
        match fetched:
            case Stored(filling=filling):
                return filling.will_store and self._joining.usable(asked, filling) is not None
            case Passed():
                return fetched.complete is not None  # a part for one, but the whole would be for all
            case Freshened():
                return freshness(fetched.stored.meta, asked.rule).lifetime > 0
            case _:
                return True

    def _orphaned(self, task: asyncio.Task[Fetched | Answer]) -> None:
        """A request is over whose client has gone; those that waited for it have a hold on the fill."""
        self._orphans.discard(task)
        if task.cancelled() or task.exception() is not None:
            return
        match task.result():
            case Stored(filling=filling):
                filling.hold()
                self._keeping.start(filling)
                filling.left()
            case Passed(response=response):
                response.abandon()
            case Answer() as answer:
                closing = asyncio.create_task(answer.aclose(), name="closing")
                self._orphans.add(closing)
                closing.add_done_callback(self._orphans.discard)

    # -- on nobody's behalf --------------------------------------------------------------------------------------

    def revalidate(self, asked: Asked, stored: StoredResponse) -> None:
        """Validate in the background what was served stale (RFC 5861 §3)."""
        self._later(stored.key, self._revalidate(asked, stored))

    def fetch_whole(self, asked: Asked, fetched: Stored | Passed) -> None:
        """Fetch the whole of what a client has asked a part of, unless that would be in vain."""
        key, complete = asked.key, fetched.complete
        if isinstance(fetched, Stored) and fetched.filling.completes(asked.found.parts):
            return
        if key is None or complete is None or complete > self._range_limit or not self._flights.shared(key):
            return
        if not any(filling for filling in self._flights.fills(key) if not filling.partial):
            self._later(key, self._fetch_whole(asked, key))

    def _later(self, key: CacheKey, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` in the background, one for a key at a time."""
        if key in self._background:
            work.close()
            return
        task = asyncio.create_task(work, name="background")
        self._background[key] = task
        task.add_done_callback(lambda _: self._background.pop(key, None))

    async def _revalidate(self, asked: Asked, stored: StoredResponse) -> None:
        again = asked.again(self._keeping.store.moment())
        plain = again.outbound.without(validation.CLIENT_CONDITIONS | RANGE_FIELDS)
        conditions = validation.conditions(stored.meta)
        try:
            await self._settle(await self._fetching.validate(again, stored, conditions, plain))
        except FwdProxyError as error:
            logger.info("revalidation in the background failed: %s", error)

    async def _fetch_whole(self, asked: Asked, key: CacheKey) -> None:
        again = asked.again(self._keeping.store.moment())
        again.outbound = again.outbound.without(validation.CLIENT_CONDITIONS | RANGE_FIELDS)
        ident = self._flights.identify(key, again.head.headers, NOTHING)
        if self._flights.current(ident) is not None:
            return
        useful = False
        try:
            fetched = await self._fly(again, ident, self._flights.lead(ident), Forward("miss", WHOLE))
            await self._settle(fetched)
            useful = isinstance(fetched, Answer) or (isinstance(fetched, Stored) and fetched.filling.will_store)
        except FwdProxyError as error:
            logger.info("fetching a whole object in the background failed: %s", error)
        if not useful:
            self._flights.not_shared(key)  # else the next request for a part would have it all fetched again

    async def _settle(self, fetched: Fetched | Answer) -> None:
        """Receive to its end what no client waits for."""
        match fetched:
            case Answer():
                try:
                    while await fetched.read():
                        pass
                finally:
                    await fetched.aclose()
            case Stored(filling=filling):
                filling.keep_on()  # those that join and leave don't end it
                await asyncio.wait((self._keeping.start(filling),))
            case Passed(response=response):
                await response.aclose()
