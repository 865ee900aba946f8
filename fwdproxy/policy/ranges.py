"""Range requests (RFC 9110 §14) and partial responses (RFC 9111 §3.3, §3.4): what is wanted, there, and missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from fwdproxy.fields import ranges
from fwdproxy.fields.dates import parse_date
from fwdproxy.fields.etags import EntityTag, parse_etag, strong_match
from fwdproxy.fields.ranges import ByteRange
from fwdproxy.messages import Field, Headers, ResponseHead, Span, StoredMeta
from fwdproxy.policy import validation
from fwdproxy.policy.decisions import PolicySettings
from fwdproxy.policy.partial import OF_ONE_MESSAGE

MANY: Final = 8
"""More ranges than this are ignored unless they are in ascending order (RFC 9110 §14.2)."""

STRONG_AFTER: Final = 60
"""Seconds that Date must be later than a Last-Modified for that to be a strong validator (RFC 9110 §8.8.2.2).

One would do if both surely came from the same clock; nobody tells us, so it is what RFC 7232 §2.2.2 asked for.
"""

AHEAD: Final = 1 << 20
"""Bytes that a growing fill may lack of the start of a range for which a client waits."""

_FROM_START: Final = ByteRange(first=0)


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole representation is wanted, or a Range that has to be ignored: 200."""


@dataclass(frozen=True, slots=True)
class Spans:
    """These parts are wanted: 206. At least one; several don't touch one another."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Nothing that is wanted is there: 416."""


Wanted = Whole | Spans | Unsatisfiable


@dataclass(frozen=True, slots=True)
class Received:
    """What a 206 brings: ``span`` of a representation of ``complete`` bytes."""

    span: Span
    complete: int


@dataclass(frozen=True, slots=True)
class Piece:
    """``span`` of a representation, from the part with that ``index``, or from the origin (None)."""

    index: int | None
    span: Span


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the bytes that are wanted come from, in their order; ``missing`` is the one span to ask the origin for."""

    pieces: tuple[Piece, ...]
    missing: Span | None


# What a request wants


def wanted(request: Headers, method: str, head: ResponseHead, complete: int, received: float | None) -> Wanted:
    """What a request wants of the response ``head``, which has ``complete`` bytes of content (RFC 9110 §14.2).

    ``received``: the Unix seconds at which a stored response arrived, None for one just fetched. All of it is wanted
    where the Range is to be ignored: not of a GET or to a 200, malformed, with an If-Range that doesn't hold, or one
    that costs more than it saves.
    """
    asked = _asked(request, method)
    if asked is None or head.status != 200 or not complete or not if_range_holds(request, head.headers, received):
        return Whole()
    spans = [span for one in asked if (span := _resolved(one, complete)) is not None]
    if not spans:
        return Unsatisfiable()
    if _hostile(spans):
        return Whole()
    coalesced = _coalesced(spans)
    # Who undoes the content coding of a multipart message would take its delimiters for coded content.
    return Whole() if len(coalesced) > 1 and b"content-encoding" in head.headers else Spans(coalesced)


def single(request: Headers, method: str) -> ByteRange | None:
    """The range of a GET that asks for just one, for when the complete length isn't known yet."""
    asked = _asked(request, method)
    return asked[0] if asked is not None and len(asked) == 1 else None


def from_start(request: Headers) -> bool:
    """Whether Range asks for all there is (``bytes=0-``), as media players do to see whether ranges are served."""
    return single(request, "GET") == _FROM_START


def _asked(request: Headers, method: str) -> tuple[ByteRange, ...] | None:
    value = _only(request, b"range") if method == "GET" else None
    return None if value is None else ranges.parse_range(value)


def _resolved(asked: ByteRange, complete: int) -> Span | None:
    """The bytes that a range means, None when there are none (RFC 9110 §14.1.2)."""
    if asked.first is None:
        start = max(0, complete - (asked.suffix or 0))
        end = complete
    else:
        start = asked.first
        end = complete if asked.last is None else min(asked.last + 1, complete)
    return Span(start, end) if start < end else None


def if_range_holds(request: Headers, response: Headers, received: float | None) -> bool:
    """If-Range (RFC 9110 §13.1.5); true without one."""
    if b"if-range" not in request:
        return True
    value = (_only(request, b"if-range") or b"").strip(b" \t")
    if b'"' in value[:3]:
        return _same_strong_tag(parse_etag(value), _strong_tag(response))
    now = received or 0
    modified = parse_date(_only(response, b"last-modified") or b"", now)
    if modified is None or modified != parse_date(value, now):
        return False
    date = parse_date(_only(response, b"date") or b"", now)
    return date is not None and date - modified >= STRONG_AFTER


def _hostile(spans: Sequence[Span]) -> bool:
    """Whether nobody asks so in earnest: more than two ranges that overlap, or many and in disorder (§14.2)."""
    overlapping = sum(any(_overlap(one, other) for other in spans if other is not one) for one in spans)
    starts = [span.start for span in spans]
    return overlapping > 2 or (len(spans) > MANY and starts != sorted(starts))


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def _coalesced(spans: Sequence[Span]) -> tuple[Span, ...]:
    """``spans`` in their order, those that overlap or adjoin made one at the place of the first (§15.3.7.2)."""
    apart: list[Span] = []
    for span in spans:
        touched = [other for other in apart if other.start <= span.end and span.start <= other.end]
        if not touched:
            apart.append(span)
            continue
        joined = [span, *touched]
        place = apart.index(touched[0])
        apart[place] = Span(min(one.start for one in joined), max(one.end for one in joined))
        apart = [one for one in apart if one not in touched[1:]]
    return tuple(apart)


# Partial responses from the origin


def combinable(head: ResponseHead) -> bool:
    """Whether parts of the 200 with ``head`` may be stored, to be combined with others: it has a strong entity tag.

    Not where a digest of the whole is stated (RFC 9530 §3): parts that are put together at each use are never verified.
    """
    return head.status == 200 and _strong_tag(head.headers) is not None and b"repr-digest" not in head.headers


def received(response: ResponseHead) -> Received | None:
    """What a 206 brings, None unless it is one part of a known whole and its Content-Length agrees (§15.3.7.1)."""
    headers = response.headers
    if response.status != 206 or b"transfer-encoding" in headers:
        return None
    if (headers.get(b"content-type") or b"").lstrip(b" \t").lower().startswith(b"multipart/byteranges"):
        return None
    said = ranges.parse_content_range(_only(headers, b"content-range") or b"")
    if said is None or said.first is None or said.last is None or said.complete is None:
        return None
    span = Span(said.first, said.last + 1)
    length = (_only(headers, b"content-length") or b"").strip(b" \t")
    return Received(span, said.complete) if length == b"%d" % span.length else None


def whole_head(response: ResponseHead) -> ResponseHead:
    """The head that the 200 would have of which the 206 ``response`` brings a part; policy decides by it."""
    return ResponseHead(200, response.headers.without(OF_ONE_MESSAGE), b"OK")


def combined(
    newest: StoredMeta,
    response: ResponseHead,
    *,
    authorized: bool,
    request_time: float,
    response_time: float,
    settings: PolicySettings,
) -> StoredMeta | None:
    """What is stored beside the part that the 206 ``response`` brings, and counts for all of them (RFC 9111 §3.4).

    ``newest`` is that of the parts stored so far. None: they are not of the same representation, or the new response
    may not be stored. ``authorized``: its request carried Authorization; what it answers to, or any of the others did,
    the combination does. Times are Unix seconds.
    """
    whole = whole_head(response)
    kept = newest.head.headers
    if not combinable(newest.head) or not _same_strong_tag(_strong_tag(whole.headers), _strong_tag(kept)):
        return None
    # Left out like any other field that hasn't changed; another one means that somebody names two things alike.
    if whole.headers.combined(b"content-encoding") not in (None, kept.combined(b"content-encoding")):
        return None
    meta = validation.freshen(newest, whole, request_time=request_time, response_time=response_time, settings=settings)
    return None if meta is None else replace(meta, authorized=newest.authorized or authorized)


# Putting parts together


def plan(parts: Sequence[Span], want: Span) -> Plan:
    """How to put ``want`` together from ``parts`` and one request to the origin.

    That request is for all from the first byte that is missing to the last one, whether or not some between them are
    there: it costs less than another request.
    """
    before: list[Piece] = []
    begin = want.start
    while begin < want.end and (found := _furthest(parts, begin)) is not None:
        end = min(parts[found].end, want.end)
        before.append(Piece(found, Span(begin, end)))
        begin = end
    if begin >= want.end:
        return Plan(tuple(before), None)
    after: list[Piece] = []
    end = want.end
    while (found := _furthest_back(parts, end)) is not None:
        start = parts[found].start
        after.append(Piece(found, Span(start, end)))
        end = start
    missing = Span(begin, end)
    return Plan((*before, Piece(None, missing), *reversed(after)), missing)


def ask(missing: Span, complete: int, etag: bytes) -> tuple[Field, ...]:
    """The fields that ask the origin for ``missing``, if the representation is still the one with ``etag``."""
    last = None if missing.end == complete else missing.end - 1
    return (b"Range", ranges.serialize_range([ByteRange(missing.start, last)])), (b"If-Range", etag)


def reachable(span_start: int, received: int) -> bool:
    """Whether a client may wait for a fill that has ``received`` bytes to come to the one where its range starts."""
    return span_start <= received + AHEAD


def _furthest(parts: Sequence[Span], position: int) -> int | None:
    """The part that holds ``position`` and reaches furthest."""
    holding = [index for index, part in enumerate(parts) if part.start <= position < part.end]
    return max(holding, key=lambda index: parts[index].end, default=None)


def _furthest_back(parts: Sequence[Span], position: int) -> int | None:
    """The part that holds what comes before ``position`` and reaches back furthest."""
    holding = [index for index, part in enumerate(parts) if part.start < position <= part.end]
    return min(holding, key=lambda index: parts[index].start, default=None)


def _strong_tag(headers: Headers) -> EntityTag | None:
    tag = parse_etag(_only(headers, b"etag") or b"")
    return None if tag is None or tag.weak else tag


def _same_strong_tag(one: EntityTag | None, other: EntityTag | None) -> bool:
    return one is not None and other is not None and strong_match(one, other)


def _only(headers: Headers, name: bytes) -> bytes | None:
    """The value of a field that may stand in a message once; None, too, when it stands there more often."""
    lines = headers.get_all(name)
    return lines[0] if len(lines) == 1 else None
