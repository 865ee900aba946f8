"""Validation (RFC 9111 §4.3): our conditions to the origin, the client's to us, and what the answers update."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fwdproxy.fields.connection import end_to_end
from fwdproxy.fields.dates import parse_date, with_date
from fwdproxy.fields.etags import AnyTag, EntityTag, parse_etag, parse_list, strong_match, weak_match
from fwdproxy.messages import Field, Headers, ResponseHead, StoredMeta, StoredResponse
from fwdproxy.policy import controls, selection
from fwdproxy.policy.decisions import PolicySettings
from fwdproxy.policy.freshness import date_value, explicit
from fwdproxy.policy.storing import response_forbids, storable_head

CLIENT_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since"})
"""The client's conditions that the cache answers itself and puts its own in place of.

If-Match and If-Unmodified-Since are for the origin alone (§4.3.2), and If-Range belongs to a Range that is passed on
with it: they stay.
"""

# What the stored bytes depend on, whatever a newer head says (§3.2).
_NOT_UPDATED: Final = frozenset({b"content-encoding", b"content-length", b"content-range"})


def conditions(stored: StoredMeta) -> tuple[Field, ...]:
    """The fields that ask the origin whether a stored response is still good (§4.3.1); none without a validator."""
    headers = stored.head.headers
    fields: list[Field] = []
    etag = _etag(headers)
    if etag is not None:
        fields.append((b"If-None-Match", etag.serialize()))
    last_modified = headers.get(b"last-modified")
    if last_modified is not None and parse_date(last_modified, stored.response_time) is not None:
        fields.append((b"If-Modified-Since", last_modified))
    return tuple(fields)


def unasked(response: ResponseHead, sent: Headers) -> bool:
    """Whether ``response`` is a 304 to a request that had no condition for it (RFC 9110 §15.4.5).

    ``sent`` are the fields that went to the origin, our conditions or the client's own among them. Such a 304 speaks of
    nothing: not of what is stored, nor, where the client's conditions were kept back, of what the client has. The
    caller updates nothing by it and answers 502.
    """
    return response.status == 304 and CLIENT_CONDITIONS.isdisjoint(sent.names())


def evaluate(request_headers: Headers, response: ResponseHead, method: str, *, received: float | None = None) -> int:
    """The status of the answer to the client's own condition: 304, or that of ``response`` (§4.3.2).

    ``response`` is a response just fetched, or a stored one with the Unix time ``received`` at which it arrived, which
    then stands in for a missing Last-Modified and Date. If-None-Match takes precedence over If-Modified-Since; both
    count only where the request would get a 200, or a 206 to its Range (RFC 9110 §15.4.5).
    """
    if method not in ("GET", "HEAD", "QUERY") or response.status not in (200, 206):
        return response.status
    tags = request_headers.get_all(b"if-none-match")
    if tags:
        return 304 if _none_match_fails(tags, response.headers) else response.status
    dates = request_headers.get_all(b"if-modified-since")
    if len(dates) == 1 and _not_modified_since(dates[0], response.headers, received):
        return 304
    return response.status


def freshen(
    stored: StoredMeta,
    not_modified: ResponseHead,
    *,
    request_time: float,
    response_time: float,
    settings: PolicySettings,
) -> StoredMeta | None:
    """The stored response as the origin's 304 updates it (§4.3.4), or None when it is not to be used any more.

    None: the validators of the 304 are not those of this response, or this has none by which the origin could know it,
    or the fields of the 304 forbid storing, or its Vary is another. Ask again without conditions then. Times are Unix
    seconds, those of the validation.
    """
    if not conditions(stored) or not _identifies(not_modified.headers, stored.head.headers):
        return None
    return _updated(stored, not_modified, request_time, response_time, settings)


def freshen_from_head(
    stored: StoredResponse,
    response: ResponseHead,
    *,
    request_time: float,
    response_time: float,
    settings: PolicySettings,
) -> StoredMeta | None:
    """The stored response as a HEAD response updates it (§4.3.5), or None when it has to be dropped.

    Only a 200 says anything about what is stored; after another status the very ``stored.meta`` comes back.
    """
    meta = stored.meta
    if response.status != 200:
        return meta
    received, kept = response.headers, meta.head.headers
    same = meta.head.status == 200 and all(
        received.combined(name) in (None, kept.combined(name)) for name in (b"etag", b"last-modified")
    )
    length = received.get(b"content-length")
    if not same or (length is not None and length.strip(b" \t") != b"%d" % stored.body.length):
        return None
    if received.combined(b"content-encoding") != kept.combined(b"content-encoding"):
        return None
    return _updated(meta, response, request_time, response_time, settings)


def _identifies(received: Headers, kept: Headers) -> bool:
    """Whether the validators of a 304 are those of the stored response (§4.3.4).

    One without any validator is taken to speak of the one response whose validators were sent: origins need not
    repeat a Last-Modified (RFC 9110 §15.4.5).
    """
    etag = received.get(b"etag")
    if etag is not None:
        return _same_tag(parse_etag(etag), _etag(kept))
    last_modified = received.get(b"last-modified")
    return last_modified is None or last_modified == kept.get(b"last-modified")


def _same_tag(received: EntityTag | None, kept: EntityTag | None) -> bool:
    if received is None or kept is None:
        return False
    return weak_match(received, kept) if received.weak else strong_match(received, kept)


def _updated(
    stored: StoredMeta, response: ResponseHead, request_time: float, response_time: float, settings: PolicySettings
) -> StoredMeta | None:
    """The stored head with the fields of ``response`` in the place of its own (§3.2)."""
    update = with_date(end_to_end(response.headers).without(_NOT_UPDATED), response_time)
    # The old Age is no part of how old the response is now.
    headers = stored.head.headers.without(update.names() | {b"age"}).adding(*update)
    # Of all the fields together: a 304 need not repeat a targeted field (RFC 9110 §15.4.5), which governs all the same.
    lines = controls.governing(headers, settings.targets)
    if response_forbids(replace(response, status=stored.head.status), lines) is not None:
        return None
    nominated = selection.nominated_fields(response.headers)
    if b"vary" in response.headers and nominated != tuple(name for name, _ in stored.nominated):
        return None
    head = storable_head(replace(stored.head, headers=headers), lines)
    guessed = explicit(head.headers, response_time, lines) is None
    return replace(
        stored,
        head=head,
        request_time=request_time,
        response_time=response_time,
        heuristic_lifetime=stored.heuristic_lifetime if guessed else None,
        # What names a heuristic goes with its lifetime; why nothing was guessed stays true.
        heuristic_reason="" if stored.heuristic_lifetime is not None and not guessed else stored.heuristic_reason,
        controls=lines,
    )


def _none_match_fails(lines: tuple[bytes, ...], headers: Headers) -> bool:
    """If-None-Match, by weak comparison (RFC 9110 §13.1.2)."""
    listed = parse_list(lines)
    if isinstance(listed, AnyTag):
        return True
    etag = _etag(headers)
    return etag is not None and any(weak_match(tag, etag) for tag in listed)


def _not_modified_since(value: bytes, headers: Headers, received: float | None) -> bool:
    """If-Modified-Since (RFC 9110 §13.1.3); a stored response without Last-Modified goes by its Date (§4.3.2)."""
    arrived = date_value(headers, received or 0)
    since = parse_date(value, arrived)
    modified = parse_date(headers.get(b"last-modified") or b"", arrived)
    if modified is None and received is not None:
        modified = arrived
    return since is not None and modified is not None and modified <= since


def _etag(headers: Headers) -> EntityTag | None:
    return parse_etag(headers.get(b"etag") or b"")
