"""From what the store, a fill or the origin gave to the answer that the client gets, Cache-Status and log included."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from fwdproxy.exchange import ranging
from fwdproxy.exchange.answers import Answer, Body, BytesBody, OriginBody
from fwdproxy.exchange.asked import Asked
from fwdproxy.exchange.filling import Filling
from fwdproxy.exchange.outcome import Outcome
from fwdproxy.exchange.pages import error_page
from fwdproxy.fields.cache_status import CacheStatus
from fwdproxy.messages import ResponseHead, Span, StoredMeta
from fwdproxy.origin.client import OriginResponse
from fwdproxy.policy import answering, freshness, ranges, validation
from fwdproxy.policy.decisions import Reason, Serve

COLLAPSED: Final = Reason("collapsed", "RFC 9111 §4", "another client's request for the same is under way")
REFUSED: Final = "request_refused"


class FillingSource:
    """A fill under way, to be cut for a Range. ``length`` must be known. ``leads``: see `Filling.body`."""

    def __init__(self, filling: Filling, *, leads: bool = False) -> None:
        assert filling.length is not None
        self.length = filling.length
        self._filling = filling
        self._leads = leads

    def open(self, span: Span) -> Body:
        """See `ranging.Source`."""
        return self._filling.body(span, leads=self._leads)


class Replies:
    """Builds answers. ``clock`` gives Unix seconds; ``via`` is the pseudonym to announce, ``name`` the cache's."""

    def __init__(
        self, name: str, via: str | None, clock: Callable[[], float], on_outcome: Callable[[Outcome], None]
    ) -> None:
        self._name = name
        self._via = via
        self._clock = clock
        self._on_outcome = on_outcome

    def stored(
        self, asked: Asked, serve: Serve, source: ranging.Source, *, not_modified: ResponseHead | None = None
    ) -> Answer:
        """The answer from what is stored. Raises StoreError when its body can't be opened."""
        head = answering.from_stored(serve, via=self._via, not_modified=not_modified)
        head, body = self._cut(asked, serve, head, source)
        if asked.status.fwd is None:
            asked.say(hit=True, ttl=serve.ttl, detail=serve.reason.code)
        asked.explained = replace(asked.explained, decision=asked.explained.decision or serve.reason)
        self._note_lifetime(asked, serve.stored.meta)
        return self.answer(asked, head, body)

    def joined(
        self, asked: Asked, serve: Serve, filling: Filling, fwd: str, source: ranging.Source | None = None
    ) -> Answer:
        """The answer from a fill that another request has begun, instead of a forwarded request (``fwd``: why).

        ``source``: the fill and what else is needed. Raises StoreError when that can't be opened.
        """
        head = answering.from_stored(serve, via=self._via)
        body: Body
        if filling.length is not None:
            head, body = self._cut(asked, serve, head, source or FillingSource(filling))
        else:
            head = replace(head, headers=head.headers.without({b"content-length"}))
            wants_body = not asked.bodiless and serve.status == serve.stored.meta.head.status
            body = filling.body() if wants_body else BytesBody()
        asked.say(fwd=fwd, ttl=serve.ttl, collapsed=True, detail=serve.reason.code)
        asked.explained = replace(asked.explained, decision=COLLAPSED)
        self._note_lifetime(asked, serve.stored.meta)
        return self.answer(asked, head, body)

    @staticmethod
    def _cut(asked: Asked, serve: Serve, head: ResponseHead, source: ranging.Source) -> tuple[ResponseHead, Body]:
        stored = serve.stored
        if asked.bodiless or serve.status != stored.meta.head.status:
            return head, BytesBody()
        request = asked.head
        return ranging.answer(head, source, request.headers, request.method, stored.meta.response_time)

    def filled(self, asked: Asked, filling: Filling, head: ResponseHead) -> Answer:
        """The answer to the client whose request began ``filling``; ``head`` is the origin's, as received."""
        status = self._status(asked, head)
        ours = answering.from_origin(head, via=self._via, now=self._clock())
        ours = answering.conditional(ours, status)
        body: Body
        if status != head.status or asked.bodiless:
            # A client that has the response already wants no body; the fill goes on without it.
            body = BytesBody()
        elif filling.partial or filling.length is None or not self._may_cut(asked, filling):
            body = filling.body(leads=True)
        else:
            source = FillingSource(filling, leads=True)
            ours, body = ranging.answer(ours, source, asked.head.headers, asked.head.method, None)
        self._note_lifetime(asked, filling.meta)
        return self.answer(asked, ours, body)

    @staticmethod
    def _may_cut(asked: Asked, filling: Filling) -> bool:
        """Whether a Range is cut out of the fill. What it doesn't store can be read once, in order: not in parts."""
        request = asked.head
        if b"range" not in request.headers:
            return False
        return filling.will_store or ranges.single(request.headers, request.method) is not None

    async def passed(self, asked: Asked, response: OriginResponse) -> Answer:
        """The answer that is passed on from the origin as it comes."""
        head = response.head
        if response.tunnel is not None:
            return self.answer(asked, head, BytesBody(), response=response)
        status = self._status(asked, head)
        ours = answering.from_origin(head, via=self._via, now=self._clock())
        if status == head.status:
            return self.answer(asked, ours, OriginBody(response))
        await response.aclose()
        return self.answer(asked, answering.conditional(ours, status), BytesBody())

    def page(self, asked: Asked, status: int, text: str, kind: str) -> Answer:
        """A page of our own."""
        asked.say(detail=kind)
        head, body = error_page(status, text, kind)
        return self.answer(asked, head, BytesBody(b"" if asked.bodiless else body))

    def refusal(self, client: str, method: str, target: str, status: int, text: str) -> tuple[ResponseHead, bytes]:
        """The page, Cache-Status included, for what a shell can't make a request of; it counts as an outcome too."""
        head, body = error_page(status, text, REFUSED)
        said = CacheStatus(self._name, detail=REFUSED).serialize()
        now = self._clock()
        self._on_outcome(
            Outcome(now, 0.0, client, method, target, status, len(body), finished=True, cache_status=said.decode())
        )
        return replace(head, headers=head.headers.adding((b"Cache-Status", said))), body

    def answer(self, asked: Asked, head: ResponseHead, body: Body, *, response: OriginResponse | None = None) -> Answer:
        """An answer that says in Cache-Status what ``asked`` has, and reports its outcome."""
        said = asked.status.serialize()
        head = replace(head, headers=head.headers.adding((b"Cache-Status", said)))

        def at_close(sent: int, finished: bool) -> None:
            if asked.silent:
                return
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

        tunnel = response.tunnel if response else None
        explained = replace(asked.explained, rule=asked.rule)
        return Answer(head, body, tunnel=tunnel, at_close=at_close, explained=explained)

    @staticmethod
    def _status(asked: Asked, head: ResponseHead) -> int:
        """The status by the client's own condition, which the origin has not seen."""
        if asked.forwards_conditions:
            return head.status
        return validation.evaluate(asked.head.headers, head, asked.request.head.method)

    @staticmethod
    def _note_lifetime(asked: Asked, meta: StoredMeta) -> None:
        fresh = freshness.freshness(meta, asked.rule)
        asked.explained = replace(asked.explained, lifetime=fresh.lifetime, lifetime_reason=fresh.reason)
