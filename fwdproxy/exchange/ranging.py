"""Answers with a part of a representation: what a Range asks for, cut out of whatever has the bytes (RFC 9110 §14)."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from fwdproxy.exchange.answers import NO_TRAILERS, Body, BytesBody, StoredBody
from fwdproxy.messages import BodyRef, Headers, ResponseHead, Span
from fwdproxy.policy.partial import multipart, partial_head, unsatisfiable_head
from fwdproxy.policy.ranges import Spans, Unsatisfiable, wanted
from fwdproxy.store.base import Store


class Source(Protocol):
    """The content of a representation, all ``length`` bytes of which are there or will come."""

    length: int

    def open(self, span: Span) -> Body:
        """A body of just the bytes of ``span``. Raises StoreError when they can't be read."""
        ...


class StoredSource:
    """The body of a stored response."""

    def __init__(self, store: Store, body: BodyRef) -> None:
        self.length = body.length
        self._store = store
        self._body = body

    def open(self, span: Span) -> Body:
        """See `Source`."""
        body = self._body
        if body.inline is not None and body.trusted:
            return BytesBody(body.inline[span.start : span.end])
        return StoredBody(self._store.open_body(body, span.start), span.length)


class ChainBody:
    """Bodies and bytes between them, one after the other; each body is closed once it has been read."""

    complete: bytes | None = None
    trailers = NO_TRAILERS

    def __init__(self, pieces: Iterable[bytes | Body]) -> None:
        self._pieces = deque(pieces)

    async def read(self) -> bytes:
        """See `Body.read`."""
        while self._pieces:
            piece = self._pieces[0]
            if isinstance(piece, bytes):
                self._pieces.popleft()
                if piece:
                    return piece
            elif data := await piece.read():
                return data
            else:
                self._pieces.popleft()
                await piece.aclose()
        return b""

    async def aclose(self) -> None:
        """See `Body.aclose`."""
        async with AsyncExitStack() as closing:  # it closes all, even when one of them raises
            for piece in self._pieces:
                if not isinstance(piece, bytes):
                    closing.push_async_callback(piece.aclose)
            self._pieces.clear()


def answer(
    head: ResponseHead, source: Source, request: Headers, method: str, received: float | None
) -> tuple[ResponseHead, Body]:
    """What a request gets of the response with ``head``: 200, 206 with one part or several, or 416.

    ``head`` is ready to be sent but for its range; ``received`` is when a stored response arrived, in Unix seconds.
    Raises StoreError when the bytes can't be read.
    """
    match wanted(request, method, head, source.length, received):
        case Unsatisfiable():
            return unsatisfiable_head(head, source.length), BytesBody()
        case Spans((span,)):
            return partial_head(head, span, source.length), source.open(span)
        case Spans(spans):
            return _several(head, source, spans)
        case _:
            return head, source.open(Span(0, source.length))


def _several(head: ResponseHead, source: Source, spans: Sequence[Span]) -> tuple[ResponseHead, Body]:
    boundary = secrets.token_hex(16).encode("ascii")
    head, preambles, closing = multipart(head, spans, source.length, boundary)
    # All are opened now: what is stored may be replaced while the first of them is read, and a fill keeps what it
    # can't store only for those who read already.
    pieces: list[bytes | Body] = []
    for preamble, span in zip(preambles, spans, strict=True):
        pieces += (preamble, source.open(span))
    return head, ChainBody([*pieces, closing])
