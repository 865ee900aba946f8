"""mitmproxy's messages to ours and back. The target URI is decided here (RFC 9110 §7.1, RFC 9112 §3.3)."""

from __future__ import annotations

import time

from mitmproxy import http
from mitmproxy.connection import Client, Server
from mitmproxy.net.http import status_codes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.mode_specs import ReverseMode

from fwdproxy.errors import RequestRefused
from fwdproxy.messages import Headers, Origin, RequestHead, ResponseHead
from fwdproxy.policy.keys import parse_target

_NOT_CARRIED_ON = (b"h2c", b"tls/")


def headers_of(headers: http.Headers) -> Headers:
    """Our value of mitmproxy's header list."""
    return Headers(headers.fields)


def request_of(
    request: http.Request, mode: HTTPMode, client: Client, server: Server, *, keep_host: bool
) -> tuple[RequestHead, Origin | None]:
    """The request head, and the server to dial where that is not the target's (reverse mode keeping Host).

    In a regular proxy request the target is the request target; inside a tunnel, with transparent and SOCKS clients
    it is Host (or :authority), whose name we resolve: the address that the client named is not dialled. A script
    that changed the destination is obeyed. Raises `RequestRefused` (400 malformed, 421 Host is not the TLS name).
    """
    authority = _bracketed(request.host, request.port)
    dial: Origin | None = None
    named = request.authority or request.host_header
    untouched = mode is HTTPMode.transparent and server.address == (request.host, request.port)
    reverse = isinstance(client.proxy_mode, ReverseMode)
    if untouched and named and not reverse:
        authority = named
    elif untouched and named and keep_host:
        dial = parse_target(request.scheme, authority, "/").origin
        authority = named
    target = parse_target(request.scheme, authority, request.data.path.decode("latin-1"))
    if untouched and not reverse and client.tls and client.sni and not _same_name(target.origin.host, client.sni):
        raise RequestRefused(421, f"the request is for {target.origin.host}, the TLS session for {client.sni}")
    return RequestHead(request.data.method.decode("latin-1"), target, _one_cookie(request)), dial


def _same_name(host: str, sni: str) -> bool:
    """SNI never has the dot that ends a fully qualified name (RFC 6066 §3)."""
    return host.rstrip(".") == sni.lower().rstrip(".")


def upgrade_of(request: http.Request) -> bytes | None:
    """The protocol that the client wants to change to, where that can be carried on (RFC 9110 §7.8)."""
    options = request.headers.get("connection", "").lower()
    wanted: bytes = request.headers.get("upgrade", "").encode("latin-1", "replace")
    if not wanted or "upgrade" not in options or wanted.lower().startswith(_NOT_CARRIED_ON):
        return None
    return wanted


def response_of(head: ResponseHead, *, chunked: bool = False) -> http.Response:
    """mitmproxy's response for ``head``; ``chunked`` adds the transfer coding that HTTP/1.1 then needs."""
    fields = head.headers.fields
    if chunked:
        fields = (*fields, (b"Transfer-Encoding", b"chunked"))
    return http.Response(
        http_version=b"HTTP/1.1",
        status_code=head.status,
        reason=head.reason or status_codes.RESPONSES.get(head.status, "").encode(),
        headers=http.Headers(fields),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )


def _bracketed(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _one_cookie(request: http.Request) -> Headers:
    """HTTP/2 may split Cookie into several lines, which HTTP/1 may not (RFC 9113 §8.2.3)."""
    headers = headers_of(request.headers)
    cookies = headers.get_all(b"cookie")
    return headers.replacing(b"cookie", b"; ".join(cookies)) if len(cookies) > 1 else headers
