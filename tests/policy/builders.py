"""Short ways to write the messages that the policy tables are made of."""

from __future__ import annotations

from fwdproxy.fields.dates import format_date
from fwdproxy.messages import (
    BodyRef,
    CacheKey,
    Headers,
    Origin,
    RequestHead,
    ResponseHead,
    StoredMeta,
    StoredResponse,
    TargetURI,
)
from fwdproxy.policy import storing
from fwdproxy.policy.decisions import PolicySettings

NOW = 1_700_000_000
"""When the responses of these tests arrive: Tue, 14 Nov 2023 22:13:20 GMT."""

DATE = "Date: " + format_date(NOW).decode()
SETTINGS = PolicySettings()
TARGET = TargetURI(Origin("http", "origin.example", 80), "/page?q=1")


def at(seconds: float) -> str:
    """The HTTP date that many seconds after NOW."""
    return format_date(NOW + seconds).decode()


def fields(*lines: str) -> Headers:
    """Field lines, each written "Name: value"."""
    pairs = (line.partition(":") for line in lines)
    return Headers((name.encode("latin-1"), value.strip(" ").encode("latin-1")) for name, _, value in pairs)


def lines(headers: Headers) -> list[str]:
    return [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in headers]


def get(*header_lines: str, method: str = "GET", target: TargetURI = TARGET) -> RequestHead:
    return RequestHead(method, target, fields("Host: origin.example", *header_lines))


def ok(*header_lines: str, status: int = 200) -> ResponseHead:
    return ResponseHead(status, fields(*header_lines), b"")


def meta(
    *header_lines: str,
    status: int = 200,
    request: RequestHead | None = None,
    heuristic: int | None = None,
    why: str = "",
    delay: float = 0.0,
    received: float = NOW,
    settings: PolicySettings = SETTINGS,
) -> StoredMeta:
    """What is stored of a response with these fields that arrived at ``received``, ``delay`` after its request.

    ``why`` is why there is no ``heuristic`` lifetime.
    """
    return storing.make_meta(
        request or get(),
        ok(*header_lines, status=status),
        request_time=received - delay,
        response_time=received,
        heuristic_lifetime=heuristic,
        heuristic_reason=why if heuristic is None else "TenthOfAge",
        settings=settings,
    )


def stored(
    *header_lines: str,
    status: int = 200,
    request: RequestHead | None = None,
    heuristic: int | None = None,
    why: str = "",
    body: bytes = b"0123456789",
) -> StoredResponse:
    """A stored response with these fields that arrived at NOW."""
    kept = meta(*header_lines, status=status, request=request, heuristic=heuristic, why=why)
    return StoredResponse(CacheKey("direct", "GET", str(TARGET)), "copy-1", kept, BodyRef(len(body), b"", body))
