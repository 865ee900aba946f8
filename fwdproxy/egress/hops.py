"""Hops: the ways by which a request can leave this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Hop:
    """One way out. ``scheme`` says how a connection is made through it; equal hops share connections."""

    scheme: Literal["direct"]

    def __str__(self) -> str:
        return self.scheme


DIRECT: Final = Hop("direct")
"""Straight to the origin: its name is resolved here and its address dialled from here."""
