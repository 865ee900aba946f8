"""What people write (URLs, hosts, fields), made into what the cache calls it. Faults name the value and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from fwdproxy.control.messages import Fields
from fwdproxy.errors import FwdProxyError, RequestRefused
from fwdproxy.messages import Headers, TargetURI
from fwdproxy.policy.keys import parse_target
from fwdproxy.store.purging import PurgeRule

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_BEGINNING: Final = re.compile(r"[0-9A-Za-z._-]*")  # of an authority: a port or other letters make it a whole one
_HOST: Final = re.compile(r"\.?(?:[^\W_]|[-_])+(?:\.(?:[^\W_]|[-_])+)*\.?|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_SHOWN: Final = 200  # characters of a wrong value
_LONGEST: Final = 8192

USUAL: Final[Fields] = (("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate, br, zstd"))
"""What browsers send and origins choose by: without it, what is fetched would not be what browsers then ask for."""


def target_of(url: str) -> TargetURI:
    """The target URI of a request for ``url``: the fragment left out; letters beyond ASCII, and spaces, encoded."""
    _require_text(url)
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise FwdProxyError(f"{_shown(url)} is not a URL; write all of it, such as https://example.com/")
    if len(url) > _LONGEST:
        raise FwdProxyError(f"{_shown(url)} is longer than {_LONGEST} characters; no cache keeps that")
    try:
        return parse_target(match[1], match[2], quote(match[3], safe="!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))
    except RequestRefused as error:
        raise FwdProxyError(f"{_shown(url)} can't be asked for: {error}") from None


def purge_rules(kind: str, value: str, origin: str, keyed: str = "") -> list[PurgeRule]:
    """The purges that do what people mean by ``kind`` and ``value``. ``keyed``: the key's URI for a URL."""
    _require_text(value)
    match kind:
        case "url":
            return [
                PurgeRule("url", uri) for uri in dict.fromkeys((str(target_of(value)), keyed or str(target_of(value))))
            ]
        case "prefix":
            return [PurgeRule("prefix", prefix_of(value))]
        case "host":
            return [PurgeRule("host", host_of(value))]
        case "tag":
            return [PurgeRule("tag", value)]
        case "group":
            return [PurgeRule("group", value, str(target_of(origin).origin))]
        case "all":
            return [PurgeRule("all")]
    raise FwdProxyError(f"{_shown(kind)} is not a kind of purge")


def prefix_of(text: str) -> str:
    """The beginning of a key's URI, as keys have it. A host without a path may be the beginning of a name, too; with a
    port it is a whole origin.
    """
    _require_text(text)
    match = _URL.fullmatch(text.strip())
    if match is None or match[1].lower() not in ("http", "https"):
        raise FwdProxyError(f"{_shown(text)} is not how a URL begins; write such as https://example.com/images/")
    if not match[3] and _BEGINNING.fullmatch(match[2]):
        return f"{match[1]}://{match[2]}".lower()
    whole = str(target_of(text))
    has_port = ":" in match[2].rpartition("]")[2]
    return whole if match[3] or has_port else whole.removesuffix("/")


def host_of(text: str) -> str:
    """A host as keys have it, or with a dot before it that host and all below it."""
    _require_text(text)
    host = text.strip()
    if not _HOST.fullmatch(host):
        raise FwdProxyError(f"{_shown(text)} is not a host; write its name, or .example.com for it and all below it")
    name = host.strip(".").removeprefix("[").removesuffix("]")
    origin = target_of(f"http://[{name}]/" if ":" in name else f"http://{name}/").origin
    return ("." if host.startswith(".") else "") + origin.host.removeprefix("[").removesuffix("]")


def fields_of(lines: Sequence[str]) -> Fields:
    """Field lines as people write them: ``Name: value``."""
    for line in lines:
        if ":" not in line:
            raise FwdProxyError(f"{_shown(line)} is not a header field; write 'Name: value'")
    return tuple((name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines))


def headers_of(fields: Fields) -> Headers:
    """Request fields, with those that browsers send where they are not given."""
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise FwdProxyError(f"{_shown(f'{name}: {value}')} is not a header field; write 'Name: value'")
    given = {name.lower() for name, _ in fields}
    usual = [(name, value) for name, value in USUAL if name.lower() not in given]
    return Headers((name.encode("latin-1"), value.encode("latin-1")) for name, value in (*fields, *usual))


def _require_text(text: str) -> None:
    """Bytes of an argument that are no UTF-8 come as lone surrogates, of which no URL and no name can be made."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise FwdProxyError(not_text(text))


def not_text(text: str) -> str:
    """What to say of an argument some of whose bytes are no UTF-8."""
    return f"{_shown(text)} is not UTF-8 text; write it in UTF-8, or in a URL each byte as %XX"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
