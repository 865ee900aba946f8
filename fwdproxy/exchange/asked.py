"""One request while it is worked on: what is known of it, and what will be said about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from fwdproxy.anonymize.rewrite import OutboundHead
from fwdproxy.exchange.answers import NO_TRAILERS, ClientRequest, Informational
from fwdproxy.exchange.explained import Explained
from fwdproxy.fields.cache_status import CacheStatus
from fwdproxy.messages import CacheKey, Headers, RequestHead, ResponseHead
from fwdproxy.origin.client import RequestBody
from fwdproxy.policy.decisions import Reason
from fwdproxy.policy.rules import NO_RULE, Rule
from fwdproxy.store.base import NOTHING, Found

CONTENT_LIMIT: Final = 1 << 20
"""Bytes of a QUERY's content up to which it can be part of a key."""


@dataclass(slots=True)
class Asked:
    """A request, its place in the cache, and what Cache-Status and `Explained` will say.

    ``started`` is Unix seconds, ``clock_started`` monotonic ones. ``body`` is the request's content as it goes to the
    origin; ``query`` all of a QUERY's, which may be sent more than once, and ``content`` a digest of that, part of the
    key. ``moment`` is the store's from before anything was looked up. ``forwards_conditions``: the client's own
    conditions reach the origin. ``silent``: no client waits for an answer, and none is logged.
    """

    request: ClientRequest
    outbound: OutboundHead
    informational: Informational | None
    started: float
    clock_started: float
    body: RequestBody | None
    status: CacheStatus
    key: CacheKey | None = None
    query: bytes | None = None
    content: str = ""
    moment: int = 0
    rule: Rule = NO_RULE
    found: Found = NOTHING
    explained: Explained = field(default_factory=Explained)
    forwards_conditions: bool = False
    silent: bool = False

    @property
    def head(self) -> RequestHead:
        """The rewritten head: what policy and the store go by."""
        return self.outbound.head

    @property
    def bodiless(self) -> bool:
        """Whether answers have no content, whatever their head says."""
        return self.request.head.method == "HEAD"

    def say(self, **changes: Any) -> None:
        """Change members of Cache-Status."""
        self.status = replace(self.status, **changes)

    def decided(self, reason: Reason) -> None:
        """Why the answer comes from where it comes from."""
        self.explained = replace(self.explained, decision=reason)
        self.say(detail=reason.code)

    def kept(self, reason: Reason) -> None:
        """Why the origin's response is stored, or is not."""
        self.explained = replace(self.explained, storing=reason)

    async def inform(self, head: ResponseHead) -> None:
        """Hand a 1xx head to the client, as long as there is one."""
        if self.informational is not None:
            await self.informational(head)

    @property
    def to_send(self) -> RequestBody | None:
        """The content for one request to the origin."""
        return self.body if self.query is None else ReplayedBody(self.query, None, len(self.query))

    def again(self, moment: int) -> Asked:
        """The same request on nobody's behalf."""
        return replace(
            self,
            informational=None,
            status=CacheStatus(self.status.cache),
            explained=Explained(self.explained.key, self.explained.keyed_by),
            moment=moment,
            silent=True,
        )


class ReplayedBody:
    """Content of a request of which the beginning has been read already. ``rest``: None when that was all."""

    expect_continue = False

    def __init__(self, begin: bytes, rest: RequestBody | None, length: int | None) -> None:
        self.length = length
        self._begin = begin
        self._rest = rest

    @property
    def trailers(self) -> Headers:
        """See RequestBody."""
        return NO_TRAILERS if self._rest is None else self._rest.trailers

    async def read(self) -> bytes:
        """See RequestBody."""
        if self._begin:
            begin, self._begin = self._begin, b""
            return begin
        return b"" if self._rest is None else await self._rest.read()


async def read_content(body: RequestBody) -> tuple[bytes | None, ReplayedBody]:
    """The whole content, or None when it is longer than CONTENT_LIMIT; and a body with all of it for the origin."""
    read = bytearray()
    while len(read) <= CONTENT_LIMIT:
        piece = await body.read()
        if not piece:
            return bytes(read), ReplayedBody(bytes(read), None, len(read))
        read += piece
    return None, ReplayedBody(bytes(read), body, body.length)
