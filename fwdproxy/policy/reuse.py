"""Whether a stored response may answer a request (RFC 9111 §4)."""

from __future__ import annotations

from typing import Final

from fwdproxy.fields import cache_control
from fwdproxy.fields.cache_control import MAX_DELTA, CacheControl
from fwdproxy.messages import RequestHead, StoredResponse
from fwdproxy.policy import keys, stale, validation
from fwdproxy.policy.decisions import Decision, Forward, PolicySettings, Reason, Refuse, Serve, Validate
from fwdproxy.policy.freshness import Freshness, current_age, freshness
from fwdproxy.policy.storing import REQUEST_CONTENT, allows_authorized, has_content, personal

METHOD: Final = Forward("method", Reason("method", "RFC 9111 §4", "stored responses do not answer this method"))
RANGE: Final = Forward("bypass", Reason("range", "RFC 9111 §3.3", "requests for a range are passed on"))
PRECONDITION: Final = Forward(
    "bypass", Reason("precondition", "RFC 9111 §4.3.2", "If-Match and If-Unmodified-Since are the origin's to judge")
)
CONTENT: Final = Forward("bypass", REQUEST_CONTENT)
NOTHING: Final = Forward("uri-miss", Reason("uri-miss", "RFC 9111 §4", "nothing is stored for the URI"))
VARY: Final = Forward("vary-miss", Reason("vary-miss", "RFC 9111 §4.1", "what is stored was selected by other fields"))
AUTHORIZED: Final = Forward("miss", Reason("authorization", "RFC 9111 §3.5", "it is for the client with credentials"))
ONLY_IF_CACHED: Final = Refuse(
    504, Reason("only-if-cached", "RFC 9111 §5.2.1.7", "the client wants a stored response, and none may be used")
)

REQUEST_NO_CACHE: Final = Reason("request-no-cache", "RFC 9111 §5.2.1.4", "the client asks for validation")
REQUEST_MAX_AGE: Final = Reason("request-max-age", "RFC 9111 §5.2.1.1", "it is older than the client takes")
REQUEST_MIN_FRESH: Final = Reason("request-min-fresh", "RFC 9111 §5.2.1.3", "it is not fresh for long enough")
REQUEST_MAX_STALE: Final = Reason("request-max-stale", "RFC 9111 §5.2.1.2", "the client takes it stale")
PERSONAL: Final = Reason("heuristic-personal", "RFC 9111 §4.2.2", "nothing is guessed for requests with credentials")
NO_CACHE: Final = Reason("no-cache", "RFC 9111 §5.2.2.4", "the origin wants it validated each time")
STALE: Final = Reason("stale", "RFC 9111 §4.2", "its freshness is over")
VALIDATED: Final = Reason("validated", "RFC 9111 §4.3.3", "the origin says that it is still good")


def decide(
    request: RequestHead, found: StoredResponse | None, *, known: bool, now: float, settings: PolicySettings
) -> Decision:
    """What to do with ``request``, for which ``found`` was selected.

    ``known``: something is stored for the URI, whether or not ``found`` is there. ``now`` is in Unix seconds.
    """
    asked = cache_control.parse(request.headers.get_all(b"cache-control"))
    decision: Decision
    passed_by = _passes_by(request)
    if passed_by is not None:
        decision = passed_by
    elif found is None:
        decision = VARY if known else NOTHING
    else:
        decision = _reuse(request, asked, found, now)
    if asked and asked.has(b"only-if-cached") and not isinstance(decision, Serve):
        return ONLY_IF_CACHED
    return decision


def serve_validated(stored: StoredResponse, request: RequestHead, *, now: float) -> Serve:
    """The answer from ``stored``, which a 304 has just freshened (§4.3.3): 304 again, or the response itself."""
    meta = stored.meta
    age = current_age(meta, now)
    return Serve(stored, _status(request, stored), age, freshness(meta).lifetime - age, stale=False, reason=VALIDATED)


def _passes_by(request: RequestHead) -> Forward | None:
    """Why stored responses have nothing to do with the request, or None."""
    if keys.method_kind(request.method) is None:
        return METHOD
    headers = request.headers
    if b"range" in headers and request.method == "GET":
        return RANGE
    if b"if-match" in headers or b"if-unmodified-since" in headers:
        return PRECONDITION
    return CONTENT if has_content(headers) else None


def _reuse(request: RequestHead, asked: CacheControl, found: StoredResponse, now: float) -> Decision:
    meta = found.meta
    said = cache_control.parse(meta.head.headers.get_all(b"cache-control"))
    if meta.authorized and not allows_authorized(said):
        return AUTHORIZED
    fresh = freshness(meta)
    age = current_age(meta, now)
    if stale.wants_validation(request.headers, asked):
        fwd = "request" if fresh.lifetime > age else "stale"
        return Validate(found, validation.conditions(meta), fwd, REQUEST_NO_CACHE)
    if said.whole(b"no-cache"):
        return Validate(found, validation.conditions(meta), "stale", NO_CACHE)
    if fresh.lifetime > age:
        unwanted = _why_unwanted(request, asked, said, fresh, age)
        if unwanted is not None:
            return Validate(found, validation.conditions(meta), "request", unwanted)
        return Serve(found, _status(request, found), age, fresh.lifetime - age, stale=False, reason=fresh.reason)
    allowed = _why_stale_allowed(asked, said, age - fresh.lifetime, age)
    if allowed is None:
        return Validate(found, validation.conditions(meta), "stale", STALE)
    return Serve(found, _status(request, found), age, fresh.lifetime - age, stale=True, reason=allowed)


def _why_unwanted(
    request: RequestHead, asked: CacheControl, said: CacheControl, fresh: Freshness, age: int
) -> Reason | None:
    """Why this request does not take a response although it is fresh, or None when it does."""
    if not fresh.explicit and personal(request.headers):
        return PERSONAL
    if not asked:
        return None
    max_age = asked.seconds(b"max-age")
    # Ages are whole seconds cut short, so an equal one may be past the limit; and max-age=0 is how browsers reload.
    # A reload need not ask again for what the origin says will not change while it is fresh (RFC 8246 §2).
    if max_age is not None and age >= max_age and not said.has(b"immutable"):
        return REQUEST_MAX_AGE
    min_fresh = asked.seconds(b"min-fresh", otherwise=MAX_DELTA)
    return REQUEST_MIN_FRESH if min_fresh is not None and fresh.lifetime - age < min_fresh else None


def _why_stale_allowed(asked: CacheControl, said: CacheControl, staleness: int, age: int) -> Reason | None:
    """What allows this request to get a response that is stale since ``staleness`` seconds, or None."""
    max_age = asked.seconds(b"max-age")
    if asked.has(b"min-fresh") or (max_age is not None and age >= max_age):
        return None
    if asked.has(b"max-stale"):
        if stale.others_may_allow(said) and staleness <= _max_stale(asked):
            return REQUEST_MAX_STALE
    elif max_age is not None:
        # With max-age and no max-stale the client wants nothing stale (§5.2.1.1).
        return None
    return stale.WHILE_REVALIDATE if staleness < stale.window(said, b"stale-while-revalidate") else None


def _max_stale(asked: CacheControl) -> int:
    """The staleness that the client takes; max-stale without an argument means any (§5.2.1.2)."""
    seconds = asked.seconds(b"max-stale") or 0
    return seconds if asked.argument(b"max-stale") is not None else MAX_DELTA


def _status(request: RequestHead, stored: StoredResponse) -> int:
    meta = stored.meta
    return validation.evaluate(request.headers, meta.head, request.method, received=meta.response_time)
