"""For how long a response is fresh, and how old it is (RFC 9111 §4.2), in whole seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fwdproxy.fields import cache_control
from fwdproxy.fields.dates import parse_date
from fwdproxy.messages import Headers, StoredMeta
from fwdproxy.policy.decisions import Reason

S_MAXAGE: Final = Reason("s-maxage", "RFC 9111 §5.2.2.10", "the origin states a lifetime for shared caches")
MAX_AGE: Final = Reason("max-age", "RFC 9111 §5.2.2.1", "the origin states a lifetime")
EXPIRES: Final = Reason("expires", "RFC 9111 §5.3", "the origin states when the response expires")
BAD_EXPIRES: Final = Reason("expires-invalid", "RFC 9111 §5.3", "an Expires that is no date means already expired")
HEURISTIC: Final = Reason("heuristic", "RFC 9111 §4.2.2", "no lifetime is stated; a heuristic estimated one")
NO_LIFETIME: Final = Reason("no-lifetime", "RFC 9111 §4.2.1", "no lifetime is stated and none was estimated")


@dataclass(frozen=True, slots=True)
class Freshness:
    """``lifetime`` is freshness_lifetime of §4.2.1; ``explicit`` tells that the origin stated it."""

    lifetime: int
    explicit: bool
    reason: Reason


_MEMOISED_LENGTH: Final = 512  # so that hostile fields can't fill the memory
_NONE: Final = Freshness(0, explicit=False, reason=NO_LIFETIME)
_BAD_EXPIRES: Final = Freshness(0, explicit=True, reason=BAD_EXPIRES)


def freshness(meta: StoredMeta) -> Freshness:
    """The lifetime of a stored response: s-maxage, max-age, Expires − Date, or the heuristic one, in this order.

    A stated lifetime that is malformed or contradicts itself is one of 0 seconds (§4.2.1).
    """
    stated = explicit(meta.head.headers, meta.response_time)
    if stated is not None:
        return stated
    if meta.heuristic_lifetime is None:
        return _NONE
    return Freshness(meta.heuristic_lifetime, explicit=False, reason=HEURISTIC)


def explicit(headers: Headers, received: float) -> Freshness | None:
    """The lifetime that a response received at ``received`` (Unix seconds) states itself, or None when it doesn't."""
    lines = headers.get_all(b"cache-control")
    if lines:
        short = len(lines) == 1 and len(lines[0]) <= _MEMOISED_LENGTH
        stated = _memoised(lines) if short else _from_directives(lines)
        if stated is not None:
            return stated
    lines = headers.get_all(b"expires")
    if not lines:
        return None
    # Several different dates contradict each other, which makes the response stale (§4.2.1).
    expires = parse_date(lines[0], received) if len(set(lines)) == 1 else None
    if expires is None:
        return _BAD_EXPIRES
    return Freshness(max(0, expires - date_value(headers, received)), explicit=True, reason=EXPIRES)


def date_value(headers: Headers, received: float) -> int:
    """The Unix seconds of Date, or of ``received`` where Date is missing or invalid (RFC 9110 §6.6.1)."""
    lines = headers.get_all(b"date")
    date = parse_date(lines[0], received) if lines else None
    return int(received) if date is None else date


def corrected_initial_age(meta: StoredMeta) -> float:
    """corrected_initial_age of §4.2.3: how old the response was when it arrived.

    Fractions of the response delay are kept, so that `current_age` rounds only once.
    """
    headers = meta.head.headers
    apparent_age = max(0, int(meta.response_time) - date_value(headers, meta.response_time))
    response_delay = max(0.0, meta.response_time - meta.request_time)
    corrected_age_value = (cache_control.parse_age(headers.get_all(b"age")) or 0) + response_delay
    return max(apparent_age, corrected_age_value)


def current_age(meta: StoredMeta, now: float) -> int:
    """current_age of §4.2.3 at ``now`` (Unix seconds). A clock that was set back does not make a response younger
    than it was when it arrived.
    """
    resident_time = max(0.0, now - meta.response_time)
    return int(corrected_initial_age(meta) + resident_time)


def _from_directives(lines: tuple[bytes, ...]) -> Freshness | None:
    directives = cache_control.parse(lines)
    for name, reason in ((b"s-maxage", S_MAXAGE), (b"max-age", MAX_AGE)):
        lifetime = directives.seconds(name)
        if lifetime is not None:
            return Freshness(lifetime, explicit=True, reason=reason)
    return None


_memoised: Final = lru_cache(maxsize=2048)(_from_directives)
