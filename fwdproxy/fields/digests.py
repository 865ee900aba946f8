"""Content-Digest and Repr-Digest (RFC 9530 §2, §3): digests by the name of their algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwdproxy.fields.structured import parse_dictionary

if TYPE_CHECKING:
    from collections.abc import Iterable


def parse(lines: Iterable[bytes]) -> dict[str, bytes]:
    """The digests that all lines of either field state, by algorithm ("sha-256"); none when the field is malformed.

    A member that is no byte sequence states no digest. Never raises.
    """
    members = parse_dictionary(lines) or {}
    return {algorithm: digest for algorithm, (digest, _) in members.items() if isinstance(digest, bytes)}
