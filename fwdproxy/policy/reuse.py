"""Whether a stored response may answer a request (RFC 9111 §4)."""

from __future__ import annotations

from typing import Final

from fwdproxy.fields import cache_control
from fwdproxy.fields.cache_control import MAX_DELTA, CacheControl
from fwdproxy.messages import RequestHead, StoredResponse
from fwdproxy.policy import controls, keys, stale, validation
from fwdproxy.policy.decisions import Decision, Forward, PolicySettings, Reason, Refuse, Serve, Validate
from fwdproxy.policy.freshness import RULE_RETENTION, Freshness, current_age, freshness, unshared
from fwdproxy.policy.rules import NO_RULE, Rule
from fwdproxy.policy.storing import (
    REQUEST_CONTENT,
    RULE_BYPASS,
    RULE_SHARE_AUTHORIZED,
    allows_authorized,
    has_content,
    personal,
)

METHOD: Final = Forward("method", Reason("method", "RFC 9111 §4", "stored responses do not answer this method"))
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

BYPASS: Final = Forward("bypass", RULE_BYPASS)
RETENTION: Final = Forward("miss", RULE_RETENTION)
IGNORE_RELOAD: Final = Reason(
    "rule-ignore-reload", "RFC 9111 §5.2.1.4", "your rule lets no client insist on the origin"
)
OFFLINE: Final = Reason("rule-offline", "RFC 9111 §4.2.4", "your rule has it served as it is, and nobody asked")
NOTHING_OFFLINE: Final = Refuse(
    504, Reason("rule-offline", "RFC 9111 §4.2.4", "your rule has nobody asked, and nothing stored may be used")
)


def decide(
    request: RequestHead,
    found: StoredResponse | None,
    *,
    known: bool,
    now: float,
    settings: PolicySettings,
    rule: Rule = NO_RULE,
) -> Decision:
    """What to do with ``request``, for which ``found`` was selected.

    ``known``: something is stored for the URI, whether or not ``found`` is there. ``now`` is in Unix seconds. The
    reason is the user's ``rule`` where the decision would be another one without it. A Range is not looked at: what it
    asks for is cut out of the answer.
    """
    asked = cache_control.parse(request.headers.get_all(b"cache-control"))
    decision: Decision
    passed_by = _passes_by(request) or (BYPASS if rule.bypass else None)
    if passed_by is not None:
        decision = passed_by
    elif found is None:
        decision = VARY if known else NOTHING
    else:
        decision = _reuse(request, asked, found, now, rule)
    if asked and asked.has(b"only-if-cached") and not (rule.offline or isinstance(decision, Serve)):
        return ONLY_IF_CACHED
    return _offline(decision, request, now, rule) if rule.offline else decision


def serve_validated(stored: StoredResponse, request: RequestHead, *, now: float, rule: Rule = NO_RULE) -> Serve:
    """The answer from ``stored``, which a 304 has just freshened (§4.3.3): 304 again, or the response itself."""
    meta = stored.meta
    age = current_age(meta, now)
    ttl = _freshness(stored, request, rule).lifetime - age
    return Serve(stored, _status(request, stored), age, ttl, stale=False, reason=VALIDATED)


def _passes_by(request: RequestHead) -> Forward | None:
    """Why stored responses have nothing to do with the request, or None."""
    if keys.method_kind(request.method) is None:
        return METHOD
    headers = request.headers
    if b"if-match" in headers or b"if-unmodified-since" in headers:
        return PRECONDITION
    # That of QUERY is part of the key (RFC 10008 §2.7).
    return CONTENT if request.method != "QUERY" and has_content(headers) else None


def _offline(decision: Decision, request: RequestHead, now: float, rule: Rule) -> Decision:
    """``decision`` where nobody may be asked, in the background neither."""
    if isinstance(decision, Forward | Refuse):
        return NOTHING_OFFLINE
    if isinstance(decision, Serve) and decision.reason is not stale.WHILE_REVALIDATE:
        return decision
    if isinstance(decision, Validate) and unshared(decision.stored.meta):
        return NOTHING_OFFLINE
    age = current_age(decision.stored.meta, now)
    ttl = _freshness(decision.stored, request, rule).lifetime - age
    return Serve(decision.stored, _status(request, decision.stored), age, ttl, stale=ttl <= 0, reason=OFFLINE)


def _reuse(request: RequestHead, asked: CacheControl, found: StoredResponse, now: float, rule: Rule) -> Decision:
    meta = found.meta
    said = controls.of_stored(meta)
    shared_by_rule = meta.authorized and not allows_authorized(said)
    if shared_by_rule and not rule.share_authorized:
        return AUTHORIZED
    if rule.retention is not None and now - meta.response_time > rule.retention:
        return RETENTION
    fresh = _freshness(found, request, rule)
    age = current_age(meta, now)
    if fresh.lifetime <= age:
        return _while_stale(request, asked, said, found, fresh, age)
    unwanted = _why_unwanted(request, asked, said, fresh, age, rule)
    if unwanted is not None:
        fwd = "stale" if unwanted is NO_CACHE else "request"
        return Validate(found, validation.conditions(meta), fwd, unwanted)
    reason = RULE_SHARE_AUTHORIZED if shared_by_rule else _why_fresh(request, asked, said, found, fresh, age, rule)
    return Serve(found, _status(request, found), age, fresh.lifetime - age, stale=False, reason=reason)


def _while_stale(
    request: RequestHead, asked: CacheControl, said: CacheControl, found: StoredResponse, fresh: Freshness, age: int
) -> Decision:
    meta = found.meta
    if stale.wants_validation(request.headers, asked):
        return Validate(found, validation.conditions(meta), "stale", REQUEST_NO_CACHE)
    if said.whole(b"no-cache"):
        return Validate(found, validation.conditions(meta), "stale", NO_CACHE)
    others = stale.others_may_allow(said) and not unshared(meta)
    allowed = _why_stale_allowed(asked, said, age - fresh.lifetime, age, others=others)
    if allowed is None:
        why = fresh.reason if freshness(meta).lifetime > age else STALE
        return Validate(found, validation.conditions(meta), "stale", why)
    return Serve(found, _status(request, found), age, fresh.lifetime - age, stale=True, reason=allowed)


def _why_unwanted(
    request: RequestHead, asked: CacheControl, said: CacheControl, fresh: Freshness, age: int, rule: Rule
) -> Reason | None:
    """Why this request does not take a response although it is fresh, or None when it does."""
    if stale.wants_validation(request.headers, asked) and not rule.ignore_reload:
        return REQUEST_NO_CACHE
    if said.whole(b"no-cache"):
        return NO_CACHE
    if not fresh.explicit and personal(request.headers, rule):
        return PERSONAL
    if not asked:
        return None
    if _too_old(request, asked, said, age) and not rule.ignore_reload:
        return REQUEST_MAX_AGE
    min_fresh = asked.seconds(b"min-fresh", otherwise=MAX_DELTA)
    return REQUEST_MIN_FRESH if min_fresh is not None and fresh.lifetime - age < min_fresh else None


def _too_old(request: RequestHead, asked: CacheControl, said: CacheControl, age: int) -> bool:
    """Whether a fresh response is older than the client takes."""
    max_age = asked.seconds(b"max-age")
    # Ages are whole seconds cut short, so an equal one may be past the limit; and max-age=0 is how browsers reload.
    # A reload need not ask again for what the origin says will not change while it is fresh (RFC 8246 §2); over plain
    # HTTP anybody on the way may have said so, and the reload has to mend it (§3).
    immutable = said.has(b"immutable") and request.target.origin.scheme == "https"
    return max_age is not None and age >= max_age and not immutable


def _why_fresh(
    request: RequestHead,
    asked: CacheControl,
    said: CacheControl,
    found: StoredResponse,
    fresh: Freshness,
    age: int,
    rule: Rule,
) -> Reason:
    """What has a fresh response served: the rule where it would not be so without it."""
    if rule is NO_RULE:
        return fresh.reason
    if rule.ignore_reload and (stale.wants_validation(request.headers, asked) or _too_old(request, asked, said, age)):
        return IGNORE_RELOAD
    plain = freshness(found.meta)
    if plain.lifetime <= age or _why_unwanted(request, asked, said, plain, age, rule) is not None:
        return fresh.reason
    # A guess isn't for requests with credentials (§4.2.2), unless the rule shares what they bring.
    alike = _why_unwanted(request, asked, said, plain, age, NO_RULE) is None
    return plain.reason if alike else RULE_SHARE_AUTHORIZED


def _why_stale_allowed(
    asked: CacheControl, said: CacheControl, staleness: int, age: int, *, others: bool
) -> Reason | None:
    """What allows this request to get a response that is stale since ``staleness`` seconds, or None.

    ``others``: others than the origin may allow it.
    """
    max_age = asked.seconds(b"max-age")
    if asked.has(b"min-fresh") or (max_age is not None and age >= max_age):
        return None
    if asked.has(b"max-stale"):
        if others and staleness <= _max_stale(asked):
            return REQUEST_MAX_STALE
    elif max_age is not None:
        # With max-age and no max-stale the client wants nothing stale (§5.2.1.1).
        return None
    return stale.WHILE_REVALIDATE if staleness < stale.window(said, b"stale-while-revalidate") else None


def _max_stale(asked: CacheControl) -> int:
    """The staleness that the client takes; max-stale without an argument means any (§5.2.1.2)."""
    seconds = asked.seconds(b"max-stale") or 0
    return seconds if asked.argument(b"max-stale") is not None else MAX_DELTA


def _freshness(found: StoredResponse, request: RequestHead, rule: Rule) -> Freshness:
    if rule is NO_RULE:
        return freshness(found.meta)
    return freshness(found.meta, rule, guess=not personal(request.headers, rule))


def _status(request: RequestHead, stored: StoredResponse) -> int:
    meta = stored.meta
    return validation.evaluate(request.headers, meta.head, request.method, received=meta.response_time)
