"""Range and Content-Range in bytes (RFC 9110 §14). Other range units are not understood: None stands for them, too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_RANGES: Final = 16
"""A Range that asks for more is not read (RFC 9110 §17.15)."""

MAX_POSITION: Final = 2**63 - 1
"""Larger positions and lengths count as this one in Range: no representation has that many bytes (§14.1.2)."""

_DIGITS: Final = 18  # what surely fits; int() would take its time over thousands

_RANGE: Final = re.compile(rb"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC: Final = re.compile(rb"([0-9]*)-([0-9]*)")
_CONTENT_RANGE: Final = re.compile(rb"bytes +(?:([0-9]+)-([0-9]+)|\*)/([0-9]+|\*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """One range of a Range field: ``first`` to ``last`` (None: to the end), both counted; or the ``suffix`` last bytes.

    Either ``first`` or ``suffix`` is set.
    """

    first: int | None = None
    last: int | None = None
    suffix: int | None = None

    def serialize(self) -> bytes:
        """The range as it stands behind ``bytes=``."""
        if self.first is None:
            return b"-%d" % (self.suffix or 0)
        return b"%d-" % self.first if self.last is None else b"%d-%d" % (self.first, self.last)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """A Content-Range (RFC 9110 §14.4): bytes ``first`` to ``last``, both counted, of ``complete`` (None: unknown).

    Without ``first`` and ``last`` it is that of a 416, which tells ``complete`` alone.
    """

    first: int | None
    last: int | None
    complete: int | None

    def serialize(self) -> bytes:
        """The field value."""
        span = b"*" if self.first is None or self.last is None else b"%d-%d" % (self.first, self.last)
        return b"bytes %b/%b" % (span, b"*" if self.complete is None else b"%d" % self.complete)


def parse_range(value: bytes) -> tuple[ByteRange, ...] | None:
    """The ranges of a Range field value in their order, at least one.

    None when the field is to be ignored: another unit, a malformed range, one that ends before it starts (§14.1.1), or
    more than `MAX_RANGES` of them.
    """
    match = _RANGE.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    ranges: list[ByteRange] = []
    for part in match[1].split(b","):
        spec = part.strip(b" \t")
        if not spec:
            continue
        one = _spec(spec)
        if one is None or len(ranges) == MAX_RANGES:
            return None
        ranges.append(one)
    return tuple(ranges) or None


def serialize_range(ranges: Iterable[ByteRange]) -> bytes:
    """The Range field value that asks for ``ranges``."""
    return b"bytes=" + b",".join([one.serialize() for one in ranges])


def parse_content_range(value: bytes) -> ContentRange | None:
    """A Content-Range field value; None when its unit is another or it is malformed or impossible (§14.4)."""
    match = _CONTENT_RANGE.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    first, last, complete = (None if number in (None, b"*") else _number(number) for number in match.groups())
    if MAX_POSITION in (first, last, complete):
        return None
    if first is None or last is None:
        return None if complete is None else ContentRange(None, None, complete)
    possible = first <= last and (complete is None or last < complete)
    return ContentRange(first, last, complete) if possible else None


def _spec(spec: bytes) -> ByteRange | None:
    match = _SPEC.fullmatch(spec)
    if match is None or spec == b"-":
        return None
    if not match[1]:
        return ByteRange(suffix=_number(match[2]))
    first, last = _number(match[1]), _number(match[2]) if match[2] else None
    return ByteRange(first, last) if last is None or first <= last else None


def _number(digits: bytes) -> int:
    """What a run of digits says, at most `MAX_POSITION`."""
    if len(digits) <= _DIGITS:
        return int(digits)
    significant = digits.lstrip(b"0")
    return int(significant or b"0") if len(significant) <= _DIGITS else MAX_POSITION
