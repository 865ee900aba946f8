"""RFC 9111 §4.2: lifetimes and ages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields.cache_control import MAX_DELTA
from fwdproxy.policy.freshness import corrected_initial_age, current_age, freshness
from tests.policy.builders import DATE, NOW, at, meta


@pytest.mark.rfc("9111", "4.2.1", "s-maxage")
@pytest.mark.rfc("9111", "4.2.1", "max-age")
@pytest.mark.rfc("9111", "4.2.1", "expires")
@pytest.mark.rfc("9111", "4.2.1", "duplicates")
@pytest.mark.rfc("9111", "4.2.1", "invalid")
@pytest.mark.rfc("9111", "4.2.2", "explicit-wins")
@pytest.mark.rfc("9111", "5.2.2.10", "s-maxage")
@pytest.mark.rfc("9111", "5.2.3", "unknown")
@pytest.mark.rfc("9111", "5.3", "invalid")
@pytest.mark.rfc("9111", "5.3", "max-age-wins")
@pytest.mark.rfc("9111", "4.2", "date-case")
@pytest.mark.rfc("9111", "4.2", "zone-name")
@pytest.mark.rfc("9111", "1.2.2", "overflow")
@pytest.mark.parametrize(
    ("header_lines", "lifetime", "code"),
    [
        (["Cache-Control: max-age=60"], 60, "max-age"),
        (["Cache-Control: s-maxage=60"], 60, "s-maxage"),
        (["Cache-Control: max-age=3600, s-maxage=1"], 1, "s-maxage"),
        (["Cache-Control: s-maxage=1", "Cache-Control: max-age=3600"], 1, "s-maxage"),
        (["Cache-Control: max-age=1, s-maxage=3600"], 3600, "s-maxage"),
        (["Cache-Control: MaX-aGe=60"], 60, "max-age"),
        (["Cache-Control: foobar, max-age=60"], 60, "max-age"),
        (['Cache-Control: max-age="60"'], 60, "max-age"),
        (["Cache-Control:  ,\tmax-age=60 ,"], 60, "max-age"),
        (["Cache-Control: max-age=0060"], 60, "max-age"),
        (["Cache-Control: max-age=60", "Cache-Control: public"], 60, "max-age"),
        (["Cache-Control: max-age=60, max-age=60"], 60, "max-age"),
        (["Cache-Control: max-age=2147483648"], MAX_DELTA, "max-age"),
        (["Cache-Control: max-age=99999999999999999999"], MAX_DELTA, "max-age"),
        (['Cache-Control: x="max-age=3600", max-age=1'], 1, "max-age"),
        (['Cache-Control: max-age=1, x="max-age=3600"'], 1, "max-age"),
        # What is malformed or contradicts itself is stale (§4.2.1).
        (["Cache-Control: max-age=1800, max-age=1"], 0, "max-age"),
        (["Cache-Control: max-age=1", "Cache-Control: max-age=1800"], 0, "max-age"),
        (["Cache-Control: max-age=-100"], 0, "max-age"),
        (["Cache-Control: max-age=3600.5"], 0, "max-age"),
        (["Cache-Control: max-age='3600'"], 0, "max-age"),
        (["Cache-Control: max-age= 3600"], 0, "max-age"),
        (["Cache-Control: max-age"], 0, "max-age"),
        (["Cache-Control: s-maxage=x, max-age=3600"], 0, "s-maxage"),
        (["Cache-Control: max-age=x", f"Expires: {at(60)}", DATE], 0, "max-age"),
        # Expires counts only without max-age (§5.3).
        ([f"Expires: {at(60)}", DATE], 60, "expires"),
        ([f"Expires: {at(60)}"], 60, "expires"),
        ([f"Expires: {at(60)}", "Date: foo"], 60, "expires"),
        ([f"Expires: {at(60)}", f"Date: {at(-40)}"], 100, "expires"),
        ([f"Expires: {at(300)}", f"Date: {at(400)}"], 0, "expires"),
        ([f"Expires: {at(0)}", DATE], 0, "expires"),
        ([f"Expires: {at(-60)}", DATE], 0, "expires"),
        ([f"Expires: {at(60)}", f"Expires: {at(60)}", DATE], 60, "expires"),
        ([f"Expires: {at(60)}", f"Expires: {at(90)}", DATE], 0, "expires-invalid"),
        (["Expires: 0"], 0, "expires-invalid"),
        (["Expires: -1"], 0, "expires-invalid"),
        (["Expires: "], 0, "expires-invalid"),
        (["Expires: Thu, 18 Aug 2050 02:01:18 UTC"], 0, "expires-invalid"),
        (["Expires: Thu, 18 Aug 2050 2:01:18 GMT"], 0, "expires-invalid"),
        (["Expires: Fri, 18 AUG 2023 02:01:18 gmt", "Date: Thu, 17 Aug 2023 02:01:18 GMT"], 86400, "expires"),
        (["Expires: Friday, 18-Aug-23 02:01:18 GMT", "Date: Thu Aug 17 02:01:18 2023"], 86400, "expires"),
        ([f"Expires: {at(-9)}", "Cache-Control: max-age=60", DATE], 60, "max-age"),
        ([f"Expires: {at(999)}", "Cache-Control: max-age=0", DATE], 0, "max-age"),
        (["Expires: 0", "Cache-Control: max-age=60", DATE], 60, "max-age"),
        ([f"Expires: {at(60)}", "Cache-Control: public", DATE], 60, "expires"),
    ],
)
def test_explicit(header_lines: list[str], lifetime: int, code: str) -> None:
    # A heuristic lifetime never overrides what is stated (§4.2.2).
    found = freshness(meta(*header_lines, heuristic=5000))
    assert (found.lifetime, found.explicit, found.reason.code) == (lifetime, True, code)


@pytest.mark.rfc("9111", "4.2.2", "assigned")
@pytest.mark.parametrize(("heuristic", "lifetime", "code"), [(500, 500, "heuristic"), (None, 0, "no-lifetime")])
def test_nothing_explicit(heuristic: int | None, lifetime: int, code: str) -> None:
    found = freshness(meta("Cache-Control: public", DATE, heuristic=heuristic))
    assert (found.lifetime, found.explicit, found.reason.code) == (lifetime, False, code)


@pytest.mark.rfc("9111", "4.2.3", "apparent-age")
@pytest.mark.rfc("9111", "4.2.3", "response-delay")
@pytest.mark.rfc("9111", "4.2.3", "larger")
@pytest.mark.rfc("9111", "5.1", "first")
@pytest.mark.rfc("9111", "5.1", "invalid")
@pytest.mark.parametrize(
    ("header_lines", "delay", "expected"),
    [
        ([DATE], 0, 0),
        ([], 0, 0),
        (["Date: nonsense"], 0, 0),
        # apparent_age
        ([f"Date: {at(-30)}"], 0, 30),
        ([f"Date: {at(+30)}"], 0, 0),
        # corrected_age_value: the received Age and the response_delay
        ([DATE, "Age: 30"], 0, 30),
        ([DATE, "Age: 30"], 4, 34),
        ([DATE], 4, 4),
        # corrected_initial_age is the larger one
        ([f"Date: {at(-30)}", "Age: 10"], 5, 30),
        ([f"Date: {at(-10)}", "Age: 30"], 5, 35),
        # malformed Age
        ([DATE, "Age: abc"], 0, 0),
        ([DATE, "Age: -7200"], 0, 0),
        ([DATE, "Age: 7200.0"], 0, 0),
        ([DATE, "Age: 7200,0"], 0, 7200),
        ([DATE, "Age: 0, 7200"], 0, 0),
        ([DATE, "Age: 7200", "Age: 0"], 0, 7200),
        ([DATE, "Age: 99999999999"], 0, MAX_DELTA),
        # A clock that went backwards between request and response.
        ([DATE, "Age: 30"], -4, 30),
    ],
)
def test_corrected_initial_age(header_lines: list[str], delay: float, expected: float) -> None:
    assert corrected_initial_age(meta(*header_lines, delay=delay)) == expected


@pytest.mark.rfc("9111", "4.2.3", "resident-time")
@pytest.mark.parametrize(
    ("received", "delay", "later", "expected"),
    [
        (NOW, 0.0, 0.0, 0),
        (NOW, 0.0, 0.999, 0),
        (NOW, 0.0, 1.0, 1),
        # Fractions are cut once, at the end.
        (NOW, 0.6, 0.6, 1),
        (NOW + 0.95, 0.0, 0.1, 0),
        (NOW + 0.95, 0.0, 10.0, 10),
        # A clock that was set back makes nothing younger than it was.
        (NOW, 3.0, -500.0, 3),
    ],
)
def test_current_age_adds_resident_time(received: float, delay: float, later: float, expected: int) -> None:
    assert current_age(meta(DATE, received=received, delay=delay), received + later) == expected


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 10**6), st.integers(-(10**6), 10**6))
def test_age_only_grows(one: float, other: float, age: int, date: int) -> None:
    kept = meta(f"Date: {at(date)}", f"Age: {age}")
    sooner, later = sorted([one, other])
    assert max(0, age, -date) <= current_age(kept, NOW + sooner) <= current_age(kept, NOW + later)
