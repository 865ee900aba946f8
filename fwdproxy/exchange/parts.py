"""Stored parts of a representation: what they hold is served, what is missing asked for (RFC 9111 §3.3, §3.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fwdproxy.errors import StoreError
from fwdproxy.exchange.answers import Answer, Body
from fwdproxy.exchange.asked import Asked
from fwdproxy.exchange.fetching import RANGE_FIELDS, Fetched, Fetching, Freshened, StoodIn
from fwdproxy.exchange.filling import Filling
from fwdproxy.exchange.keeping import Keeping
from fwdproxy.exchange.ranging import ChainBody, StoredSource
from fwdproxy.exchange.replies import Replies
from fwdproxy.messages import BodyRef, Span, StoredPart, StoredResponse
from fwdproxy.origin.client import OriginResponse
from fwdproxy.policy import freshness, ranges, reuse, validation
from fwdproxy.policy.decisions import PolicySettings, Reason, Serve, Validate
from fwdproxy.store.base import Store

PARTIAL: Final = Reason("partial", "RFC 9111 §3.3", "a part is stored; the origin is asked for what is missing")


class PartsSource:
    """The bytes of several stored parts, and of a fill that receives another, as one representation."""

    def __init__(self, store: Store, parts: Sequence[StoredPart], filling: Filling | None = None) -> None:
        self.length = parts[0].complete
        self._store = store
        self._parts = parts
        self._filling = filling
        self._spans = [part.span for part in parts]
        if filling is not None and filling.end is not None:
            self._spans.append(Span(filling.begin, filling.end))

    def open(self, span: Span) -> Body:
        """See `ranging.Source`. Files are opened now: what is stored may be replaced while it is read."""
        pieces = ranges.plan(self._spans, span).pieces
        stored = {piece: self._stored(piece) for piece in pieces if piece.index != len(self._parts)}
        # A reader of the fill has a hold on it, so it comes last: the others may fail.
        return ChainBody([stored[piece] if piece in stored else self._received(piece) for piece in pieces])

    def _stored(self, piece: ranges.Piece) -> Body:
        if piece.index is None:
            raise StoreError("a part of the stored body has gone")
        part = self._parts[piece.index]
        start = piece.span.start - part.span.start
        return StoredSource(self._store, part.stored.body).open(Span(start, start + piece.span.length))

    def _received(self, piece: ranges.Piece) -> Body:
        assert self._filling is not None
        return self._filling.body(piece.span)


class Parts:
    """Answers requests for which parts are stored. ``clock`` gives Unix seconds."""

    def __init__(
        self,
        fetching: Fetching,
        keeping: Keeping,
        replies: Replies,
        policy: PolicySettings,
        clock: Callable[[], float],
    ) -> None:
        self._fetching = fetching
        self._keeping = keeping
        self._replies = replies
        self._policy = policy
        self._clock = clock

    async def hit(self, asked: Asked) -> tuple[Answer, Serve] | None:
        """The answer, and the decision, where all that the request wants is stored and may be used without asking."""
        chosen = self._choose(asked)
        if chosen is None or chosen.missing.length or not isinstance(chosen.decision, Serve):
            return None
        serve = replace(chosen.decision, stored=chosen.newest)
        try:
            return self._replies.stored(asked, serve, self._source(asked)), serve
        except StoreError:
            await self._drop(asked)
            return None

    def join(self, asked: Asked, serve: Serve, filling: Filling, fwd: str) -> Answer | None:
        """The answer from the parts and a fill under way that brings what they lack; None: it doesn't.

        ``serve`` is how policy would answer with the fill, ``fwd`` why the origin would have to be asked otherwise.
        """
        parts = asked.found.parts
        if not parts or filling.length != parts[0].complete or not self._of_the_same(parts[0], filling):
            return None
        missing = self._missing(asked, filling.as_stored(), parts) if self._may_use(asked, parts) else None
        if missing is None or not filling.covers(missing) or not ranges.reachable(missing.start, filling.received):
            return None
        try:
            return self._replies.joined(asked, serve, filling, fwd, self._source(asked, filling))
        except StoreError:
            return None

    async def complete(self, asked: Asked) -> Answer | Fetched | None:
        """The answer, or what the origin sent instead; None where the parts are of no use to this request.

        Raises OriginError.
        """
        chosen = self._choose(asked)
        if chosen is None:
            return None
        if isinstance(chosen.decision, Validate) and not chosen.missing.length:
            return await self._validate(asked, chosen.decision, chosen.newest)
        if not chosen.missing.length:
            return None  # it has become usable only now
        asked.decided(PARTIAL)
        return await self._ask_for(asked, chosen.newest, chosen.missing)

    def _choose(self, asked: Asked) -> _Chosen | None:
        parts = asked.found.parts
        newest = max(parts, key=lambda part: part.stored.meta.response_time).stored
        decision, rule = self._keeping.decide(asked, newest)
        if not isinstance(decision, Serve | Validate) or not self._may_use(asked, parts):
            return None
        missing = Span(0, 0) if asked.bodiless else self._missing(asked, newest, parts)
        if missing is None:
            return None
        asked.rule = rule
        whole = replace(newest, body=BodyRef(parts[0].complete, b""))
        if isinstance(decision, Validate):
            decision = replace(decision, stored=whole)
        return _Chosen(whole, decision, missing)

    def _may_use(self, asked: Asked, parts: Sequence[StoredPart]) -> bool:
        """Whether the request may have the bytes of each part, after validation where need be (RFC 9111 §3.5)."""
        return all(isinstance(self._keeping.decide(asked, part.stored)[0], Serve | Validate) for part in parts)

    def _source(self, asked: Asked, filling: Filling | None = None) -> PartsSource:
        return PartsSource(self._keeping.store, asked.found.parts, filling)

    async def _drop(self, asked: Asked) -> None:
        """Forget parts that can't be read, or that are of something else."""
        parts, asked.found = asked.found.parts, replace(asked.found, parts=())
        for part in parts:
            await self._keeping.store.remove(part.stored)

    @staticmethod
    def _of_the_same(part: StoredPart, filling: Filling) -> bool:
        """Whether both are of one representation (RFC 9111 §3.4)."""
        tags = (head.headers.get(b"etag") for head in (part.stored.meta.head, filling.meta.head))
        return ranges.combinable(filling.meta.head) and len(set(tags)) == 1

    @staticmethod
    def _missing(asked: Asked, newest: StoredResponse, parts: Sequence[StoredPart]) -> Span | None:
        """What the parts lack of what the request wants, empty when nothing; None: they hold too little of it."""
        meta = newest.meta
        wanted = ranges.wanted(asked.head.headers, asked.head.method, meta.head, parts[0].complete, meta.response_time)
        if isinstance(wanted, ranges.Unsatisfiable):
            return Span(0, 0)
        if isinstance(wanted, ranges.Spans):
            want = Span(min(s.start for s in wanted.spans), max(s.end for s in wanted.spans))
        else:
            want = Span(0, parts[0].complete)
        missing = ranges.plan([part.span for part in parts], want).missing
        if missing is None:
            return Span(0, 0)
        several = isinstance(wanted, ranges.Spans) and len(wanted.spans) > 1
        return None if several or missing == want else missing

    async def _validate(self, asked: Asked, decision: Validate, newest: StoredResponse) -> Answer | Fetched | None:
        asked.say(fwd=decision.fwd)
        asked.decided(decision.reason)
        plain = self._fetching.unconditional(asked).without(RANGE_FIELDS)
        fetched = await self._fetching.validate(asked, newest, decision.conditions, plain)
        try:
            match fetched:
                case Freshened():
                    serve = reuse.serve_validated(fetched.stored, asked.head, now=self._clock(), rule=asked.rule)
                    return self._replies.stored(asked, serve, self._source(asked), not_modified=fetched.not_modified)
                case StoodIn():
                    return self._replies.stored(asked, fetched.serve, self._source(asked))
        except StoreError:
            await self._drop(asked)
            if isinstance(fetched, StoodIn):
                raise fetched.failure from None
            return None
        return fetched

    async def _ask_for(self, asked: Asked, newest: StoredResponse, missing: Span) -> Answer | Fetched | None:
        """Ask for ``missing``, if the representation is still the same (RFC 9110 §13.1.5)."""
        complete = newest.body.length
        etag = newest.meta.head.headers.get(b"etag") or b""
        outbound = asked.outbound.without(validation.CLIENT_CONDITIONS | RANGE_FIELDS)
        for name, value in ranges.ask(missing, complete, etag):
            outbound = outbound.with_field(name, value)
        sent = self._clock()
        response = await self._fetching.send(asked, outbound)
        try:
            if response.head.status == 206:
                answer = await self._joined(asked, newest, missing, response, sent)
                if answer is not None:
                    return answer
        except BaseException:
            response.abandon()
            raise
        if response.head.status in (206, 416):  # not what was asked for: the parts are of something else
            await response.aclose()
            await self._drop(asked)
            return None
        return await self._fetching.keep(asked, response, sent)

    async def _joined(
        self, asked: Asked, newest: StoredResponse, missing: Span, response: OriginResponse, sent: float
    ) -> Answer | None:
        """The answer out of the parts and the origin's 206; None when that isn't the missing part of the same."""
        complete = newest.body.length
        if ranges.received(response.head) != ranges.Received(missing, complete) or not response.delimited:
            return None
        now = self._clock()
        meta = ranges.combined(
            newest.meta,
            response.head,
            authorized=b"authorization" in asked.head.headers,
            request_time=sent,
            response_time=now,
            settings=self._policy,
        )
        if meta is None or isinstance(self._keeping.storable(asked.head, meta.head, sent), Reason):
            return None
        filling = await self._keeping.fill_part(asked, meta, response, missing, complete)
        asked.say(fwd_status=206, stored=filling.will_store)
        fresh = freshness.freshness(meta, asked.rule)
        age = freshness.current_age(meta, now)
        stored = filling.as_stored()
        status = validation.evaluate(asked.head.headers, meta.head, asked.head.method)
        serve = Serve(stored, status, age, fresh.lifetime - age, stale=False, reason=PARTIAL)
        try:
            answer = self._replies.stored(asked, serve, self._source(asked, filling))
        except BaseException as error:
            self._keeping.give_up(filling)
            asked.say(fwd_status=None, stored=False)
            if not isinstance(error, StoreError):
                raise
            return None
        self._keeping.start(filling)
        return answer


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the parts are good for: their newest response, the decision on it, and what is missing (or empty)."""

    newest: StoredResponse
    decision: Serve | Validate
    missing: Span
