"""Lists of URLs and sitemaps: what they name, and that nothing hostile in them gets further."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.commands import lists
from fwdproxy.commands.lists import Listing, read_list
from fwdproxy.errors import FwdProxyError

SITEMAP = b"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
  <url><loc> https://a.example/?a=1&amp;b=2 </loc><lastmod>2025-01-01</lastmod></url>
  <url><image:image><image:loc>https://a.example/no.png</image:loc></image:image><loc>https://a.example/x</loc></url>
  <url><loc></loc></url>
</urlset>"""
BOTH = ["https://a.example/", "https://b.example/"]
INDEX = b"""<sitemapindex><sitemap><loc>https://a.example/1.xml.gz</loc></sitemap></sitemapindex>"""


@pytest.mark.parametrize(
    ("data", "listing"),
    [
        (b"", Listing()),
        (
            b"https://a.example/\n\n# no\r\n  http://b.example/x y  \n",
            Listing(["https://a.example/", "http://b.example/x y"]),
        ),
        (b"\xef\xbb\xbfhttps://a.example/", Listing(["https://a.example/"])),
        (b"not a url", Listing(["not a url"])),
        (SITEMAP, Listing(["https://a.example/?a=1&b=2", "https://a.example/x"])),
        (
            b"\xef\xbb\xbf\n" + SITEMAP.partition(b"\n")[2],
            Listing(["https://a.example/?a=1&b=2", "https://a.example/x"]),
        ),
        (
            SITEMAP.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
            Listing(["https://a.example/?a=1&b=2", "https://a.example/x"]),
        ),
        (INDEX, Listing([], ["https://a.example/1.xml.gz"])),
        (gzip.compress(INDEX), Listing([], ["https://a.example/1.xml.gz"])),
        (gzip.compress(b"https://a.example/\n") + gzip.compress(b"https://b.example/"), Listing(BOTH)),
        (gzip.compress(b"https://a.example/\nhttps://b.example/") + bytes(512), Listing(BOTH)),
        (b"<urlset/>", Listing()),
        (b"<urlset><sitemap><loc>https://a.example/</loc></sitemap><loc>x</loc></urlset>", Listing()),
    ],
)
def test_what_a_list_names(data: bytes, listing: Listing) -> None:
    assert read_list(data, "list") == listing


UNREAD = "list is XML in an encoding that can't be read; write it in UTF-8"
ODD_CODINGS = ["foo", "shift_jis", "utf-7", "idna", "undefined", "hex"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\xff\x00", "list is neither UTF-8 text with a URL in each line nor a sitemap"),
        (b"<html><body/></html>", "list is XML, but no sitemap: its first element is 'html'"),
        (b"<urlset><url></urlset>", r"list is not well-formed XML \(mismatched tag in line 1\)"),
        (b"<urlset>", r"list is not well-formed XML \(no element found in line 1\)"),
        (
            b"<urlset><url><loc>&nbsp;</loc></url></urlset>",
            r"list is not well-formed XML \(undefined entity in line 1\)",
        ),
        (
            b'<!DOCTYPE urlset [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><urlset>&b;</urlset>',
            "list has a document type declaration, which no sitemap needs; it is not read",
        ),
        (b'<!DOCTYPE urlset SYSTEM "file:///etc/passwd"><urlset/>', "list has a document type declaration"),
        (gzip.compress(b"https://a.example/")[:-9], "list is not whole: its gzip compression ends early"),
        (b"\x1f\x8b" + b"\xff" * 20, "list is not whole: its gzip compression is broken"),
        (gzip.compress(b"https://a.example/") + b"more", "list is not whole: its gzip compression is broken"),
        (gzip.compress(b"a\n") + gzip.compress(b"b")[:-9], "list is not whole: its gzip compression ends early"),
        *((f'<?xml version="1.0" encoding="{coding}"?><urlset/>'.encode(), UNREAD) for coding in ODD_CODINGS),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(data: bytes, complaint: str) -> None:
    with pytest.raises(FwdProxyError, match=f"^{complaint}") as caught:
        read_list(data, "list")
    assert "\n" not in str(caught.value)


def test_lines_are_no_sitemap() -> None:
    with pytest.raises(FwdProxyError, match="^it is not a sitemap$"):
        read_list(b"https://a.example/", "it", only_sitemap=True)


def test_sizes_and_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LARGEST", 10_000)
    monkeypatch.setattr(lists, "MOST", 2)
    with pytest.raises(FwdProxyError, match="is larger than"):
        read_list(b"a" * 10_001, "list")
    with pytest.raises(FwdProxyError, match="is larger than .* when unpacked"):
        read_list(gzip.compress(b"a" * 10_001), "list")
    with pytest.raises(FwdProxyError, match="is larger than .* when unpacked"):
        read_list(gzip.compress(b"a" * 6000) * 2, "list")
    with pytest.raises(FwdProxyError, match="has more than 2 entries"):
        read_list(b"<urlset>" + b"<url><loc>a</loc></url>" * 3 + b"</urlset>", "list")
    with pytest.raises(FwdProxyError, match="has 21 URLs; split it"):
        read_list(b"a\n" * 21, "list")


@given(st.binary(max_size=200), st.sampled_from([b"", b"<", b"<urlset>", b"\x1f\x8b"]))
def test_bad_lists_raise_nothing_else(data: bytes, start: bytes) -> None:
    for text in (start + data, gzip.compress(start + data), zlib.compress(data)):
        try:
            read_list(text, "list")
        except FwdProxyError:
            continue
