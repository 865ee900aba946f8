"""Towards the origin: send a request, and make of what comes back what the cache can use (RFC 9111 §4.3, §3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fwdproxy.anonymize.rewrite import OutboundHead
from fwdproxy.errors import OriginError
from fwdproxy.exchange.asked import Asked
from fwdproxy.exchange.filling import Filling
from fwdproxy.exchange.keeping import Keeping, Kept
from fwdproxy.messages import Field, ResponseHead, StoredResponse
from fwdproxy.origin.client import OriginClient, OriginResponse
from fwdproxy.policy import ranges, stale, validation
from fwdproxy.policy.decisions import PolicySettings, Reason, Serve


@dataclass(frozen=True, slots=True)
class Freshened:
    """The origin's 304 says that ``stored``, renewed by it, is still good."""

    stored: StoredResponse
    not_modified: ResponseHead


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that is being stored. ``filling`` isn't started: open the first reader before.

    ``complete``: bytes of the whole of which this is a part, where the whole could be stored; so with `Passed`.
    """

    filling: Filling
    head: ResponseHead
    complete: int | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """A response for this client alone."""

    response: OriginResponse
    complete: int | None = None


@dataclass(frozen=True, slots=True)
class StoodIn:
    """The origin failed, and policy lets a stale response stand in."""

    serve: Serve
    failure: OriginError


Fetched = Freshened | Stored | Passed | StoodIn

NOT_IDENTIFIED: Final = Reason(
    "not-identified", "RFC 9111 §4.3.4", "the origin's 304 does not name the stored response"
)


class Fetching:
    """Sends requests for the exchange. ``clock`` gives Unix seconds; ``keeping`` is None where there is no cache."""

    def __init__(
        self,
        origin: OriginClient,
        keeping: Keeping | None,
        policy: PolicySettings,
        clock: Callable[[], float],
        *,
        forward_validators: bool,
    ) -> None:
        self._origin = origin
        self._keeping = keeping
        self._policy = policy
        self._clock = clock
        self._forward_validators = forward_validators

    def answers_conditions(self, asked: Asked) -> bool:
        """Whether If-None-Match and If-Modified-Since are answered here and stay from the origin."""
        return asked.head.method in ("GET", "HEAD", "QUERY") and not self._forward_validators

    def unconditional(self, asked: Asked) -> OutboundHead:
        """The request without those conditions of the client's that are answered here."""
        return (
            asked.outbound.without(validation.CLIENT_CONDITIONS) if self.answers_conditions(asked) else asked.outbound
        )

    async def fetch(self, asked: Asked, outbound: OutboundHead, *, may_store: bool = True) -> Fetched:
        """Send ``outbound``. Raises OriginError."""
        sent = self._clock()
        return await self.keep(asked, await self.send(asked, outbound), sent, may_store=may_store)

    async def validate(
        self,
        asked: Asked,
        stored: StoredResponse,
        conditions: tuple[Field, ...],
        plain: OutboundHead,
    ) -> Fetched:
        """Ask whether ``stored`` is still good (§4.3). ``plain`` is sent where the answer speaks of something else.

        Who wants a part of it gets no more than that where it has changed. Raises OriginError when the origin fails and
        nothing stored may stand in (RFC 5861 §4).
        """
        sent = self._clock()
        left_out = RANGE_FIELDS if ranges.from_start(asked.head.headers) else IF_RANGE
        outbound = asked.outbound.without(validation.CLIENT_CONDITIONS | left_out)
        for name, value in conditions:
            outbound = outbound.with_field(name, value)
        try:
            response = await self.send(asked, outbound)
            if response.head.status == 412 and conditions:
                # If-None-Match says so to methods that the origin doesn't know to be like GET, such as QUERY (RFC 9110
                # §13.1.2); but the client has set no condition.
                await response.aclose()
                return await self.fetch(asked, plain)
        except OriginError as error:
            served = self._allowed_stale(asked, stored)
            if served is None:
                raise
            asked.say(detail=f"{served.reason.code}:{error.kind}")
            return StoodIn(served, error)
        status = response.head.status
        if status in stale.ERRORS:
            served = self._allowed_stale(asked, stored)
            if served is not None:
                await response.aclose()
                asked.say(fwd_status=status, detail=served.reason.code)
                return StoodIn(served, OriginError(f"status_{status}", f"the origin says {status}", sent=True))
        if _is_of_another(asked, response):
            await response.aclose()
            return await self.fetch(asked, plain)
        if status != 304:
            return await self.keep(asked, response, sent)
        await drain(response)
        assert self._keeping is not None
        freshened = await self._keeping.freshen(asked.head, stored, response.head, sent)
        if freshened is None:
            asked.decided(NOT_IDENTIFIED)
            return await self.fetch(asked, plain)
        asked.say(fwd_status=304)
        return Freshened(freshened, response.head)

    async def fetch_range(self, asked: Asked) -> Fetched:
        """Send the request of a client that may want a part only. Raises OriginError.

        The origin is asked for all where all is wanted, and for the part where that isn't sure. The client's If-Range
        stays here (it tells clients apart, as other conditions do): when what comes isn't what the client has a part
        of, all is asked for after all (RFC 9110 §13.1.5).
        """
        outbound = self.unconditional(asked)
        request = asked.head
        if b"range" not in request.headers:
            return await self.fetch(asked, outbound)
        if ranges.from_start(request.headers):
            return await self.fetch(asked, outbound.without(RANGE_FIELDS))
        sent = self._clock()
        response = await self.send(asked, outbound.without(IF_RANGE))
        if _is_of_another(asked, response):
            await response.aclose()
            return await self.fetch(asked, outbound.without(RANGE_FIELDS))
        return await self.keep(asked, response, sent)

    async def send(self, asked: Asked, outbound: OutboundHead) -> OriginResponse:
        """The origin's response. Raises OriginError, also for a 304 that nothing asked for."""
        request = asked.request
        response = await self._origin.send(
            outbound, asked.to_send, on_informational=asked.inform, dial=request.dial, upgrade=request.upgrade
        )
        if validation.unasked(response.head, outbound.head.headers):
            await response.aclose()
            raise OriginError("http_protocol_error", "the origin says 304 to a request without conditions", sent=True)
        return response

    async def keep(
        self, asked: Asked, response: OriginResponse, sent: float, *, may_store: bool = True
    ) -> Stored | Passed:
        """Let a response act on what is stored, and have it stored where policy allows."""
        head = response.head
        asked.say(fwd_status=head.status)
        if self._keeping is None or response.tunnel is not None:
            return Passed(response)
        asked.rule = self._keeping.rule(asked.head.target, head)
        try:
            await self._keeping.relate(asked.head, head, asked.found.best, sent)
            if not may_store or asked.head.method == "HEAD" or not response.delimited:
                return Passed(response)
            received = ranges.received(head) if asked.key is not None else None
            whole = head if received is None else ranges.whole_head(head)
            kept = self._keeping.storable(asked.head, whole, sent)
            if isinstance(kept, Kept) and asked.found.best is not None and _is_makeshift(kept, head):
                return Passed(response)
            if isinstance(kept, Reason):
                asked.kept(kept)
                if asked.head.method != "POST":
                    asked.say(detail=kept.code)
                return Passed(response)
            filling = await self._fill(asked, kept, response, received)
        except BaseException:
            response.abandon()
            raise
        complete = None if received is None else received.complete
        if filling is None:
            return Passed(response, complete)
        asked.say(stored=filling.will_store)
        asked.kept(kept.reason)
        if kept.reason.code.startswith("rule-"):
            asked.say(detail=kept.reason.code)
        return Stored(filling, head, complete)

    async def _fill(
        self, asked: Asked, kept: Kept, response: OriginResponse, received: ranges.Received | None
    ) -> Filling | None:
        """The fill for a whole response or a part; None for a part that no other could be combined with."""
        assert self._keeping is not None
        if received is None:
            return await self._keeping.fill(asked, kept, response)
        if not ranges.combinable(kept.meta.head):
            return None
        return await self._keeping.fill_part(asked, kept.meta, response, received.span, received.complete)

    def _allowed_stale(self, asked: Asked, stored: StoredResponse) -> Serve | None:
        return stale.on_error(stored, asked.head, now=self._clock(), settings=self._policy, rule=asked.rule)


def _is_of_another(asked: Asked, response: OriginResponse) -> bool:
    """Whether ``response`` is a part of something else than what the client has a part of, by its If-Range."""
    head = response.head
    return head.status == 206 and not ranges.if_range_holds(asked.head.headers, head.headers, None)


def _is_makeshift(kept: Kept, head: ResponseHead) -> bool:
    """Whether only the user's rule would store an error: it must not take the place of what is stored already."""
    return kept.reason.code == "rule-negative" and head.status in stale.ERRORS


async def drain(response: OriginResponse) -> None:
    """Read a response that has no content to its end, so that its connection can be used again."""
    try:
        while await response.read():
            pass
    finally:
        await response.aclose()


IF_RANGE: Final = frozenset({b"if-range"})
RANGE_FIELDS: Final = IF_RANGE | {b"range"}
