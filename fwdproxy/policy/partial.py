"""The heads of answers to range requests: 206 with one part or several, and 416 (RFC 9110 §15.3.7, §15.5.17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fwdproxy.fields.ranges import ContentRange
from fwdproxy.messages import Field, Headers, ResponseHead, Span

OF_ONE_MESSAGE: Final = frozenset({b"content-digest", b"content-length", b"content-md5", b"content-range"})
"""Fields that speak of the content of one message, not of the representation (RFC 9530 §2, RFC 9110 §8.6, §14.4)."""

# What a 416 keeps of the head that a 200 would have: nothing that lets it be stored or describes a representation.
_IN_416: Final = frozenset({b"accept-ranges", b"cross-origin-resource-policy", b"date", b"vary", b"via"})
_CORS: Final = b"access-control-"


def partial_head(head: ResponseHead, span: Span, complete: int) -> ResponseHead:
    """The head of a 206 with ``span`` of the content that the 200 with ``head`` would have (RFC 9110 §15.3.7.1).

    All its fields stay, after an If-Range too: not every client has kept them.
    """
    return _partial(head, span.length, (b"Content-Range", _content_range(span, complete)))


def multipart(
    head: ResponseHead, spans: Sequence[Span], complete: int, boundary: bytes
) -> tuple[ResponseHead, tuple[bytes, ...], bytes]:
    """The head of a 206 with several spans, what stands before each of them, and what ends it all (RFC 9110 §14.6).

    ``boundary`` must not occur in the content, and have nothing that needs quotes.
    """
    kind = head.headers.get(b"content-type")
    typed = b"" if kind is None else b"Content-Type: %b\r\n" % kind
    preambles = tuple(
        b"%b--%b\r\n%bContent-Range: %b\r\n\r\n"
        % (b"\r\n" if number else b"", boundary, typed, _content_range(span, complete))
        for number, span in enumerate(spans)
    )
    closing = b"\r\n--%b--\r\n" % boundary
    length = sum(map(len, preambles)) + sum(span.length for span in spans) + len(closing)
    without_type = replace(head, headers=head.headers.without({b"content-type"}))
    said = b"multipart/byteranges; boundary=" + boundary
    return _partial(without_type, length, (b"Content-Type", said)), preambles, closing


def unsatisfiable_head(head: ResponseHead, complete: int) -> ResponseHead:
    """The head of a 416 in the place of the 200 with ``head`` (RFC 9110 §15.5.17); it has no content."""
    kept = [pair for pair in head.headers if (name := pair[0].lower()) in _IN_416 or name.startswith(_CORS)]
    said = ContentRange(None, None, complete).serialize()
    return ResponseHead(
        416, Headers([*kept, (b"Content-Range", said), (b"Content-Length", b"0")]), b"Range Not Satisfiable"
    )


def _partial(head: ResponseHead, length: int, *fields: Field) -> ResponseHead:
    headers = head.headers.without(OF_ONE_MESSAGE).adding(*fields, (b"Content-Length", b"%d" % length))
    return ResponseHead(206, headers, b"Partial Content")


def _content_range(span: Span, complete: int) -> bytes:
    return ContentRange(span.start, span.end - 1, complete).serialize()
