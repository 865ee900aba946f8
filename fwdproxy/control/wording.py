"""Times, sizes and the user's rules in plain words."""

from __future__ import annotations

from fwdproxy.policy.rules import Rule

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def span(seconds: float) -> str:
    """A duration by its two largest units: ``2d 3h``, ``45s``."""
    left = int(abs(seconds))
    parts = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0s"


def effects(rule: Rule) -> tuple[str, ...]:
    """What a rule changes, one phrase each."""
    said = []
    if rule.bypass:
        said.append("bypass: neither answered from the cache nor stored")
    if rule.offline:
        said.append("offline: answered from the cache whatever its age, and no origin is asked")
    if rule.min_lifetime is not None:
        said.append(f"min_lifetime: fresh for at least {span(rule.min_lifetime)}")
    if rule.max_lifetime is not None:
        said.append(f"max_lifetime: fresh for at most {span(rule.max_lifetime)}")
    if rule.negative_lifetime is not None:
        said.append(
            f"negative_lifetime: errors without a lifetime of their own are fresh for {span(rule.negative_lifetime)}"
        )
    if rule.retention is not None:
        said.append(f"retention: kept and used for at most {span(rule.retention)}")
    if rule.ignore_reload:
        said.append("ignore_reload: a client's reload is answered from the cache while that is fresh")
    if rule.share_authorized:
        said.append("share_authorized: responses to requests with Authorization go to all clients")
    if rule.memory:
        said.append("memory: stored in memory only")
    return tuple(said)
