import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.errors import RequestRefused
from fwdproxy.messages import CacheKey, Origin, TargetURI
from fwdproxy.policy.keying import IgnoredParams, Keying, Recipe
from fwdproxy.policy.keys import cache_key, content_digest, key_of, method_kind, parse_target
from tests.policy.builders import fields, get


@pytest.mark.parametrize(
    ("scheme", "authority", "path", "expected"),
    [
        ("http", "Example.COM", "", "http://example.com/"),
        ("HTTP", "example.com:80", "/", "http://example.com/"),
        ("http", "example.com:", "/", "http://example.com/"),
        ("http", "example.com:8080", "/", "http://example.com:8080/"),
        ("https", "example.com:443", "/a", "https://example.com/a"),
        ("https", "example.com:80", "/a", "https://example.com:80/a"),
        ("http", "example.com", "?q", "http://example.com/?q"),
        ("http", "example.com", "*", "http://example.com*"),
        # Nothing else is normalised.
        ("http", "example.com", "/A/../b//%7e%2F?", "http://example.com/A/../b//%7e%2F?"),
        ("http", "example.com.", "/", "http://example.com./"),
        ("http", "under_score.example", "/", "http://under_score.example/"),
        ("http", "[2001:DB8:0::1]:8080", "/", "http://[2001:db8::1]:8080/"),
        ("http", "[::1]", "/", "http://[::1]/"),
        ("http", "127.0.0.1", "/", "http://127.0.0.1/"),
        ("http", "bücher.example", "/", "http://xn--bcher-kva.example/"),
        ("http", "example.com", "/ü", "http://example.com/ü"),
        ("http", "example.com", '/"<>\\^`{|}', 'http://example.com/"<>\\^`{|}'),
    ],
)
def test_parse_target(scheme: str, authority: str, path: str, expected: str) -> None:
    assert str(parse_target(scheme, authority, path)) == expected


@pytest.mark.parametrize(
    ("scheme", "authority", "path"),
    [
        ("ftp", "example.com", "/"),
        ("", "example.com", "/"),
        ("http", "", "/"),
        ("http", ":80", "/"),
        ("http", "user@example.com", "/"),
        ("http", "user:password@example.com", "/"),
        ("http", "example.com:0", "/"),
        ("http", "example.com:00000", "/"),
        ("http", "[::1]:0", "/"),
        ("https", "127.0.0.1:0", "/"),
        ("http", "a" * 256, "/"),
        ("http", "é" * 256, "/"),
        ("x" * 1000, "example.com", "/"),
        ("http", "[" + "f" * 1000 + "]", "/"),
        ("http", "example.com:65536", "/"),
        ("http", "example.com:999999", "/"),
        ("http", "example.com:x", "/"),
        ("http", "example.com:80:80", "/"),
        ("http", "exa mple.com", "/"),
        ("http", "exa\x00mple.com", "/"),
        ("http", "example.com\r\nX: 1", "/"),
        ("http", "exam%zzple.com", "/"),
        ("http", "[::1", "/"),
        ("http", "[::1%25eth0]", "/"),
        ("http", "[1.2.3.4]", "/"),
        ("http", "[v1.x]", "/"),
        ("http", "::1", "/"),
        ("http", "a" * 64 + "é.example", "/"),
        ("http", "example.com", "/a#b"),
        ("http", "example.com", "/a b"),
        ("http", "example.com", "/a\r\nX: 1"),
        ("http", "example.com", "/a\x7f"),
        ("http", "example.com", "/\u20ac"),
    ],
)
def test_targets_that_are_refused(scheme: str, authority: str, path: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_target(scheme, authority, path)
    assert refused.value.status == 400
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_target_is_valid_or_refused(authority: str, path: str) -> None:
    try:
        target = parse_target("http", authority, path)
    except RequestRefused:
        return
    assert parse_target("http", target.origin.authority, target.path) == target
    str(target).encode("latin-1")


@pytest.mark.parametrize(
    ("method", "expected"),
    [("GET", "GET"), ("HEAD", "GET"), ("POST", None), ("get", None), ("QUERY", "QUERY"), ("OPTIONS", None), ("", None)],
)
def test_method_kind(method: str, expected: str | None) -> None:
    assert method_kind(method) == expected


TARGET = TargetURI(Origin("https", "example.com", 443), "/x?y")


@pytest.mark.rfc("9111", "2", "key")
def test_cache_key() -> None:
    expected = CacheKey("jp", "GET", "https://example.com/x?y")
    assert cache_key("jp", get(target=TARGET), Keying.default) == expected
    assert cache_key("jp", get(method="HEAD", target=TARGET), Keying.default, "digest") == expected
    assert cache_key("jp", get(method="POST", target=TARGET), Keying.default) is None
    assert key_of("jp", TARGET, Keying.default) == expected


@pytest.mark.rfc("10008", "2.7", "content-in-key")
def test_the_key_of_a_query_has_its_content() -> None:
    query = get(method="QUERY", target=TARGET)
    assert cache_key("jp", query, Keying.default, "digest") == CacheKey(
        "jp", "QUERY", "https://example.com/x?y", "digest"
    )
    assert cache_key("jp", query, Keying.default) is None


def test_keys_are_those_of_the_user() -> None:
    ignored = Keying(ignored=IgnoredParams.build(["y"]))
    recipe = Keying(recipes=(Recipe.build(r"https://example\.com/(.*)", r"https://b.internal/\1"),))
    assert key_of("jp", TARGET, ignored) == CacheKey("jp", "GET", "https://example.com/x")
    assert cache_key("jp", get(target=TARGET), recipe) == key_of("jp", TARGET, recipe)
    assert cache_key("jp", get(method="QUERY", target=TARGET), recipe, "d") == CacheKey(
        "jp", "QUERY", "https://b.internal/x?y", "d"
    )


JSON = "Content-Type: application/json"


@pytest.mark.rfc("10008", "2.7", "content-in-key")
@pytest.mark.rfc("10008", "2.7", "metadata-in-key")
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (([JSON], b"{}"), ([JSON], b"{}"), True),
        (([JSON], b"{}"), ([JSON, "Accept: */*", "Content-Length: 2"], b"{}"), True),
        (([JSON], b"{}"), (["content-type:  application/json "], b"{}"), True),
        (([], b""), ([], b""), True),
        (([JSON], b"{}"), ([JSON], b"{} "), False),
        (([JSON], b"{}"), ([JSON], b""), False),
        (([JSON], b"{}"), ([], b"{}"), False),
        (([JSON], b"{}"), (["Content-Type: text/plain"], b"{}"), False),
        (([JSON], b"{}"), ([JSON, JSON], b"{}"), False),
        (([JSON], b"{}"), ([JSON, "Content-Encoding: gzip"], b"{}"), False),
        (([JSON], b"{}"), ([JSON, "Content-Language: de"], b"{}"), False),
        (([JSON], b"{}"), ([JSON, "Content-Location: /q"], b"{}"), False),
        # Each byte belongs to one of them.
        ((["Content-Encoding: a"], b""), (["Content-Language: a"], b""), False),
        ((["Content-Type: ab"], b"c"), (["Content-Type: a"], b"bc"), False),
        ((["Content-Type: "], b""), ([], b""), False),
    ],
)
def test_content_digest(one: tuple[list[str], bytes], other: tuple[list[str], bytes], same: bool) -> None:
    first, second = (content_digest(fields(*lines), content) for lines, content in (one, other))
    assert (first == second) is same
    assert first and second
