import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields.cache_control import MAX_DELTA, MAX_DIRECTIVES, CacheControl, parse, parse_age


@pytest.mark.rfc("9111", "5.2", "case")
@pytest.mark.rfc("9111", "5.2", "both-forms")
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ()),
        ([b""], ()),
        ([b" , ,"], ()),
        ([b"no-store"], ((b"no-store", None),)),
        ([b"No-Store"], ((b"no-store", None),)),
        ([b"\tno-store ,\tMAX-AGE=1\t"], ((b"no-store", None), (b"max-age", b"1"))),
        ([b"max-age=1", b"public"], ((b"max-age", b"1"), (b"public", None))),
        ([b'max-age="1"'], ((b"max-age", b"1"),)),
        ([b'x="no-store, private", public'], ((b"x", b"no-store, private"), (b"public", None))),
        ([b"=5, ;, max-age=1"], ((b"max-age", b"1"),)),
        # A quote left open on one line swallows neither that line nor the next.
        ([b'x="a, no-store', b'public"'], ((b"x", b"\x00"), (b"no-store", None))),
        ([b"no-store =1"], ((b"no-store", b"\x00"),)),
    ],
)
def test_directives(lines: list[bytes], expected: tuple[tuple[bytes, bytes | None], ...]) -> None:
    assert parse(lines).directives == expected


@pytest.mark.rfc("9111", "1.2.2", "overflow")
@pytest.mark.rfc("9111", "4.2.1", "duplicates")
@pytest.mark.rfc("9111", "4.2.1", "invalid")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"public", None),
        (b"max-age=0", 0),
        (b"max-age=60", 60),
        (b"max-age=0000000000060", 60),
        (b'max-age="60"', 60),
        (b"max-age=2147483647", MAX_DELTA - 1),
        (b"max-age=2147483648", MAX_DELTA),
        (b"max-age=99999999999", MAX_DELTA),
        (b"max-age=" + b"9" * 10_000, MAX_DELTA),
        (b"max-age=" + b"0" * 10_000, 0),
        (b"max-age=60, max-age=60", 60),
        # What is no number, or two numbers, is no lifetime.
        (b"max-age", 0),
        (b"max-age=", 0),
        (b"max-age=-1", 0),
        (b"max-age=+1", 0),
        (b"max-age=1.5", 0),
        (b"max-age=1_0", 0),
        (b"max-age=60a", 0),
        (b"max-age=a60", 0),
        (b"max-age='60'", 0),
        (b"max-age =60", 0),
        (b"max-age= 60", 0),
        (b'max-age="60', 0),
        (b'max-age="60"1', 0),
        (b'max-age=" 60"', 0),
        ("max-age=٣".encode(), 0),
        (b"max-age=60, max-age=30", 0),
        (b"max-age=60, max-age", 0),
        (b'x="max-age=60"', None),
    ],
)
def test_seconds(line: bytes, expected: int | None) -> None:
    assert parse([line]).seconds(b"max-age") == expected


def test_what_an_invalid_value_counts_as_is_the_callers_choice() -> None:
    assert parse([b"min-fresh=x"]).seconds(b"min-fresh", otherwise=MAX_DELTA) == MAX_DELTA
    assert parse([b"min-fresh=5"]).seconds(b"min-fresh", otherwise=MAX_DELTA) == 5
    assert parse([b"public"]).seconds(b"min-fresh", otherwise=MAX_DELTA) is None


def test_seconds_contradict_each_other_across_lines() -> None:
    assert parse([b"max-age=60", b"max-age=30"]).seconds(b"max-age") == 0


@pytest.mark.parametrize(
    ("line", "whole", "named"),
    [
        (b"public", False, None),
        (b"private", True, None),
        (b'private="set-cookie"', False, {b"set-cookie"}),
        (b'private="Set-Cookie , X-A"', False, {b"set-cookie", b"x-a"}),
        (b"private=set-cookie", False, {b"set-cookie"}),
        (b'private="a", private="b"', False, {b"a", b"b"}),
        # In doubt the directive speaks of all.
        (b'private="a", private', True, None),
        (b'private=""', True, None),
        (b"private=", True, None),
        (b'private="a,,b"', True, None),
        (b'private="a b"', True, None),
        (b'private="a', True, None),
        (b'private ="a"', True, None),
    ],
)
def test_qualified_form(line: bytes, whole: bool, named: set[bytes] | None) -> None:
    directives = parse([line])
    assert directives.whole(b"private") is whole
    assert directives.field_names(b"private") == named


def test_argument_is_the_first_one() -> None:
    directives = parse([b"max-stale, max-stale=5"])
    assert directives.argument(b"max-stale") == b"5"
    assert parse([b"max-stale"]).argument(b"max-stale") is None
    assert directives.argument(b"public") is None


def test_values_are_hashable_and_compared_by_content() -> None:
    assert parse([b"Public"]) == parse([b"public"]) == CacheControl(((b"public", None),))
    assert len({parse([b"public"]), parse([b"PUBLIC"])}) == 1
    assert not parse([])
    assert parse([b"public"])


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_never_raises(lines: list[bytes]) -> None:
    directives = parse(lines)
    for name, _ in directives.directives:
        assert directives.has(name)
        seconds = directives.seconds(name)
        assert seconds is not None
        assert 0 <= seconds <= MAX_DELTA
        assert directives.whole(name) is (directives.field_names(name) is None)


@given(st.lists(st.sampled_from([b"max-age=5", b'x="a, b"', b"no-store", b"private"]), max_size=6))
def test_lines_mean_what_one_joined_line_means(lines: list[bytes]) -> None:
    assert parse(lines) == parse([b", ".join(lines)])


@pytest.mark.parametrize(
    "lines",
    [
        [b"public, max-age=60, must-understand" + b", a" * MAX_DIRECTIVES],
        [b"max-age=60" + b",max-age=60" * MAX_DIRECTIVES],
        [b"public"] * (MAX_DIRECTIVES + 1),
    ],
)
def test_too_many_directives_forbid_storing_and_reuse(lines: list[bytes]) -> None:
    assert parse(lines) == parse([b"no-cache, no-store"])


@pytest.mark.parametrize(
    "lines",
    [[b"max-age=60" + b", a" * (MAX_DIRECTIVES - 1)], [b"max-age=60"] * MAX_DIRECTIVES, [b"max-age=60,,,,," * 99]],
)
def test_as_many_directives_as_are_read(lines: list[bytes]) -> None:
    assert parse(lines).seconds(b"max-age") == 60
    assert not parse(lines).has(b"no-store")


@pytest.mark.rfc("9111", "5.1", "first")
@pytest.mark.rfc("9111", "5.1", "invalid")
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), None),
        ((b"0",), 0),
        ((b"30",), 30),
        ((b" 30 ",), 30),
        ((b"0030",), 30),
        # The first member counts (RFC 9111 §5.1).
        ((b"7200, 0",), 7200),
        ((b"0,7200",), 0),
        ((b"7200", b"0"), 7200),
        ((b"0", b"7200"), 0),
        # What is no number is ignored.
        ((b"",), None),
        ((b"abc",), None),
        ((b"-7200",), None),
        ((b"7200.0",), None),
        ((b"+1",), None),
        ((b'"30"',), None),
        ((b"abc, 30",), None),
        ((b"2147483648",), MAX_DELTA),
        ((b"9" * 5000,), MAX_DELTA),
    ],
)
def test_age(lines: tuple[bytes, ...], expected: int | None) -> None:
    assert parse_age(lines) == expected
