"""Which URIs and groups a response makes stored responses invalid for (RFC 9111 §4.4, RFC 9875 §3)."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from fwdproxy.errors import RequestRefused
from fwdproxy.fields.groups import parse
from fwdproxy.messages import RequestHead, ResponseHead, TargetURI
from fwdproxy.policy.keys import parse_target


def targets(request: RequestHead, response: ResponseHead) -> tuple[TargetURI, ...]:
    """The URIs to invalidate: none for a safe method or an error, else the target, Location and Content-Location.

    The latter two count only where they have the target's own origin, so that no origin can empty another's.
    """
    if not _changes(request, response):
        return ()
    found = [request.target]
    for name in (b"location", b"content-location"):
        for value in response.headers.get_all(name):
            named = resolve(request.target, value)
            if named is not None and named.origin == request.target.origin and named not in found:
                found.append(named)
    return tuple(found)


def groups(request: RequestHead, response: ResponseHead) -> tuple[str, ...]:
    """The groups to invalidate, of the target's own origin: those of Cache-Group-Invalidation (RFC 9875 §3).

    A safe method's count for nothing, nor do those of an error. It goes no further: what else the responses of these
    groups belong to stays.
    """
    return parse(response.headers.get_all(b"cache-group-invalidation")) if _changes(request, response) else ()


def _changes(request: RequestHead, response: ResponseHead) -> bool:
    """Whether the origin has, as far as can be told, changed something at this request."""
    return not request.safe and 200 <= response.status < 400


def resolve(base: TargetURI, reference: bytes) -> TargetURI | None:
    """The URI that a reference in a field means (RFC 3986 §5), normalised as targets are; None for none of ours."""
    try:
        parts = urlsplit(urljoin(str(base), reference.decode("latin-1").strip()))
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return parse_target(parts.scheme, parts.netloc, path)
    except (RequestRefused, ValueError):
        return None
