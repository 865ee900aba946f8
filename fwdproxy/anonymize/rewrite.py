"""The one place that turns a client's request head into the head that an origin may see.

The origin client accepts only `OutboundHead`, and only `rewrite` makes one: what was not rewritten can't be sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from fwdproxy.fields.connection import end_to_end
from fwdproxy.messages import Headers, RequestHead

_SEAL: Final = object()

# Made anew here: Host from the target, Expect by the origin client where content is held back.
_MADE_ANEW: Final = frozenset({b"host", b"expect"})


@dataclass(frozen=True, slots=True)
class Rewriting:
    """How heads are rewritten. ``via``: the pseudonym announced in Via (RFC 9110 §7.6.3), or None for none."""

    via: str | None = "fwdproxy"


class OutboundHead:
    """A request head that has been through `rewrite`. It can't be built in any other way."""

    __slots__ = ("head",)

    head: RequestHead

    def __init__(self, head: RequestHead, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("an OutboundHead is made by fwdproxy.anonymize.rewrite.rewrite only")
        self.head = head

    def with_field(self, name: bytes, value: bytes) -> OutboundHead:
        """A copy with one field of the cache's own (validators, Range) set."""
        return OutboundHead(replace(self.head, headers=self.head.headers.replacing(name, value)), _SEAL)

    def without(self, names: frozenset[bytes]) -> OutboundHead:
        """A copy without the named fields (lower case)."""
        return OutboundHead(replace(self.head, headers=self.head.headers.without(names)), _SEAL)


def rewrite(head: RequestHead, how: Rewriting) -> OutboundHead:
    """Remove what concerns this hop only (RFC 9110 §7.6.1), set Host from the target (§7.2) and add Via.

    The cache key and Vary are computed from the result, so what an origin can't see can't shape a stored response.
    """
    headers = end_to_end(head.headers).without(_MADE_ANEW)
    left = forwards_left(head)
    if left is not None:
        headers = headers.replacing(b"max-forwards", str(left - 1).encode())
    fields = [(b"Host", head.target.origin.authority.encode("latin-1")), *headers]
    if how.via is not None:
        fields.append((b"Via", b"1.1 " + how.via.encode("latin-1")))
    return OutboundHead(replace(head, headers=Headers(fields)), _SEAL)


def forwards_left(head: RequestHead) -> int | None:
    """How often a TRACE or OPTIONS request may still be forwarded (RFC 9110 §7.6.2); None: any number of times."""
    value = head.headers.get(b"max-forwards")
    if head.method not in ("TRACE", "OPTIONS") or value is None or not value.isdigit():
        return None
    return int(value[:100])  # far more digits than any route has hops
