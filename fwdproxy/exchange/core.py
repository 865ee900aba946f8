"""One request, from its head to its answer: ask policy, act, say why.

The steps are those of RFC 9111 §4: look up, then serve, validate or forward; what comes back from the origin is
related to what is stored, and stored or passed on. Nothing here decides by itself: every choice is policy's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cachecontrol.heuristics import BaseHeuristic

from fwdproxy.anonymize.rewrite import OutboundHead, Rewriting, forwards_left, rewrite
from fwdproxy.errors import FwdProxyError, OriginError, RequestRefused, StoreError
from fwdproxy.exchange.answers import Answer, Body, BytesBody, ClientRequest, Informational, OriginBody, StoredBody
from fwdproxy.exchange.filling import Filling, FinishAlone
from fwdproxy.exchange.keeping import Keeping
from fwdproxy.exchange.outcome import Outcome
from fwdproxy.exchange.pages import error_page
from fwdproxy.fields.cache_status import CacheStatus
from fwdproxy.messages import CacheKey, Field, Headers, ResponseHead, StoredResponse
from fwdproxy.origin.client import OriginClient, OriginResponse
from fwdproxy.policy import answering, keys, reuse, stale, validation
from fwdproxy.policy.decisions import Forward, PolicySettings, Reason, Refuse, Serve, Validate
from fwdproxy.store.base import NOTHING, Found, Store

logger = logging.getLogger("fwdproxy.exchange")


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """What the user chose of the exchange.

    ``forward_validators``: a client's own If-None-Match and If-Modified-Since reach the origin when nothing is
    stored (they can identify the client, so not by default; its condition is answered here instead).
    """

    policy: PolicySettings
    rewriting: Rewriting
    heuristic: BaseHeuristic
    alone: FinishAlone = field(default_factory=FinishAlone)
    forward_validators: bool = False
    name: str = "fwdproxy"
    vantage: str = "direct"


@dataclass(slots=True)
class _Asked:
    """One request while it is worked on."""

    request: ClientRequest
    outbound: OutboundHead
    informational: Informational | None
    started: float
    clock_started: float
    key: CacheKey | None
    found: Found = NOTHING
    status: CacheStatus = field(default_factory=lambda: CacheStatus("fwdproxy"))

    @property
    def bodiless(self) -> bool:
        return self.request.head.method == "HEAD"


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
        self._origin = origin
        self._keeping: Keeping | None = None
        if store is not None:
            self._keeping = Keeping(
                store, policy=settings.policy, heuristic=settings.heuristic, alone=settings.alone, clock=clock
            )
        self._settings = settings
        self._clock = clock
        self._on_outcome = on_outcome
        self._background: dict[CacheKey, asyncio.Task[None]] = {}

    async def answer(self, request: ClientRequest, informational: Informational | None = None) -> Answer:
        """The answer to ``request``. Never raises but for cancellation: what goes wrong becomes an error page."""
        started = self._clock()
        outbound = rewrite(request.head, self._settings.rewriting)
        asked = _Asked(request, outbound, informational, started, time.monotonic(), None)
        try:
            return await self._decide(asked)
        except RequestRefused as error:
            return self._page(asked, error.status, str(error), REFUSED)
        except OriginError as error:
            status = 504 if error.kind.endswith("_timeout") else 502
            return self._page(asked, status, str(error), error.kind)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not leave a client without an answer
            logger.error("a request failed by a fault in fwdproxy: %s: %s", type(error).__name__, error)
            return self._page(asked, 502, "a fault in the proxy itself; its log has the reason", "proxy_internal_error")

    def refuse(self, client: str, method: str, target: str, status: int, text: str) -> tuple[ResponseHead, bytes]:
        """The page, Cache-Status included, for what a shell can't make a request of; it counts as an outcome too."""
        head, body = error_page(status, text, REFUSED)
        said = CacheStatus(self._settings.name, detail=REFUSED).serialize()
        now = self._clock()
        self._on_outcome(
            Outcome(now, 0.0, client, method, target, status, len(body), finished=True, cache_status=said.decode())
        )
        return replace(head, headers=head.headers.adding((b"Cache-Status", said))), body

    async def aclose(self, grace: float = 0.0) -> None:
        """Give fills under way ``grace`` seconds, then give them up."""
        tasks = [*(self._keeping.tasks() if self._keeping else ()), *self._background.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- deciding ------------------------------------------------------------------------------------------------

    async def _decide(self, asked: _Asked) -> Answer:
        head = asked.outbound.head
        request = asked.request
        if forwards_left(request.head) == 0:
            asked.status = replace(asked.status, detail="max-forwards")
            own = ResponseHead(405 if head.method == "TRACE" else 200, Headers([(b"Content-Length", b"0")]))
            return self._answer(asked, own, BytesBody())
        if request.upgrade is not None:
            return await self._forward(asked, Forward("bypass", UPGRADE))
        if request.body is not None and head.method in ("GET", "HEAD"):
            return await self._forward(asked, Forward("bypass", CONTENT))
        asked.key = keys.cache_key(self._settings.vantage, head)
        if asked.key is None or self._keeping is None:
            reason = METHOD if asked.key is None else NO_STORE
            return await self._forward(asked, Forward("method" if asked.key is None else "bypass", reason))
        asked.found = await self._keeping.store.lookup(asked.key, head.headers)
        decision = reuse.decide(
            head, asked.found.best, known=asked.found.known, now=asked.started, settings=self._settings.policy
        )
        match decision:
            case Serve():
                return await self._serve(asked, decision)
            case Validate():
                return await self._validate(asked, decision)
            case Forward():
                return await self._forward(asked, decision)
            case Refuse():
                asked.status = replace(asked.status, fwd=None, detail=decision.reason.code)
                return self._page(asked, decision.status, decision.reason.text, decision.reason.code)

    # -- from the store ------------------------------------------------------------------------------------------

    async def _serve(self, asked: _Asked, serve: Serve, *, not_modified: ResponseHead | None = None) -> Answer:
        if asked.status.fwd is None:
            asked.status = replace(asked.status, hit=True, ttl=serve.ttl, detail=serve.reason.code)
        head = answering.from_stored(serve, via=self._settings.rewriting.via, not_modified=not_modified)
        stored = serve.stored
        body: Body
        if asked.bodiless or serve.status != stored.meta.head.status:
            body = BytesBody()
        elif stored.body.inline is not None and stored.body.trusted:
            body = BytesBody(stored.body.inline)
        else:
            assert self._keeping is not None
            try:
                body = StoredBody(self._keeping.store.open_body(stored.body), stored.body.length)
            except StoreError as error:
                return await self._unreadable(asked, stored, error)
        if serve.reason is stale.WHILE_REVALIDATE:
            self._revalidate_later(asked, stored)
        return self._answer(asked, head, body)

    async def _unreadable(self, asked: _Asked, stored: StoredResponse, error: StoreError) -> Answer:
        """A stored response that can't be read is a miss."""
        logger.warning(
            "stored response of %s can't be read and is dropped: %s", asked.request.head.target.origin, error
        )
        assert self._keeping is not None
        await self._keeping.store.remove(stored)
        asked.found = NOTHING
        asked.status = CacheStatus(self._settings.name)
        return await self._forward(asked, Forward("miss", UNREADABLE))

    # -- towards the origin --------------------------------------------------------------------------------------

    async def _validate(self, asked: _Asked, decision: Validate) -> Answer:
        """RFC 9111 §4.3: ask the origin whether the stored response is still good."""
        stored = decision.stored
        asked.status = replace(asked.status, fwd=decision.fwd, detail=decision.reason.code)
        outbound = _with_conditions(asked.outbound, decision.conditions)
        request_time = self._clock()
        try:
            response = await self._send(asked, outbound)
        except OriginError as error:
            return await self._stale_or(asked, stored, error)
        if response.head.status in stale.ERRORS:
            served = stale.on_error(stored, asked.outbound.head, now=self._clock(), settings=self._settings.policy)
            if served is not None:
                asked.status = replace(asked.status, fwd_status=response.head.status, detail=served.reason.code)
                await response.aclose()
                return await self._serve(asked, served)
        if response.head.status != 304:
            return await self._relay(asked, response, request_time)
        await _drain(response)
        assert self._keeping is not None
        freshened = await self._keeping.freshen(stored, response.head, request_time)
        if freshened is None:
            return await self._forward(asked, Forward(decision.fwd, NOT_IDENTIFIED))
        asked.status = replace(asked.status, fwd_status=304)
        serve = reuse.serve_validated(freshened, asked.outbound.head, now=self._clock())
        return await self._serve(asked, serve, not_modified=response.head)

    async def _stale_or(self, asked: _Asked, stored: StoredResponse, error: OriginError) -> Answer:
        served = stale.on_error(stored, asked.outbound.head, now=self._clock(), settings=self._settings.policy)
        if served is None:
            raise error
        asked.status = replace(asked.status, detail=f"{served.reason.code}:{error.kind}")
        return await self._serve(asked, served)

    async def _forward(self, asked: _Asked, decision: Forward) -> Answer:
        asked.status = replace(asked.status, fwd=decision.fwd, detail=decision.reason.code)
        outbound = asked.outbound
        if self._answers_conditions(asked):
            outbound = outbound.without(validation.CLIENT_CONDITIONS)
        request_time = self._clock()
        response = await self._send(asked, outbound)
        return await self._relay(asked, response, request_time, may_store=decision.fwd not in ("bypass", "method"))

    async def _send(self, asked: _Asked, outbound: OutboundHead) -> OriginResponse:
        request = asked.request
        response = await self._origin.send(
            outbound,
            request.body,
            on_informational=asked.informational,
            dial=request.dial,
            upgrade=request.upgrade,
        )
        if validation.unasked(response.head, outbound.head.headers):
            await response.aclose()
            raise OriginError("http_protocol_error", "the origin says 304 to a request without conditions", sent=True)
        return response

    async def _relay(
        self, asked: _Asked, response: OriginResponse, request_time: float, *, may_store: bool = True
    ) -> Answer:
        """Pass a response on to the client, and into the store where policy allows."""
        head = response.head
        asked.status = replace(asked.status, fwd_status=head.status)
        if response.tunnel is not None:
            return self._answer(asked, head, BytesBody(), response=response)
        status = head.status
        if self._answers_conditions(asked):
            status = validation.evaluate(asked.outbound.head.headers, head, asked.request.head.method)
        try:
            filling = await self._keep(asked, response, request_time, may_store=may_store)
            body: Body
            if filling is not None:
                # A client that has the response already wants no body; the fill goes on without it.
                body = filling.body() if status == head.status else BytesBody()
                self._start(filling)
            elif status == head.status:
                body = OriginBody(response)
            else:
                await response.aclose()
                body = BytesBody()
        except BaseException:
            await response.aclose()
            raise
        answer_head = answering.from_origin(head, via=self._settings.rewriting.via, now=self._clock())
        return self._answer(asked, answering.conditional(answer_head, status), body)

    def _answers_conditions(self, asked: _Asked) -> bool:
        """Whether If-None-Match and If-Modified-Since are answered here and stay from the origin."""
        return asked.request.head.method in ("GET", "HEAD") and not self._settings.forward_validators

    async def _keep(
        self, asked: _Asked, response: OriginResponse, request_time: float, *, may_store: bool
    ) -> Filling | None:
        """Let a response act on what is stored; the fill that will store it, or None, the reason noted."""
        if self._keeping is None:
            return None
        head = asked.outbound.head
        await self._keeping.relate(self._settings.vantage, head, response.head, asked.found.best, request_time)
        if asked.key is None or not may_store:
            return None
        kept = self._keeping.storable(head, response, request_time)
        if isinstance(kept, Reason):
            asked.status = replace(asked.status, detail=kept.code)
            return None
        if kept is None:
            return None
        filling = self._keeping.fill(asked.key, kept, response)
        asked.status = replace(asked.status, stored=filling.will_store)
        return filling

    def _start(self, filling: Filling) -> asyncio.Future[None]:
        assert self._keeping is not None
        return self._keeping.start(filling)

    # -- revalidation in the background (RFC 5861 §3) -----------------------------------------------------------

    def _revalidate_later(self, asked: _Asked, stored: StoredResponse) -> None:
        key = stored.key
        if key in self._background:
            return
        again = replace(asked, informational=None, status=CacheStatus(self._settings.name))
        task = asyncio.create_task(self._revalidate(again, stored), name="revalidate")
        self._background[key] = task
        task.add_done_callback(lambda _: self._background.pop(key, None))

    async def _revalidate(self, asked: _Asked, stored: StoredResponse) -> None:
        outbound = _with_conditions(asked.outbound, validation.conditions(stored.meta))
        request_time = self._clock()
        try:
            response = await self._send(asked, outbound)
            if response.head.status == 304:
                await _drain(response)
                assert self._keeping is not None
                await self._keeping.freshen(stored, response.head, request_time)
                return
            filling = await self._keep(asked, response, request_time, may_store=True)
            if filling is None:
                await response.aclose()
            else:
                await self._start(filling)
        except FwdProxyError as error:
            logger.info("revalidation in the background failed: %s", error)

    # -- answers -------------------------------------------------------------------------------------------------

    def _answer(
        self, asked: _Asked, head: ResponseHead, body: Body, *, response: OriginResponse | None = None
    ) -> Answer:
        said = asked.status.serialize()
        head = replace(head, headers=head.headers.adding((b"Cache-Status", said)))

        def at_close(sent: int, finished: bool) -> None:
            request = asked.request
            self._on_outcome(
                Outcome(
                    started=asked.started,
                    seconds=time.monotonic() - asked.clock_started,
                    client=request.client,
                    method=request.head.method,
                    target=str(request.head.target),
                    status=head.status,
                    sent=sent,
                    finished=finished,
                    cache_status=said.decode("latin-1"),
                )
            )

        return Answer(head, body, tunnel=response.tunnel if response else None, at_close=at_close)

    def _page(self, asked: _Asked, status: int, text: str, kind: str) -> Answer:
        asked.status = replace(asked.status, detail=kind)
        head, body = error_page(status, text, kind)
        return self._answer(asked, head, BytesBody(b"" if asked.bodiless else body))


def _with_conditions(outbound: OutboundHead, conditions: tuple[Field, ...]) -> OutboundHead:
    """``outbound`` with the cache's own conditions in the place of the client's."""
    outbound = outbound.without(validation.CLIENT_CONDITIONS)
    for name, value in conditions:
        outbound = outbound.with_field(name, value)
    return outbound


async def _drain(response: OriginResponse) -> None:
    """Read a response that has no content to its end, so that its connection can be used again."""
    try:
        while await response.read():
            pass
    finally:
        await response.aclose()


UPGRADE = Reason("upgrade", "RFC 9110 §7.8", "a request that changes the protocol is passed on")
CONTENT = Reason("request-content", "RFC 9110 §9.3.1", "content in a GET request is not part of the key")
METHOD = Reason("method", "RFC 9111 §3", "the method's responses are not stored")
REFUSED = "request_refused"
NO_STORE = Reason("no-store-configured", "", "this proxy runs without a cache")
UNREADABLE = Reason("unreadable", "", "the stored response could not be read")
NOT_IDENTIFIED = Reason("not-identified", "RFC 9111 §4.3.4", "the origin's 304 does not name the stored response")
