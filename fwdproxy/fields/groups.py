"""Cache-Groups and Cache-Group-Invalidation (RFC 9875): lists of strings that name groups of stored responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fwdproxy.fields.structured import is_string, parse_list

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_GROUPS: Final = 64
"""How many groups of a field count, the first ones; RFC 9875 §2 asks for at least 32."""

MAX_GROUP_LENGTH: Final = 256
"""Longer names are no groups; RFC 9875 §2 asks for at least 32 characters."""


def parse(lines: Iterable[bytes]) -> tuple[str, ...]:
    """The groups that all lines of either field name, each once, in order; none when the field is malformed.

    Parameters mean nothing yet (§2). Never raises.
    """
    members = parse_list(lines)
    if members is None or not all(is_string(item) for item, _ in members):
        return ()
    named = dict.fromkeys(item for item, _ in members if len(item) <= MAX_GROUP_LENGTH)
    return tuple(named)[:MAX_GROUPS]
