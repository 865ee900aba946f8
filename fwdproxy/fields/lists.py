"""List-based fields (RFC 9110 §5.6.1): splitting at the commas that are not inside quoted strings."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_QUOTED_STRING: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# A member that is not empty, or all from a quote on that stays open. Possessive, so that no byte is looked at again.
_MEMBER: Final = re.compile(rb'((?:[^",]++|"(?:[^"\\]++|\\.)*+")++)|(".*)', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)


def members(line: bytes) -> tuple[bytes, ...]:
    """The members of one field line without the white space round them; empty members are skipped.

    A quote that is never closed hides nothing: such a line is split at every comma, so that a directive behind the
    stray quote is still seen.
    """
    parts = (_split_outside_quotes(line) if b'"' in line else None) or line.split(b",")
    return tuple(part for raw in parts if (part := raw.strip(b" \t")))


def _split_outside_quotes(line: bytes) -> list[bytes] | None:
    """The parts between unquoted commas but for empty ones, None when a quote stays open."""
    found = _MEMBER.findall(line)
    return None if found and found[-1][1] else [part for part, _ in found]


def is_token(value: bytes) -> bool:
    """Whether ``value`` is a token (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(value) is not None


def unquoted(value: bytes) -> bytes | None:
    """The content of a quoted string (RFC 9110 §5.6.4), a value without quotes as it is, None when malformed."""
    if b'"' not in value:
        return value
    match = _QUOTED_STRING.fullmatch(value)
    return _QUOTED_PAIR.sub(rb"\1", match[1]) if match else None
