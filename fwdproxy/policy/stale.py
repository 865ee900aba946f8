"""When a stale response may be served (RFC 9111 §4.2.4, RFC 5861)."""

from __future__ import annotations

from typing import Final

from fwdproxy.fields import cache_control
from fwdproxy.fields.cache_control import CacheControl
from fwdproxy.messages import Headers, RequestHead, StoredResponse
from fwdproxy.policy import controls, validation
from fwdproxy.policy.decisions import PolicySettings, Reason, Serve
from fwdproxy.policy.freshness import current_age, freshness, unshared
from fwdproxy.policy.rules import NO_RULE, Rule
from fwdproxy.policy.storing import allows_authorized, personal

WHILE_REVALIDATE: Final = Reason("stale-while-revalidate", "RFC 5861 §3", "the origin lets it be served meanwhile")
IF_ERROR: Final = Reason("stale-if-error", "RFC 5861 §4", "the origin fails, and it or the client allows this then")
GRACE: Final = Reason("grace", "RFC 9111 §4.2.4", "the origin fails, and the configured grace is not over")

ERRORS: Final = frozenset({500, 502, 503, 504})
"""The statuses that count as an error (RFC 5861 §4)."""


def forbidden(directives: CacheControl) -> bool:
    """Whether the response's own directives forbid serving it stale, whoever asks and whatever fails (§4.2.4).

    An s-maxage forbids it too (§5.2.2.10), but for the windows of RFC 5861 that stand beside it: see `window`.
    """
    return directives.has(b"must-revalidate") or directives.has(b"proxy-revalidate") or directives.whole(b"no-cache")


def window(directives: CacheControl, name: bytes) -> int:
    """The seconds past freshness that ``stale-while-revalidate`` or ``stale-if-error`` grants; 0 when forbidden."""
    return 0 if forbidden(directives) else directives.seconds(name) or 0


def others_may_allow(directives: CacheControl) -> bool:
    """Whether the client (max-stale, stale-if-error) or the user's grace may allow staleness at all."""
    return not forbidden(directives) and not directives.has(b"s-maxage")


def wants_validation(headers: Headers, directives: CacheControl) -> bool:
    """Whether the client asks for validation from end to end: no-cache, or Pragma of HTTP/1.0 (§5.2.1.4, §5.4).

    ``directives`` are those of the request; Pragma counts only where it has none.
    """
    if directives:
        return directives.has(b"no-cache")
    pragma = headers.get_all(b"pragma")
    return bool(pragma) and cache_control.parse(pragma).has(b"no-cache")


def on_error(
    stored: StoredResponse, request: RequestHead, *, now: float, settings: PolicySettings, rule: Rule = NO_RULE
) -> Serve | None:
    """The stored response as the answer when its origin failed (no response, or one of `ERRORS`); None: it may not be.

    ``now`` is in Unix seconds. The client's max-age and min-fresh give way (RFC 5861 §4), its no-cache does not.
    """
    meta = stored.meta
    asked = cache_control.parse(request.headers.get_all(b"cache-control"))
    said = controls.of_stored(meta)
    if wants_validation(request.headers, asked) or (meta.authorized and not allows_authorized(said, rule)):
        return None
    if rule.bypass or (rule.retention is not None and now - meta.response_time > rule.retention):
        return None
    allowed, reason = _error_window(said, asked, settings, others=others_may_allow(said) and not unshared(meta))
    age = current_age(meta, now)
    ttl = freshness(meta, rule, guess=not personal(request.headers, rule)).lifetime - age
    if allowed <= 0 or ttl + allowed <= 0:
        return None
    status = validation.evaluate(request.headers, meta.head, request.method, received=meta.response_time)
    return Serve(stored, status, age, ttl, stale=ttl <= 0, reason=reason)


def _error_window(
    said: CacheControl, asked: CacheControl, settings: PolicySettings, *, others: bool
) -> tuple[int, Reason]:
    """For how many seconds past its freshness a response may stand in, and why; ``others`` than the origin may say."""
    stated = window(said, b"stale-if-error")
    if not others:
        return stated, IF_ERROR
    asked_for = asked.seconds(b"stale-if-error") or 0
    if not said.has(b"stale-if-error") and settings.grace > asked_for:
        return settings.grace, GRACE
    return max(stated, asked_for), IF_ERROR
