"""Whether a response stored for a URI was selected by the fields that a request has, too: Vary (RFC 9111 §4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from fwdproxy.fields.lists import is_token, members
from fwdproxy.messages import Headers, Nominated

# Lists, so that white space round their commas means nothing (RFC 9110 §5.6.1).
_LISTS: Final = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})
# Case means nothing in these (RFC 9110 §12.5.2–4); in media type parameters (Accept) it may.
_CASELESS: Final = frozenset({b"accept-charset", b"accept-encoding", b"accept-language"})
# Only weights rank the members. Servers read an order into the languages (§12.5.4) and media types, so those keep it.
_UNORDERED: Final = frozenset({b"accept-charset", b"accept-encoding"})
# Compared by digest: the value itself has no business in a store.
_SECRET: Final = frozenset({b"authorization", b"cookie"})

_MEMOISED_LENGTH: Final = 512  # so that hostile fields can't fill the memory


def nominated_fields(response_headers: Headers) -> tuple[bytes, ...] | None:
    """The request fields that Vary nominates, lower case and sorted; none without Vary.

    None stands for a Vary that no request can match: one with ``*`` or with a member that is no field name.
    """
    return _nominated_by(response_headers.get_all(b"vary"))


def nominate(request_headers: Headers, names: Sequence[bytes]) -> Nominated:
    """The nominated fields (lower-case ``names``) as ``request_headers`` have them, normalised for comparison."""
    return tuple((name, _value(request_headers, name)) for name in names)


def matches(nominated: Nominated, request_headers: Headers) -> bool:
    """Whether a request selects the response that was stored with ``nominated``. What was absent must be absent."""
    return all(_value(request_headers, name) == value for name, value in nominated)


def _value(headers: Headers, name: bytes) -> bytes | None:
    lines = headers.get_all(name)
    if not lines:
        return None
    short = len(lines) == 1 and len(lines[0]) <= _MEMOISED_LENGTH
    return _memoised(name, lines) if short else _normalised(name, lines)


def _nominated_by(lines: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    names = {member.lower() for line in lines for member in members(line)}
    if b"*" in names or not all(is_token(name) for name in names):
        return None
    return tuple(sorted(names))


def _normalised(name: bytes, lines: tuple[bytes, ...]) -> bytes:
    if name in _SECRET:
        return blake2b(b", ".join(lines), digest_size=16).hexdigest().encode("ascii")
    if name not in _LISTS:
        return b", ".join(line.strip(b" \t") for line in lines)
    listed = [member for line in lines for member in members(line)]
    if name in _CASELESS:
        listed = [_without_space(member).lower() for member in listed]
    if name in _UNORDERED:
        listed.sort()
    return b", ".join(listed)


def _without_space(member: bytes) -> bytes:
    """``member`` without the white space round its semicolons."""
    return b";".join([part.strip(b" \t") for part in member.split(b";")]) if b";" in member else member


_memoised: Final = lru_cache(maxsize=2048)(_normalised)
