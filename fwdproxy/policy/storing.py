"""Whether a response may be stored, and what of it (RFC 9111 §3)."""

from __future__ import annotations

import re
from typing import Final

from fwdproxy.fields import cache_control
from fwdproxy.fields.cache_control import CacheControl
from fwdproxy.fields.connection import connection_options, end_to_end
from fwdproxy.fields.dates import parse_date, with_date
from fwdproxy.fields.etags import parse_etag
from fwdproxy.messages import Headers, RequestHead, ResponseHead, StoredMeta, TargetURI
from fwdproxy.policy import controls, selection
from fwdproxy.policy.decisions import PolicySettings, Reason, Storing
from fwdproxy.policy.freshness import (
    NO_LIFETIME,
    RULE_NEGATIVE,
    RULE_RETENTION,
    Freshness,
    date_value,
    explicit,
    lifetime,
    ruled,
)
from fwdproxy.policy.invalidation import resolve
from fwdproxy.policy.rules import NO_RULE, Rule

HEURISTICALLY_CACHEABLE: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""RFC 9110 §15.1."""

UNDERSTOOD: Final = frozenset(
    {200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308}
    | {400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 421, 422, 426}
    | {500, 501, 502, 503, 504, 505}
)
"""The final statuses of RFC 9110 §15 whose caching this cache implements (``must-understand``, RFC 9111 §5.2.2.3)."""

PER_CLIENT: Final = frozenset({b"set-cookie", b"set-cookie2", b"set-login", b"clear-site-data", b"authentication-info"})
"""Fields that speak to the one client whose request brought them. They are never stored."""

# Without one of these a stored response would mean something else, so a response that would lose it is not stored.
_ESSENTIAL: Final = frozenset(
    {b"age", b"cache-control", b"content-encoding", b"content-type", b"date", b"expires", b"vary"}
)

# Answers to one request's conditions, range or expectation; and those that RFC 6585 §3–§6 keep out of caches.
_NEVER: Final = frozenset({304, 407, 412, 416, 417, 428, 429, 431, 511})

# References that `resolve` reads as RFC 3986 §5.2 does.
_REFERENCE: Final = re.compile(rb"(?!https?:(?!//))[!\"$-:<-~]*[!\"$-:<->@-~]", re.IGNORECASE)

STORABLE: Final = Storing(store=True, reason=Reason("stored", "RFC 9111 §3", "every condition for storing is met"))
METHOD: Final = Reason("method", "RFC 9111 §3", "responses to this method are not stored")
POST: Final = Reason(
    "post", "RFC 9110 §9.3.3", "only with a stated lifetime and its own URI as Content-Location does it answer a GET"
)
HEAD: Final = Reason("head", "RFC 9110 §9.3.2", "a response to HEAD has no content to store")
REQUEST_CONTENT: Final = Reason("request-content", "RFC 9110 §9.3.1", "content of a GET request is not part of the key")
REQUEST_NO_STORE: Final = Reason("request-no-store", "RFC 9111 §5.2.1.5", "the client forbids storing")
INTERIM: Final = Reason("interim", "RFC 9111 §3", "an interim response is never stored")
PARTIAL: Final = Reason("partial", "RFC 9111 §3.3", "partial responses are not stored")
STATUS: Final = Reason("status", "RFC 9111 §3", "responses with this status answer one request only")
NO_STORE: Final = Reason("no-store", "RFC 9111 §5.2.2.5", "the origin forbids storing")
NOT_UNDERSTOOD: Final = Reason("must-understand", "RFC 9111 §5.2.2.3", "the status is not one that this cache knows")
PRIVATE: Final = Reason("private", "RFC 9111 §5.2.2.7", "the response is meant for one client")
CONNECTION: Final = Reason("connection-options", "RFC 9111 §3.1", "Connection lists a field that must be kept")
QUALIFIED: Final = Reason("qualified", "RFC 9111 §3.1", "a directive names a field that must be kept")
AUTHORIZATION: Final = Reason("authorization", "RFC 9111 §3.5", "the request had credentials, and nothing allows it")
VARY: Final = Reason("vary", "RFC 9111 §4.1", "Vary lets no later request match")
NOT_CACHEABLE: Final = Reason("not-cacheable", "RFC 9111 §3", "neither the origin nor the status makes it cacheable")
NO_USE: Final = Reason("no-lifetime", "RFC 9111 §4.2.1", "it is not fresh for any time and can't be validated")
RULE_BYPASS: Final = Reason("rule-bypass", "RFC 9111 §2", "your rule passes the cache by")
RULE_SHARE_AUTHORIZED: Final = Reason(
    "rule-share-authorized", "RFC 9111 §3.5", "your rule shares what a request with credentials brought"
)


def decide(
    request: RequestHead,
    response: ResponseHead,
    *,
    heuristic_lifetime: int | None,
    settings: PolicySettings,
    rule: Rule = NO_RULE,
) -> Storing:
    """Whether ``response`` (as received) to ``request`` may be stored.

    ``heuristic_lifetime`` is what `heuristics.ask` gave. Whether the response is complete is the caller's to know. The
    reason is the user's ``rule`` where the outcome would be another one without it.
    """
    lines = controls.governing(response.headers, settings.targets)
    directives = controls.directives(response.headers, lines)
    forbidden = (
        _request_forbids(request, response, lines)
        or _status_forbids(response.status)
        or response_forbids(response, lines)
        or _loses(response.headers, directives, frozenset(settings.targets))
    )
    if forbidden is not None:
        return Storing(store=False, reason=forbidden)
    authorized = b"authorization" in request.headers and not allows_authorized(directives)
    if authorized and not rule.share_authorized:
        return Storing(store=False, reason=AUTHORIZATION)
    guess = not (personal(request.headers, rule) or personal(response.headers))
    # No clock is needed: without a Date any Expires that is a date counts as a lifetime here.
    plain = lifetime(response.headers, date_value(response.headers, 0), lines, heuristic_lifetime)
    fresh = ruled(plain, response.status, rule, guess=guess)
    worthless = _worthless(response, lines, fresh, guess, settings)
    by_rule = fresh is not plain and (worthless is None) != (
        _worthless(response, lines, plain, guess, settings) is None
    )
    if worthless is not None:
        return Storing(store=False, reason=fresh.reason if by_rule else worthless)
    if rule.bypass or rule.retention == 0:
        return Storing(store=False, reason=RULE_BYPASS if rule.bypass else RULE_RETENTION)
    if authorized or by_rule:
        return Storing(store=True, reason=RULE_SHARE_AUTHORIZED if authorized else fresh.reason)
    return STORABLE


def response_forbids(response: ResponseHead, lines: tuple[bytes, ...] | None) -> Reason | None:
    """Why the fields of ``response`` keep it out of a shared cache, whatever the request was; None: they don't.

    ``lines`` govern it in the place of its Cache-Control, where `controls.governing` gave some.
    """
    headers = response.headers
    directives = controls.directives(headers, lines)
    if directives.has(b"must-understand"):
        # It overrides the no-store that stands beside it for caches that don't know it (§5.2.2.3).
        if response.status not in UNDERSTOOD:
            return NOT_UNDERSTOOD
    elif directives.has(b"no-store"):
        return NO_STORE
    if directives.whole(b"private"):
        return PRIVATE
    lost = _loses(headers, directives, _ESSENTIAL)
    if lost is not None:
        return lost
    return VARY if selection.nominated_fields(headers) is None else None


def allows_authorized(directives: CacheControl, rule: Rule = NO_RULE) -> bool:
    """Whether a response to a request with Authorization may answer other requests (§3.5, or the user's ``rule``)."""
    return (
        directives.has(b"public")
        or directives.has(b"s-maxage")
        or directives.has(b"must-revalidate")
        or rule.share_authorized
    )


def storable_head(response: ResponseHead, lines: tuple[bytes, ...] | None) -> ResponseHead:
    """What of a response head is stored (§3.1); ``lines`` govern it (see `response_forbids`).

    Left out are the fields that concern this connection, those that ``private="…"`` or ``no-cache="…"`` names, the
    trailer announcement, what speaks to one client only (`PER_CLIENT`), and a Content-Length that must not be there
    (`has_length`).
    """
    named = _qualified(controls.directives(response.headers, lines))
    headers = end_to_end(response.headers).without(PER_CLIENT | named)
    if not has_length(response.status):
        headers = headers.without({b"content-length"})
    return ResponseHead(response.status, headers, response.reason)


def make_meta(
    request: RequestHead,
    response: ResponseHead,
    *,
    request_time: float,
    response_time: float,
    heuristic_lifetime: int | None,
    heuristic_reason: str,
    settings: PolicySettings,
) -> StoredMeta:
    """What is stored beside the body of ``response``, for which `decide` said yes.

    Times are Unix seconds: when the request was sent, when the head arrived. A missing Date is added (RFC 9110 §6.6.1).
    """
    lines = controls.governing(response.headers, settings.targets)
    head = storable_head(response, lines)
    return StoredMeta(
        method=request.method,
        head=ResponseHead(head.status, with_date(head.headers, response_time), head.reason),
        request_time=request_time,
        response_time=response_time,
        nominated=selection.nominate(request.headers, selection.nominated_fields(response.headers) or ()),
        heuristic_lifetime=heuristic_lifetime,
        heuristic_reason=heuristic_reason,
        authorized=b"authorization" in request.headers,
        controls=lines,
    )


def has_length(status: int) -> bool:
    """Whether a response with ``status`` may say Content-Length: not 1xx and 204 (RFC 9110 §8.6), nor the 304 of a
    cache, which speaks of no content at all.
    """
    return status >= 200 and status not in (204, 304)


def has_content(headers: Headers) -> bool:
    """Whether the fields of a request announce content (RFC 9112 §6)."""
    return b"transfer-encoding" in headers or (headers.combined(b"content-length") or b"0").strip(b" \t") != b"0"


def _request_forbids(request: RequestHead, response: ResponseHead, lines: tuple[bytes, ...] | None) -> Reason | None:
    if request.method == "HEAD":
        return HEAD
    if request.method not in ("GET", "POST", "QUERY"):
        return METHOD
    if request.method == "GET" and has_content(request.headers):
        return REQUEST_CONTENT
    if request.method == "POST" and not _answers_get(request, response, lines):
        return POST
    if cache_control.parse(request.headers.get_all(b"cache-control")).has(b"no-store"):
        return REQUEST_NO_STORE
    return None


def _answers_get(request: RequestHead, response: ResponseHead, lines: tuple[bytes, ...] | None) -> bool:
    """Whether the response to a POST is by its own word what a later GET would get (RFC 9110 §9.3.3)."""
    location = response.headers.get_all(b"content-location")
    return (
        response.status == 200
        and explicit(response.headers, 0, lines) is not None
        and len(location) == 1
        and _names(location[0].strip(b" \t"), request.target)
    )


def _names(reference: bytes, target: TargetURI) -> bool:
    """Whether a reference means ``target``.

    To find the URI that it means, `resolve` forgives white space and drops fragments and what is empty behind ``?`` or
    ``;``. Here, what isn't exactly the target doesn't mean it.
    """
    if reference.decode("latin-1") in (target.path, str(target)):
        return True
    return _REFERENCE.fullmatch(reference) is not None and resolve(target, reference) == target


def _status_forbids(status: int) -> Reason | None:
    if status < 200:
        return INTERIM
    if status == 206:
        return PARTIAL
    return STATUS if status in _NEVER else None


def _loses(headers: Headers, directives: CacheControl, needed: frozenset[bytes]) -> Reason | None:
    """Why a stored response would be without one of the ``needed`` fields, or None."""
    if not needed.isdisjoint(_qualified(directives)):
        return QUALIFIED
    return None if needed.isdisjoint(connection_options(headers)) else CONNECTION


def _worthless(
    response: ResponseHead, lines: tuple[bytes, ...] | None, fresh: Freshness, guess: bool, settings: PolicySettings
) -> Reason | None:
    """Why a response that is ``fresh`` for so long is not worth its place, although nothing forbids it; None: it is.

    Nothing makes it cacheable, or it could never be reused, with or without asking.
    """
    directives = controls.directives(response.headers, lines)
    if not _made_cacheable(response, lines, directives, fresh):
        return NOT_CACHEABLE
    etag = parse_etag(response.headers.get(b"etag") or b"") is not None
    if fresh.reason is NO_LIFETIME and not guess:
        # Such a page may differ from client to client under one Last-Modified; an entity tag would tell.
        return None if etag else NO_USE
    if etag or parse_date(response.headers.get(b"last-modified") or b"", 0) is not None:
        return None
    if directives.whole(b"no-cache"):
        return NO_USE
    windows = directives.seconds(b"stale-while-revalidate"), directives.seconds(b"stale-if-error"), settings.grace
    return None if fresh.lifetime > 0 or any(windows) else NO_USE


def _made_cacheable(
    response: ResponseHead, lines: tuple[bytes, ...] | None, directives: CacheControl, fresh: Freshness
) -> bool:
    """The last condition of §3; the user's rule may give a lifetime to errors that have no other one."""
    return (
        directives.has(b"public")
        or directives.has(b"max-age")
        or directives.has(b"s-maxage")
        or (lines is None and b"expires" in response.headers)
        or response.status in HEURISTICALLY_CACHEABLE
        or (fresh.reason is RULE_NEGATIVE and fresh.lifetime > 0)
    )


def personal(headers: Headers, rule: Rule = NO_RULE) -> bool:
    """Whether cookies or credentials go with a message, so that nothing is to be guessed about the response.

    Authorization counts as none where the user's ``rule`` shares what it brings.
    """
    if b"cookie" in headers or b"set-cookie" in headers:
        return True
    return b"authorization" in headers and not rule.share_authorized


def _qualified(directives: CacheControl) -> frozenset[bytes]:
    """The fields named by a qualified private or no-cache (§5.2.2.4, §5.2.2.7)."""
    return (directives.field_names(b"private") or frozenset()) | (directives.field_names(b"no-cache") or frozenset())
