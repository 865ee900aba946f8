"""What a stored response is found by: the method class, the target URI and, for QUERY, the content (RFC 9111 §2)."""

from __future__ import annotations

import ipaddress
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from fwdproxy.errors import RequestRefused
from fwdproxy.messages import DEFAULT_PORTS, CacheKey, Headers, Origin, RequestHead, TargetURI

if TYPE_CHECKING:
    from fwdproxy.policy.keying import Keying

_KINDS: Final = {"GET": "GET", "HEAD": "GET", "QUERY": "QUERY"}
# What says how the content of a request is to be read (RFC 9110 §8.3–8.5, §8.7).
_CONTENT_METADATA: Final = (b"content-type", b"content-encoding", b"content-language", b"content-location")
_AUTHORITY: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:@/?#\\]+))(?::(?P<port>[0-9]{0,5}))?")
_REG_NAME: Final = re.compile(r"(?:[a-z0-9._~!$&'()*+,;=-]|%[0-9a-f]{2})+")
_MAX_NAME: Final = 255  # RFC 1035 §2.3.4; and IDNA takes long for longer ones
# What may stand in a request target: anything visible but "#"; bytes beyond ASCII are sent by enough programs.
_PATH: Final = re.compile("[\x21\x22\x24-\x7e\x80-\xff]*")


def method_kind(method: str) -> str | None:
    """The method class of a key: "GET" for GET and HEAD, "QUERY"; None for methods that the cache is passed by for."""
    return _KINDS.get(method)


def cache_key(vantage: str, head: RequestHead, keying: Keying, content: str = "") -> CacheKey | None:
    """The key of a request, or None when its method is not one that stored responses answer.

    ``content`` is the `content_digest` of a QUERY; one without can't be told from others, so it has no key. Other
    methods' keys have no content.
    """
    kind = _KINDS.get(head.method)
    if kind is None or (kind == "QUERY" and not content):
        return None
    return CacheKey(vantage, kind, keying.uri(head.target).uri, content if kind == "QUERY" else "")


def key_of(vantage: str, target: TargetURI, keying: Keying) -> CacheKey:
    """The key under which the stored responses of ``target`` to GET lie."""
    return CacheKey(vantage, "GET", keying.uri(target).uri)


def content_digest(headers: Headers, content: bytes) -> str:
    """What stands for the content of a QUERY in its key (RFC 10008 §2.7): a digest of it and of its metadata.

    The content counts as received. To undo its codings, or to know when two texts of a media type mean the same, would
    find more hits, but a server may well answer them differently. Never empty, not even for empty content.
    """
    digest = blake2b(digest_size=32)
    for name in _CONTENT_METADATA:
        lines = [line.strip(b" \t") for line in headers.get_all(name)]
        digest.update(b"%d;" % len(lines) + b"".join(b"%d:%b" % (len(line), line) for line in lines))
    digest.update(content)
    return digest.hexdigest()


def target_of(key: CacheKey) -> TargetURI:
    """The URI of a key as a target; its host is what the user's rules for storing go by."""
    scheme, _, rest = key.uri.partition("://")
    authority, slash, path = rest.partition("/")
    return parse_target(scheme, authority, slash + path)


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
