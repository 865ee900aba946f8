"""For how long a response is fresh, and how old it is (RFC 9111 §4.2), in whole seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fwdproxy.fields import cache_control
from fwdproxy.fields.dates import parse_date
from fwdproxy.messages import Headers, StoredMeta
from fwdproxy.policy.decisions import Reason
from fwdproxy.policy.rules import NO_RULE, Rule

S_MAXAGE: Final = Reason("s-maxage", "RFC 9111 §5.2.2.10", "the origin states a lifetime for shared caches")
MAX_AGE: Final = Reason("max-age", "RFC 9111 §5.2.2.1", "the origin states a lifetime")
EXPIRES: Final = Reason("expires", "RFC 9111 §5.3", "the origin states when the response expires")
BAD_EXPIRES: Final = Reason("expires-invalid", "RFC 9111 §5.3", "an Expires that is no date means already expired")
HEURISTIC: Final = Reason("heuristic", "RFC 9111 §4.2.2", "no lifetime is stated; a heuristic estimated one")
NO_LIFETIME: Final = Reason("no-lifetime", "RFC 9111 §4.2.1", "no lifetime is stated and none was estimated")
RULE_MIN: Final = Reason("rule-min-lifetime", "RFC 9111 §4.2.1", "your rule makes it fresh for longer")
RULE_MAX: Final = Reason("rule-max-lifetime", "RFC 9111 §4.2.1", "your rule makes it fresh for less long")
RULE_NEGATIVE: Final = Reason("rule-negative", "RFC 9111 §4.2.2", "your rule gives errors a lifetime")
RULE_RETENTION: Final = Reason("rule-retention", "RFC 9111 §4.2", "your rule keeps nothing for that long")

CREDENTIALS: Final = "cookies or credentials"
"""The ``heuristic_reason`` of a response that such a request brought, or that sets a cookie."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """``lifetime`` is freshness_lifetime of §4.2.1; ``explicit`` tells that the origin stated it."""

    lifetime: int
    explicit: bool
    reason: Reason


_MEMOISED_LENGTH: Final = 512  # so that hostile fields can't fill the memory
_NONE: Final = Freshness(0, explicit=False, reason=NO_LIFETIME)
_BAD_EXPIRES: Final = Freshness(0, explicit=True, reason=BAD_EXPIRES)


def freshness(meta: StoredMeta, rule: Rule = NO_RULE, *, guess: bool = True) -> Freshness:
    """The lifetime of a stored response: s-maxage, max-age, Expires − Date, or the heuristic one, in this order; and
    what the user's ``rule`` makes of it (see `ruled`, for ``guess`` too), at most up to the end of its retention.

    A stated lifetime that is malformed or contradicts itself is one of 0 seconds (§4.2.1).
    """
    fresh = lifetime(meta.head.headers, meta.response_time, meta.controls, meta.heuristic_lifetime)
    if rule is NO_RULE:
        return fresh
    fresh = ruled(fresh, meta.head.status, rule, guess=guess and meta.heuristic_reason != CREDENTIALS)
    return _retained(fresh, meta, rule.retention)


def lifetime(headers: Headers, received: float, lines: tuple[bytes, ...] | None, estimated: int | None) -> Freshness:
    """The lifetime of a response received at ``received`` (Unix seconds): a stated one, or the one ``estimated``.

    ``lines`` are those of `controls.governing`.
    """
    stated = explicit(headers, received, lines)
    if stated is not None:
        return stated
    return _NONE if estimated is None else Freshness(estimated, explicit=False, reason=HEURISTIC)


def ruled(fresh: Freshness, status: int, rule: Rule, *, guess: bool) -> Freshness:
    """The lifetime of a response with ``status`` as the user's ``rule`` has it; ``fresh`` itself where it says nothing.

    ``guess``: neither the request nor the one that brought the response had cookies or credentials. Else no lifetime is
    made where the origin states none, or one of 0 seconds: what is one client's own may stand behind that.
    """
    error = status >= 400
    if error and rule.negative_lifetime is not None and not fresh.explicit and guess and status != 401:
        return Freshness(rule.negative_lifetime, explicit=False, reason=RULE_NEGATIVE)
    shared = fresh.explicit and fresh.lifetime > 0
    if rule.min_lifetime is not None and fresh.lifetime < rule.min_lifetime and not error and (guess or shared):
        fresh = Freshness(rule.min_lifetime, explicit=shared, reason=RULE_MIN)
    if rule.max_lifetime is not None and fresh.lifetime > rule.max_lifetime:
        fresh = Freshness(rule.max_lifetime, explicit=fresh.explicit, reason=RULE_MAX)
    return fresh


def _retained(fresh: Freshness, meta: StoredMeta, retention: int | None) -> Freshness:
    """``fresh`` up to the end of ``retention``, which counts from the arrival, while a lifetime counts all of the age.

    In whole seconds, so that the last one of a retention may be cut short, and is never exceeded.
    """
    if retention is None or fresh.lifetime <= retention:
        return fresh
    most = int(corrected_initial_age(meta)) + retention
    return fresh if fresh.lifetime <= most else Freshness(most, explicit=fresh.explicit, reason=RULE_RETENTION)


def unshared(meta: StoredMeta) -> bool:
    """Whether a stored response may be one client's own: cookies or credentials took part, and the origin states no
    time for which others may have it. Nobody gets it unasked then, but in a window that the origin states (RFC 5861).
    """
    if meta.heuristic_reason != CREDENTIALS:
        return False
    stated = explicit(meta.head.headers, meta.response_time, meta.controls)
    return stated is None or stated.lifetime <= 0


def explicit(headers: Headers, received: float, lines: tuple[bytes, ...] | None) -> Freshness | None:
    """The lifetime that a response received at ``received`` (Unix seconds) states itself, or None when it doesn't.

    ``lines``, where they are not None, count in the place of Cache-Control and Expires (`controls.governing`).
    """
    said = headers.get_all(b"cache-control") if lines is None else lines
    if said:
        short = len(said) == 1 and len(said[0]) <= _MEMOISED_LENGTH
        stated = _memoised(said) if short else _from_directives(said)
        if stated is not None:
            return stated
    dates = headers.get_all(b"expires")
    if not dates or lines is not None:
        return None
    # Several different dates contradict each other, which makes the response stale (§4.2.1).
    expires = parse_date(dates[0], received) if len(set(dates)) == 1 else None
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
