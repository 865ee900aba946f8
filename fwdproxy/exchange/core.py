"""One request, from its head to its answer: ask policy, act, say why.

The steps are those of RFC 9111 §4: look up, then serve, join what is under way, validate or forward; what comes back
from the origin is related to what is stored, and stored or passed on. Nothing here decides by itself: every choice is
policy's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cachecontrol.heuristics import BaseHeuristic

from fwdproxy.anonymize.rewrite import Rewriting, forwards_left, rewrite
from fwdproxy.errors import FwdProxyError, OriginError, RequestRefused, StoreError
from fwdproxy.exchange.answers import Answer, BytesBody, ClientRequest, Informational
from fwdproxy.exchange.asked import Asked, read_content
from fwdproxy.exchange.explained import Explained
from fwdproxy.exchange.fetching import RANGE_FIELDS, Fetched, Fetching, Freshened, Passed, StoodIn, Stored
from fwdproxy.exchange.filling import Filling, FinishAlone
from fwdproxy.exchange.flights import Flight, FlightId, Flights
from fwdproxy.exchange.keeping import Keeping
from fwdproxy.exchange.keyed import Keys
from fwdproxy.exchange.outcome import Outcome
from fwdproxy.exchange.parts import Parts
from fwdproxy.exchange.ranging import StoredSource
from fwdproxy.exchange.replies import REFUSED, Replies
from fwdproxy.fields.cache_status import CacheStatus
from fwdproxy.messages import CacheKey, Headers, ResponseHead, StoredResponse
from fwdproxy.origin.client import OriginClient
from fwdproxy.policy import collapsing, keys, ranges, reuse, stale, validation
from fwdproxy.policy.decisions import Decision, Forward, PolicySettings, Reason, Refuse, Serve, Validate
from fwdproxy.policy.freshness import freshness
from fwdproxy.policy.keying import Keying
from fwdproxy.policy.rules import Rules
from fwdproxy.store.base import NOTHING, Store

logger = logging.getLogger("fwdproxy.exchange")

WAITS: Final = 2
"""How often a request waits for another: once, and once more when Vary sorts those that waited into several groups."""


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
        self._keeping: Keeping | None = None
        if store is not None:
            self._keeping = Keeping(
                store,
                keys=Keys(store, settings.vantage, settings.keying, variance=settings.variance),
                flights=self.flights,
                rules=settings.rules,
                policy=settings.policy,
                heuristic=settings.heuristic,
                alone=settings.alone,
                clock=clock,
            )
        self._fetching = Fetching(
            origin, self._keeping, settings.policy, clock, forward_validators=settings.forward_validators
        )
        self._parts = (
            None
            if self._keeping is None
            else Parts(self._fetching, self._keeping, self._replies, settings.policy, clock)
        )
        self._background: dict[CacheKey, asyncio.Task[None]] = {}
        self._adopted: set[asyncio.Task[None]] = set()

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
            return await self._decide(asked)
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
        """Give fills under way ``grace`` seconds, then give them up."""
        tasks = [*(self._keeping.tasks() if self._keeping else ()), *self._background.values(), *self._adopted]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- deciding ------------------------------------------------------------------------------------------------

    async def _decide(self, asked: Asked) -> Answer:
        head = asked.head
        request = asked.request
        if forwards_left(request.head) == 0:
            asked.say(detail="max-forwards")
            own = ResponseHead(405 if head.method == "TRACE" else 200, Headers([(b"Content-Length", b"0")]))
            return self._replies.answer(asked, own, BytesBody())
        if request.upgrade is not None:
            return await self._alone(asked, Forward("bypass", UPGRADE))
        if request.body is not None and head.method in ("GET", "HEAD"):
            return await self._alone(asked, Forward("bypass", CONTENT))
        if self._keeping is None:
            return await self._alone(asked, Forward("bypass", NO_STORE))
        if request.body is not None and head.method == "QUERY":
            content, asked.body = await read_content(request.body)
            if content is None:
                return await self._alone(asked, Forward("bypass", LONG_QUERY))
            asked.content = keys.content_digest(head.headers, content)
        asked.key = await self._keeping.keys.of(head, asked.content)
        asked.moment = self._keeping.store.moment()
        asked.rule = self._keeping.rule(head.target, None)
        why = self._keeping.keys.why(head.target)
        asked.explained = Explained(asked.key, why, asked.rule)
        return await self._from_cache(asked, self._keeping)

    async def _from_cache(self, asked: Asked, keeping: Keeping) -> Answer:
        """Answer from what is stored or under way, else ask the origin; waiting for others where policy allows."""
        held: list[Flight] = []
        until = time.monotonic() + self.flights.patience
        try:
            while True:
                decision = await self._look_up(asked, keeping)
                answer = await self._without_asking(asked, decision, held[-1] if held else None)
                if answer is not None:
                    return answer
                if not isinstance(decision, Forward | Validate):
                    decision = Forward("miss", UNREADABLE)
                if asked.key is None or _passes_by(decision):
                    return await self._alone(asked, decision)
                ident = self.flights.identify(asked.key, asked.head.headers, asked.found)
                flight = self._to_wait_for(asked, ident) if len(held) < WAITS else None
                if flight is None or not await flight.wait(until - time.monotonic()):
                    return await self._lead(asked, ident, decision)
                held.append(flight)
        finally:
            for flight in held:
                flight.release()

    async def _without_asking(self, asked: Asked, decision: Decision, waited: Flight | None) -> Answer | None:
        """The answer where the origin need not be asked; None where it must. ``waited``: what was waited for."""
        if isinstance(decision, Serve):
            return await self._serve(asked, decision)
        if _passes_by(decision):
            return None
        if asked.found.parts and self._parts is not None:
            whole = self._parts.hit(asked)
            if whole is not None:
                return whole
        if isinstance(decision, Refuse):
            asked.decided(decision.reason)
            return self._replies.page(asked, decision.status, decision.reason.text, decision.reason.code)
        joined = None if asked.key is None else self._join(asked, asked.key, decision)
        if joined is None and waited is not None and waited.failure is not None and isinstance(decision, Validate):
            stood_in = self._stand_in(asked, decision, waited.failure)
            return None if stood_in is None else await self._reply(asked, stood_in)
        return joined

    async def _look_up(self, asked: Asked, keeping: Keeping) -> Decision:
        asked.found = NOTHING
        found = None
        if asked.key is not None:
            asked.found = await keeping.store.lookup(asked.key, asked.head.headers)
            found = asked.found.best
            if found is not None:
                asked.rule = keeping.rule(asked.head.target, found.meta.head)
        return reuse.decide(
            asked.head,
            found,
            known=asked.found.known,
            now=self._clock(),
            settings=self._settings.policy,
            rule=asked.rule,
        )

    # -- from the store, or from what is under way ---------------------------------------------------------------

    async def _serve(self, asked: Asked, serve: Serve, *, freshened: Freshened | None = None) -> Answer | None:
        """The answer from what is stored; None when it can't be read, which is a miss."""
        assert self._keeping is not None
        stored = serve.stored
        asked.explained = replace(asked.explained, decision=asked.explained.decision or serve.reason)
        try:
            source = StoredSource(self._keeping.store, stored.body)
            not_modified = None if freshened is None else freshened.not_modified
            answer = self._replies.stored(asked, serve, source, not_modified=not_modified)
        except StoreError as error:
            origin = asked.request.head.target.origin
            logger.warning("stored response of %s can't be read and is dropped: %s", origin, error)
            await self._keeping.store.remove(stored)
            asked.found = NOTHING
            asked.status = CacheStatus(self._settings.name)
            return None
        if serve.reason is stale.WHILE_REVALIDATE:
            self._later(stored.key, self._revalidate(asked, stored))
        return answer

    def _join(self, asked: Asked, key: CacheKey, decision: Forward | Validate) -> Answer | None:
        """An answer from a fill under way, where policy would give it if it were stored already."""
        assert self._keeping is not None
        for filling in self.flights.fills(key):
            if not filling.fits(asked.head.headers) or not self._in_reach(asked, filling):
                continue
            serve = self._usable(asked, filling)
            if serve is not None:
                asked.explained = replace(asked.explained, decision=COLLAPSED)
                asked.say(fwd=decision.fwd)
                return self._replies.joined(asked, serve, filling)
        return None

    def _usable(self, asked: Asked, filling: Filling) -> Serve | None:
        """How policy would answer with what is being received if it were stored already; None: it would not."""
        assert self._keeping is not None
        rule = self._keeping.rule(asked.head.target, filling.meta.head)
        decision = reuse.decide(
            asked.head,
            filling.as_stored(),
            known=True,
            now=self._clock(),
            settings=self._settings.policy,
            rule=rule,
        )
        if not isinstance(decision, Serve) or decision.stale:
            return None
        asked.rule = rule
        return decision

    def _in_reach(self, asked: Asked, filling: Filling) -> bool:
        """Whether the bytes that the request wants are in the fill, or soon will be."""
        request = asked.head
        if filling.length is None:
            return b"range" not in request.headers or request.method != "GET"
        received = filling.meta.response_time
        wanted = ranges.wanted(request.headers, request.method, filling.meta.head, filling.length, received)
        if isinstance(wanted, ranges.Spans):
            start = max(span.start for span in wanted.spans)
            inside = all(filling.covers(span) for span in wanted.spans)
            return inside and ranges.reachable(start, filling.received)
        return asked.bodiless or not filling.partial

    def _to_wait_for(self, asked: Asked, ident: FlightId) -> Flight | None:
        if not collapsing.waits(asked.head) or not self.flights.shared(ident[0]):
            return None
        return self.flights.current(ident)

    def _stand_in(self, asked: Asked, decision: Validate, failure: OriginError) -> StoodIn | None:
        """What the one that this request waited for has met allows a stale response here, too (RFC 5861 §4)."""
        served = stale.on_error(
            decision.stored, asked.head, now=self._clock(), settings=self._settings.policy, rule=asked.rule
        )
        if served is None:
            return None
        asked.say(fwd=decision.fwd, collapsed=True, detail=f"{served.reason.code}:{failure.kind}")
        return StoodIn(served, failure)

    # -- towards the origin --------------------------------------------------------------------------------------

    async def _alone(self, asked: Asked, decision: Decision) -> Answer:
        """Pass the request on; the response is for this client only, but for a POST that says otherwise."""
        assert isinstance(decision, Forward)
        asked.say(fwd=decision.fwd)
        asked.decided(decision.reason)
        may_store = asked.head.method == "POST" and decision.fwd == "method"
        fetched = await self._fetching.fetch(asked, self._fetching.unconditional(asked), may_store=may_store)
        return await self._reply(asked, fetched)

    async def _lead(self, asked: Asked, ident: FlightId, decision: Forward | Validate) -> Answer:
        """Ask the origin; others may wait for what comes."""
        asked.say(fwd=decision.fwd)
        asked.decided(decision.reason)
        if not self.flights.patience or not collapsing.leads(asked.head) or not self.flights.shared(ident[0]):
            return await self._reply(asked, await self._fetch(asked, decision))
        task = asyncio.create_task(self._fly(asked, ident, self.flights.lead(ident), decision), name="fetch")
        try:
            fetched = await asyncio.shield(task)
        except asyncio.CancelledError:
            # This client has gone. Those that wait for the same are not to begin again.
            asked.informational = None
            asked.silent = True
            if not self.flights.awaited(ident):
                task.cancel()
            self._adopt(self._finish(task))
            raise
        return await self._reply(asked, fetched)

    async def _fly(
        self, asked: Asked, ident: FlightId, flight: Flight, decision: Forward | Validate
    ) -> Fetched | Answer:
        """Fetch, and let those that wait know what came."""
        filling, failure = None, None
        try:
            fetched = await self._fetch(asked, decision)
            match fetched:
                case Stored():
                    filling = fetched.filling
                    if not self._usable(asked, filling):
                        self.flights.not_shared(ident[0])
                case Passed():
                    self.flights.not_shared(ident[0])
                case StoodIn():
                    failure = fetched.failure
                case Freshened():
                    if freshness(fetched.stored.meta, asked.rule).lifetime <= 0:
                        self.flights.not_shared(ident[0])
        except OriginError as error:
            failure = error
            raise
        finally:
            self.flights.land(ident, flight, filling, failure)
        return fetched

    async def _fetch(self, asked: Asked, decision: Forward | Validate) -> Fetched | Answer:
        """What the origin has to say, by the parts that are stored, the client's Range, or neither."""
        if isinstance(decision, Validate):
            plain = self._fetching.unconditional(asked).without(RANGE_FIELDS)
            return await self._fetching.validate(asked, decision.stored, decision.conditions, plain)
        if asked.found.parts and self._parts is not None:
            completed = await self._parts.complete(asked)
            if completed is not None:
                return completed
        return await self._fetching.fetch_range(asked)

    async def _reply(self, asked: Asked, fetched: Fetched | Answer) -> Answer:
        match fetched:
            case Answer():
                return fetched
            case Stored():
                assert self._keeping is not None
                answer = self._replies.filled(asked, fetched.filling, fetched.head)
                self._keeping.start(fetched.filling)
            case Passed():
                answer = await self._replies.passed(asked, fetched.response)
            case StoodIn():
                served = await self._serve(asked, fetched.serve)
                if served is None:
                    raise fetched.failure
                return served
            case Freshened():
                serve = reuse.serve_validated(fetched.stored, asked.head, now=self._clock(), rule=asked.rule)
                served = await self._serve(asked, serve, freshened=fetched)
                if served is None:
                    return await self._reply(asked, await self._fetch(asked, Forward("miss", UNREADABLE)))
                return served
        if fetched.complete is not None and fetched.complete <= self._settings.range_limit and asked.key is not None:
            self._later(asked.key, self._fetch_whole(asked))
        return answer

    # -- on nobody's behalf --------------------------------------------------------------------------------------

    def _later(self, key: CacheKey, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` in the background, one for a key at a time."""
        if key in self._background:
            work.close()
            return
        task = asyncio.create_task(work, name="background")
        self._background[key] = task
        task.add_done_callback(lambda _: self._background.pop(key, None))

    def _adopt(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="adopted")
        self._adopted.add(task)
        task.add_done_callback(self._adopted.discard)

    async def _finish(self, task: asyncio.Task[Fetched | Answer]) -> None:
        """Bring to its end what a client that has gone had begun."""
        await asyncio.wait((task,))
        if not task.cancelled() and task.exception() is None:
            await self._settle(task.result())

    async def _settle(self, fetched: Fetched | Answer) -> None:
        if isinstance(fetched, Answer):
            try:
                while await fetched.read():
                    pass
            finally:
                await fetched.aclose()
        else:
            await self._fetching.settle(fetched)

    async def _revalidate(self, asked: Asked, stored: StoredResponse) -> None:
        """Validate what was served stale (RFC 5861 §3)."""
        assert self._keeping is not None
        again = asked.again(self._settings.name, self._keeping.store.moment())
        plain = again.outbound.without(validation.CLIENT_CONDITIONS | RANGE_FIELDS)
        conditions = validation.conditions(stored.meta)
        try:
            await self._settle(await self._fetching.validate(again, stored, conditions, plain, stand_in=False))
        except FwdProxyError as error:
            logger.info("revalidation in the background failed: %s", error)

    async def _fetch_whole(self, asked: Asked) -> None:
        """Fetch the whole of what a client has asked a part of."""
        assert self._keeping is not None and asked.key is not None
        again = asked.again(self._settings.name, self._keeping.store.moment())
        again.outbound = again.outbound.without(validation.CLIENT_CONDITIONS | RANGE_FIELDS)
        ident = self.flights.identify(asked.key, again.head.headers, NOTHING)
        try:
            fetched = await self._fly(again, ident, self.flights.lead(ident), Forward("miss", WHOLE))
            await self._settle(fetched)
        except FwdProxyError as error:
            logger.info("fetching a whole object in the background failed: %s", error)


def _passes_by(decision: Decision) -> bool:
    return isinstance(decision, Forward) and decision.fwd in ("bypass", "method")


UPGRADE: Final = Reason("upgrade", "RFC 9110 §7.8", "a request that changes the protocol is passed on")
CONTENT: Final = Reason("request-content", "RFC 9110 §9.3.1", "content in a GET request is not part of the key")
LONG_QUERY: Final = Reason("long-query", "RFC 10008 §2.7", "the content is too long to be part of a key")
NO_STORE: Final = Reason("no-store-configured", "", "this proxy runs without a cache")
UNREADABLE: Final = Reason("unreadable", "", "the stored response could not be read")
WHOLE: Final = Reason("whole", "RFC 9111 §3.4", "the rest of what a client asked a part of")
COLLAPSED: Final = Reason("collapsed", "RFC 9111 §4", "another client's request for the same is under way")
