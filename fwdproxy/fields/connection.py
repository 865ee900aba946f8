"""Which fields concern one connection only (RFC 9110 §7.6.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fwdproxy.messages import Headers

HOP_BY_HOP: Final[frozenset[bytes]] = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)

# The one Proxy-* field that is meant for everybody downstream (RFC 9209 §2).
_END_TO_END_PROXY_FIELDS: Final = frozenset({b"proxy-status"})
_MEMOISED_LENGTH: Final = 256  # so that hostile fields can't fill the memory


def connection_options(headers: Headers) -> frozenset[bytes]:
    """The options of all Connection field lines, in lower case. Empty members are skipped."""
    lines = headers.get_all(b"connection")
    if not lines:
        return frozenset()
    return _memoised(lines) if len(lines) == 1 and len(lines[0]) <= _MEMOISED_LENGTH else _options(lines)


def end_to_end(headers: Headers) -> Headers:
    """A copy without Connection, the fields it lists, the other hop-by-hop fields and Proxy-*.

    Proxy-Status stays, since it is no hop's own (RFC 9209 §2). The caller frames the message anew: Content-Length goes
    too where Connection lists it.
    """
    removed = connection_options(headers) | HOP_BY_HOP
    proxy_fields = {name for name in headers.names() if name.startswith(b"proxy-")} - _END_TO_END_PROXY_FIELDS
    return headers.without(removed | proxy_fields)


def _options(lines: tuple[bytes, ...]) -> frozenset[bytes]:
    members = (member.strip(b" \t").lower() for line in lines for member in line.split(b","))
    return frozenset(member for member in members if member)


_memoised: Final = lru_cache(maxsize=256)(_options)
