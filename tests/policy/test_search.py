"""No-Vary-Search: draft-ietf-httpbis-no-vary-search."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.policy.search import EXACT, MAX_PARAMETERS, MAX_QUERY, SearchVariance, canonical, parse

U = "https://example.com/"


def ignoring(*names: str, ordered: bool = True) -> SearchVariance:
    return SearchVariance(ignored=frozenset(names), ordered=ordered)


def only(*names: str, ordered: bool = True) -> SearchVariance:
    return SearchVariance(only=frozenset(names), ordered=ordered)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'params=("a")', ignoring("a")),
        (b'params=("a" "b";x)', ignoring("a", "b")),
        (b"key-order", ignoring(ordered=False)),
        (b"key-order=?1;x", ignoring(ordered=False)),
        (b'key-order, params=("a")', ignoring("a", ordered=False)),
        (b'except=("a")', only("a")),
        (b"except=()", only()),
        (b'except=("a"), key-order', only("a", ordered=False)),
        # As earlier drafts had it.
        (b"params", only()),
        (b"params=?1", only()),
        (b'params, except=("a")', only("a")),
        (b"params, except=()", only()),
        # Names are written as in a URI.
        (b'params=("%C3%A9+%E6%B0%97")', ignoring("é 気")),
        (b'params=("a%20b" "c%2Bd" "%f6")', ignoring("a b", "c+d", "\ufffd")),
        # A later draft may say more.
        (b'unknown, params=("a")', ignoring("a")),
        (b'params=("a"), params=("b")', ignoring("b")),
    ],
)
def test_what_is_said(value: bytes, expected: SearchVariance) -> None:
    assert parse(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"unknown-key",
        b"params=?0",
        b"params=()",
        b"key-order=?0",
        b'key-order="not a boolean"',
        b"key-order=()",
        b'params="not a boolean or inner list"',
        b"params=(not-a-string)",
        b'params=("a" 1)',
        b'params=(%"a")',
        b'params=("a"), except=("x")',
        b"params=(), except=()",
        b'params=?0, except=("x")',
        b"params, except=(not-a-string)",
        b'params, except="not an inner list"',
        b"params, except=?1",
        b"except",
        b'except="x"',
        b'except=("x"), key-order=1',
        b'params=("a"',
        b'params=("\xff")',
        b'params=("a"),',
        b'Params=("a")',
        b'params=("' + b"a" * 20_000 + b'")',
    ],
)
def test_every_byte_counts_by_default_and_where_it_is_malformed(value: bytes | None) -> None:
    assert parse(value) == EXACT


@pytest.mark.parametrize(
    ("value", "one", "other", "equal"),
    [
        (b'params=("a")', "x?a=1&b=2", "x?b=2", True),
        (b'params=("a")', "x?a=1&b=2&a=3&a", "x?b=2", True),
        (b'params=("a")', "x?a=1", "x", True),
        (b'params=("a")', "x?a=1", "x?", True),
        (b'params=("a")', "x?%61=1", "x", True),
        (b'params=("a")', "x?A=1", "x", False),
        (b'params=("a")', "x?b=1", "x?b=2", False),
        (b'params=("a")', "x?b=1&c=2", "x?c=2&b=1", False),
        (b'params=("a")', "x?a=1", "y?a=1", False),
        (b'params=("a")', "x/?a=1", "x?a=1", False),
        (b'except=("q")', "x?q=1&a=2", "x?z&q=1", True),
        (b'except=("q")', "x?q=1&q=2", "x?q=2&q=1", False),
        (b"except=()", "x?a=1", "x", True),
        (b"except=()", "x?a=1", "y", False),
        (b"key-order", "x?a=1&b=2", "x?b=2&a=1", True),
        (b"key-order", "x?a=1&b=2&a=3", "x?a=1&a=3&b=2", True),
        (b"key-order", "x?a=1&a=3", "x?a=3&a=1", False),
        # What the queries stand for is compared, not how they are written; but only where something was said at all.
        (b"key-order", "x", "x?", True),
        (b"key-order", "x?a=x", "x?%61=%78", True),
        (b"key-order", "x?a=\xc3\xa9", "x?a=%C3%A9", True),
        (b"key-order", "x?a=%f6", "x?a=%ef%bf%bd", True),
        (b"key-order", "x?a=x&&&&", "x?a=x", True),
        (b"key-order", "x?a=", "x?a", True),
        (b"key-order", "x?a=%20", "x?a=+", True),
        (b"key-order", "x?a=%26b", "x?a=&b", False),
        (b"key-order", "x?a=%2B", "x?a=+", False),
        (b"key-order", "x?a=b?c", "x?a=b%3Fc", True),
        (b"key-order", "x?=", "x", False),
        (b"", "x", "x?", False),
        (b"", "x?a", "x?a=", False),
        (b"params=()", "x?a", "x?a=", False),
        (b"", "x?a=1", "x?a=1", True),
    ],
)
def test_equivalence(value: bytes, one: str, other: str, equal: bool) -> None:
    variance = parse(value)
    assert (canonical(U + one, variance) == canonical(U + other, variance)) is equal


@pytest.mark.parametrize(
    ("value", "uri", "expected"),
    [
        (b'params=("a")', "x?b=+%2f&a=1&&c", "x?b=%20%2F&c="),
        (b'params=("a")', "x?a", "x"),
        (b"key-order", "x?b&a=1", "x?a=1&b="),
        (b"", "x?b=+&&a=1", "x?b=+&&a=1"),
    ],
)
def test_the_canonical_uri(value: bytes, uri: str, expected: str) -> None:
    assert canonical(U + uri, parse(value)) == U + expected


@pytest.mark.parametrize("query", ["a=1&" * MAX_PARAMETERS, "a=" + "1" * MAX_QUERY])
def test_a_query_beyond_the_bounds_is_equivalent_to_itself_only(query: str) -> None:
    assert canonical(f"{U}?{query}", only()) == f"{U}?{query}"


QUERIES = st.text("ab=&+%26?\xc3\xa9", max_size=30)
VARIANCES = st.sampled_from(
    [b"key-order", b'params=("a")', b'except=("a")', b'key-order, params=("a")', b"except=()"]
).map(parse)


@given(QUERIES, VARIANCES)
def test_a_canonical_uri_is_its_own(query: str, variance: SearchVariance) -> None:
    once = canonical(f"{U}?{query}", variance)
    assert canonical(once, variance) == once


@given(QUERIES, QUERIES)
def test_the_order_of_names_is_all_that_key_order_gives_up(one: str, other: str) -> None:
    ordered, unordered = SearchVariance(ignored=frozenset("zz")), parse(b"key-order")
    if canonical(f"{U}?{one}", ordered) == canonical(f"{U}?{other}", ordered):
        assert canonical(f"{U}?{one}", unordered) == canonical(f"{U}?{other}", unordered)
