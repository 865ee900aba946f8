"""RFC 9213: a targeted field in the place of Cache-Control."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields import cache_control
from fwdproxy.messages import Headers, StoredMeta
from fwdproxy.policy import heuristics, reuse, storing, validation
from fwdproxy.policy.answering import from_origin, from_stored
from fwdproxy.policy.controls import governing
from fwdproxy.policy.decisions import PolicySettings, Serve, Validate
from fwdproxy.policy.freshness import freshness
from tests.policy.builders import DATE, NOW, SETTINGS, at, fields, get, lines, meta, ok, stored

CDN = PolicySettings(targets=(b"mine-cache-control", b"cdn-cache-control"))
ONE = (b"cdn-cache-control",)


def code(*response_lines: str, settings: PolicySettings = CDN, request_line: str = "X-A: 1", status: int = 200) -> str:
    response = ok(*response_lines, status=status)
    return storing.decide(get(request_line), response, heuristic_lifetime=None, settings=settings).reason.code


@pytest.mark.rfc("9213", "2.1", "structured")
@pytest.mark.rfc("9213", "2.1", "parameters")
@pytest.mark.parametrize(
    ("field_lines", "expected"),
    [
        (["CDN-Cache-Control: max-age=60"], b"max-age=60"),
        (["CDN-Cache-Control: max-age=60, no-store"], b"max-age=60, no-store"),
        (["CDN-Cache-Control: max-age=60", "cdn-cache-control: public"], b"max-age=60, public"),
        (["CDN-Cache-Control: max-age=60;a=1;b, public;c"], b"max-age=60, public"),
        (["CDN-Cache-Control: max-age=1, max-age=60"], b"max-age=60"),
        (['CDN-Cache-Control: private="x-a, x-b"'], b'private="x-a, x-b"'),
        (['CDN-Cache-Control: no-cache="a\\"b\\\\"'], b'no-cache="a\\"b\\\\"'),
        # To say nothing at all: an unknown directive.
        (["CDN-Cache-Control: none"], b"none"),
    ],
)
def test_a_dictionary_is_read_as_directives(field_lines: list[str], expected: bytes) -> None:
    assert governing(fields(*field_lines), ONE) == (expected,)


@pytest.mark.rfc("9213", "2.1", "types")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('max-age="60"', b"max-age"),
        ("max-age=60.5", b"max-age"),
        ("max-age=a60", b"max-age"),
        ("max-age", b"max-age"),
        ("max-age=(60)", b"max-age"),
        ("s-maxage=:NjA=:", b"s-maxage"),
        ("max-age=-60", b"max-age=-60"),
        ("stale-if-error=?0", b"stale-if-error"),
        # One that speaks of some fields only has to be readable, or else speaks of the whole response.
        ("private=x-user", b"private"),
        ('no-cache=("x-user")', b"no-cache"),
        ("no-cache=1", b"no-cache"),
        ("no-store=?0", b"no-store"),
        # One that allows something doesn't then; what it forbids, it forbids.
        ("public=@1659578233", b""),
        ("public=?0, max-age=60", b"max-age=60"),
        ("no-store, must-understand=?0", b"no-store"),
        ("must-revalidate=1", b"proxy-revalidate"),
        ("immutable=1", b"immutable"),
    ],
)
def test_a_value_of_the_wrong_type_is_not_taken(value: str, expected: bytes) -> None:
    assert governing(fields(f"CDN-Cache-Control: {value}"), ONE) == (expected,)


@pytest.mark.rfc("9213", "2.1", "invalid")
@pytest.mark.rfc("9213", "2.2", "fallback")
@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        ",",
        "max-age=60,",
        "max-age=60, &",
        "Max-Age=60",
        "max-age = 60",
        "max-age=60; Q",
        'private="x',
        "no-store é",
        "max-age=9999999999999999",
        "a=1, " * 10_000 + "b",
    ],
)
def test_an_empty_or_malformed_field_is_as_none(value: str) -> None:
    assert governing(fields(f"CDN-Cache-Control: {value}"), ONE) is None
    assert code(f"CDN-Cache-Control: {value}", "Cache-Control: no-store") == "no-store"
    assert code(f"CDN-Cache-Control: {value}", "Cache-Control: max-age=60") == "stored"


KEYS = st.sampled_from(["max-age", "no-cache", "private", "public", "no-store", "x.y*z"])
VALUES = st.sampled_from(["", "=60", "=-1", '="a, b"', "=?0", "=?1", "=(1 2)", "=1.5", "=:YQ==:", "=a/b;c=1", "=@1"])


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=8))
def test_every_directive_of_a_valid_field_is_seen(members: list[tuple[str, str]]) -> None:
    value = ", ".join(key + value for key, value in members)
    found = governing(fields(f"CDN-Cache-Control: {value}"), ONE)
    assert found is not None
    seen = {name for name, _ in cache_control.parse(found).directives}
    assert seen | {b"public"} == {key.encode() for key, _ in members} | {b"public"}
    # The last one of a name counts (RFC 9651 §3.2), and public has no value but true.
    says = dict(members).get("public")
    assert (b"public" in seen) is (says in ("", "=?1"))


@given(st.lists(st.binary(max_size=80), max_size=3))
def test_no_bytes_are_too_much(values: list[bytes]) -> None:
    found = governing(Headers((b"CDN-Cache-Control", value) for value in values), ONE)
    assert found is None or len(found) == 1
    assert len(cache_control.parse(found or ()).directives) <= cache_control.MAX_DIRECTIVES


@pytest.mark.rfc("9213", "2.2", "first")
@pytest.mark.parametrize(
    ("field_lines", "expected"),
    [
        (["CDN-Cache-Control: max-age=1", "Mine-Cache-Control: max-age=2"], b"max-age=2"),
        (["CDN-Cache-Control: max-age=1", "Mine-Cache-Control: "], b"max-age=1"),
        (["CDN-Cache-Control: max-age=1", "Mine-Cache-Control: &"], b"max-age=1"),
    ],
)
def test_the_first_valid_one_on_the_list_counts(field_lines: list[str], expected: bytes) -> None:
    assert governing(fields(*field_lines), CDN.targets) == (expected,)


@pytest.mark.rfc("9213", "2.2", "not-listed")
@pytest.mark.rfc("9213", "2.4", "suffix")
def test_what_is_not_on_the_list_changes_nothing() -> None:
    assert code("Other-Cache-Control: no-store", "Cache-Control: max-age=60") == "stored"
    assert code("CDN-Cache-Control: max-age=60", "Cache-Control: no-store", settings=SETTINGS) == "no-store"


@pytest.mark.rfc("9213", "2.2", "instead")
@pytest.mark.rfc("9213", "2.2", "directives")
@pytest.mark.rfc("9213", "2.2", "semantics")
@pytest.mark.parametrize(
    ("targeted", "own", "expected"),
    [
        ("max-age=60", "no-store", "stored"),
        ("max-age=60", "private", "stored"),
        ("none", "no-store", "no-lifetime"),
        ("none", "max-age=60", "no-lifetime"),
        ("no-store", "max-age=60", "no-store"),
        ("no-store, max-age=60", "max-age=60", "no-store"),
        ("private, max-age=60", "public, max-age=60", "private"),
        ('private="x-user", max-age=60', "no-store", "stored"),
        ('private="content-type", max-age=60', "no-store", "qualified"),
        ("max-age=60", 'private="content-type"', "stored"),
        ("must-understand, no-store, max-age=60", "private", "stored"),
        ("no-cache", "max-age=60", "no-lifetime"),
        ("max-age=0", "max-age=60", "no-lifetime"),
        ("max-age=0, stale-while-revalidate=60", "no-store", "stored"),
        ("unheard-of, max-age=60", "no-store", "stored"),
    ],
)
def test_it_decides_what_is_stored(targeted: str, own: str, expected: str) -> None:
    assert code(f"CDN-Cache-Control: {targeted}", f"Cache-Control: {own}") == expected


@pytest.mark.rfc("9213", "2.2", "instead")
def test_neither_cache_control_nor_expires_makes_it_cacheable() -> None:
    own = ("Cache-Control: public, max-age=60", f"Expires: {at(60)}", DATE)
    assert code("CDN-Cache-Control: none", *own, status=500) == "not-cacheable"
    assert code("CDN-Cache-Control: none", *own, request_line="Authorization: Basic YTpi") == "authorization"
    assert code("CDN-Cache-Control: s-maxage=1", *own, request_line="Authorization: Basic YTpi") == "stored"


@pytest.mark.rfc("9213", "2.1", "types")
@pytest.mark.parametrize(
    ("targeted", "request_line", "expected"),
    [
        ("public, max-age=60", "Authorization: Basic YTpi", "stored"),
        ("public=?0, max-age=60", "Authorization: Basic YTpi", "authorization"),
        ("must-revalidate, max-age=60", "Authorization: Basic YTpi", "stored"),
        ('must-revalidate="x", max-age=60', "Authorization: Basic YTpi", "authorization"),
        ("no-store, must-understand, max-age=60", "X-A: 1", "stored"),
        ("no-store, must-understand=?0, max-age=60", "X-A: 1", "no-store"),
        # Valid and not empty, if without meaning: Cache-Control doesn't count.
        ("public=?0", "X-A: 1", "no-lifetime"),
    ],
)
def test_a_value_of_the_wrong_type_allows_nothing(targeted: str, request_line: str, expected: str) -> None:
    line = "Cache-Control: max-age=60, public"
    assert code(f"CDN-Cache-Control: {targeted}", line, request_line=request_line) == expected


@pytest.mark.rfc("9213", "2.2", "passed-on")
@pytest.mark.parametrize("line", ["Connection: CDN-Cache-Control", "Connection: close, mine-cache-control"])
def test_a_target_that_could_not_be_kept_keeps_the_response_out(line: str) -> None:
    assert code("CDN-Cache-Control: max-age=60", line) == "connection-options"
    assert code("Cache-Control: max-age=60", line, settings=SETTINGS) == "stored"


def kept(*header_lines: str) -> StoredMeta:
    return meta(*header_lines, settings=CDN)


@pytest.mark.rfc("9213", "2.2", "instead")
@pytest.mark.parametrize(
    ("header_lines", "lifetime", "why"),
    [
        (["CDN-Cache-Control: max-age=60", "Cache-Control: max-age=5"], 60, "max-age"),
        (["CDN-Cache-Control: max-age=60", "Cache-Control: s-maxage=5"], 60, "max-age"),
        (["CDN-Cache-Control: max-age=60", f"Expires: {at(5)}", DATE], 60, "max-age"),
        (["CDN-Cache-Control: max-age=60, s-maxage=7"], 7, "s-maxage"),
        (["CDN-Cache-Control: none", "Cache-Control: max-age=5", f"Expires: {at(5)}", DATE], 0, "no-lifetime"),
        (['CDN-Cache-Control: max-age="60"', "Cache-Control: max-age=5"], 0, "max-age"),
        (["CDN-Cache-Control: &", "Cache-Control: max-age=5"], 5, "max-age"),
    ],
)
def test_it_states_the_lifetime(header_lines: list[str], lifetime: int, why: str) -> None:
    found = freshness(kept(*header_lines))
    assert (found.lifetime, found.reason.code) == (lifetime, why)


@pytest.mark.rfc("9213", "2.2", "directives")
@pytest.mark.rfc("9213", "2.2", "other-directives")
@pytest.mark.parametrize(
    ("targeted", "own", "later", "expected"),
    [
        ("no-cache, max-age=60", "max-age=60", 1, "no-cache"),
        ("max-age=60", "no-cache", 1, "max-age"),
        ("max-age=60, must-revalidate", "stale-while-revalidate=60", 61, "stale"),
        ("max-age=60, stale-while-revalidate=60", "must-revalidate", 61, "stale-while-revalidate"),
        ("max-age=60", "stale-while-revalidate=60", 61, "stale"),
        ("max-age=60, immutable", "no-cache", 1, "max-age"),
    ],
)
def test_it_decides_what_is_reused(targeted: str, own: str, later: int, expected: str) -> None:
    held = kept(f"CDN-Cache-Control: {targeted}", f"Cache-Control: {own}", 'ETag: "a"', DATE)
    found = stored()
    found = type(found)(found.key, found.ident, held, found.body)
    decision = reuse.decide(get(), found, known=True, now=NOW + later, settings=CDN)
    assert isinstance(decision, Serve | Validate)
    assert decision.reason.code == expected


@pytest.mark.rfc("9213", "2.2", "passed-on")
def test_it_is_stored_and_passed_on_with_all_others() -> None:
    said = ["CDN-Cache-Control: max-age=60", "Mine-Cache-Control: &", "Cache-Control: no-store", DATE]
    held = kept(*said)
    assert held.controls == (b"max-age=60",)
    assert lines(held.head.headers) == said
    assert lines(from_origin(ok(*said), via=None, now=NOW).headers) == said
    found = stored()
    serve = reuse.serve_validated(type(found)(found.key, found.ident, held, found.body), get(), now=NOW)
    assert lines(from_stored(serve, via=None).headers)[:4] == said


def test_fields_that_it_names_are_not_stored() -> None:
    held = kept('CDN-Cache-Control: private="x-user", max-age=9', 'Cache-Control: private="x-other"', "X-User: 1", DATE)
    assert b"x-user" not in held.head.headers
    held = kept("CDN-Cache-Control: max-age=9", 'Cache-Control: private="x-other"', "X-Other: 1", DATE)
    assert b"x-other" in held.head.headers


def freshened(before: list[str], *not_modified: str) -> StoredMeta | None:
    return validation.freshen(
        kept(*before, 'ETag: "a"', DATE),
        ok('ETag: "a"', *not_modified, status=304),
        request_time=NOW + 9,
        response_time=NOW + 9,
        settings=CDN,
    )


@pytest.mark.parametrize(
    ("before", "not_modified", "expected"),
    [
        (["CDN-Cache-Control: max-age=60"], [], 60),
        (["CDN-Cache-Control: max-age=60"], ["CDN-Cache-Control: max-age=90"], 90),
        (["CDN-Cache-Control: max-age=60"], ["Mine-Cache-Control: max-age=90"], 90),
        (["CDN-Cache-Control: max-age=60"], ["Cache-Control: max-age=90"], 60),
        (["CDN-Cache-Control: max-age=60"], ["Cache-Control: no-store"], 60),
        (["CDN-Cache-Control: max-age=60"], ["CDN-Cache-Control: &", "Cache-Control: max-age=90"], 90),
        (["Cache-Control: max-age=60"], ["CDN-Cache-Control: max-age=90"], 90),
        (["Cache-Control: max-age=60"], ["CDN-Cache-Control: none"], 0),
        (["CDN-Cache-Control: max-age=60"], ["CDN-Cache-Control: no-store"], None),
        (["Cache-Control: max-age=60"], ["CDN-Cache-Control: private", "Cache-Control: max-age=90"], None),
        (["CDN-Cache-Control: max-age=60"], ["CDN-Cache-Control: &", "Cache-Control: no-store"], None),
    ],
)
def test_a_304_may_bring_another_one(before: list[str], not_modified: list[str], expected: int | None) -> None:
    """All fields together govern: a 304 need not repeat those that haven't changed."""
    updated = freshened(before, *not_modified)
    assert (None if updated is None else freshness(updated).lifetime) == expected


def test_what_was_stored_before_the_list_changed_keeps_its_lifetime_until_it_is_validated() -> None:
    before = meta("CDN-Cache-Control: max-age=60", "Cache-Control: max-age=5", 'ETag: "a"', DATE)
    assert freshness(before).lifetime == 5
    after = validation.freshen(before, ok(status=304), request_time=NOW, response_time=NOW, settings=CDN)
    assert after is not None
    assert freshness(after).lifetime == 60


@pytest.mark.parametrize(
    ("response_lines", "guessed"),
    [
        (["CDN-Cache-Control: none", "Cache-Control: no-store"], True),
        (["CDN-Cache-Control: none", "Cache-Control: max-age=5"], True),
        (["CDN-Cache-Control: max-age=5"], False),
        (["CDN-Cache-Control: private", "Cache-Control: public"], False),
        (["CDN-Cache-Control: no-cache", "Cache-Control: public"], False),
    ],
)
def test_a_heuristic_goes_by_it_too(response_lines: list[str], guessed: bool) -> None:
    response = ok(*response_lines, f"Last-Modified: {at(-1000)}", DATE)
    found, _ = heuristics.ask(heuristics.TenthOfAge(), get(), response, NOW, settings=CDN)
    assert (found is not None) is guessed
