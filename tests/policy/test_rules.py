"""The user's rules: which of them count for a request, and what they change."""

import time
from typing import Any

import pytest

from fwdproxy.config import RuleTable
from fwdproxy.messages import Origin, RequestHead, StoredResponse, TargetURI
from fwdproxy.policy import heuristics, reuse, stale, storing
from fwdproxy.policy.decisions import Decision, PolicySettings, Refuse, Serve, Validate
from fwdproxy.policy.freshness import CREDENTIALS, freshness
from fwdproxy.policy.rules import NO_RULE, Rule, Rules
from fwdproxy.values import Duration, HostPattern
from tests.policy.builders import DATE, NOW, SETTINGS, at, get, meta, ok, stored

TAG = 'ETag: "v1"'
AUTH = "Authorization: Basic YTpi"
MODIFIED = f"Last-Modified: {at(-1000)}"


# -- which count ---------------------------------------------------------------------------------------------------


def table(host: tuple[str, ...] = (), **others: Any) -> RuleTable:
    return RuleTable(host=tuple(HostPattern.parse(text) for text in host), **others)


def to(host: str = "www.example.com", path: str = "/a.jpg", scheme: str = "https") -> TargetURI:
    return TargetURI(Origin(scheme, host, 443), path)


@pytest.mark.parametrize(
    ("conditions", "target", "content_type", "counts"),
    [
        ({}, to(), None, True),
        ({"host": ("www.example.com",)}, to(), None, True),
        ({"host": ("example.com",)}, to(), None, False),
        ({"host": (".example.com",)}, to(), None, True),
        ({"host": (".example.com",)}, to("example.com"), None, True),
        ({"host": (".example.com",)}, to("badexample.com"), None, False),
        ({"host": ("a.example", "*.example.com")}, to(), None, True),
        ({"host": ("2001:db8::1",)}, to("2001:db8::1"), None, True),
        ({"path": ("/a.jpg",)}, to(), None, True),
        ({"path": ("/a",)}, to(), None, False),
        ({"path": ("*.jpg",)}, to(), None, True),
        ({"path": ("*.JPG",)}, to(), None, False),
        ({"path": ("*.jpg",)}, to(path="/a.jpg?v=1"), None, False),
        ({"path": ("*.jpg*",)}, to(path="/a.jpg?v=1"), None, True),
        ({"path": ("/b/*", "/a*")}, to(), None, True),
        ({"path": ("/b/*",)}, to(path="/b/"), None, True),
        ({"path": ("/*/x/*.jpg",)}, to(path="/a/x/b/x/c.jpg"), None, True),
        ({"path": ("/*/x/*.jpg",)}, to(path="/a/x.jpg"), None, False),
        ({"path": ("*a*a*",)}, to(path="/a"), None, False),
        ({"path": ("*a*a",)}, to(path="/aa"), None, True),
        ({"path": ("/a[1].jpg?",)}, to(path="/a[1].jpg?"), None, True),
        ({"path": ("*",)}, to(path="*"), None, True),
        ({"type": ("image/*",)}, to(), b"image/png", True),
        ({"type": ("image/*",)}, to(), b"IMAGE/png; q=1", True),
        ({"type": ("Image/PNG",)}, to(), b" image/png ;x", True),
        ({"type": ("image/*",)}, to(), b"text/html", False),
        ({"type": ("image/*",)}, to(), None, False),
        ({"type": ("*",)}, to(), None, False),
        ({"type": ("*",)}, to(), b"", False),
        ({"type": ("text/*", "image/*")}, to(), b"image/png", True),
        ({"type": ("image/*",)}, to(), b"image/\xff\x00", True),
        # All conditions must hold.
        ({"host": (".example.com",), "path": ("*.jpg",), "type": ("image/*",)}, to(), b"image/jpeg", True),
        ({"host": (".example.com",), "path": ("*.png",), "type": ("image/*",)}, to(), b"image/jpeg", False),
        ({"host": (".example.org",), "path": ("*.jpg",)}, to(), None, False),
    ],
)
def test_conditions(conditions: dict[str, Any], target: TargetURI, content_type: bytes | None, counts: bool) -> None:
    rules = Rules.build([table(**conditions, bypass=True)])
    expected = Rule(bypass=True) if counts else NO_RULE
    assert rules.of(target, content_type) == expected
    assert rules.of(target, content_type) == expected  # from memory


def test_for_each_effect_the_first_that_states_it_counts() -> None:
    rules = Rules.build(
        [
            table(path=("/live/*",), bypass=False, max_lifetime=Duration(5.5)),
            table(host=(".example.com",), bypass=True, max_lifetime=Duration(60), retention=Duration(3600)),
            table(type=("text/html",), ignore_reload=True),
            table(retention=Duration(86400), offline=False),
        ]
    )
    assert rules.of(to(path="/live/a"), None) == Rule(bypass=False, max_lifetime=5, retention=3600)
    assert rules.of(to(), None) == Rule(bypass=True, max_lifetime=60, retention=3600)
    assert rules.of(to("b.example"), b"text/html") == Rule(ignore_reload=True, retention=86400)
    assert rules.of(to("b.example"), None) == Rule(retention=86400)


def test_without_tables_there_is_no_rule() -> None:
    assert Rules().of(to(), b"a/b") is NO_RULE
    assert Rules.build([]).of(to(), b"a/b") is NO_RULE
    assert Rules.build([table(host=("a.example",), bypass=True)]).of(to(), b"a/b") is NO_RULE


@pytest.mark.parametrize("glob", ["*a" * 200, "/*/*/*/*/*x", "*" * 500 + "y", "/a*"])
def test_a_glob_takes_linear_time(glob: str) -> None:
    rules = Rules.build([table(path=(glob,), type=(glob,), bypass=True)])
    started = time.process_time()
    for unit in ("a", "/", "a/"):
        rules.of(to(path="/" + unit * 30_000), unit.encode() * 30_000)
    assert time.process_time() - started < 1


def test_many_hosts_do_not_fill_the_memory() -> None:
    rules = Rules.build([table(path=("/x",), bypass=True)])
    for number in range(10_000):
        rules.of(to(f"h{number}.example"), None)
    assert rules._of_host.cache_info().currsize < 10_000


# -- what is stored ------------------------------------------------------------------------------------------------


def code(response_lines: list[str], rule: Rule, *, request: RequestHead | None = None, status: int = 200) -> str:
    request, response = request or get(), ok(*response_lines, status=status)
    lifetime, _ = heuristics.ask(heuristics.TenthOfAge(), request, response, NOW, settings=SETTINGS, rule=rule)
    decision = storing.decide(request, response, heuristic_lifetime=lifetime, settings=SETTINGS, rule=rule)
    return f"{'+' if decision.store else '-'} {decision.reason.code}"


FRESH = "Cache-Control: max-age=60"


@pytest.mark.parametrize(
    ("rule", "response_lines", "expected"),
    [
        (Rule(bypass=True), [FRESH], "- rule-bypass"),
        (Rule(bypass=True), ["Cache-Control: no-store"], "- no-store"),
        (Rule(bypass=True), [], "- no-lifetime"),
        (Rule(retention=0), [FRESH], "- rule-retention"),
        (Rule(retention=1), [FRESH], "+ stored"),
        (Rule(min_lifetime=60), [], "+ rule-min-lifetime"),
        (Rule(min_lifetime=60), [FRESH], "+ stored"),
        (Rule(min_lifetime=60), [MODIFIED, DATE], "+ stored"),
        (Rule(min_lifetime=60), ["Cache-Control: max-age=0"], "+ rule-min-lifetime"),
        (Rule(min_lifetime=60), ["Expires: 0"], "+ rule-min-lifetime"),
        (Rule(min_lifetime=0), [], "- no-lifetime"),
        # What it doesn't lift.
        (Rule(min_lifetime=60), ["Cache-Control: no-store"], "- no-store"),
        (Rule(min_lifetime=60), ["Cache-Control: private"], "- private"),
        (Rule(min_lifetime=60), ["Cache-Control: no-cache"], "- no-lifetime"),
        (Rule(min_lifetime=60), [FRESH, "Vary: *"], "- vary"),
        (Rule(max_lifetime=60), [FRESH], "+ stored"),
        (Rule(max_lifetime=0), [FRESH], "- rule-max-lifetime"),
        (Rule(max_lifetime=0), [FRESH, TAG], "+ stored"),
        (Rule(max_lifetime=5, min_lifetime=60), ["Cache-Control: max-age=0"], "+ rule-max-lifetime"),
        (Rule(share_authorized=True, ignore_reload=True, offline=True, memory=True), [FRESH], "+ stored"),
    ],
)
def test_what_is_stored(rule: Rule, response_lines: list[str], expected: str) -> None:
    assert code(response_lines, rule) == expected


def test_a_minimum_lifts_no_must_understand() -> None:
    line = "Cache-Control: must-understand, no-store, max-age=60"
    assert code([line], Rule(min_lifetime=60), status=299) == "- must-understand"


@pytest.mark.parametrize("request_line", ["Cookie: a=b", AUTH])
@pytest.mark.parametrize(
    ("response_lines", "expected"),
    [
        ([], "- no-lifetime"),
        (["Cache-Control: public"], "- no-lifetime"),
        (["Cache-Control: public, max-age=0"], "- no-lifetime"),
        (["Cache-Control: public, max-age=1"], "+ stored"),
    ],
)
def test_no_lifetime_is_made_for_what_may_be_one_clients_own(
    request_line: str, response_lines: list[str], expected: str
) -> None:
    if request_line == AUTH and not response_lines:
        expected = "- authorization"
    assert code(response_lines, Rule(min_lifetime=60), request=get(request_line)) == expected


@pytest.mark.parametrize(
    ("status", "response_lines", "expected"),
    [
        (404, [], "+ rule-negative"),
        (403, [], "+ rule-negative"),
        (500, [], "+ rule-negative"),
        (503, [], "+ rule-negative"),
        (503, [TAG], "+ rule-negative"),
        (404, [TAG], "+ stored"),
        (404, [FRESH], "+ stored"),
        (503, [FRESH], "+ stored"),
        (404, ["Expires: 0"], "- no-lifetime"),
        (401, [], "- not-cacheable"),
        (407, [], "- status"),
        (429, [], "- status"),
        (412, [], "- status"),
        (302, [], "- not-cacheable"),
        (200, [], "- no-lifetime"),
        (404, ["Cache-Control: no-store"], "- no-store"),
        (404, ["Set-Cookie: a=b"], "- no-lifetime"),
        (500, ["Set-Cookie: a=b"], "- not-cacheable"),
    ],
)
def test_errors(status: int, response_lines: list[str], expected: str) -> None:
    assert code(response_lines, Rule(negative_lifetime=10), status=status) == expected


def test_a_negative_lifetime_of_0_stores_nothing_for_its_own_sake() -> None:
    assert code([], Rule(negative_lifetime=0), status=500) == "- not-cacheable"
    assert code([], Rule(negative_lifetime=10), request=get("Cookie: a=b"), status=500) == "- not-cacheable"


@pytest.mark.parametrize(
    ("response_lines", "expected"),
    [
        ([FRESH], "+ rule-share-authorized"),
        ([FRESH + ", public"], "+ stored"),
        ([MODIFIED, DATE], "+ rule-share-authorized"),
        ([], "- no-lifetime"),
        (["Cache-Control: private, max-age=60"], "- private"),
        (["Cache-Control: no-store"], "- no-store"),
    ],
)
def test_credentials_that_are_shared(response_lines: list[str], expected: str) -> None:
    assert code(response_lines, Rule(share_authorized=True), request=get(AUTH)) == expected
    assert code(response_lines, Rule(share_authorized=False), request=get(AUTH)) != "+ rule-share-authorized"


def test_what_shared_credentials_brought_is_marked_all_the_same() -> None:
    """So that it is nobody else's again when the rule goes."""
    assert meta(FRESH, request=get(AUTH)).authorized


# -- lifetimes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header_lines", "heuristic", "status", "rule", "expected"),
    [
        ([FRESH], None, 200, Rule(min_lifetime=100), (100, True, "rule-min-lifetime")),
        ([FRESH], None, 200, Rule(min_lifetime=60), (60, True, "max-age")),
        ([FRESH], None, 200, Rule(max_lifetime=10), (10, True, "rule-max-lifetime")),
        ([FRESH], None, 200, Rule(max_lifetime=60), (60, True, "max-age")),
        (["Cache-Control: max-age=0"], None, 200, Rule(min_lifetime=100), (100, False, "rule-min-lifetime")),
        ([], 50, 200, Rule(min_lifetime=100), (100, False, "rule-min-lifetime")),
        ([], 50, 200, Rule(max_lifetime=10), (10, False, "rule-max-lifetime")),
        ([], None, 200, Rule(min_lifetime=100), (100, False, "rule-min-lifetime")),
        ([], None, 200, Rule(max_lifetime=100), (0, False, "no-lifetime")),
        ([], None, 200, Rule(min_lifetime=100, max_lifetime=10), (10, False, "rule-max-lifetime")),
        ([], 50, 404, Rule(negative_lifetime=7), (7, False, "rule-negative")),
        ([], 5, 404, Rule(negative_lifetime=0), (0, False, "rule-negative")),
        ([], None, 500, Rule(negative_lifetime=7, min_lifetime=100, max_lifetime=1), (7, False, "rule-negative")),
        ([FRESH], None, 404, Rule(negative_lifetime=7), (60, True, "max-age")),
        ([FRESH], None, 404, Rule(min_lifetime=100), (60, True, "max-age")),
        ([FRESH], None, 404, Rule(max_lifetime=10), (10, True, "rule-max-lifetime")),
        ([FRESH], None, 200, Rule(offline=True), (60, True, "max-age")),
    ],
)
def test_lifetimes(
    header_lines: list[str], heuristic: int | None, status: int, rule: Rule, expected: tuple[int, bool, str]
) -> None:
    found = freshness(meta(*header_lines, DATE, heuristic=heuristic, status=status), rule)
    assert (found.lifetime, found.explicit, found.reason.code) == expected


# -- what is reused ------------------------------------------------------------------------------------------------


def decide(
    found: StoredResponse | None, rule: Rule, *request_lines: str, later: float = 0.0, method: str = "GET"
) -> Decision:
    request = get(*request_lines, method=method)
    return reuse.decide(request, found, known=True, now=NOW + later, settings=SETTINGS, rule=rule)


def told(decision: Decision) -> str:
    kind = f"{'stale' if decision.stale else 'fresh'}" if isinstance(decision, Serve) else type(decision).__name__
    return f"{kind.lower()} {decision.reason.code}"


@pytest.mark.parametrize(
    ("rule", "cache_control", "request_lines", "later", "expected"),
    [
        (Rule(bypass=True), "max-age=60", [], 0, "forward rule-bypass"),
        (Rule(bypass=True), "max-age=60", ['If-Match: "v1"'], 0, "forward precondition"),
        (Rule(bypass=True), "max-age=60", ["Cache-Control: only-if-cached"], 0, "refuse only-if-cached"),
        # Bounds: the rule is told only where it makes the difference.
        (Rule(min_lifetime=100), "max-age=60", [], 59, "fresh max-age"),
        (Rule(min_lifetime=100), "max-age=60", [], 60, "fresh rule-min-lifetime"),
        (Rule(min_lifetime=100), "max-age=60", [], 100, "validate stale"),
        (Rule(min_lifetime=100), "max-age=60, no-cache", [], 0, "validate no-cache"),
        (Rule(min_lifetime=100), "max-age=60, must-revalidate", [], 60, "fresh rule-min-lifetime"),
        (Rule(min_lifetime=100), "max-age=60", ["Cookie: a=b"], 60, "fresh rule-min-lifetime"),
        (Rule(min_lifetime=100), "max-age=0", [], 60, "fresh rule-min-lifetime"),
        (Rule(min_lifetime=100), "max-age=0", ["Cookie: a=b"], 60, "validate stale"),
        (Rule(min_lifetime=100), "max-age=0", [AUTH], 60, "validate stale"),
        (Rule(min_lifetime=100, share_authorized=True), "max-age=0", [AUTH], 60, "fresh rule-min-lifetime"),
        (Rule(min_lifetime=100), "max-age=60", ["Cache-Control: max-age=70"], 70, "validate request-max-age"),
        (Rule(min_lifetime=100), "max-age=60", ["Cache-Control: min-fresh=20"], 70, "fresh rule-min-lifetime"),
        (Rule(min_lifetime=100), "max-age=60", ["Cache-Control: min-fresh=50"], 10, "fresh max-age"),
        (Rule(min_lifetime=100), "max-age=60", ["Cache-Control: min-fresh=51"], 10, "fresh rule-min-lifetime"),
        (Rule(min_lifetime=100), "max-age=60", ["Cache-Control: min-fresh=31"], 70, "validate request-min-fresh"),
        (Rule(min_lifetime=100), "max-age=0, stale-while-revalidate=9", [], 105, "stale stale-while-revalidate"),
        (Rule(min_lifetime=100), "max-age=0, stale-while-revalidate=9", ["Cookie: a=b"], 105, "validate stale"),
        (Rule(max_lifetime=10), "max-age=60", [], 9, "fresh max-age"),
        (Rule(max_lifetime=10), "max-age=60", [], 10, "validate rule-max-lifetime"),
        (Rule(max_lifetime=10), "max-age=60", [], 60, "validate stale"),
        (Rule(max_lifetime=10), "max-age=60, stale-while-revalidate=5", [], 14, "stale stale-while-revalidate"),
        (Rule(max_lifetime=10), "max-age=60, stale-while-revalidate=5", [], 15, "validate rule-max-lifetime"),
        # Reloads.
        (Rule(ignore_reload=True), "max-age=60", ["Cache-Control: no-cache"], 0, "fresh rule-ignore-reload"),
        (Rule(ignore_reload=True), "max-age=60", ["Cache-Control: max-age=0"], 0, "fresh rule-ignore-reload"),
        (Rule(ignore_reload=True), "max-age=60", ["Pragma: no-cache"], 0, "fresh rule-ignore-reload"),
        (Rule(ignore_reload=True), "max-age=60", ["Cache-Control: max-age=50"], 10, "fresh max-age"),
        (Rule(ignore_reload=True), "max-age=60", [], 10, "fresh max-age"),
        (Rule(ignore_reload=True), "max-age=60", ["Cache-Control: no-cache"], 60, "validate request-no-cache"),
        (Rule(ignore_reload=True), "max-age=60", ["Cache-Control: max-age=0"], 60, "validate stale"),
        (Rule(ignore_reload=True), "max-age=60, no-cache", ["Cache-Control: no-cache"], 0, "validate no-cache"),
        (
            Rule(ignore_reload=True),
            "max-age=60",
            ["Cache-Control: no-cache, min-fresh=61"],
            0,
            "validate request-min-fresh",
        ),
        (
            Rule(ignore_reload=True),
            "max-age=60, stale-while-revalidate=9",
            ["Cache-Control: no-cache"],
            61,
            "validate request-no-cache",
        ),
        (
            Rule(ignore_reload=True),
            "max-age=60",
            ["Cache-Control: only-if-cached, no-cache"],
            0,
            "fresh rule-ignore-reload",
        ),
        # Retention counts from when it was received.
        (Rule(retention=30), "max-age=60", [], 29.9, "fresh max-age"),
        (Rule(retention=30), "max-age=60", [], 30, "validate rule-retention"),
        (Rule(retention=30), "max-age=60", [], 30.1, "forward rule-retention"),
        (Rule(retention=90), "max-age=60", [], 61, "validate stale"),
        (Rule(retention=30), "max-age=60", ["Cache-Control: only-if-cached"], 31, "refuse only-if-cached"),
        # Offline.
        (Rule(offline=True), "max-age=60", [], 0, "fresh max-age"),
        (Rule(offline=True), "max-age=60", [], 9999, "stale rule-offline"),
        (Rule(offline=True), "max-age=60, must-revalidate", [], 9999, "stale rule-offline"),
        (Rule(offline=True), "s-maxage=60, proxy-revalidate", [], 9999, "stale rule-offline"),
        (Rule(offline=True), "max-age=60, no-cache", [], 0, "fresh rule-offline"),
        (Rule(offline=True), "max-age=60", ["Cache-Control: no-cache"], 0, "fresh rule-offline"),
        (Rule(offline=True), "max-age=60", ["Cache-Control: max-stale"], 70, "stale request-max-stale"),
        # In the background nobody is asked either.
        (Rule(offline=True), "max-age=60, stale-while-revalidate=60", [], 70, "stale rule-offline"),
        (Rule(offline=True), "max-age=60", ['If-Match: "v1"'], 0, "refuse rule-offline"),
        (Rule(offline=True), "max-age=60", ["Content-Length: 5"], 0, "refuse rule-offline"),
        (Rule(offline=True, bypass=True), "max-age=60", [], 0, "refuse rule-offline"),
        (Rule(offline=True, retention=30), "max-age=60", [], 31, "refuse rule-offline"),
        (Rule(offline=True), "max-age=60", ["Cache-Control: only-if-cached"], 9999, "stale rule-offline"),
        (Rule(memory=True), "max-age=60", [], 0, "fresh max-age"),
    ],
)
def test_what_is_reused(rule: Rule, cache_control: str, request_lines: list[str], later: float, expected: str) -> None:
    found = stored(f"Cache-Control: {cache_control}", TAG, DATE)
    assert told(decide(found, rule, *request_lines, later=later)) == expected


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_offline_nothing_stored_is_a_504(method: str) -> None:
    decision = decide(None, Rule(offline=True), method=method)
    assert isinstance(decision, Refuse)
    assert (decision.status, decision.reason.code) == (504, "rule-offline")


def test_offline_tells_age_and_ttl() -> None:
    found = stored("Cache-Control: max-age=60", TAG, DATE)
    decision = decide(found, Rule(offline=True), 'If-None-Match: "v1"', later=100)
    assert isinstance(decision, Serve)
    assert (decision.status, decision.age, decision.ttl, decision.stale) == (304, 100, -40, True)


@pytest.mark.parametrize(
    ("status", "later", "heuristic", "expected"),
    [
        (404, 9, None, "fresh rule-negative"),
        (404, 10, None, "validate stale"),
        (404, 9, 1000, "fresh heuristic"),
        (404, 10, 1000, "validate rule-negative"),
        (500, 9, None, "fresh rule-negative"),
        (200, 9, None, "validate stale"),
        (401, 9, None, "validate stale"),
    ],
)
def test_errors_are_fresh_for_as_long_as_the_user_says(
    status: int, later: float, heuristic: int | None, expected: str
) -> None:
    found = stored(TAG, DATE, status=status, heuristic=heuristic)
    assert told(decide(found, Rule(negative_lifetime=10), later=later)) == expected
    assert told(decide(found, Rule(negative_lifetime=10), "Cookie: a=b", later=later)).startswith("validate")


@pytest.mark.parametrize(
    ("cache_control", "later", "request_lines", "expected"),
    [
        ("max-age=60", 0, [], "fresh rule-share-authorized"),
        ("max-age=60, public", 0, [], "fresh max-age"),
        ("max-age=60", 0, ["Cache-Control: no-cache"], "validate request-no-cache"),
        ("max-age=60", 60, [], "validate stale"),
        ("max-age=60, stale-while-revalidate=9", 60, [], "stale stale-while-revalidate"),
    ],
)
def test_what_credentials_brought_is_shared(
    cache_control: str, later: float, request_lines: list[str], expected: str
) -> None:
    found = stored(f"Cache-Control: {cache_control}", TAG, DATE, request=get(AUTH))
    assert told(decide(found, Rule(share_authorized=True), *request_lines, later=later)) == expected


def test_what_credentials_brought_is_not_served_offline() -> None:
    found = stored("Cache-Control: max-age=60", TAG, DATE, request=get(AUTH))
    assert told(decide(found, Rule(offline=True))) == "refuse rule-offline"
    assert told(decide(found, Rule(offline=True, share_authorized=True))) == "fresh rule-share-authorized"


@pytest.mark.parametrize("request_lines", [["Cookie: a=b"], [AUTH]])
def test_what_cookies_or_credentials_brought_gets_no_lifetime(request_lines: list[str]) -> None:
    """Neither for a request without any: the page may be the first client's own."""
    request = get(*request_lines)
    for lines, raised in (
        (["Cache-Control: public"], False),
        (["Cache-Control: public, max-age=0"], False),
        (["Cache-Control: public, max-age=1"], True),
    ):
        response = ok(*lines, TAG, DATE)
        lifetime, why = heuristics.ask(heuristics.TenthOfAge(), request, response, NOW, settings=SETTINGS)
        held = storing.make_meta(
            request,
            response,
            request_time=NOW,
            response_time=NOW,
            heuristic_lifetime=lifetime,
            heuristic_reason=why,
            settings=SETTINGS,
        )
        assert (freshness(held, Rule(min_lifetime=100)).lifetime == 100) is raised


def test_a_heuristic_may_speak_of_what_shared_credentials_brought() -> None:
    response = ok(MODIFIED, DATE)
    rule = Rule(share_authorized=True)
    assert heuristics.ask(heuristics.TenthOfAge(), get(AUTH), response, NOW, settings=SETTINGS, rule=rule)[0] == 100
    found = stored(MODIFIED, DATE, heuristic=100)
    assert told(decide(found, rule, AUTH)) == "fresh rule-share-authorized"
    assert told(decide(found, rule)) == "fresh heuristic"
    assert told(decide(found, rule, "Cookie: a=b")) == "validate heuristic-personal"


def test_after_a_validation_the_ttl_is_that_of_the_rule() -> None:
    found = stored("Cache-Control: max-age=60", TAG, DATE)
    assert reuse.serve_validated(found, get(), now=NOW + 1, rule=Rule(min_lifetime=100)).ttl == 99
    assert reuse.serve_validated(found, get(), now=NOW + 1, rule=Rule(max_lifetime=10)).ttl == 9
    assert reuse.serve_validated(found, get(), now=NOW + 1, rule=Rule(retention=10)).ttl == 9


@pytest.mark.parametrize(
    ("rule", "lines", "delay", "lifetime", "code"),
    [
        (Rule(retention=30), ["Cache-Control: max-age=60"], 0.0, 30, "rule-retention"),
        (Rule(retention=60), ["Cache-Control: max-age=60"], 0.0, 60, "max-age"),
        (Rule(retention=90), ["Cache-Control: max-age=60"], 0.0, 60, "max-age"),
        # It counts from the arrival: what was old then is used for as long.
        (Rule(retention=30), ["Cache-Control: max-age=60", "Age: 20"], 0.0, 50, "rule-retention"),
        (Rule(retention=30), ["Cache-Control: max-age=60", "Age: 40"], 0.0, 60, "max-age"),
        (Rule(retention=30), ["Cache-Control: max-age=60"], 1.9, 31, "rule-retention"),
        (Rule(retention=30, min_lifetime=100), ["Cache-Control: max-age=60"], 0.0, 30, "rule-retention"),
        (Rule(retention=30, max_lifetime=20), ["Cache-Control: max-age=60"], 0.0, 20, "rule-max-lifetime"),
    ],
)
def test_nothing_is_fresh_beyond_its_retention(
    rule: Rule, lines: list[str], delay: float, lifetime: int, code: str
) -> None:
    fresh = freshness(meta(DATE, *lines, delay=delay), rule)
    assert (fresh.lifetime, fresh.reason.code) == (lifetime, code)


def test_a_ttl_ends_with_the_retention() -> None:
    found = stored("Cache-Control: max-age=3600", "Age: 100", DATE)
    for later, ttl in ((0, 3), (2.9, 1)):
        decision = decide(found, Rule(retention=3), later=later)
        assert isinstance(decision, Serve)
        assert decision.ttl == ttl


@pytest.mark.parametrize(
    ("rule", "later", "served"),
    [
        (NO_RULE, 69, True),
        (NO_RULE, 70, False),
        (Rule(max_lifetime=30), 39, True),
        (Rule(max_lifetime=30), 40, False),
        (Rule(min_lifetime=100), 109, True),
        (Rule(min_lifetime=100), 110, False),
        (Rule(retention=65), 65, True),
        (Rule(retention=65), 66, False),
        (Rule(bypass=True), 61, False),
    ],
)
def test_when_the_origin_fails(rule: Rule, later: float, served: bool) -> None:
    found = stored("Cache-Control: max-age=60, stale-if-error=10", DATE)
    answer = stale.on_error(found, get(), now=NOW + later, settings=PolicySettings(), rule=rule)
    assert (answer is not None) is served


def test_when_the_origin_fails_shared_credentials_stay_shared() -> None:
    found = stored("Cache-Control: max-age=60, stale-if-error=10", DATE, request=get(AUTH))
    for rule, served in ((NO_RULE, False), (Rule(share_authorized=True), True)):
        answer = stale.on_error(found, get(), now=NOW + 61, settings=PolicySettings(), rule=rule)
        assert (answer is not None) is served


@pytest.mark.parametrize("own", ["X-A: 1", "Cache-Control: no-cache", "Cache-Control: max-age=0"])
def test_offline_nobody_gets_what_may_be_another_clients_own(own: str) -> None:
    mark = heuristics.ask(heuristics.TenthOfAge(), get("Cookie: a=b"), ok(TAG, own), NOW, settings=SETTINGS)[1]
    for why, expected in ((mark, "refuse rule-offline"), ("", "stale rule-offline")):
        found = stored(TAG, own, DATE, why=why)
        assert told(decide(found, Rule(offline=True), later=5)) == expected
        assert told(decide(found, Rule(offline=True), "Cache-Control: max-stale, no-cache", later=5)) == expected


def test_offline_the_origins_own_window_counts() -> None:
    line = "Cache-Control: max-age=0, stale-while-revalidate=9"
    found = stored(line, TAG, DATE, why=CREDENTIALS)
    assert told(decide(found, Rule(offline=True), later=8)) == "stale rule-offline"
    assert told(decide(found, Rule(offline=True), later=9)) == "refuse rule-offline"


def test_a_rule_that_changes_nothing_is_never_the_reason() -> None:
    idle = Rule(min_lifetime=1, max_lifetime=10_000, ignore_reload=True, negative_lifetime=5, retention=10_000)
    for later in (0, 59, 60, 200):
        for line in ("X-A: 1", "Cookie: a=b", "Cache-Control: min-fresh=3", "Cache-Control: max-stale=100"):
            found = stored("Cache-Control: max-age=60", TAG, DATE)
            assert decide(found, idle, line, later=later) == decide(found, NO_RULE, line, later=later)


def test_validation_for_a_rule_carries_the_conditions() -> None:
    decision = decide(stored(FRESH, TAG, DATE), Rule(max_lifetime=10), later=20)
    assert isinstance(decision, Validate)
    assert decision.conditions == ((b"If-None-Match", b'"v1"'),)
