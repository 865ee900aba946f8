"""Which URIs a response makes stored responses invalid for (RFC 9111 §4.4)."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from fwdproxy.errors import RequestRefused
from fwdproxy.messages import RequestHead, ResponseHead, TargetURI
from fwdproxy.policy.keys import parse_target


def targets(request: RequestHead, response: ResponseHead) -> tuple[TargetURI, ...]:
    """The URIs to invalidate: none for a safe method or an error, else the target, Location and Content-Location.

    The latter two count only where they have the target's own origin, so that no origin can empty another's.
    """
    if request.safe or not 200 <= response.status < 400:
        return ()
    found = [request.target]
    for name in (b"location", b"content-location"):
        for value in response.headers.get_all(name):
            named = _resolve(request.target, value)
            if named is not None and named.origin == request.target.origin and named not in found:
                found.append(named)
    return tuple(found)


def _resolve(base: TargetURI, reference: bytes) -> TargetURI | None:
    try:
        parts = urlsplit(urljoin(str(base), reference.decode("latin-1").strip()))
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return parse_target(parts.scheme, parts.netloc, path)
    except (RequestRefused, ValueError):
        return None
