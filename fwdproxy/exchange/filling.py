"""Fills under way: a message is received into the store by a task of its own, and clients read along.

A client that leaves does not cut the fill for the others, nor for itself when most of the body is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fwdproxy.errors import FillAborted, OriginError, StoreError
from fwdproxy.messages import BodyRef, CacheKey, Headers, Span, StoredMeta, StoredPart, StoredResponse
from fwdproxy.origin.client import OriginResponse
from fwdproxy.policy import ranges, selection
from fwdproxy.policy.integrity import Digesting
from fwdproxy.policy.storing import PER_CLIENT
from fwdproxy.store.base import BodyReader, Fill

logger = logging.getLogger("fwdproxy.exchange")


PIECE: Final = 256 * 1024
"""Bytes that a reader takes at once, at most."""


UNREAD: Final = 16 << 20
"""Bytes of a response that are received without a reader, unless the origin said before that there are more."""


@dataclass(frozen=True, slots=True)
class FinishAlone:
    """When a fill that nobody reads any more goes on: enough of it is there, or little is left (bytes)."""

    share: float = 0.5
    rest: int = 1 << 20

    def goes_on(self, received: int, length: int | None) -> bool:
        """Whether to go on with ``received`` of ``length`` bytes (None: the origin did not say)."""
        if length is None:
            return False
        return received >= length * self.share or length - received <= self.rest


@dataclass(frozen=True, slots=True)
class Filled:
    """What a fill receives: ``span`` of a representation of ``complete`` bytes, or all of one (None, None).

    ``keep``: what has arrived is worth storing as a part when the rest does not come (RFC 9111 §3.3).
    """

    key: CacheKey
    meta: StoredMeta
    span: Span | None = None
    complete: int | None = None
    keep: bool = False


class Filling:
    """One response being received into one fill, with its task and the clients that read it."""

    def __init__(
        self,
        response: OriginResponse,
        fill: Fill,
        what: Filled,
        alone: FinishAlone,
        *,
        digesting: Digesting | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._response = response
        self._fill = fill
        self._what = what
        self._alone = alone
        self._digesting = digesting
        self._clock = clock
        self.moved = clock()
        self._readers = 0
        self._keeps_on = False
        self.task: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> asyncio.Future[None]:
        """Begin to receive. Open the first reader before: what is too large to be stored is kept for readers only.

        Without a reader (a client whose condition was answered wants no body) only what is small goes on.
        """
        self.task = asyncio.create_task(self._run(), name="fill")
        self.task.add_done_callback(self._given_up)
        length = self._response.length
        if not self._readers and not self._keeps_on and length is not None and length > UNREAD:
            self.task.cancel()
        return self.task

    def _given_up(self, task: asyncio.Future[None]) -> None:
        """A task that is cancelled before its first step runs none of its clean-up."""
        if task.cancelled():
            self.give_up()

    def give_up(self) -> None:
        """End it without a start."""
        self._fill.abort("the fill was given up")
        self._response.abandon()

    # What others see of it

    @property
    def key(self) -> CacheKey:
        """What the response will be found by."""
        return self._what.key

    @property
    def meta(self) -> StoredMeta:
        """What will be stored beside the body."""
        return self._what.meta

    @property
    def begin(self) -> int:
        """The first byte of the representation that is received."""
        return self._what.span.start if self._what.span is not None else 0

    @property
    def end(self) -> int | None:
        """The byte after the last one that will be received; None: the origin did not say."""
        return self._response.length if self._what.span is None else self._what.span.end

    @property
    def received(self) -> int:
        """The byte of the representation up to which it has been received."""
        return self.begin + self._fill.received

    @property
    def length(self) -> int | None:
        """How many bytes the whole representation has; None: the origin did not say."""
        return self._response.length if self._what.complete is None else self._what.complete

    @property
    def partial(self) -> bool:
        """Whether only a part of the representation is received."""
        return self._what.span is not None

    def as_stored(self) -> StoredResponse:
        """The response as policy sees it: as though it were stored already."""
        return StoredResponse(self.key, self._fill.ident, self.meta, BodyRef(self.length or 0, b""))

    @property
    def will_store(self) -> bool:
        """Whether the response will be stored, as far as is known."""
        return self._fill.will_store

    @property
    def obstacle(self) -> str:
        """Why it will not be stored; empty when it will."""
        return self._fill.obstacle

    @property
    def trailers(self) -> Headers:
        """The origin's trailers, once the end was read."""
        return self._response.trailers

    def fits(self, request: Headers) -> bool:
        """Whether the response was selected by what ``request`` has, too (RFC 9111 §4.1)."""
        coding = (self.meta.head.headers.combined(b"content-encoding") or b"").lower()
        return selection.matches(self.meta.nominated, request, coding=coding)

    def covers(self, span: Span) -> bool:
        """Whether ``span`` is within what is received."""
        return self.begin <= span.start and self.end is not None and span.end <= self.end

    def completes(self, parts: Sequence[StoredPart]) -> bool:
        """Whether what is received and the stored ``parts`` are all of the representation."""
        if self.length is None or self.end is None:
            return False
        spans = [*(part.span for part in parts), Span(self.begin, self.end)]
        return ranges.plan(spans, Span(0, self.length)).missing is None

    def joinable(self, now: float, patience: float) -> bool:
        """Whether a newcomer may read it: it is going to be stored, and has moved within ``patience`` seconds."""
        if not self._fill.will_store or self.task.cancelled():
            return False
        return now - self.moved <= patience or self.received == self.end

    # Readers

    def body(self, span: Span | None = None, *, leads: bool = False) -> FilledBody:
        """A reader of ``span``, or of all that is received. ``leads``: for the one whose request began the fill."""
        self.hold()
        start = self.begin if span is None else span.start
        end = self.end if span is None else span.end
        return FilledBody(
            self, self._fill.reader(start - self.begin), None if end is None else end - start, end, leads=leads
        )

    def hold(self) -> None:
        """One more reader, or one that may become one."""
        self._readers += 1

    def keep_on(self) -> None:
        """Go on without readers, whatever is there: the cache itself wants it."""
        self._keeps_on = True

    def left(self) -> None:
        """One reader has gone."""
        self._readers -= 1
        if self._readers or self.task.done() or self._keeps_on:
            return
        # Without readers nothing but its being stored is left for it to go on for.
        if not self.will_store or not self._alone.goes_on(self._fill.received, self._response.length):
            self.task.cancel()

    # Receiving

    async def _run(self) -> None:
        try:
            while chunk := await self._response.read():
                if self._digesting is not None:
                    self._digesting.update(chunk)
                self.moved = self._clock()
                await self._fill.write(chunk)
                if not self._readers and self._in_vain():
                    raise FillAborted("nobody reads it, and it is too long to be stored")
            self._check()
            await self._fill.complete()
        except (OriginError, FillAborted, StoreError) as error:
            self._fill.abort(str(error), keep=self._what.keep and isinstance(error, OriginError))
        except asyncio.CancelledError:
            self._fill.abort("the fill was given up", keep=self._what.keep)
            raise
        finally:
            self._fill.abort("the fill failed by a fault in fwdproxy")  # unless it has ended: nobody may wait for ever
            await self._response.aclose()

    def _in_vain(self) -> bool:
        """Whether what nobody reads can't be stored, or may never end."""
        return not self.will_store or (self._response.length is None and self._fill.received > UNREAD)

    def _check(self) -> None:
        """What isn't what the origin's own digest says is passed on but not stored (RFC 9530)."""
        if self._digesting is None:
            return
        mismatch = self._digesting.mismatch(self._response.trailers)
        if mismatch is not None:
            logger.warning("a response of %s is not stored: %s", self.key.uri.partition("?")[0], mismatch)
            self._fill.forbid(mismatch)


class FilledBody:
    """Bytes of a fill under way, as one client reads them."""

    complete: bytes | None = None

    def __init__(
        self, filling: Filling, reader: BodyReader, length: int | None, end: int | None, *, leads: bool
    ) -> None:
        self._filling = filling
        self._leads = leads
        self._reader = reader
        self._left = length
        self._last = end is not None and end == filling.end

    @property
    def trailers(self) -> Headers:
        """See `Body.trailers`. What speaks to one client is for the one whose request began the fill."""
        trailers = self._filling.trailers
        return trailers if self._leads else trailers.without(PER_CLIENT)

    async def read(self) -> bytes:
        """See `Body.read`."""
        if self._left is None:
            return await self._reader.read(PIECE)
        if not self._left:
            return await self._end()
        data = await self._reader.read(min(PIECE, self._left))
        self._left -= len(data)
        if not data:
            raise FillAborted(f"the body ended {self._left} bytes early")
        if not self._left and self._last:
            # The last bytes tell the client that it has all. By then the response is stored, so that whoever asks
            # next finds it.
            await asyncio.wait((self._filling.task,))
        return data

    async def _end(self) -> bytes:
        # Of the whole only the reader knows whether it ended as it should.
        return await self._reader.read() if self._last else b""

    async def aclose(self) -> None:
        """See `Body.aclose`."""
        self._reader.close()
        self._filling.left()
