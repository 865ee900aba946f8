"""What the exchange asks of a store. Read this first; `disk.py` is the store that does it.

All calls come from one event loop. A call that may be awaited may do I/O; the others don't wait for anything.
In doubt a store answers "nothing found": a broken record is no record, never a failed request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fwdproxy.errors import StoreError
from fwdproxy.messages import BodyRef, CacheKey, Headers, Nominated, Span, StoredMeta, StoredPart, StoredResponse
from fwdproxy.store.purging import PurgeRule


class BrokenBody(StoreError):
    """The body of a stored response can't be opened (evicted meanwhile, or cut): treat the response as a miss."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the whole responses that Vary keeps apart under a key. ``etag`` is the stored ETag value, or None."""

    ident: str
    nominated: Nominated
    etag: bytes | None


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of a lookup.

    ``best``: the most recent stored response whose selection matches the request (RFC 9111 §4.1), or None.
    ``known``: something is stored for the key, matching or not (with no ``best`` and no ``parts``: a vary-miss).
    ``others``: the stored variants that were not chosen, for their entity tags (RFC 9111 §4.3.1).
    ``parts``: where the most recent one is partial, it and what else is stored of the same representation (one strong
    entity tag, §3.3), by start; they may overlap. Policy looks at the meta of the one received last.
    """

    best: StoredResponse | None = None
    known: bool = False
    others: tuple[Variant, ...] = ()
    parts: tuple[StoredPart, ...] = ()


NOTHING = Found()


@dataclass(frozen=True, slots=True)
class StoreStats:
    """``objects``: stored responses. ``bytes``: what they and their index take on disk. ``limit``: bytes allowed."""

    objects: int
    bytes: int
    limit: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A stored response as people see it listed. ``length``: bytes of its body as it lies there.

    ``part``: it is partial, its body being this span of a representation of so many bytes. ``used``: when it was
    stored or used last, Unix seconds, as far as that is written down. ``outdated``: purged, and not deleted yet.
    """

    key: CacheKey
    ident: str
    meta: StoredMeta
    length: int
    part: tuple[Span, int] | None
    used: float
    outdated: bool


Cursor = bytes
"""Where a page or a piece of work begins; the first one at ``b""``."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what is stored. ``next``: where the next page begins, None when there is none."""

    items: tuple[Listed, ...]
    next: Cursor | None


@dataclass(frozen=True, slots=True)
class Verified:
    """A piece of the work of checking all that is stored.

    ``checked``: responses; ``bytes``: of their bodies. ``removed``: the URIs of what was rotten, or what else names it.
    ``next``: where the next piece begins, None when all is done.
    """

    checked: int
    bytes: int
    removed: tuple[str, ...]
    next: Cursor | None


class BodyReader(Protocol):
    """Reads one body to its end, once. Close it always: it may hold a file open."""

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

    def abort(self, why: str, *, keep: bool = False) -> None:
        """The message ended early: readers get what has arrived and then FillAborted(``why``). Harmless after the end.

        Nothing is stored, unless ``keep`` is set and the message declared its length: then what has arrived becomes a
        stored part, in the store's own time. Whoever sets it vouches for a strong entity tag (RFC 9111 §3.3).
        """
        ...

    def forbid(self, why: str) -> None:
        """Pass the message on to the readers, but don't store it. The first reason given becomes the `obstacle`."""
        ...

    def reader(self, start: int = 0) -> BodyReader:
        """A new reader from the byte ``start`` of this message; any number of them, as it grows and after its end.

        A reader that is ahead of what has arrived waits for it.
        """
        ...


class Store(Protocol):
    """Where responses are kept."""

    async def lookup(self, key: CacheKey, request: Headers) -> Found:
        """What is stored for ``key`` and a request with these (rewritten) fields. Never raises for broken records.

        Everything this process completed, freshened, removed or invalidated before the call is already in the answer.
        A body that must be verified before reuse has been (``best.body.trusted`` is True).
        """
        ...

    def open_fill(
        self,
        key: CacheKey,
        meta: StoredMeta,
        length: int | None,
        *,
        part: tuple[Span, int] | None = None,
        moment: int = 0,
        expires: float | None = None,
    ) -> Fill:
        """Begin to receive a response. ``length``: bytes of content its framing declares, None when it doesn't.

        ``part``: it is partial, its content being this span (of ``length`` bytes) of a representation of so many bytes;
        ``meta`` then has the head that the whole 200 would have. It is found as one of `Found.parts`, or as any other
        when it turns out to be the whole. ``moment``: what the purge counter was before the request was sent.
        ``expires``: Unix seconds from which on nothing of it may be found.
        """
        ...

    async def freshen(self, stored: StoredResponse, meta: StoredMeta) -> None:
        """Give that stored copy a new head and new times (RFC 9111 §4.3.4); nothing happens when it is gone."""
        ...

    async def remove(self, stored: StoredResponse) -> None:
        """Forget that stored copy, and no other."""
        ...

    async def invalidate(self, keys: Sequence[CacheKey]) -> None:
        """Forget all that is stored for the vantages and URIs of ``keys``, whatever the kind (RFC 9111 §4.4).

        Fills under way for them are kept from being stored, too.
        In force for every process on the store before it returns. Where the disk refuses, for this process alone; then
        that is logged, because the request that caused it has succeeded all the same.
        """
        ...

    def open_body(self, body: BodyRef, start: int = 0) -> BodyReader:
        """A reader of a stored body from the byte ``start`` on, which later eviction can't cut.

        Raises BrokenBody: treat as a miss.
        """
        ...

    def moment(self) -> int:
        """How many purges there have been; to be taken before a request is sent, and given to `open_fill`."""
        ...

    async def purge(self, rule: PurgeRule) -> None:
        """Outdate all that ``rule`` names and that was asked for before now; fills under way too.

        In force for every process on the store before it returns, and after any restart; what is outdated is deleted
        in the background. Raises StoreError when it can't be written down: then nothing is purged.
        """
        ...

    async def note(self, name: str) -> bytes | None:
        """The value kept under ``name``, a name of the exchange's choice. None when there is none (any more)."""
        ...

    def set_note(self, name: str, value: bytes | None) -> None:
        """Keep a value of up to 4 KB (a larger one isn't kept), with None none. It may be lost like any response.

        This process sees it at once, others within about a second. A purge of everything outdates it.
        """
        ...

    async def browse(self, *, prefix: str = "", host: str = "", after: bytes = b"", limit: int = 200) -> Page:
        """What is stored for URIs that begin with ``prefix``, of ``host`` (with a dot before it: and all below it).

        ``after``: the `Page.next` of the page before. What is stored for one URI stays together, so a page may have
        some more than ``limit``. Raises StoreError when the store can't be read.
        """
        ...

    async def verify(self, *, after: bytes = b"", limit: int = 50) -> Verified:
        """Check the next ``limit`` rows and their bodies, and remove what isn't as it was stored.

        ``after``: the `Verified.next` of the piece before. Raises StoreError when the store can't be read.
        """
        ...

    def stats(self) -> StoreStats:
        """How full the store is."""
        ...

    async def aclose(self) -> None:
        """Abort fills under way, write what is pending, and release the folder."""
        ...
