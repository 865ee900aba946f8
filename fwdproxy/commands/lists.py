"""Lists of URLs: plain lines, or the XML of sitemaps.org (a sitemap or an index of sitemaps), also gzipped.

All of it comes from elsewhere: sizes and numbers are bounded, and XML may not define anything of its own.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final
from xml.parsers import expat

from fwdproxy.errors import FwdProxyError

LARGEST: Final = 50 * 1024 * 1024
"""Bytes of one list, unpacked: what sitemaps.org allows a sitemap."""

MOST: Final = 50_000
"""URLs of one sitemap, by the same rules; of a list of lines, ten times as many."""

_LONGEST: Final = 8192
_GZIP: Final = b"\x1f\x8b"
_WHOLE: Final = {"urlset": "url", "sitemapindex": "sitemap"}


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list names: URLs to fetch, and further sitemaps to read."""

    urls: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


def read_list(data: bytes, name: str, *, only_sitemap: bool = False) -> Listing:
    """What ``data`` names; ``name`` is for errors. Raises FwdProxyError for what is no list of URLs."""
    text = _unpacked(data, name)
    start = text.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"<" or text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _sitemap(text, name)
    if only_sitemap:
        raise FwdProxyError(f"{name} is not a sitemap")
    return _lines(text, name)


def _unpacked(data: bytes, name: str) -> bytes:
    if len(data) > LARGEST:
        raise FwdProxyError(f"{name} is larger than {LARGEST // 1024**2} MiB; split it")
    if not data.startswith(_GZIP):
        return data
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as packed:  # of one member or several, as "cat a.gz b.gz" makes them
            text = packed.read(LARGEST + 1)
    except EOFError:
        raise FwdProxyError(f"{name} is not whole: its gzip compression ends early") from None
    except (gzip.BadGzipFile, zlib.error):
        raise FwdProxyError(f"{name} is not whole: its gzip compression is broken") from None
    if len(text) > LARGEST:
        raise FwdProxyError(f"{name} is larger than {LARGEST // 1024**2} MiB when unpacked; split it")
    return text


def _lines(text: bytes, name: str) -> Listing:
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise FwdProxyError(f"{name} is neither UTF-8 text with a URL in each line nor a sitemap") from None
    urls = [line for each in lines if (line := each.strip()) and not line.startswith("#")]
    if len(urls) > 10 * MOST:
        raise FwdProxyError(f"{name} has {len(urls)} URLs; split it into lists of at most {10 * MOST}")
    return Listing(urls)


class _Sitemap:
    """Handlers that collect what stands in ``loc`` of each ``url`` or ``sitemap``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._path: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self.listing = Listing()

    def doctype(self, *_: object) -> None:
        raise FwdProxyError(f"{self._name} has a document type declaration, which no sitemap needs; it is not read")

    def start(self, name: str, _: object) -> None:
        local = name.rpartition(" ")[2]
        if not self._path and local not in _WHOLE:
            raise FwdProxyError(f"{self._name} is XML, but no sitemap: its first element is {local[:80]!r}")
        self._path.append(local)
        self._text, self._length = [], 0

    def text(self, data: str) -> None:
        if self._path[-1:] == ["loc"] and self._length <= _LONGEST:
            self._text.append(data)
            self._length += len(data)

    def end(self, _: str) -> None:
        if len(self._path) == 3 and self._path[2] == "loc" and _WHOLE[self._path[0]] == self._path[1]:
            self._add("".join(self._text).strip())
        self._path.pop()

    def _add(self, url: str) -> None:
        found = self.listing.urls if self._path[0] == "urlset" else self.listing.sitemaps
        if url:
            found.append(url)
        if len(found) > MOST:
            raise FwdProxyError(f"{self._name} has more than {MOST} entries, which no sitemap may have")


def _sitemap(text: bytes, name: str) -> Listing:
    parser = expat.ParserCreate(namespace_separator=" ")
    handlers = _Sitemap(name)
    parser.StartDoctypeDeclHandler = handlers.doctype
    parser.StartElementHandler = handlers.start
    parser.CharacterDataHandler = handlers.text
    parser.EndElementHandler = handlers.end
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise FwdProxyError(f"{name} is not well-formed XML ({what} in line {error.lineno})") from None
    except (LookupError, ValueError):
        # Python's table for an encoding that expat doesn't know: there is none, or it has more than one byte a letter.
        raise FwdProxyError(f"{name} is XML in an encoding that can't be read; write it in UTF-8") from None
    return handlers.listing
