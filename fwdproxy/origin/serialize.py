"""Requests as bytes (RFC 9112): what is written is framed here and can be read in one way only."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NoReturn

from fwdproxy.errors import OriginError
from fwdproxy.messages import Headers, RequestHead

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET: Final = re.compile(rb"(?:/[\x21-\x7e\x80-\xff]*|\*)")
_LINE_END: Final = re.compile(rb"[\r\n\0]")

# Written here and nowhere else: they are this connection's business, whatever the head says of them.
_OWN_FIELDS: Final = frozenset(
    {b"connection", b"content-length", b"expect", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_NOT_IN_TRAILERS: Final = _OWN_FIELDS | {b"authorization", b"content-encoding", b"content-range", b"host", b"trailer"}
_CONTENT_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})  # RFC 9110 §8.6: these say that they have none


def serialize_head(
    head: RequestHead,
    *,
    has_body: bool = False,
    length: int | None = None,
    expect_continue: bool = False,
    upgrade: bytes | None = None,
) -> bytes:
    """The request head on the wire, with framing of our own (RFC 9112 §3, §6).

    ``has_body`` with ``length`` None means chunked. Raises OriginError ``http_request_error`` for a head of which a
    part could be read as something else. The target's text stands for bytes as in ISO 8859-1.
    """
    try:
        method, path = head.method.encode("ascii"), head.target.path.encode("latin-1")
    except UnicodeEncodeError:
        _unsendable("the method or the request target isn't made of bytes")
    if not _TOKEN.fullmatch(method) or method == b"CONNECT":
        _unsendable("the method can't be sent to an origin")
    if not _TARGET.fullmatch(path):
        _unsendable("the request target isn't an absolute path")
    parts = [method, b" ", path, b" HTTP/1.1\r\n"]
    if _append_fields(parts, head.headers, _OWN_FIELDS) != 1:
        _unsendable("the request needs exactly one Host")
    if has_body:
        parts.append(b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length)
        if expect_continue:
            parts.append(b"Expect: 100-continue\r\n")
    elif head.method in _CONTENT_EXPECTED:
        parts.append(b"Content-Length: 0\r\n")
    if upgrade is not None:
        if _LINE_END.search(upgrade):
            _unsendable("Upgrade holds CR, LF or NUL")
        parts.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade)
    parts.append(b"\r\n")
    return b"".join(parts)


def serialize_chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 §7.1); ``data`` isn't empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def serialize_end(trailers: Headers) -> bytes:
    """The last chunk and the trailer section (RFC 9112 §7.1.2), without fields that mustn't stand there."""
    parts = [b"0\r\n"]
    _append_fields(parts, trailers, _NOT_IN_TRAILERS)
    parts.append(b"\r\n")
    return b"".join(parts)


def _append_fields(parts: list[bytes], headers: Headers, left_out: frozenset[bytes]) -> int:
    """Append the field lines but those named in ``left_out``; return how many of them are Host."""
    hosts = 0
    for name, value in headers.fields:
        lowered = _lower_name(name)
        if lowered is None:
            _unsendable("a field name isn't a token")
        if lowered in left_out:
            continue
        if lowered == b"host":
            hosts += 1
        parts += (name, b": ", value, b"\r\n")
    # One search over all values is cheaper than one each.
    if _LINE_END.search(b" ".join([value for _, value in headers.fields])):
        _unsendable("a field value holds CR, LF or NUL")
    return hosts


@lru_cache(maxsize=4096)
def _lower_name(name: bytes) -> bytes | None:
    """The field name in lower case, or None when it isn't a token (RFC 9110 §5.1)."""
    return name.lower() if _TOKEN.fullmatch(name) else None


def _unsendable(text: str) -> NoReturn:
    raise OriginError("http_request_error", text, sent=False)
