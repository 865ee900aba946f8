"""Which responses a purge names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.errors import StoreError
from fwdproxy.messages import Headers
from fwdproxy.store.purging import EVERYWHERE, Numbered, PurgeRule, RuleSet, host_of, is_host, tags_of

URI = "https://www.example.com:8443/a/b?c=d"


def rules(*given: PurgeRule, dropped: int = 0) -> RuleSet:
    """Purges numbered from ``dropped`` + 1 on."""
    numbered = [Numbered(dropped + place, rule, 0.0) for place, rule in enumerate(given, 1)]
    return RuleSet(numbered, dropped + len(given), dropped)


def outdates(rule: PurgeRule, uri: str = URI, *fields: tuple[bytes, bytes]) -> bool:
    return rules(rule).outdates(uri, fields, 0, swept=EVERYWHERE)


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (PurgeRule("all"), True),
        (PurgeRule("url", URI), True),
        (PurgeRule("url", URI[:-1]), False),
        (PurgeRule("url", URI + "e"), False),
        (PurgeRule("prefix", "https://www.example.com:8443/a/"), True),
        (PurgeRule("prefix", URI), True),
        (PurgeRule("prefix", URI + "e"), False),
        (PurgeRule("prefix", "http://www.example.com"), False),
        (PurgeRule("host", "www.example.com"), True),
        (PurgeRule("host", "WWW.Example.COM"), True),
        (PurgeRule("host", "example.com"), False),
        (PurgeRule("host", ".example.com"), True),
        (PurgeRule("host", ".www.example.com"), True),
        (PurgeRule("host", ".a.www.example.com"), False),
        (PurgeRule("host", ".ample.com"), False),
        (PurgeRule("host", ".com"), True),
        (PurgeRule("tag", "x"), False),
        (PurgeRule("group", "g", "https://www.example.com:8443"), False),
    ],
    ids=lambda value: f"{value.kind}:{value.value}" if isinstance(value, PurgeRule) else str(value),
)
def test_what_a_purge_by_uri_names(rule: PurgeRule, named: bool) -> None:
    assert outdates(rule) is named


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("http://example.com/", "example.com"),
        ("https://example.com:8443/x?y=http://other.example/", "example.com"),
        ("http://[::1]:8080/", "::1"),
        ("http://[2001:db8::1]/", "2001:db8::1"),
        ("http://192.0.2.1:80/", "192.0.2.1"),
        ("not a uri", ""),
        ("", ""),
    ],
)
def test_the_host_of_a_key(uri: str, host: str) -> None:
    assert host_of(uri) == host


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Example.COM", "example.com"),
        ("[::1]", "::1"),
        ("bücher.example", "xn--bcher-kva.example"),
        (".Ex.org", ".ex.org"),
    ],
)
def test_a_host_is_compared_in_the_form_of_keys(given: str, kept: str) -> None:
    assert PurgeRule("host", given).value == kept


@pytest.mark.parametrize(
    ("pattern", "uri", "fits"),
    [
        ("example.com", "https://example.com/", True),
        (".example.com", "https://example.com/", True),
        (".example.com", "https://a.b.example.com:1/", True),
        (".example.com", "https://badexample.com/", False),
        ("example.com", "https://a.example.com/", False),
    ],
)
def test_hosts_that_fit_a_pattern(pattern: str, uri: str, fits: bool) -> None:
    assert is_host(pattern, uri) is fits
    assert outdates(PurgeRule("host", pattern), uri) is fits


@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ((b"Cache-Tag", b"a, b ,,C"), [b"a", b"b", b"c"]),
        ((b"cache-tag", b"two words,x"), [b"two words", b"x"]),
        ((b"Surrogate-Key", b"a  b\tC"), [b"a", b"b", b"c"]),
        ((b"xkey", b"a,b c"), [b"a,b", b"c"]),
        ((b"Cache-Tag", b""), []),
        ((b"Cache-Tag", b"\xff\x00,,"), [b"\xff\x00"]),
        ((b"X-Other", b"a"), []),
    ],
)
def test_the_tags_of_a_response(field: tuple[bytes, bytes], tags: list[bytes]) -> None:
    assert list(tags_of(Headers([field, field]))) == tags * 2


@pytest.mark.parametrize(
    ("tag", "named"), [("news", True), ("NEWS", True), ("new", False), ("sport", True), ("ünter", True), ("x", False)]
)
def test_what_a_purge_by_tag_names(tag: str, named: bool) -> None:
    fields = (b"Cache-Tag", "News,ünter".encode()), (b"Surrogate-Key", b"other sport")
    assert outdates(PurgeRule("tag", tag), URI, *fields) is named


@pytest.mark.rfc("9875", "2.1", "same-origin")
@pytest.mark.parametrize(
    ("group", "origin", "named"),
    [
        ("g", "https://www.example.com:8443", True),
        ("g", "HTTPS://WWW.example.com:8443/", True),
        ("G", "https://www.example.com:8443", False),
        ("g", "https://www.example.com", False),
        ("g", "http://www.example.com:8443", False),
        ("second", "https://www.example.com:8443", True),
        ("none", "https://www.example.com:8443", False),
    ],
)
def test_what_a_purge_by_group_names(group: str, origin: str, named: bool) -> None:
    assert outdates(PurgeRule("group", group, origin), URI, (b"Cache-Groups", b'"g", "second"')) is named


def test_malformed_groups_are_none() -> None:
    assert not outdates(PurgeRule("group", "g", "https://www.example.com:8443"), URI, (b"Cache-Groups", b'"g", ('))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("everything", ""), "'everything'"),
        (("all", "x"), "takes no value"),
        (("url", ""), "needs a value"),
        (("group", "g"), "needs origin, such as https://example.com"),
        (("tag", "g", "https://example.com"), "takes no origin"),
        (("host", "https://example.com/"), "the host alone"),
        (("host", "example.com:80"), "the host alone"),
        (("host", "ü" * 300), "no valid host name"),
        (("tag", "\ud800"), "isn't text"),
    ],
)
def test_a_purge_that_says_nothing_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(StoreError, match=text):
        PurgeRule(*arguments)


@pytest.mark.parametrize(
    ("moment", "swept", "outdated"),
    [
        # Purges up to 10 have been dropped, 11 names the URI, 12 doesn't, 12 is the newest.
        (12, 0, False),
        (11, 0, False),
        (10, 0, True),
        (10, EVERYWHERE, True),
        (9, 0, True),
        (0, EVERYWHERE, True),
    ],
)
def test_only_what_was_asked_for_before_a_purge_is_outdated(moment: int, swept: int, outdated: bool) -> None:
    given = rules(PurgeRule("url", URI), PurgeRule("url", "http://other.example/"), dropped=10)
    assert given.outdates(URI, (), moment, swept=swept) is outdated


@pytest.mark.parametrize(
    ("moment", "swept", "outdated"),
    [
        (9, 0, True),
        (9, 9, True),
        (9, 10, False),
        (9, EVERYWHERE, False),
        (10, 0, False),
        (0, 10, False),
    ],
)
def test_what_a_dropped_purge_may_have_named_is_outdated_where_it_was_not_swept(
    moment: int, swept: int, outdated: bool
) -> None:
    given = rules(PurgeRule("url", "http://other.example/"), dropped=10)
    assert given.outdates(URI, (), moment, swept=swept) is outdated
    assert not given.idle(swept)
    assert RuleSet((), 10, 10).outdates(URI, (), moment, swept=swept) is outdated
    assert RuleSet((), 10, 10).idle(swept) is (swept >= 10)


def test_the_newest_of_equal_purges_counts() -> None:
    given = rules(PurgeRule("tag", "A"), PurgeRule("all"), PurgeRule("tag", "a"))
    assert given.outdates(URI, ((b"cache-tag", b"a"),), 2, swept=EVERYWHERE)
    assert not given.outdates(URI, ((b"cache-tag", b"b"),), 2, swept=EVERYWHERE)
    assert (given.outdates_all(1), given.outdates_all(2)) == (True, False)


@given(
    st.text(max_size=60), st.lists(st.tuples(st.sampled_from([b"Cache-Tag", b"xkey", b"Cache-Groups"]), st.binary()))
)
def test_nothing_raises_whatever_the_key_and_the_head(uri: str, fields: list[tuple[bytes, bytes]]) -> None:
    given = rules(
        PurgeRule("tag", "a"), PurgeRule("group", "a", "https://a"), PurgeRule("host", ".a"), PurgeRule("prefix", "b")
    )
    assert given.outdates(uri, fields, 0, swept=EVERYWHERE) in {True, False}
