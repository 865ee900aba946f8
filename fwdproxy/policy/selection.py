"""Whether a response stored for a URI was selected by the fields that a request has, too: Vary (RFC 9111 §4.1).

Accept-Encoding is reduced to what the origin can answer. An origin that was offered the codings S and took c has shown
which of them it prefers; a request that offers fewer of them, c among them, would have been given c as well.
"""

from __future__ import annotations

import re
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

# RFC 9110 §8.4.1: the same codings under the names that they had before they were registered.
_OLD_NAMES: Final = {b"x-gzip": b"gzip", b"x-compress": b"compress"}
_FULL_WEIGHT: Final = re.compile(rb"q=1(?:\.0{0,3})?")

_MEMOISED_LENGTH: Final = 512  # so that hostile fields can't fill the memory


def nominated_fields(response_headers: Headers) -> tuple[bytes, ...] | None:
    """The request fields that Vary nominates, lower case and sorted; none without Vary.

    None stands for a Vary that no request can match: one with ``*`` or with a member that is no field name.
    """
    return _nominated_by(response_headers.get_all(b"vary"))


def nominate(request_headers: Headers, names: Sequence[bytes]) -> Nominated:
    """The nominated fields (lower-case ``names``) as ``request_headers`` have them, normalised for comparison."""
    return tuple((name, _value(request_headers, name)) for name in names)


def matches(nominated: Nominated, request_headers: Headers, *, coding: bytes = b"") -> bool:
    """Whether a request selects the response that was stored with ``nominated``. What was absent must be absent.

    ``coding`` is the Content-Encoding of that response in lower case, empty when it has none.
    """
    for name, stored in nominated:
        presented = _value(request_headers, name)
        if presented != stored and not (name == b"accept-encoding" and _same_choice(stored, presented, coding)):
            return False
    return True


def _same_choice(stored: bytes | None, presented: bytes | None, coding: bytes) -> bool:
    """Whether the origin that took ``coding`` when it was offered ``stored`` would for ``presented``, too.

    Both are normalised values of Accept-Encoding. Only offers without weights and wildcards can be compared, and not
    one that lists identity beside others with one that doesn't: named, it has another rank with some origins.
    """
    if stored is None or presented is None:
        return False
    offered, offers = _offer(stored), _offer(presented)
    if offered is None or offers is None:
        return False
    coding = _OLD_NAMES.get(coding, coding)
    if offers <= {b"identity"}:
        return coding in {b"", b"identity"}
    same_identity = (b"identity" in offers) == (b"identity" in offered)
    return same_identity and offers <= offered and (coding in offers or coding in {b"", b"identity"})


def _offer(value: bytes) -> frozenset[bytes] | None:
    return _memoised_offer(value) if len(value) <= _MEMOISED_LENGTH else _plain_offer(value)


def _plain_offer(value: bytes) -> frozenset[bytes] | None:
    """The codings of a normalised Accept-Encoding; None where weights, a wildcard or bad syntax make it more."""
    codings = frozenset(members(value))
    return codings if b"*" not in codings and all(is_token(each) for each in codings) else None


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
    if name == b"accept-encoding":
        listed = list({_without_full_weight(member) for member in listed})
    if name in _UNORDERED:
        listed.sort()
    return b", ".join(listed)


def _without_space(member: bytes) -> bytes:
    """``member`` without the white space round its semicolons."""
    return b";".join([part.strip(b" \t") for part in member.split(b";")]) if b";" in member else member


def _without_full_weight(member: bytes) -> bytes:
    """A member of Accept-Encoding under the coding's registered name; the weight 1 is what no weight means."""
    coding, semicolon, weight = member.partition(b";")
    coding = _OLD_NAMES.get(coding, coding)
    return coding if not semicolon or _FULL_WEIGHT.fullmatch(weight) else coding + semicolon + weight


_memoised: Final = lru_cache(maxsize=2048)(_normalised)
_memoised_offer: Final = lru_cache(maxsize=2048)(_plain_offer)
