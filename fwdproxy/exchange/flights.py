"""Collapsed forwarding (RFC 9111 §4): which requests are under way for a key, and who may wait for them or join.

A flight is a request to the origin whose head hasn't arrived; others wait for it to land. A fill is a response whose
head is known and whose body is arriving; whom policy allows to be answered with it joins it. What turns out to be for
one client only is remembered for a short while, so that nobody waits for its like.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from fwdproxy.errors import OriginError
from fwdproxy.exchange.filling import Filling
from fwdproxy.messages import CacheKey, Headers, Nominated
from fwdproxy.policy import selection
from fwdproxy.store.base import Found

NOT_SHARED_FOR: Final = 10.0
"""Seconds for which a key whose response could not be shared has every request go on its own."""

SELECTING: Final = 16
"""Selecting fields of a key up to which they are remembered: an origin must not fill the memory with their names."""

REMEMBERED: Final = 10_000
"""Keys about which something is remembered."""

FlightId = tuple[CacheKey, Nominated, bytes]
"""Key, selecting fields as far as they are known, and the Range field: requests alike in these may get one response."""


class Flight:
    """One request under way. ``failure`` is what came instead of a response, ``waiting`` how many wait for it."""

    def __init__(self) -> None:
        self.waiting = 0
        self.failure: OriginError | None = None
        self._landed = asyncio.Event()
        self._filling: Filling | None = None

    async def wait(self, seconds: float) -> bool:
        """Wait for the landing; False when it doesn't come in time. After True, call `release` once."""
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._landed.wait()
        except TimeoutError:
            if self._landed.is_set():  # just now: the fill is held for this one, too
                return True
            self.waiting -= 1
            return False
        except asyncio.CancelledError:
            self.waiting -= 1
            if self._landed.is_set():
                self.release()
            raise
        return True

    def land(self, filling: Filling | None, failure: OriginError | None = None) -> None:
        """The head is here, or won't come. Each one waiting holds ``filling`` until it has chosen what to do."""
        self.failure = failure
        self._filling = filling
        if filling is not None:
            for _ in range(self.waiting):
                filling.hold()
        self._landed.set()

    def release(self) -> None:
        """One that had waited has chosen."""
        if self._filling is not None:
            self._filling.left()


class Flights:
    """The flights and fills of one exchange. ``clock`` gives monotonic seconds."""

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self._clock = clock
        self._flights: dict[FlightId, Flight] = {}
        self._fills: dict[CacheKey, list[Filling]] = {}
        self._not_shared: OrderedDict[CacheKey, float] = OrderedDict()
        self._selecting: OrderedDict[CacheKey, tuple[bytes, ...]] = OrderedDict()

    def identify(self, key: CacheKey, request: Headers, found: Found) -> FlightId:
        """What a request has to have in common with another to wait for it, by what is known of the key's Vary."""
        names = set(self._selecting.get(key, ()))
        names.update(name for variant in found.others for name, _ in variant.nominated)
        return key, selection.nominate(request, sorted(names)), request.combined(b"range") or b""

    # Flights

    def current(self, ident: FlightId) -> Flight | None:
        """The flight to wait for, if there is one."""
        return self._flights.get(ident) if self.patience else None

    def lead(self, ident: FlightId) -> Flight:
        """A new flight, in the place of one that takes too long."""
        flight = self._flights[ident] = Flight()
        return flight

    def land(
        self, ident: FlightId, flight: Flight, filling: Filling | None, failure: OriginError | None = None
    ) -> None:
        """``flight`` is over."""
        if self._flights.get(ident) is flight:
            del self._flights[ident]
        flight.land(filling, failure)

    def under_way(self) -> Sequence[Flight]:
        """All flights."""
        return tuple(self._flights.values())

    # Fills

    def fills(self, key: CacheKey) -> Sequence[Filling]:
        """The fills that may be joined, the newest first: they will be stored, and move."""
        fills = self._fills.get(key)
        if not fills:
            return ()
        now = self._clock()
        return [filling for filling in reversed(fills) if filling.joinable(now, self.patience)]

    def add(self, filling: Filling) -> None:
        """A fill has begun. Once it ends, the store has it or nobody."""
        key = filling.key
        self._fills.setdefault(key, []).append(filling)
        names = tuple(name for name, _ in filling.meta.nominated)
        if len(names) <= SELECTING:
            self._remember(self._selecting, key, names)

    def drop(self, filling: Filling) -> None:
        """A fill has ended."""
        fills = self._fills.get(filling.key, [])
        if filling in fills:
            fills.remove(filling)
        if not fills:
            self._fills.pop(filling.key, None)

    # Keys whose responses are for one client each

    def shared(self, key: CacheKey) -> bool:
        """Whether requests for ``key`` may wait for one another."""
        until = self._not_shared.get(key)
        if until is None:
            return True
        if until > self._clock():
            return False
        del self._not_shared[key]
        return True

    def not_shared(self, key: CacheKey) -> None:
        """The response to a request for ``key`` was of no use to others."""
        self._remember(self._not_shared, key, self._clock() + NOT_SHARED_FOR)

    @staticmethod
    def _remember[T](memory: OrderedDict[CacheKey, T], key: CacheKey, value: T) -> None:
        memory[key] = value
        memory.move_to_end(key)
        if len(memory) > REMEMBERED:
            memory.popitem(last=False)
