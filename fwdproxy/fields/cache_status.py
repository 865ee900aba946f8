"""Writing the Cache-Status field (RFC 9211): what this cache did with a request, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# sf-token and the characters of sf-string (RFC 8941 §3.3.3, §3.3.4).
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_NOT_IN_STRING: Final = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One member of the Cache-Status list.

    ``fwd`` is one of bypass, method, uri-miss, vary-miss, miss, request, stale, partial (RFC 9211 §2.2) and excludes
    ``hit``; ``ttl`` is the freshness left in seconds, negative when stale.
    """

    cache: str
    hit: bool = False
    fwd: str | None = None
    fwd_status: int | None = None
    ttl: int | None = None
    stored: bool = False
    collapsed: bool = False
    key: str | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.hit and self.fwd is not None:
            raise ValueError("a response that was forwarded is no hit (RFC 9211 §2.1)")

    def serialize(self) -> bytes:
        """The field value."""
        parts = [_item(self.cache)]
        if self.hit:
            parts.append("hit")
        if self.fwd is not None:
            parts.append(f"fwd={_item(self.fwd)}")
        if self.fwd_status is not None:
            parts.append(f"fwd-status={self.fwd_status}")
        if self.ttl is not None:
            parts.append(f"ttl={self.ttl}")
        if self.stored:
            parts.append("stored")
        if self.collapsed:
            parts.append("collapsed")
        if self.key is not None:
            parts.append(f"key={_string(self.key)}")
        if self.detail is not None:
            parts.append(f"detail={_item(self.detail)}")
        return "; ".join(parts).encode("ascii")


def _item(value: str) -> str:
    return value if _TOKEN.fullmatch(value) else _string(value)


def _string(value: str) -> str:
    printable = _NOT_IN_STRING.sub("?", value)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
