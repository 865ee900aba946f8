"""What can be set about the way to origins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """Times are seconds, sizes bytes.

    ``connect_timeout`` bounds name resolution, TCP and TLS handshake together. ``head_timeout`` runs from the end of
    the request to the end of the response head, anew after each 1xx. ``idle_timeout`` bounds the silence between
    two parts of a body, and how long an origin may leave a request body untaken. ``continue_timeout`` is how long a
    request body waits for 100 (RFC 9110 §10.1.1).

    ``pool_idle`` is how long an unused connection is kept, ``max_idle`` how many per origin and hop,
    ``max_idle_total`` how many in all. ``allow`` is asked before an address and port are dialled (IPv4-mapped IPv6
    addresses as IPv4); what it refuses is never connected to. ``ca_files`` are PEM files that are trusted besides the
    system's.
    """

    connect_timeout: float = 10.0
    head_timeout: float = 60.0
    idle_timeout: float = 120.0
    continue_timeout: float = 1.0
    pool_idle: float = 60.0
    max_idle: int = 32
    max_idle_total: int = 1024
    max_head_bytes: int = 65536
    max_fields: int = 256
    ca_files: tuple[Path, ...] = ()
    allow: Callable[[IPAddress, int], bool] | None = None
