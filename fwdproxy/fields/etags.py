"""Entity tags and their two comparisons (RFC 9110 §8.8.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterable

_ENTITY_TAG: Final = re.compile(rb'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


@dataclass(frozen=True, slots=True)
class EntityTag:
    """One entity tag; ``opaque`` is what stands between the quotes."""

    opaque: bytes
    weak: bool = False

    def serialize(self) -> bytes:
        """The tag as it stands in a field."""
        return (b'W/"%b"' if self.weak else b'"%b"') % self.opaque


@final
class AnyTag:
    """What ``If-None-Match: *`` stands for: any current representation (RFC 9110 §13.1.2)."""


ANY: Final = AnyTag()


def parse_etag(value: bytes) -> EntityTag | None:
    """The entity tag of an ETag field value, or None when it is none (unquoted, lower-case ``w/``, …)."""
    match = _ENTITY_TAG.fullmatch(value.strip(b" \t"))
    return EntityTag(match[2], match[1] is not None) if match else None


def parse_list(lines: Iterable[bytes]) -> tuple[EntityTag, ...] | AnyTag:
    """The entity tags of all lines of If-Match or If-None-Match, or `ANY` for a lone ``*``.

    Members that are no entity tags match nothing and are skipped, as is a tag that was listed before.
    """
    joined = b",".join(lines)
    if joined.strip(b" \t") == b"*":
        return ANY
    # Not split at commas: a tag may hold one.
    return tuple(EntityTag(opaque, weak=bool(weak)) for weak, opaque in dict.fromkeys(_ENTITY_TAG.findall(joined)))


def strong_match(one: EntityTag, other: EntityTag) -> bool:
    """Strong comparison: the same bytes; a weak tag matches nothing (RFC 9110 §8.8.3.2)."""
    return not one.weak and not other.weak and one.opaque == other.opaque


def weak_match(one: EntityTag, other: EntityTag) -> bool:
    """Weak comparison: the same meaning (RFC 9110 §8.8.3.2)."""
    return one.opaque == other.opaque
