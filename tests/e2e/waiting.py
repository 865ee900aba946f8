"""Waits for what happens elsewhere and can't be awaited: conditions, and numbers that come to rest."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], timeout: float = 10) -> None:
    """Waits until ``condition()`` holds; raises AssertionError when it does not within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def settle(value: Callable[[], float], quiet: float = 1.0, timeout: float = 60) -> None:
    """Waits until the number that ``value()`` returns has not changed for ``quiet`` seconds."""
    deadline = time.monotonic() + timeout
    last, since = value(), time.monotonic()
    while time.monotonic() - since < quiet:
        assert time.monotonic() < deadline, "it never came to rest"
        time.sleep(0.05)
        if (now := value()) != last:
            last, since = now, time.monotonic()
