"""Stored responses and answers, described for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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

BY_ORIGIN: Final = "the No-Vary-Search that its origin sent"
"""What makes a key another than the target URI, where the user has not."""


class Describer:
    """Describes by the user's ``rules`` and at the time of ``clock``, which gives Unix seconds."""

    def __init__(self, rules: Rules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock

    def entry(self, listed: Listed, target: TargetURI | None = None) -> Entry:
        """One stored response; with its fields as what a request for ``target`` finds, where that is known.

        Rules go by what is asked for. Where that isn't known, the URI of the key has to do, though a recipe made it.
        """
        meta, now = listed.meta, self._clock()
        rule = self._rule_of_key(listed.key, meta) if target is None else self._rule_of(target, meta.head.headers)
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
            fields=() if target is None else _fields(meta.head.headers),
        )

    def plan(self, target: TargetURI, key: str, keyed_by: str, stored: tuple[Entry, ...]) -> Explanation:
        """What is known of a request before it is made; ``key`` is the URI of its key."""
        # A rule may be for a type, which only a response has.
        media = next((entry.type.encode("latin-1") for entry in stored if not entry.outdated), None)
        return Explanation(
            url=str(target),
            key=key,
            keyed_by=_keyed_by(str(target), key, keyed_by),
            rule=wording.effects(self._rules.of(target, media)),
            stored=stored,
        )

    def answered(self, plan: Explanation, target: TargetURI, answer: Answer) -> Explanation:
        """The same with what its answer told."""
        explained, said = answer.explained, said_of(answer)
        lines = answer.head.headers.get_all(b"cache-status")
        key = "" if explained.key is None else explained.key.uri
        # The type of a page of the proxy's own, or of a 304 that has none, tells nothing.
        typed = _source(said) != "proxy" and b"content-type" in answer.head.headers
        return msgspec.structs.replace(
            plan,
            key=key,
            keyed_by=_keyed_by(plan.url, key, explained.keyed_by),
            rule=wording.effects(self._rule_of(target, answer.head.headers) if typed else explained.rule),
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
        return self._rule_of(target, meta.head.headers)

    def _rule_of(self, target: TargetURI, response: Headers) -> Rule:
        return self._rules.of(target, response.get(b"content-type"))


def _keyed_by(url: str, key: str, why: str) -> str:
    """What makes the key another than ``url``; ``why``: what of the user's does."""
    return why if why or key in ("", url) else BY_ORIGIN


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
