"""What a stored response is found by: the method class and the target URI (RFC 9111 §2)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from fwdproxy.errors import RequestRefused
from fwdproxy.messages import DEFAULT_PORTS, CacheKey, Origin, RequestHead, TargetURI

_KINDS: Final = {"GET": "GET", "HEAD": "GET"}
_AUTHORITY: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:@/?#\\]+))(?::(?P<port>[0-9]{0,5}))?")
_REG_NAME: Final = re.compile(r"(?:[a-z0-9._~!$&'()*+,;=-]|%[0-9a-f]{2})+")
_MAX_NAME: Final = 255  # RFC 1035 §2.3.4; and IDNA takes long for longer ones
# What may stand in a request target: anything visible but "#"; bytes beyond ASCII are sent by enough programs.
_PATH: Final = re.compile("[\x21\x22\x24-\x7e\x80-\xff]*")


def method_kind(method: str) -> str | None:
    """The method class of a key: "GET" for GET and HEAD, None for methods that the cache is passed by for."""
    return _KINDS.get(method)


def cache_key(vantage: str, head: RequestHead) -> CacheKey | None:
    """The key of a request, or None when its method is not one that stored responses answer."""
    kind = _KINDS.get(head.method)
    return None if kind is None else CacheKey(vantage, kind, str(head.target))


def key_of(vantage: str, target: TargetURI) -> CacheKey:
    """The key under which the stored responses of ``target`` lie."""
    return CacheKey(vantage, "GET", str(target))


def parse_target(scheme: str, authority: str, path: str) -> TargetURI:
    """The target URI of a request, normalised as RFC 9110 §4.2.3 allows: scheme and host in lower case, the default
    port left out, an empty path written "/". Percent-encoding and dot segments stay as they are.

    Raises RequestRefused (400) for another scheme than http and https, a bad host or port, userinfo (§4.2.4), a
    fragment, white space or control characters.
    """
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise RequestRefused(400, f"the scheme {scheme[:80]!r} of the request target is not http or https")
    return TargetURI(_origin(scheme, authority), _path(path))


def _origin(scheme: str, authority: str) -> Origin:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise RequestRefused(400, f"the authority {authority[:80]!r} of the request target is not host or host:port")
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise RequestRefused(400, f"the port {port} of the request target is not between 1 and 65535")
    host = _ipv6(match["ipv6"]) if match["ipv6"] else _name(match["host"])
    return Origin(scheme, host, port)


def _ipv6(literal: str) -> str:
    try:
        return ipaddress.IPv6Address(literal).compressed
    except ValueError:
        raise RequestRefused(400, f"the host {literal[:80]!r} of the request target is no IPv6 address") from None


def _name(host: str) -> str:
    if len(host) > _MAX_NAME:
        raise RequestRefused(
            400, f"the host {host[:80]!r}… of the request target is longer than {_MAX_NAME} characters"
        )
    try:
        # mitmproxy hands international names over decoded.
        name = host.lower() if host.isascii() else host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if not _REG_NAME.fullmatch(name):
        raise RequestRefused(400, f"the host {host[:80]!r} of the request target is not a valid name")
    return name


def _path(path: str) -> str:
    if not path.startswith("/") and path != "*":
        path = "/" + path
    if not _PATH.fullmatch(path):
        raise RequestRefused(400, "the request target has a fragment, white space or control characters in it")
    return path
