"""What people write, and what the cache takes it for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.control import urls
from fwdproxy.errors import FwdProxyError
from fwdproxy.store.purging import PurgeRule


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", "https://example.com/"),
        (" HTTPS://Example.COM:443/A?b=c#d ", "https://example.com/A?b=c"),
        ("http://example.com:8080/%7Ea/ä b", "http://example.com:8080/%7Ea/%C3%A4%20b"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[2001:DB8::1]/?x", "http://[2001:db8::1]/?x"),
        ("http://example.com?x=[1]|{2}", "http://example.com/?x=[1]|{2}"),
    ],
)
def test_target(url: str, target: str) -> None:
    assert str(urls.target_of(url)).replace("%7B", "{").replace("%7D", "}") == target


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("example.com", "'example.com' is not a URL; write all of it, such as https://example.com/"),
        ("/etc/passwd", "'/etc/passwd' is not a URL; write"),
        ("", "'' is not a URL; write"),
        ("ftp://example.com/", "'ftp://example.com/' can't be asked for: the scheme 'ftp'"),
        ("https://user@example.com/", "'https://user@example.com/' can't be asked for: the authority"),
        ("https://example.com:0/", "can't be asked for: the port 0"),
        ("https:///x", "can't be asked for: the authority"),
        ("https://a.example/" + "a" * 9000, "is longer than 8192 characters"),
    ],
)
def test_no_target(url: str, complaint: str) -> None:
    with pytest.raises(FwdProxyError) as caught:
        urls.target_of(url)
    assert complaint in str(caught.value)


@given(st.text(max_size=60))
def test_bad_urls_raise_nothing_else(text: str) -> None:
    for url in (text, f"https://{text}", f"https://a.example/{text}"):
        try:
            assert str(urls.target_of(url)).isascii()
        except FwdProxyError:
            continue


@pytest.mark.parametrize(
    ("kind", "value", "origin", "keyed", "rules"),
    [
        ("url", "HTTP://A.example", "", "", [PurgeRule("url", "http://a.example/")]),
        (
            "url",
            "http://a.example/x?utm=1",
            "",
            "http://a.example/x",
            [PurgeRule("url", "http://a.example/x?utm=1"), PurgeRule("url", "http://a.example/x")],
        ),
        ("prefix", "HTTP://A.example/Img/", "", "", [PurgeRule("prefix", "http://a.example/Img/")]),
        ("prefix", "https://cdn", "", "", [PurgeRule("prefix", "https://cdn")]),
        ("host", "A.example.", "", "", [PurgeRule("host", "a.example")]),
        ("host", ".A.example", "", "", [PurgeRule("host", ".a.example")]),
        ("host", "bücher.example", "", "", [PurgeRule("host", "xn--bcher-kva.example")]),
        ("host", "[2001:db8::1]", "", "", [PurgeRule("host", "2001:db8::1")]),
        ("host", "2001:DB8:0::1", "", "", [PurgeRule("host", "2001:db8::1")]),
        ("host", ".bücher.example", "", "", [PurgeRule("host", ".xn--bcher-kva.example")]),
        ("host", "_dmarc.a_b.example", "", "", [PurgeRule("host", "_dmarc.a_b.example")]),
        ("prefix", "https://Example.com:443", "", "", [PurgeRule("prefix", "https://example.com/")]),
        ("prefix", "http://127.0.0.1:07801", "", "", [PurgeRule("prefix", "http://127.0.0.1:7801/")]),
        ("prefix", "http://127.0", "", "", [PurgeRule("prefix", "http://127.0")]),
        ("prefix", "http://bücher.example", "", "", [PurgeRule("prefix", "http://xn--bcher-kva.example")]),
        ("prefix", "http://[2001:DB8:0::1]", "", "", [PurgeRule("prefix", "http://[2001:db8::1]")]),
        ("prefix", "http://", "", "", [PurgeRule("prefix", "http://")]),
        ("tag", "news", "", "", [PurgeRule("tag", "news")]),
        ("group", "sprites", "HTTPS://A.example:443", "", [PurgeRule("group", "sprites", "https://a.example")]),
        ("all", "", "", "", [PurgeRule("all")]),
    ],
)
def test_purges(kind: str, value: str, origin: str, keyed: str, rules: list[PurgeRule]) -> None:
    assert urls.purge_rules(kind, value, origin, keyed) == rules


@pytest.mark.parametrize(
    ("kind", "value", "origin", "complaint"),
    [
        ("url", "a.example", "", "'a.example' is not a URL"),
        ("prefix", "a.example/", "", "'a.example/' is not how a URL begins"),
        ("prefix", "ftp://a/", "", "'ftp://a/' is not how a URL begins"),
        ("prefix", "https://user@a.example", "", "'https://user@a.example' can't be asked for: the authority"),
        ("url", "http://a.example/\udcff", "", "'http://a.example/\\udcff' is not UTF-8 text; write it"),
        ("prefix", "http://a\udcff", "", "is not UTF-8 text"),
        ("host", "a\udcff", "", "is not UTF-8 text"),
        ("tag", "\udcff", "", "'\\udcff' is not UTF-8 text"),
        ("group", "\udcff", "https://a.example", "is not UTF-8 text"),
        ("group", "a", "https://a.example/\udcff", "is not UTF-8 text"),
        ("host", "https://a.example/", "", "'https://a.example/' is not a host; write its name, or .example.com"),
        ("host", "*.a.example", "", "is not a host"),
        ("host", "a.example:443", "", "is not a host"),
        ("host", "", "", "is not a host"),
        ("host", ".", "", "is not a host"),
        ("tag", "", "", "a purge by tag needs a value"),
        ("group", "x", "a.example", "'a.example' is not a URL"),
        ("some", "x", "", "'some' is not a kind of purge"),
    ],
)
def test_no_purge(kind: str, value: str, origin: str, complaint: str) -> None:
    with pytest.raises(FwdProxyError) as caught:
        urls.purge_rules(kind, value, origin)
    assert complaint in str(caught.value)


def test_fields_of_a_request() -> None:
    fields = urls.fields_of(["accept-encoding: br", "X-A:b:c"])
    assert fields == (("accept-encoding", "br"), ("X-A", "b:c"))
    assert urls.headers_of(fields).fields == ((b"accept-encoding", b"br"), (b"X-A", b"b:c"), (b"Accept", b"*/*"))


@pytest.mark.parametrize("line", ["", "x", ": a", "a b: c", "a: b\r\nc: d", "a: \0", "a: \u20ac"])
def test_no_field(line: str) -> None:
    with pytest.raises(FwdProxyError, match="is not a header field; write 'Name: value'"):
        urls.headers_of(urls.fields_of([line]))
