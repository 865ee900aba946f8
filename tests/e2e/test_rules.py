"""The user's own rules and recipes, from one file that both programs read; what a rule overrides is told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import fetch
from tests.e2e.origin import Call, pattern, response
from tests.e2e.sites import FRESH
from tests.e2e.waiting import until

if TYPE_CHECKING:
    from tests.e2e.clients import Answer
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

AUTHORIZED = ("Authorization", "Basic Zm9vOmJhcg==")
COOKIE = ("Cookie", "session=1")
OLD = ("Age", "120")
"""Older than the longest lifetime that a rule of tests/e2e/configured.py allows."""


def control(value: str) -> tuple[str, str]:
    return ("Cache-Control", value)


def detail(answer: Answer) -> str | None:
    return answer.parameter("detail")


def test_bypass(configured: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"page", FRESH, stem="passed"))
    for _ in range(2):
        answer = fetch(configured, url)
        assert (answer.fwd, answer.stored, detail(answer)) == ("bypass", False, "rule-bypass")
    assert len(origin.seen(path)) == 2


@pytest.mark.parametrize(
    ("stem", "status", "fields", "asked", "told"),
    [
        ("longer", "200 OK", [], [], "rule-min-lifetime"),
        ("longer", "200 OK", [control("max-age=5"), ("Age", "60")], [], "rule-min-lifetime"),
        ("longer", "200 OK", [control("max-age=5"), ("Age", "60")], [COOKIE], "rule-min-lifetime"),
        ("longer", "200 OK", [control("max-age=0")], [], "rule-min-lifetime"),
        ("longer", "200 OK", [control("max-age=0")], [COOKIE], None),
        ("longer", "200 OK", [control("max-age=86400")], [], "max-age"),
        ("longer", "200 OK", [control("no-store")], [], None),
        ("longer", "200 OK", [control("private")], [], None),
        ("longer", "200 OK", [control("no-cache")], [], None),
        ("longer", "200 OK", [("Vary", "*")], [], None),
        ("longer", "200 OK", [], [COOKIE], None),
        ("longer", "200 OK", [("Set-Cookie", "a=1")], [], None),
        ("longer", "200 OK", [], [AUTHORIZED], None),
        ("longer", "503 Busy", [], [], None),
        ("typed", "200 OK", [("Content-Type", "image/png")], [], "rule-min-lifetime"),
        ("typed", "200 OK", [("Content-Type", "IMAGE/x; a=b")], [], "rule-min-lifetime"),
        ("typed", "200 OK", [("Content-Type", "text/html")], [], None),
        ("typed", "200 OK", [], [], None),
        ("shorter", "200 OK", [FRESH], [], "max-age"),
        ("shorter", "200 OK", [control("max-age=600"), OLD], [], None),
        ("errors", "404 Not Found", [], [], "rule-negative"),
        ("errors", "503 Busy", [], [], "rule-negative"),
        ("errors", "503 Busy", [FRESH], [], "max-age"),
        ("errors", "404 Not Found", [control("max-age=0")], [], None),
        ("errors", "404 Not Found", [control("no-store")], [], None),
        ("errors", "404 Not Found", [], [COOKIE], None),
        ("errors", "401 Who", [], [], None),
        ("errors", "429 Slow", [], [], None),
        ("errors", "200 OK", [], [], None),
        ("members", "200 OK", [FRESH], [AUTHORIZED], "rule-share-authorized"),
        ("members", "200 OK", [control("public, max-age=60")], [AUTHORIZED], "max-age"),
        ("members", "200 OK", [control("private, max-age=60")], [AUTHORIZED], None),
        ("members", "200 OK", [], [AUTHORIZED], None),
    ],
)
def test_what_a_rule_has_reused(
    configured: Program,
    origin: Origin,
    stem: str,
    status: str,
    fields: list[tuple[str, str]],
    asked: list[tuple[str, str]],
    told: str | None,
) -> None:
    url = origin.url(path := origin.page(b"page", *fields, status=status, stem=stem))
    first, second = fetch(configured, url, *asked), fetch(configured, url)
    assert [(answer.status, answer.body) for answer in (first, second)] == [(int(status[:3]), b"page")] * 2
    assert second.hit == (told is not None), second.cache_status
    assert len(origin.seen(path)) == (2 if told is None else 1)
    if told is not None:
        assert detail(second) == told


def test_the_longest_lifetime_is_told(configured: Program, origin: Origin) -> None:
    first = response(b"page", FRESH, OLD, ("ETag", '"v"'))
    url = origin.url(origin.script(first, response(b"", FRESH, ("ETag", '"v"'), status="304 No"), stem="shorter"))
    fetch(configured, url)
    second, third = fetch(configured, url), fetch(configured, url)
    assert (second.fwd, detail(second)) == ("stale", "rule-max-lifetime")
    assert third.hit
    assert int(third.parameter("ttl") or 0) <= 60


def test_the_first_rule_that_states_an_effect_counts(configured: Program, origin: Origin) -> None:
    for stated, low, high in (("max-age=1", 3500, 3600), ("max-age=86400", 7100, 7200)):
        url = origin.url(origin.page(b"page", control(stated), stem="longer"))
        fetch(configured, url)
        assert low <= int(fetch(configured, url).parameter("ttl") or 0) <= high


@pytest.mark.parametrize("asked", [control("no-cache"), control("max-age=0"), ("Pragma", "no-cache")])
def test_reloads_are_ignored(configured: Program, origin: Origin, asked: tuple[str, str]) -> None:
    pinned, plain = (origin.page(b"page", FRESH, stem=stem) for stem in ("pinned", "plain"))
    for path in (pinned, plain):
        fetch(configured, origin.url(path))
    ignored = fetch(configured, origin.url(pinned), asked)
    assert (ignored.hit, detail(ignored)) == (True, "rule-ignore-reload")
    assert not fetch(configured, origin.url(plain), asked).hit
    assert detail(fetch(configured, origin.url(pinned))) == "max-age"


def test_offline(configured: Program, origin: Origin) -> None:
    stale = origin.page(b"old", control("max-age=10, must-revalidate"), ("Age", "20"))
    fresh = origin.page(b"new", FRESH)
    missing = origin.page(b"missing", FRESH)
    for path in (stale, fresh):
        fetch(configured, origin.url(path))
    answers = [fetch(configured, origin.url(path) + "?ruled=offline") for path in (stale, fresh, missing)]
    assert [(answer.status, detail(answer)) for answer in answers] == [
        (200, "rule-offline"),
        (200, "max-age"),
        (504, "rule-offline"),
    ]
    assert [answer.body for answer in answers[:2]] == [b"old", b"new"]
    posted = fetch(configured, origin.url(fresh) + "?ruled=offline", method="POST", body=b"x")
    assert posted.status == 504
    assert [len(origin.seen(path)) for path in (stale, fresh, missing)] == [1, 1, 0]


def test_retention(configured: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"page", FRESH))
    fetch(configured, url)
    ruled = url + "?ruled=retention"
    told = []

    def over() -> bool:
        answer = fetch(configured, ruled)
        told.append(detail(answer))
        return not answer.hit

    until(over)
    assert told[-1] == "rule-retention"
    assert set(told[:-1]) <= {"max-age"}
    assert len(origin.seen(path)) == 2


def test_a_store_in_memory(configured: Program, origin: Origin) -> None:
    bodies = {stem: pattern(stem, 400_000) for stem in ("remembered", "written")}
    for stem, body in bodies.items():
        url = origin.url(origin.page(body, FRESH, stem=stem))
        fetch(configured, url)
        answer = fetch(configured, url)
        assert (answer.hit, answer.body) == (True, body)

    def on_disk(stem: str) -> bool:
        piece = bodies[stem][200_000:200_100]
        for file in configured.data_dir.rglob("*"):
            with contextlib.suppress(OSError):  # sockets and folders; and files are moved once they are complete
                if piece in file.read_bytes():
                    return True
        return False

    until(lambda: on_disk("written"))
    assert not on_disk("remembered")
    wiped = origin.url(origin.page(b"x", FRESH, stem="remembered"))
    fetch(configured, wiped)
    fetch(configured, wiped, method="DELETE")
    assert not fetch(configured, wiped).hit


def test_sharing_despite_credentials_is_said_aloud(configured: Program) -> None:
    line = configured.wait_for_text("shares responses to requests with Authorization between all clients")
    assert "localhost" in line


def test_a_recipe_makes_one_key_of_many_urls(configured: Program, origin: Origin) -> None:
    path = origin.page(b"mirrored", FRESH, stem="mirrored")
    hosts = ("localhost", "127.0.0.1")
    answers = [fetch(configured, origin.url(path, host=host) + f"?sign={host}") for host in hosts]
    assert [(answer.body, answer.hit) for answer in answers] == [(b"mirrored", False), (b"mirrored", True)]
    fetch(configured, origin.url(path, host=hosts[1]), method="POST", body=b"x")
    assert not fetch(configured, origin.url(path) + "?sign=other").hit
    assert [seen.target for seen in origin.seen(path)] == [f"{path}?sign=localhost", path, f"{path}?sign=other"]
    plain = origin.page(b"plain", FRESH)
    assert [fetch(configured, origin.url(plain, host=host)).hit for host in hosts] == [False, False]


def test_no_host_gets_into_the_keys_that_recipes_make(configured: Program, origin: Origin) -> None:
    path = origin.page(b"mirrored", FRESH, stem="mirrored")
    port = origin.port()
    fetch(configured, origin.url(path))
    answer = fetch(configured, f"http://mirrors.internal/{port}{path}", control("only-if-cached"))
    # The key is a URL like any other: whoever names it is answered by what the recipe stored, or by nobody.
    assert answer.status in (200, 504)
    assert len(origin.seen(path)) == 1


async def echo(call: Call) -> None:
    """Answers with what was asked for."""
    await call.respond(call.seen.target.encode(), FRESH)


SEARCHES = ["?q=1", "?q=1&utm_source=a", "?fbclid=x&q=1", "?ruled=no&q=1", "?q=2&utm_source=a"]


def test_parameters_that_do_not_count(configured: Program, origin: Origin) -> None:
    url = origin.url(path := origin.on(origin.unique(), echo))
    bodies = [fetch(configured, url + query).body.decode() for query in SEARCHES]
    assert bodies == [f"{path}?q=1"] * 4 + [f"{path}?q=2&utm_source=a"]


def test_all_parameters_count_unless_the_user_says_so(proxy: Program, origin: Origin) -> None:
    url = origin.url(origin.on(origin.unique(), echo))
    assert not any(fetch(proxy, url + query).hit for query in SEARCHES)
