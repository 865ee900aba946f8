"""Answers from fills that another request has begun, where policy would give them if they were stored already."""

from __future__ import annotations

from fwdproxy.exchange.answers import Answer
from fwdproxy.exchange.asked import Asked
from fwdproxy.exchange.filling import Filling
from fwdproxy.exchange.keeping import Keeping
from fwdproxy.exchange.parts import Parts
from fwdproxy.exchange.replies import Replies
from fwdproxy.policy import ranges
from fwdproxy.policy.decisions import Forward, Serve, Validate


class Joining:
    """Lets requests join fills."""

    def __init__(self, keeping: Keeping, replies: Replies, parts: Parts) -> None:
        self._keeping = keeping
        self._replies = replies
        self._parts = parts

    def join(self, asked: Asked, decision: Forward | Validate) -> Answer | None:
        """The answer from what is being received, with the parts that are stored already; None: there is none.

        ``decision`` is what would be done otherwise.
        """
        if asked.key is None:
            return None
        for filling in self._keeping.flights.fills(asked.key):
            serve = self.usable(asked, filling) if filling.fits(asked.head.headers) else None
            if serve is None:
                continue
            if self._in_reach(asked, filling):
                return self._replies.joined(asked, serve, filling, decision.fwd)
            answer = self._parts.join(asked, serve, filling, decision.fwd)
            if answer is not None:
                return answer
        return None

    def usable(self, asked: Asked, filling: Filling) -> Serve | None:
        """How policy would answer with what is being received if it were stored already; None: it would not."""
        decision, rule = self._keeping.decide(asked, filling.as_stored())
        if not isinstance(decision, Serve) or decision.stale:
            return None
        asked.rule = rule
        return decision

    @staticmethod
    def _in_reach(asked: Asked, filling: Filling) -> bool:
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
