import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields.dates import format_date, parse_date, with_date
from fwdproxy.messages import Headers

NOW = 1_700_000_000  # November 2023
RFC_EXAMPLE = 784_111_777


@pytest.mark.rfc("9110", "5.6.7", "three-formats")
@pytest.mark.rfc("9111", "4.2", "date-case")
@pytest.mark.rfc("9111", "4.2", "zone-name")
@pytest.mark.rfc("9111", "5.3", "invalid")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # The three formats of RFC 9110 §5.6.7.
        (b"Sun, 06 Nov 1994 08:49:37 GMT", RFC_EXAMPLE),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", RFC_EXAMPLE),
        (b"Sun Nov  6 08:49:37 1994", RFC_EXAMPLE),
        (b"Sun Nov 16 08:49:37 1994", RFC_EXAMPLE + 10 * 86400),
        # The weekday is not checked, and case does not matter.
        (b"Mon, 06 Nov 1994 08:49:37 GMT", RFC_EXAMPLE),
        (b"SUN, 06 NOV 1994 08:49:37 gmt", RFC_EXAMPLE),
        (b" Sun, 06 Nov 1994 08:49:37 GMT\t", RFC_EXAMPLE),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"Wed, 31 Dec 1969 23:59:59 GMT", -1),
        (b"Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800),
        (b"Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        # No dates.
        (b"", None),
        (b"0", None),
        (b"-1", None),
        (b"now", None),
        (b"Sun, 06 Nov 1994 08:49:37 UTC", None),
        (b"Sun, 06 Nov 1994 08:49:37 +0000", None),
        (b"Sun, 06 Nov 1994 08:49:37", None),
        (b"Sun 06 Nov 1994 08:49:37 GMT", None),
        (b"06 Nov 1994 08:49:37 GMT", None),
        (b"Sun, 06  Nov  1994 08:49:37 GMT", None),
        (b"Sun, 06-Nov-1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 94 08:49:37 GMT", None),
        (b"Sun, 6 Nov 1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 8:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 08.49.37 GMT", None),
        (b"Sun, 06 Foo 1994 08:49:37 GMT", None),
        (b"Sun, 00 Nov 1994 08:49:37 GMT", None),
        (b"Sun, 31 Nov 1994 08:49:37 GMT", None),
        (b"Wed, 29 Feb 2023 00:00:00 GMT", None),
        (b"Sun, 06 Nov 1994 24:00:00 GMT", None),
        (b"Sun, 06 Nov 1994 08:60:00 GMT", None),
        (b"Sun, 06 Nov 1994 08:49:61 GMT", None),
        (b"Sun, 06 Nov 0000 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", None),
        (b"x" * 100_000, None),
    ],
)
def test_parse(value: bytes, expected: int | None) -> None:
    assert parse_date(value, NOW) == expected


@pytest.mark.rfc("9110", "5.6.7", "two-digit-year")
@pytest.mark.parametrize(
    ("year", "expected"),
    [(b"94", b"1994"), (b"23", b"2023"), (b"24", b"2024"), (b"73", b"2073"), (b"74", b"1974"), (b"00", b"2000")],
)
def test_two_digit_years_are_at_most_fifty_years_ahead(year: bytes, expected: bytes) -> None:
    seconds = parse_date(b"Monday, 06-Nov-%b 08:49:37 GMT" % year, NOW)
    assert seconds is not None
    assert expected in format_date(seconds)


def test_two_digit_years_at_the_turn_of_a_century() -> None:
    late_2098 = 4_068_144_000
    seconds = parse_date(b"Monday, 06-Nov-03 08:49:37 GMT", late_2098)
    assert seconds is not None
    assert b"2003" in format_date(seconds)


@given(st.integers(-2_000_000_000, 250_000_000_000))
def test_what_is_formatted_parses_back(seconds: int) -> None:
    assert parse_date(format_date(seconds), NOW) == seconds


@given(st.binary(max_size=70))
def test_never_raises(value: bytes) -> None:
    assert parse_date(value, NOW) is None or b":" in value


def test_format_cuts_fractions() -> None:
    assert format_date(RFC_EXAMPLE + 0.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("before", "replaced"),
    [
        ([], True),
        ([(b"date", b"yesterday")], True),
        ([(b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT"), (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")], True),
        ([(b"dAtE", b"Sun, 06 Nov 1994 08:49:37 GMT")], False),
    ],
)
def test_with_date(before: list[tuple[bytes, bytes]], replaced: bool) -> None:
    after = with_date(Headers([(b"A", b"1"), *before]), NOW)
    expected = [(b"Date", format_date(NOW))] if replaced else before
    assert list(after) == [(b"A", b"1"), *expected]
