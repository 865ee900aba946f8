"""The head that a client gets, from the store or from the origin. Cache-Status is the caller's to add."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fwdproxy.fields.cache_control import parse_age
from fwdproxy.fields.connection import end_to_end
from fwdproxy.fields.dates import with_date
from fwdproxy.messages import Headers, ResponseHead
from fwdproxy.policy.decisions import Serve
from fwdproxy.policy.storing import PER_CLIENT, has_length

# Representation metadata that a 304 leaves out (RFC 9110 §15.4.5); what guides cache updates stays.
_NOT_IN_304: Final = frozenset(
    {
        b"content-digest",
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"content-type",
        b"digest",
        b"repr-digest",
    }
)


def from_stored(serve: Serve, *, via: str | None, not_modified: ResponseHead | None = None) -> ResponseHead:
    """The head of a stored response as an answer (RFC 9111 §4).

    It has one Age, and the length of the stored content where its status allows one. ``via`` is the pseudonym to
    announce, or None. ``not_modified`` is the origin's 304 to this very client's request: what it says to this client
    alone, such as Set-Cookie, goes with the answer.
    """
    head = serve.stored.meta.head
    removed = {b"age"} if has_length(head.status) else {b"age", b"content-length"}
    fields = list(head.headers.without(removed))
    fields.append((b"Age", b"%d" % serve.age))
    if b"content-length" not in head.headers and has_length(head.status):
        fields.append((b"Content-Length", b"%d" % serve.stored.body.length))
    if not_modified is not None:
        fields += [pair for pair in not_modified.headers if pair[0].lower() in PER_CLIENT]
    if via is not None:
        fields.append(_via(via))
    return conditional(ResponseHead(head.status, Headers(fields), head.reason), serve.status)


def from_origin(response: ResponseHead, *, via: str | None, now: float) -> ResponseHead:
    """The head of a response as it goes from the origin to the client that asked: hop-by-hop fields off, Date added
    where it is missing (RFC 9110 §6.6.1), Via added (§7.6.3), no Content-Length where the status allows none (§8.6),
    and Age as one valid field or none (RFC 9111 §5.1). Its framing is the caller's.
    """
    headers = _with_one_age(with_date(end_to_end(response.headers), now))
    if not has_length(response.status):
        headers = headers.without({b"content-length"})
    return replace(response, headers=headers if via is None else headers.adding(_via(via)))


def conditional(head: ResponseHead, status: int) -> ResponseHead:
    """``head`` as the answer with ``status`` that `validation.evaluate` gave: the same, or a 304 (RFC 9110 §15.4.5)."""
    if status == head.status:
        return head
    removed = _NOT_IN_304 | {b"last-modified"} if b"etag" in head.headers else _NOT_IN_304
    return ResponseHead(status, head.headers.without(removed), b"Not Modified")


def _with_one_age(headers: Headers) -> Headers:
    """Age as `freshness.current_age` reads it: what the client counts from is what we count from."""
    lines = headers.get_all(b"age")
    age = parse_age(lines)
    if age is None:
        return headers.without({b"age"})
    said = b"%d" % age
    return headers if lines == (said,) else headers.replacing(b"age", said)


def _via(pseudonym: str) -> tuple[bytes, bytes]:
    return b"Via", b"1.1 " + pseudonym.encode("latin-1")
