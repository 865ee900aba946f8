"""Which rows go when the store is over its limit: a pure plan, carried out in the background a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

LOW_WATER: Final = 0.95
"""Eviction goes on until the store is this full, so that it doesn't start again with the next response."""


class Sized(Protocol):
    """What the plan needs to know of a row."""

    @property
    def size(self) -> int:
        """Bytes that go with the row, its file included."""
        ...


def largest_object(limit: int) -> int:
    """Bytes of the largest body that is worth storing: a larger one would have to go at once."""
    return int(limit * LOW_WATER)


def due(used: int, limit: int) -> bool:
    """Must something go?"""
    return used > limit


def surplus(used: int, limit: int) -> int:
    """Bytes above the low-water mark; not positive when there are none."""
    return used - int(limit * LOW_WATER)


def plan[R: Sized](oldest_first: Iterable[R], used: int, limit: int) -> list[R]:
    """The rows to remove: the least recently used ones, no more than reaching the low-water mark takes."""
    left = surplus(used, limit)
    victims: list[R] = []
    for row in oldest_first:
        if left <= 0:
            break
        victims.append(row)
        left -= row.size
    return victims
