"""RFC 9111 §4.2.2, and the interface of cachecontrol.heuristics."""

from typing import Any

import pytest
from cachecontrol.heuristics import BaseHeuristic, ExpiresAfter, LastModified, OneDayCache

from fwdproxy.errors import ConfigError
from fwdproxy.fields.dates import format_date
from fwdproxy.policy.heuristics import DAY, TenthOfAge, ask, load
from tests.policy.builders import DATE, NOW, SETTINGS, at, get, ok

OURS = TenthOfAge()
MODIFIED = f"Last-Modified: {at(-10_000)}"


@pytest.mark.rfc("9111", "4.2.2", "fraction")
@pytest.mark.parametrize(
    ("response_lines", "lifetime"),
    [
        ([MODIFIED, DATE], 1000),
        ([MODIFIED], 1000),
        ([MODIFIED, "Date: foo"], 1000),
        ([f"Last-Modified: {at(-19)}", DATE], 1),
        ([f"Last-Modified: {at(-9)}", DATE], None),
        ([f"Last-Modified: {at(0)}", DATE], None),
        ([f"Last-Modified: {at(60)}", DATE], None),
        ([f"Last-Modified: {at(-(10**9))}", DATE], DAY),
        (["Last-Modified: Tuesday, 14-Nov-23 21:56:40 GMT", DATE], 100),
        (["Last-Modified: foo", DATE], None),
        ([DATE], None),
    ],
)
def test_a_tenth_of_the_age(response_lines: list[str], lifetime: int | None) -> None:
    assert ask(OURS, get(), ok(*response_lines), now=NOW, settings=SETTINGS)[0] == lifetime


def test_the_rule_is_named() -> None:
    assert ask(OURS, get(), ok(MODIFIED, DATE), now=NOW, settings=SETTINGS) == (1000, "TenthOfAge")


class Always(BaseHeuristic):
    def update_headers(self, response: Any) -> dict[str, str]:
        return {"cache-control": "public, max-age=700"}


@pytest.mark.rfc("9111", "4.2.2", "explicit-wins")
@pytest.mark.rfc("9111", "4.2.2", "cacheable-only")
@pytest.mark.parametrize(
    ("request_lines", "response_lines", "status"),
    [
        ([], ["Cache-Control: max-age=0"], 200),
        ([], ["Cache-Control: s-maxage=5"], 200),
        ([], ["Cache-Control: max-age=x"], 200),
        ([], [f"Expires: {at(5)}"], 200),
        ([], ["Expires: 0"], 200),
        ([], ["Cache-Control: no-store"], 200),
        ([], ["Cache-Control: private"], 200),
        ([], ["Cache-Control: no-cache"], 200),
        ([], ["Pragma: no-cache"], 200),
        ([], ["Vary: *"], 200),
        ([], ["Set-Cookie: a=b"], 200),
        (["Cookie: a=b"], [], 200),
        (["Authorization: Basic YTpi"], [], 200),
        ([], [], 201),
        ([], [], 302),
        ([], [], 403),
        ([], [], 500),
        ([], [], 503),
    ],
)
def test_when_nothing_is_guessed(request_lines: list[str], response_lines: list[str], status: int) -> None:
    lifetime, why = ask(
        Always(), get(*request_lines), ok(*response_lines, DATE, status=status), now=NOW, settings=SETTINGS
    )
    assert lifetime is None
    assert why


@pytest.mark.rfc("9111", "4.2.2", "cacheable-only")
@pytest.mark.rfc("9110", "15.1", "heuristic-statuses")
@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_heuristically_cacheable_statuses(status: int) -> None:
    assert ask(Always(), get(), ok(DATE, status=status), now=NOW, settings=SETTINGS) == (700, "Always")


@pytest.mark.rfc("9111", "5.2.2.9", "heuristic")
def test_public_makes_any_status_eligible() -> None:
    assert ask(Always(), get(), ok("Cache-Control: public", DATE, status=599), now=NOW, settings=SETTINGS) == (
        700,
        "Always",
    )


@pytest.mark.parametrize(
    ("heuristic", "lifetime"),
    [(OneDayCache(), DAY), (LastModified(), None), (BaseHeuristic(), None)],
)
def test_those_of_cachecontrol(heuristic: BaseHeuristic, lifetime: int | None) -> None:
    # LastModified reads the clock: by now this response is too old for it.
    assert ask(heuristic, get(), ok(MODIFIED, DATE), now=NOW, settings=SETTINGS)[0] == lifetime


def test_one_that_reads_the_clock() -> None:
    lifetime, why = ask(ExpiresAfter(minutes=10), get(), ok(DATE), now=NOW, settings=SETTINGS)
    assert lifetime is not None
    assert lifetime > 600  # from Date, which is long ago in this test
    assert why == "ExpiresAfter"


def test_one_day_cache_gets_a_date_where_the_response_has_none() -> None:
    assert ask(OneDayCache(), get(), ok("Date: foo"), now=NOW, settings=SETTINGS) == (DAY, "OneDayCache")


class Raises(BaseHeuristic):
    def update_headers(self, response: Any) -> dict[str, str]:
        raise AssertionError("bad Date")


class Answers(BaseHeuristic):
    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def update_headers(self, response: Any) -> Any:
        return self.answer


class Meddles(BaseHeuristic):
    def update_headers(self, response: Any) -> dict[str, str]:
        response.headers["Cache-Control"] = "private"
        assert (response.status, response.headers["x-a"]) == (404, "1, 2")
        return {"Expires": format_date(NOW + 60).decode(), "X-B": "1"}


@pytest.mark.parametrize(
    "heuristic",
    [
        Raises(),
        Answers(None),
        Answers({"expires": 5}),
        Answers({"expires": "\u20ac"}),
        Answers({"expires": "nonsense"}),
        Answers({"cache-control": "public"}),
        Answers({"cache-control": "max-age=-5"}),
        Answers({"expires": at(-60)}),
    ],
)
def test_a_heuristic_that_fails_has_no_answer(heuristic: BaseHeuristic) -> None:
    lifetime, why = ask(heuristic, get(), ok(DATE), now=NOW, settings=SETTINGS)
    assert lifetime is None
    assert type(heuristic).__name__ in why


def test_only_the_lifetime_is_taken() -> None:
    response = ok("X-A: 1", "X-A: 2", DATE, status=404)
    assert ask(Meddles(), get(), response, now=NOW, settings=SETTINGS) == (60, "Meddles")
    assert b"cache-control" not in response.headers


@pytest.mark.parametrize("path", ["cachecontrol.heuristics:LastModified", "cachecontrol.heuristics.LastModified"])
def test_load(path: str) -> None:
    assert isinstance(load(path), LastModified)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "names no class"),
        ("LastModified", "names no class"),
        ("no_such_module:X", "can't be imported"),
        ("cachecontrol.heuristics:Nothing", "can't be imported"),
        ("cachecontrol.heuristics:TIME_FMT", "no subclass"),
        ("builtins:dict", "no subclass"),
        (f"{__name__}:NeedsArguments", "without arguments"),
    ],
)
def test_what_can_not_be_loaded(path: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        load(path)
    assert "\n" not in str(error.value)


class NeedsArguments(BaseHeuristic):
    def __init__(self, needed: int) -> None:
        self.needed = needed
