"""A deadline that is moved at every turn and costs next to nothing to move."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls ``on_expired`` once the time last set has passed.

    The loop's timer isn't touched when the deadline moves away: it looks again when it fires.
    """

    __slots__ = ("_at", "_loop", "_on_expired", "_timer")

    def __init__(self, on_expired: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_expired = on_expired
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Expire in ``seconds`` from now, unless set again or cleared before."""
        self._at = at = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._fire)
        elif at < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(at, self._fire)

    def clear(self) -> None:
        """Don't expire."""
        self._at = math.inf

    def stop(self) -> None:
        """Clear, and let go of the loop's timer."""
        self._at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._at <= self._loop.time():
            self._at = math.inf
            self._on_expired()
        elif self._at < math.inf:
            self._timer = self._loop.call_at(self._at, self._fire)
