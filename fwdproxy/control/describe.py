"""Stored responses and answers, described for people."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fwdproxy.control import urls, wording
from fwdproxy.control.messages import Entry, Explanation, Fields, Why
from fwdproxy.control.visiting import said_of
from fwdproxy.errors import FwdProxyError
from fwdproxy.exchange.answers import Answer
from fwdproxy.messages import CacheKey, Headers, StoredMeta, TargetURI
from fwdproxy.policy.advice import advice
from fwdproxy.policy.decisions import Reason
from fwdproxy.policy.freshness import current_age, freshness
from fwdproxy.policy.rules import NO_RULE, Rule, Rules
from fwdproxy.store.base import Listed


class Describer:
    """Describes by the user's ``rules`` and at the time of ``clock``, which gives Unix seconds."""

    def __init__(self, rules: Rules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock

    def entry(self, listed: Listed, *, whole: bool = False) -> Entry:
        """One stored response; ``whole``: with its fields."""
        meta, now = listed.meta, self._clock()
        rule = self._rule_of_key(listed.key, meta)
        fresh = freshness(meta, rule)
        part = None
        if listed.part is not None:
            span, complete = listed.part
            part = (span.start, span.end, complete)
        expired = rule.retention is not None and now - meta.response_time > rule.retention
        return Entry(
            url=listed.key.uri,
            kind=listed.key.kind,
            vantage=listed.key.vantage,
            content=listed.key.content,
            ident=listed.ident,
            status=meta.head.status,
            length=listed.length,
            part=part,
            type=_type_of(meta),
            received=meta.response_time,
            used=listed.used,
            age=current_age(meta, now),
            lifetime=fresh.lifetime,
            lifetime_code=fresh.reason.code,
            outdated=listed.outdated or expired,
            selected_by=tuple(
                (name.decode("latin-1"), None if value is None else value.decode("latin-1"))
                for name, value in meta.nominated
            ),
            fields=_fields(meta.head.headers) if whole else (),
        )

    def plan(self, target: TargetURI, key: CacheKey, keyed_by: str, stored: tuple[Entry, ...]) -> Explanation:
        """What is known of a request before it is made."""
        return Explanation(
            url=str(target),
            key=key.uri,
            keyed_by=keyed_by,
            rule=wording.effects(self._rules.of(target, None)),
            stored=stored,
        )

    def answered(self, plan: Explanation, answer: Answer) -> Explanation:
        """The same with what its answer told."""
        explained, said = answer.explained, said_of(answer)
        lines = answer.head.headers.get_all(b"cache-status")
        return msgspec.structs.replace(
            plan,
            key="" if explained.key is None else explained.key.uri,
            keyed_by=explained.keyed_by,
            rule=wording.effects(explained.rule),
            status=answer.head.status,
            cache_status=lines[-1].decode("latin-1") if lines else "",
            source=_source(said),
            fault=_fault(said) if _source(said) == "proxy" else "",
            kept="stored" in said,
            why=_why(explained.decision),
            kept_why=_why(explained.storing),
            lifetime=explained.lifetime,
            lifetime_why=_why(explained.lifetime_reason),
            fields=_fields(answer.head.headers),
        )

    def _rule_of_key(self, key: CacheKey, meta: StoredMeta) -> Rule:
        try:
            target = urls.target_of(key.uri)
        except FwdProxyError:
            return NO_RULE
        return self._rules.of(target, meta.head.headers.get(b"content-type"))


def _source(said: frozenset[str]) -> str:
    if "hit" in said:
        return "cache"
    if "fwd-status=304" in said:
        return "validated"
    if "collapsed" in said:
        return "shared"
    return "origin" if any(part.startswith("fwd-status=") for part in said) else "proxy"


def _fault(said: frozenset[str]) -> str:
    return next((part.removeprefix("detail=") for part in said if part.startswith("detail=")), "")


def _why(reason: Reason | None) -> Why | None:
    return (
        None
        if reason is None
        else Why(code=reason.code, section=reason.section, text=reason.text, advice=advice(reason))
    )


def _type_of(meta: StoredMeta) -> str:
    value = meta.head.headers.get(b"content-type") or b""
    return value.partition(b";")[0].strip().lower().decode("latin-1")


def _fields(headers: Headers) -> Fields:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
