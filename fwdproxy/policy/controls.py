"""Which directives govern a response: those of a targeted field that the user lists (RFC 9213), else Cache-Control.

The one place through which policy reads the directives of responses.
"""

from __future__ import annotations

from typing import Final

from fwdproxy.fields import cache_control
from fwdproxy.fields.cache_control import CacheControl
from fwdproxy.fields.structured import Member, is_string, parse_dictionary
from fwdproxy.messages import Headers, StoredMeta

# What the value of a directive may be (RFC 9213 §2.1); all others have none.
_SECONDS: Final = frozenset({"max-age", "s-maxage", "stale-if-error", "stale-while-revalidate"})
_FIELD_NAMES: Final = frozenset({"no-cache", "private"})
# What those that allow something count as where they have a value: one that forbids as much, or nothing.
_WITH_VALUE: Final = {"must-revalidate": b"proxy-revalidate", "must-understand": b"", "public": b""}


def governing(headers: Headers, targets: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    """The line that counts in the place of Cache-Control, while Expires doesn't count at all (RFC 9213 §2.2).

    It is that of the first of ``targets`` (lower-case field names) that is valid and not empty, written as
    Cache-Control would be. None: there is none, and the response's own Cache-Control and Expires count.
    """
    for name in targets:
        lines = headers.get_all(name)
        members = parse_dictionary(lines) if lines else None
        if members:
            return (b", ".join(filter(None, (_directive(key, member) for key, member in members.items()))),)
    return None


def directives(headers: Headers, lines: tuple[bytes, ...] | None) -> CacheControl:
    """The directives of a response with ``headers``, for which `governing` gave ``lines``."""
    return cache_control.parse(headers.get_all(b"cache-control") if lines is None else lines)


def of_stored(meta: StoredMeta) -> CacheControl:
    """The directives of a stored response."""
    return directives(meta.head.headers, meta.controls)


def _directive(name: str, member: Member) -> bytes:
    """One member as a directive, empty where it is to be ignored.

    A value of the wrong type is not taken, in the way that lets less be stored and reused: a lifetime is then no
    number, ``private`` speaks of the whole response, and ``public`` isn't said.
    """
    value = member[0]  # parameters mean nothing (§2.1)
    key = name.encode("ascii")
    if name in _SECONDS:
        return b"%b=%d" % (key, value) if type(value) is int else key
    if name in _FIELD_NAMES and is_string(value):
        return b'%b="%b"' % (key, value.encode("ascii").replace(b"\\", b"\\\\").replace(b'"', b'\\"'))
    return key if value is True else _WITH_VALUE.get(name, key)
