"""What the exchange asks of a store. Read this first; `disk.py` is the store that does it.

All calls come from one event loop. A call that may be awaited may do I/O; the others don't wait for anything.
In doubt a store answers "nothing found": a broken record is no record, never a failed request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fwdproxy.errors import StoreError
from fwdproxy.messages import BodyRef, CacheKey, Headers, Nominated, StoredMeta, StoredResponse


class BrokenBody(StoreError):
    """The body of a stored response can't be opened (evicted meanwhile, or cut): treat the response as a miss."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the responses that Vary keeps apart under a key. ``etag`` is the stored ETag value, or None."""

    ident: str
    nominated: Nominated
    etag: bytes | None


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of a lookup.

    ``best``: the most recent stored response whose selection matches the request (RFC 9111 §4.1), or None.
    ``known``: something is stored for the key, matching or not (with no ``best``: a vary-miss).
    ``others``: the stored variants that were not chosen, for their entity tags (RFC 9111 §4.3.1).
    """

    best: StoredResponse | None = None
    known: bool = False
    others: tuple[Variant, ...] = ()


NOTHING = Found()


@dataclass(frozen=True, slots=True)
class StoreStats:
    """``objects``: stored responses. ``bytes``: what they and their index take on disk. ``limit``: bytes allowed."""

    objects: int
    bytes: int
    limit: int


class BodyReader(Protocol):
    """Reads one body from its start, once. Close it always: it may hold a file open."""

    async def read(self, limit: int = 65536) -> bytes:
        """Up to ``limit`` bytes, ``b""`` at the complete end; waits while a growing body has no more yet.

        Raises FillAborted when the message ended early, BrokenBody when the disk fails.
        """
        ...

    def close(self) -> None:
        """Give the reader's place up; a second call does nothing."""
        ...


class Fill(Protocol):
    """One message being received. It belongs to the store, not to the client whose request started it."""

    @property
    def ident(self) -> str:
        """The ``ident`` of the stored response that this fill becomes."""
        ...

    @property
    def will_store(self) -> bool:
        """False once it is known that nothing will be stored (disk fault, too large, invalidated meanwhile)."""
        ...

    @property
    def obstacle(self) -> str:
        """Why nothing will be stored, in plain words; empty as long as something will."""
        ...

    @property
    def received(self) -> int:
        """Bytes written so far."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append ``chunk``; waits for the disk, but not for slow readers (unless the disk failed).

        Never raises for a disk fault: the body then passes through to the readers and isn't stored.
        Raises FillAborted when the fill has been aborted.
        """
        ...

    async def complete(self) -> None:
        """The message ended as it should: store it, then let readers see the end, so that the next lookup hits.

        Raises FillAborted (and aborts the fill) when its length isn't the declared one.
        """
        ...

    def abort(self, why: str) -> None:
        """The message ended early: readers get FillAborted(``why``), nothing is stored. Harmless after the end."""
        ...

    def reader(self) -> BodyReader:
        """A new reader from the first byte; any number of them, while the fill grows and after its end."""
        ...


class Store(Protocol):
    """Where responses are kept."""

    async def lookup(self, key: CacheKey, request: Headers) -> Found:
        """What is stored for ``key`` and a request with these (rewritten) fields. Never raises for broken records.

        Everything this process completed, freshened, removed or invalidated before the call is already in the answer.
        A body that must be verified before reuse has been (``best.body.trusted`` is True).
        """
        ...

    def open_fill(self, key: CacheKey, meta: StoredMeta, length: int | None) -> Fill:
        """Begin to receive a response. ``length``: bytes of content its framing declares, None when it doesn't."""
        ...

    async def freshen(self, stored: StoredResponse, meta: StoredMeta) -> None:
        """Give that stored copy a new head and new times (RFC 9111 §4.3.4); nothing happens when it is gone."""
        ...

    async def remove(self, stored: StoredResponse) -> None:
        """Forget that stored copy, and no other."""
        ...

    async def invalidate(self, keys: Sequence[CacheKey]) -> None:
        """Forget all that is stored for ``keys`` and keep fills under way for them from being stored (RFC 9111 §4.4).

        In force for every process on the store before it returns. Where the disk refuses, for this process alone; then
        that is logged, because the request that caused it has succeeded all the same.
        """
        ...

    def open_body(self, body: BodyRef) -> BodyReader:
        """A reader of a stored body, which later eviction can't cut. Raises BrokenBody: treat as a miss."""
        ...

    def stats(self) -> StoreStats:
        """How full the store is."""
        ...

    async def aclose(self) -> None:
        """Abort fills under way, write what is pending, and release the folder."""
        ...
