"""RFC 9111 §4.2.4 and RFC 5861 §4: stale responses when the origin fails."""

import pytest

from fwdproxy.policy import stale
from fwdproxy.policy.decisions import PolicySettings
from fwdproxy.policy.freshness import CREDENTIALS
from tests.policy.builders import DATE, NOW, get, stored


def reason_on_error(cache_control: str, *request_lines: str, later: float, grace: int = 0) -> str | None:
    found = stored(f"Cache-Control: {cache_control}", DATE)
    serve = stale.on_error(found, get(*request_lines), now=NOW + later, settings=PolicySettings(grace=grace))
    if serve is None:
        return None
    assert serve.status == 200
    assert serve.stale is (serve.ttl <= 0)
    assert serve.age == int(later)
    return serve.reason.code


@pytest.mark.rfc("9111", "4.2.4", "prohibited")
@pytest.mark.rfc("9111", "4.2.4", "permitted")
@pytest.mark.rfc("5861", "4", "served")
@pytest.mark.rfc("5861", "4", "window")
@pytest.mark.parametrize(
    ("cache_control", "later", "grace", "expected"),
    [
        ("max-age=60", 61, 0, None),
        ("max-age=60, stale-if-error=30", 60, 0, "stale-if-error"),
        ("max-age=60, stale-if-error=30", 89.9, 0, "stale-if-error"),
        ("max-age=60, stale-if-error=30", 90, 0, None),
        ("max-age=60, stale-if-error=1", 60.9, 0, "stale-if-error"),
        ("max-age=60, stale-if-error=1", 61, 0, None),
        ("max-age=60, stale-if-error", 60, 0, None),
        ("max-age=60, stale-if-error=5, stale-if-error=9", 60, 0, None),
        ("max-age=60, stale-if-error=99999999999", 10**8, 0, "stale-if-error"),
        ("max-age=0, stale-if-error=30", 29, 0, "stale-if-error"),
        ("max-age=0, stale-if-error=30", 30, 0, None),
        ("stale-if-error=30", 29, 0, "stale-if-error"),
        ('max-age=60, stale-if-error=30, no-cache="x-a"', 89, 0, "stale-if-error"),
        # Each of the two windows is for its own occasion.
        ("max-age=60, stale-while-revalidate=90, stale-if-error=30", 89, 0, "stale-if-error"),
        ("max-age=60, stale-while-revalidate=90, stale-if-error=30", 90, 0, None),
        ("max-age=60, stale-if-error=x", 60, 0, None),
        ("max-age=60, stale-while-revalidate=30", 60, 0, None),
        # The user's grace, where the origin states nothing.
        ("max-age=60", 61, 600, "grace"),
        ("max-age=60", 659, 600, "grace"),
        ("max-age=60", 660, 600, None),
        ("max-age=60, stale-while-revalidate=5", 70, 600, "grace"),
        ("max-age=60, stale-if-error=30", 100, 600, None),
        ("max-age=60, stale-if-error=0", 61, 600, None),
        ("public", 10, 600, "grace"),
        # Nothing overrides these.
        ("max-age=60, must-revalidate", 61, 600, None),
        ("max-age=60, proxy-revalidate", 61, 600, None),
        ("max-age=60, no-cache", 1, 600, None),
        ("max-age=60, must-revalidate, stale-if-error=600", 61, 600, None),
        ("max-age=60, proxy-revalidate, stale-if-error=600", 61, 600, None),
        ("max-age=60, no-cache, stale-if-error=600", 61, 600, None),
        # s-maxage forbids it, but for a window that stands beside it.
        ("s-maxage=60", 61, 600, None),
        ("s-maxage=60, stale-while-revalidate=600", 61, 600, None),
        ("s-maxage=60, stale-if-error=30", 61, 0, "stale-if-error"),
        ("s-maxage=60, stale-if-error=30", 89.9, 0, "stale-if-error"),
        ("s-maxage=60, stale-if-error=30", 90, 600, None),
        ("s-maxage=60, stale-if-error=30", 91, 600, None),
        ("s-maxage=60, must-revalidate, stale-if-error=30", 61, 600, None),
        # A response that is fresh, but that this client wanted validated.
        ("max-age=60, stale-if-error=30", 10, 0, "stale-if-error"),
        ("max-age=60", 10, 0, None),
    ],
)
def test_windows(cache_control: str, later: float, grace: int, expected: str | None) -> None:
    assert reason_on_error(cache_control, later=later, grace=grace) == expected


@pytest.mark.rfc("5861", "4", "request")
@pytest.mark.parametrize(
    ("cache_control", "request_line", "expected"),
    [
        ("max-age=60, stale-if-error=600", "Cache-Control: max-age=0", "stale-if-error"),
        ("max-age=60, stale-if-error=600", "Cache-Control: no-cache", None),
        ("max-age=60, stale-if-error=600", "Pragma: no-cache", None),
        ("max-age=60, stale-if-error=600", "Cache-Control: min-fresh=60", "stale-if-error"),
        ("max-age=60, stale-if-error=600", "Cache-Control: max-age=0, no-cache", None),
        ("max-age=60, stale-if-error=600", "Cache-Control: only-if-cached", "stale-if-error"),
        ("max-age=60", "Cache-Control: stale-if-error=10", None),
        ("max-age=60", "Cache-Control: stale-if-error=11", "stale-if-error"),
        ("max-age=60", "Cache-Control: stale-if-error=x", None),
        ("max-age=60", "Cache-Control: stale-if-error=30", "stale-if-error"),
        ("max-age=60", "Cache-Control: stale-if-error=5", None),
        ("max-age=60, stale-if-error=5", "Cache-Control: stale-if-error=30", "stale-if-error"),
        ("max-age=60, must-revalidate", "Cache-Control: stale-if-error=30", None),
        ("s-maxage=60", "Cache-Control: stale-if-error=30", None),
        ("s-maxage=60, stale-if-error=5", "Cache-Control: stale-if-error=30", None),
    ],
)
def test_request_directives(cache_control: str, request_line: str, expected: str | None) -> None:
    assert reason_on_error(cache_control, request_line, later=70) == expected


@pytest.mark.rfc("9111", "4.2.4", "permitted")
@pytest.mark.parametrize(
    ("cache_control", "request_line", "grace", "expected"),
    [
        ("public", "X-A: 1", 60, None),
        ("max-age=0", "X-A: 1", 60, None),
        ("max-age=0", "Cache-Control: stale-if-error=60", 0, None),
        ("max-age=0, stale-if-error=9", "Cache-Control: stale-if-error=60", 60, "stale-if-error"),
        ("max-age=0, stale-if-error=3", "Cache-Control: stale-if-error=60", 60, None),
        ("max-age=1", "X-A: 1", 60, "grace"),
    ],
)
def test_what_may_be_one_clients_own_stands_in_for_nobody_but_by_the_origins_word(
    cache_control: str, request_line: str, grace: int, expected: str | None
) -> None:
    found = stored(f"Cache-Control: {cache_control}", 'ETag: "a"', DATE, why=CREDENTIALS)
    serve = stale.on_error(found, get(request_line), now=NOW + 5, settings=PolicySettings(grace=grace))
    assert (None if serve is None else serve.reason.code) == expected


def test_condition_of_the_client() -> None:
    found = stored("Cache-Control: max-age=60, stale-if-error=30", 'ETag: "a"', DATE)
    serve = stale.on_error(found, get('If-None-Match: "a"'), now=NOW + 61, settings=PolicySettings())
    assert serve is not None
    assert serve.status == 304


def test_what_credentials_brought_stays_with_them() -> None:
    line = "Cache-Control: max-age=60, stale-if-error=30"
    found = stored(line, DATE, request=get("Authorization: Basic YTpi"))
    assert stale.on_error(found, get(), now=NOW + 61, settings=PolicySettings()) is None
    public = stored(f"{line}, public", DATE, request=get("Authorization: Basic YTpi"))
    assert stale.on_error(public, get(), now=NOW + 61, settings=PolicySettings()) is not None
