"""The user's own keys: recipes and ignored parameters."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.errors import ConfigError
from fwdproxy.messages import TargetURI
from fwdproxy.policy.keying import IgnoredParams, Keying, KeyURI, Recipe, tracking_params
from fwdproxy.policy.keys import parse_target


def target(uri: str) -> TargetURI:
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    return parse_target(scheme, authority, slash + path)


def recipes(*pairs: tuple[str, str]) -> Keying:
    return Keying(recipes=tuple(Recipe.build(pattern, key) for pattern, key in pairs))


MIRRORS = (r"https?://mirror\d\.example/(.*)", r"https://mirrors.internal/\1")
SIGNED = (r"(https://files\.example/[^?]*)\?(?:.*&)?sig=[0-9a-f]+", r"\1")


@pytest.mark.parametrize(
    ("keying", "uri", "expected"),
    [
        (Keying.default, "https://a.example/x?utm_source=y", "https://a.example/x?utm_source=y"),
        (recipes(MIRRORS), "https://mirror1.example/a/b?c", "https://mirrors.internal/a/b?c"),
        (recipes(MIRRORS), "http://mirror2.example/a/b?c", "https://mirrors.internal/a/b?c"),
        (recipes(MIRRORS), "http://mirror2.example:8080/a", None),
        (recipes(MIRRORS), "https://mirror10.example/a", None),
        # From end to end.
        (recipes((r"https://a\.example/x", "https://b.internal/")), "https://a.example/xy", None),
        # The result is normalised as a target is.
        (
            recipes((r"https://a\.example/(.*)", r"HTTPS://B.Internal:443?\1")),
            "https://a.example/q",
            "https://b.internal/?q",
        ),
        (recipes((r"https://(a)\.example/.*", r"https://[::1]/\1")), "https://a.example/", "https://[::1]/a"),
        # An unmatched group is nothing.
        (
            recipes((r"https://a\.example/(x)?(y)?", r"https://b.internal/\1\2")),
            "https://a.example/y",
            "https://b.internal/y",
        ),
        # A result that is no URI is none.
        (recipes((r"https://a\.example/(.*)", r"\1")), "https://a.example/x", None),
        (recipes((r"https://a\.example/(.*)", r"\1")), "https://a.example/ftp://b.internal/", None),
        (recipes((r"https://a\.example/(.*)", r"https://user@\1/")), "https://a.example/b", None),
        (recipes((r"https://a\.example/(.*)", r"https://b.internal:\1/")), "https://a.example/99999", None),
        (recipes((r"https://a\.example/(.*)", r"https://b.internal/#\1")), "https://a.example/x", None),
        (recipes((r"https://a\.example/(.*)", r"https://b.internal/ \1")), "https://a.example/x", None),
        # The first that is for a URI counts, and one that makes no URI isn't for it.
        (
            recipes(MIRRORS, (r"https://.*/(.*)", r"https://c.internal/\1")),
            "https://mirror1.example/a",
            "https://mirrors.internal/a",
        ),
        (
            recipes((r"https://a\.example/(.*)", r"\1"), (r"https://a\.example/(.*)", r"https://b.internal/\1")),
            "https://a.example/x",
            "https://b.internal/x",
        ),
        # Long enough to be slow.
        (recipes(MIRRORS), "https://mirror1.example/" + "a" * 5000, None),
        (recipes(MIRRORS), "https://mirror1.example/" + "a" * 2000, "https://mirrors.internal/" + "a" * 2000),
    ],
)
def test_recipes(keying: Keying, uri: str, expected: str | None) -> None:
    found = keying.uri(target(uri))
    assert found.uri == (uri if expected is None else expected)
    assert bool(found.why) is (expected not in {None, uri})
    assert keying.uri(target(uri)) == found


def test_a_group_may_hold_the_host_if_it_ends_before_the_path() -> None:
    keying = recipes((r"(https://files\.example)/([^?]*)\?sig=.*", r"\1/\2"))
    assert keying.uri(target("https://files.example/a?sig=1")).uri == "https://files.example/a"


@pytest.mark.parametrize(
    ("pattern", "uri"),
    [
        (r"https://.*\.cdn\.example/(.*)", "https://evil.example/x.cdn.example/lib.js"),
        (r"https://.*\.cdn\.example/(.*)", "https://evil.example/?x.cdn.example/lib.js"),
        (r"https://[^?]*cdn\.example/(.*)", "https://evil.example/cdn.example/lib.js"),
        (r"https?://.+cdn\.example/(.*)", "http://evil.example:8080/cdn.example/lib.js"),
        (r"https://cdn\.example/(.*)|.*(lib.js)", "https://evil.example/lib.js"),
        (r".*://cdn\.example/(.*)", "https://evil.example/://cdn.example/lib.js"),
        (r"(?s:.*)cdn\.example/(.*)|https://b\.example/", "https://evil.example/cdn.example/lib.js"),
    ],
)
def test_no_path_poses_as_a_host(pattern: str, uri: str) -> None:
    assert recipes((pattern, r"https://cdn.internal/\1")).uri(target(uri)) == KeyURI(uri)


@pytest.mark.parametrize(
    ("pattern", "key", "told"),
    [
        ("https://a[/", "https://b/", "unterminated character set"),
        (r"https://a\.example/(", "https://b/", "unterminated subpattern"),
        (r".*\.iso", "https://b/", "names no scheme and host"),
        (r"/(.*)", "https://b/", "names no scheme and host"),
        (r"https://a.example/(.*)", "https://b/", r"a dot is '\.'"),
        (r"(https://a\.example/.*)", r"\1", "unterminated subpattern"),
        (r"https://a\.example/(.*)", r"https://b/\2", "invalid group reference 2"),
        (r"https://a\.example/(.*)", r"https://b/\g<x>", "unknown group name 'x'"),
        (r"https://a\.example/(.*)", r"https://b/\q", "bad escape"),
        (r"https://a\.example/(.*)", r"b.internal/\1", "not an absolute http or https URI"),
        (r"https://a\.example/(.*)", "ftp://b.internal/", "not an absolute http or https URI"),
        (r"https://a\.example/(.*)", "", "not an absolute http or https URI"),
        ("(" * 5000 + "https://a", "https://b/", "a recipe can't be used"),
    ],
)
def test_recipes_that_are_refused(pattern: str, key: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Recipe.build(pattern, key)
    assert told in str(refused.value)
    assert "write" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "uri"),
    [
        (r"https://[a./]+\.example/x", "https://a.a.example/x"),
        (r"https:\/\/a\.example\/x", "https://a.example/x"),
        (r"(?i)HTTPS://A\.example/X", "https://a.example/x"),
        (r"https://(?:a|b)\.example(?::\d+)?/x", "https://b.example:8443/x"),
        (r"https://[]/]\.example/x|https://a\.example/x", "https://a.example/x"),
        (r"https://.{1,3}\.example/x", "https://a.example/x"),
    ],
)
def test_where_the_host_of_a_pattern_ends(pattern: str, uri: str) -> None:
    made = Recipe.build(pattern, "https://b.internal/").apply(target(uri))
    assert made == (None if "[]/]" in pattern else "https://b.internal/")


IGNORED = IgnoredParams.build(["fbclid", "utm_*", "a[0-9]", "long name", "käse?"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?fbclid=1", ""),
        ("?fbclid", ""),
        ("?utm_source=x&utm_medium=y", ""),
        ("?b=1&fbclid=1&c=%7E", "?b=1&c=%7E"),
        ("?fbclid=1&b=2", "?b=2"),
        ("?b=2&fbclid=1", "?b=2"),
        ("?b&&fbclid=1&&c", "?b&&&c"),
        ("?%66bclid=1&b", "?b"),
        ("?utm%5Fid=1&b", "?b"),
        ("?long+name=1&long%20name=2&b", "?b"),
        ("?k%C3%A4se1=1&b", "?b"),
        ("?a1=1&ab=2", "?ab=2"),
        # Nothing else is touched.
        ("", ""),
        ("?", "?"),
        ("?&", "?&"),
        ("?FBCLID=1", "?FBCLID=1"),
        ("?b=fbclid=1", "?b=fbclid=1"),
        ("?fbclidx=1&xfbclid=2", "?fbclidx=1&xfbclid=2"),
        ("?x=1?fbclid=2", "?x=1?fbclid=2"),
        ("?b=1;fbclid=2", "?b=1;fbclid=2"),
        ("?xutm_id", "?xutm_id"),
        ("?=fbclid", "?=fbclid"),
    ],
)
def test_ignored_parameters(query: str, expected: str) -> None:
    found = Keying(ignored=IGNORED).uri(target("https://a.example/x" + query))
    assert found.uri == "https://a.example/x" + expected
    assert bool(found.why) is (query != expected)


def test_why() -> None:
    keying = Keying(recipes(MIRRORS).recipes, IGNORED)
    found = keying.uri(target("https://mirror1.example/x?utm_id=1&fbclid=2&utm_id=3&b"))
    assert found == KeyURI(
        "https://mirrors.internal/x?b",
        r"the recipe for https?://mirror\d\.example/(.*); ignored parameters: utm_id, fbclid",
    )


def test_tracking_parameters_are_ignored_only_when_asked_for() -> None:
    assert {"utm_source", "gclid", "fbclid"} <= tracking_params()
    assert all(name == name.strip() and "*" not in name for name in tracking_params())
    assert not IgnoredParams.build([])
    assert not Keying.default.ignored
    known = IgnoredParams.build(["x"], tracking=True)
    assert known.without("http://a.example/?gclid=1&x=2&y=3") == ("http://a.example/?y=3", ("gclid", "x"))


@given(st.text("ab?&=%61+_utm*", max_size=40))
def test_only_whole_parameters_go(query: str) -> None:
    uri, dropped = IGNORED.without(f"http://a.example/?{query}")
    kept = uri.partition("?")[2].split("&")
    assert IGNORED.without(uri) == (uri, ())
    assert [piece for piece in kept if piece] == [
        piece for piece in query.split("&") if piece and IGNORED.without(f"?{piece}") == (f"?{piece}", ())
    ]
    assert dropped or uri == f"http://a.example/?{query}"


@given(st.lists(st.text("ab*?[]!-/.\\", max_size=8), max_size=4))
def test_any_glob_is_one(globs: list[str]) -> None:
    IgnoredParams.build(globs).without("http://a.example/?a=1&b=2&ab")


def test_long_queries_take_linear_time() -> None:
    ignored = IgnoredParams.build(["*a*b*c*", "x*y?z*"], tracking=True)
    started = time.process_time()
    for unit in ("a", "ab", "&", "=", "%", "%61", "+", "a&", "x&y&", "xy"):
        ignored.without("http://a.example/?" + unit * (64 * 1024 // len(unit)))
    assert time.process_time() - started < 2
