"""Why an answer is as it is: what `fwdproxy explain` puts into words."""

from __future__ import annotations

from dataclasses import dataclass

from fwdproxy.messages import CacheKey
from fwdproxy.policy.decisions import Reason
from fwdproxy.policy.rules import NO_RULE, Rule


@dataclass(frozen=True, slots=True)
class Explained:
    """The reasons behind one answer.

    ``key``: what it was looked up by, None where the cache was passed by. ``keyed_by``: in plain words, what of the
    user's made the key differ from the target URI (a recipe, ignored parameters); empty where it doesn't.
    ``decision``: why it came from the store, or why the origin was asked. ``storing``: why the origin's response was
    or wasn't stored; None where none came or nobody had to decide. ``lifetime``: seconds for which what was stored or
    served is fresh, with ``lifetime_reason``; None where nothing is.
    """

    key: CacheKey | None = None
    keyed_by: str = ""
    rule: Rule = NO_RULE
    decision: Reason | None = None
    storing: Reason | None = None
    lifetime: int | None = None
    lifetime_reason: Reason | None = None
