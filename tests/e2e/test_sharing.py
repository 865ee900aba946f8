"""Collapsed forwarding in detail: who waits, who joins, what followers get, and when all go on their own."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Wire, fetch, request_head
from tests.e2e.origin import Call, pattern
from tests.e2e.sites import FRESH

if TYPE_CHECKING:
    from tests.e2e.clients import Answer
    from tests.e2e.origin import Gate, Origin
    from tests.e2e.programs import Program

HOST = ("Host", "localhost")
COOKIE = ("Cookie", "session=secret")
AUTHORIZED = ("Authorization", "Basic Zm9vOmJhcg==")
BODY = pattern("shared", 3000)


class Crowd(contextlib.ExitStack):
    """Clients with a connection each."""

    def __init__(self, program: Program, url: str) -> None:
        super().__init__()
        self.program = program
        self.url = url

    def ask(self, *fields: tuple[str, str], method: str = "GET") -> Wire:
        """One more client asks; it does not wait for the answer."""
        wire = self.enter_context(Wire.to(self.program.port))
        return wire.send(request_head(method, self.url, HOST, *fields))

    def arrived(self, origin: Origin) -> None:
        """Waits until the proxy has taken in all requests so far: it takes them in order, and answers this one."""
        for _ in range(2):
            fetch(self.program, origin.url(origin.page(stem="probe")))


def gated(origin: Origin, gate: Gate, *fields: tuple[str, str], status: str = "200 OK") -> str:
    """A path whose first request waits at ``gate`` for its head."""

    async def handle(call: Call) -> None:
        if call.serial == 0:
            await gate.passed()
        await call.respond(BODY, *fields, status=status)

    return origin.on(origin.unique(), handle)


def all_read(wires: list[Wire]) -> list[Answer]:
    answers = [wire.read() for wire in wires]
    assert [(answer.status, answer.complete) for answer in answers] == [(200, True)] * len(wires)
    return answers


@pytest.mark.rfc("9111", "4", "collapse")
@pytest.mark.rfc("9211", "2.6", "collapsed")
@pytest.mark.rfc("9111", "7.3", "set-cookie")
def test_followers_get_no_cookie_of_the_leader(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()
    path = gated(origin, gate, FRESH, ("Set-Cookie", "id=leader"), ("Clear-Site-Data", '"cache"'))
    with Crowd(proxy, origin.url(path)) as crowd:
        leader = crowd.ask()
        origin.wait_for(path)
        followers = [crowd.ask() for _ in range(6)]
        crowd.arrived(origin)
        gate.open()
        first, *others = all_read([leader, *followers])
    assert (first.value("set-cookie"), first.value("clear-site-data")) == ("id=leader", '"cache"')
    for answer in others:
        assert (answer.values("set-cookie"), answer.values("clear-site-data")) == ([], [])
        assert answer.body == BODY
        assert answer.hit or "collapsed" in answer.cache_status
    assert len(origin.seen(path)) == 1


@pytest.mark.rfc("9111", "4", "collapse-refused")
@pytest.mark.parametrize(
    "fields",
    [
        [("Cache-Control", "private, max-age=600")],
        [("Cache-Control", "no-store")],
        [FRESH, ("Vary", "*")],
        [("Cache-Control", "no-cache"), ("ETag", '"v"')],
        [("Cache-Control", "max-age=0"), ("ETag", '"v"')],
    ],
    ids=["private", "no-store", "vary-star", "no-cache", "stale"],
)
def test_what_is_not_shared_frees_all_at_once(proxy: Program, origin: Origin, fields: list[tuple[str, str]]) -> None:
    first, rest = origin.gate(), origin.gate()

    async def handle(call: Call) -> None:
        await (rest if call.serial else first).passed()
        await call.respond(b"%d" % call.serial, *fields)

    path = origin.on(origin.unique(), handle)
    with Crowd(proxy, origin.url(path)) as crowd:
        wires = [crowd.ask()]
        origin.wait_for(path)
        wires += [crowd.ask() for _ in range(5)]
        crowd.arrived(origin)
        assert len(origin.seen(path)) == 1
        first.open()
        # None of the others is answered yet, and all of them ask: they go in parallel.
        origin.wait_for(path, 6, timeout=3)
        # It is remembered: those who come now do not queue either.
        wires += [crowd.ask() for _ in range(3)]
        origin.wait_for(path, 9, timeout=3)
        rest.open()
        answers = all_read(wires)
    assert sorted(int(answer.body) for answer in answers) == list(range(9))


def test_another_vary_sorts_those_who_wait(proxy: Program, origin: Origin) -> None:
    gate, rest = origin.gate(), origin.gate()

    async def handle(call: Call) -> None:
        await (rest if call.serial else gate).passed()
        await call.respond((call.seen.value("accept-language") or "").encode(), FRESH, ("Vary", "Accept-Language"))

    path = origin.on(origin.unique(), handle)
    languages = ["de", "fr", "de", "it", "fr", "it", "de"]
    with Crowd(proxy, origin.url(path)) as crowd:
        wires = [crowd.ask(("Accept-Language", languages[0]))]
        origin.wait_for(path)
        wires += [crowd.ask(("Accept-Language", language)) for language in languages[1:]]
        crowd.arrived(origin)
        gate.open()
        origin.wait_for(path, 3, timeout=3)
        crowd.arrived(origin)
        rest.open()
        answers = all_read(wires)
    assert [answer.body.decode() for answer in answers] == languages
    assert len(origin.seen(path)) == 3


@pytest.mark.parametrize("field", [COOKIE, AUTHORIZED, ("Cache-Control", "no-cache"), ("Pragma", "no-cache")])
def test_who_is_known_waits_for_no_head(proxy: Program, origin: Origin, field: tuple[str, str]) -> None:
    gate = origin.gate()
    path = origin.unique()

    async def handle(call: Call) -> None:
        await gate.passed()
        await call.respond(BODY, FRESH)

    origin.on(path, handle)
    with Crowd(proxy, origin.url(path)) as crowd:
        wires = [crowd.ask(field) for _ in range(3)]
        origin.wait_for(path, 3, timeout=3)
        wires.append(crowd.ask())  # nor does anyone wait for them
        origin.wait_for(path, 4, timeout=3)
        wires.append(crowd.ask(field))
        origin.wait_for(path, 5, timeout=3)
        gate.open()
        all_read(wires)


@pytest.mark.parametrize(
    ("control", "field", "joins"),
    [
        ("max-age=600", COOKIE, True),
        ("max-age=600", AUTHORIZED, True),
        ("max-age=600", ("Cache-Control", "no-cache"), False),
        ("private, max-age=600", COOKIE, False),
    ],
)
def test_who_is_known_joins_only_what_is_shared(
    proxy: Program, origin: Origin, control: str, field: tuple[str, str], joins: bool
) -> None:
    gate = origin.gate()

    async def handle(call: Call) -> None:
        cookie = ("Set-Cookie", f"id={call.serial}")
        await call.head(("Cache-Control", control), cookie, ("Content-Length", str(len(BODY))))
        await call.send(BODY[:1000])
        await gate.passed()
        await call.send(BODY[1000:])

    path = origin.on(origin.unique(), handle)
    with Crowd(proxy, origin.url(path)) as crowd:
        leader = crowd.ask()
        assert leader.read_head().value("set-cookie") == "id=0"
        assert leader.read_exactly(1000) == BODY[:1000]
        other = crowd.ask(field)
        head = other.read_head()
        assert other.read_exactly(1000) == BODY[:1000]
        gate.open()
        assert other.read_exactly(2000) == leader.read_exactly(2000) == BODY[1000:]
    assert head.value("set-cookie") == (None if joins else "id=1")
    assert ("collapsed" in head.cache_status) == joins
    assert len(origin.seen(path)) == (1 if joins else 2)


def test_the_leader_may_leave(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()
    path = gated(origin, gate, FRESH)
    with Crowd(proxy, origin.url(path)) as crowd:
        leader = crowd.ask()
        origin.wait_for(path)
        followers = [crowd.ask() for _ in range(3)]
        crowd.arrived(origin)
        leader.close()
        crowd.arrived(origin)
        gate.open()
        assert [answer.body for answer in all_read(followers)] == [BODY] * 3
    assert len(origin.seen(path)) == 1


def test_the_leader_may_leave_in_the_middle(proxy: Program, origin: Origin) -> None:
    body, gate = pattern("middle", 4_000_000), origin.gate()

    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Content-Length", str(len(body))))
        await call.send(body[:500_000])
        await gate.passed()
        await call.send(body[500_000:])

    path = origin.on(origin.unique(), handle)
    with Crowd(proxy, origin.url(path)) as crowd:
        leader, follower = crowd.ask(), crowd.ask()
        for wire in (leader, follower):
            wire.read_head()
            assert wire.read_exactly(500_000) == body[:500_000]
        leader.close()
        crowd.arrived(origin)
        gate.open()
        assert follower.read_exactly(3_500_000) == body[500_000:]
    again = fetch(proxy, origin.url(path))
    assert (again.hit, again.body) == (True, body)
    assert len(origin.seen(path)) == 1


@pytest.mark.parametrize(("sent", "finishes"), [(2_500_000, True), (500_000, False)])
def test_a_download_that_all_left(proxy: Program, origin: Origin, sent: int, finishes: bool) -> None:
    body, gate = pattern("left", 4_000_000), origin.gate()

    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Content-Length", str(len(body))))
        if call.serial == 0:
            await call.send(body[:sent])
            await gate.passed()
            await call.send(body[sent:])
        else:
            await call.send(body)

    path = origin.on(origin.unique(), handle)
    with Crowd(proxy, origin.url(path)) as crowd:
        only = crowd.ask()
        only.read_head()
        assert only.read_exactly(sent) == body[:sent]
    crowd.arrived(origin)
    gate.open()
    answer = fetch(proxy, origin.url(path))
    assert answer.body == body
    assert len(origin.seen(path)) == (1 if finishes else 2)


def test_a_leader_that_stalls_holds_nobody_for_ever(configured: Program, origin: Origin) -> None:
    gate = origin.gate()
    path = gated(origin, gate, FRESH)
    with Crowd(configured, origin.url(path)) as crowd:
        crowd.ask()
        origin.wait_for(path)
        began = time.monotonic()
        followers = [crowd.ask() for _ in range(3)]
        assert [answer.body for answer in all_read(followers)] == [BODY] * 3
        waited = time.monotonic() - began
        gate.open()
    assert 0.9 < waited < 5
    assert 2 <= len(origin.seen(path)) <= 4


def test_head_and_no_store_lead_nobody(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()
    path = origin.unique()

    async def handle(call: Call) -> None:
        await gate.passed()
        await call.respond(BODY, FRESH)

    origin.on(path, handle)
    with Crowd(proxy, origin.url(path)) as crowd:
        head, unkept = crowd.ask(method="HEAD"), crowd.ask(("Cache-Control", "no-store"))
        origin.wait_for(path, 2)
        wires = [crowd.ask()]
        origin.wait_for(path, 3, timeout=3)
        wires += [crowd.ask(), crowd.ask()]
        crowd.arrived(origin)
        gate.open()
        assert [answer.body for answer in all_read([unkept, *wires])] == [BODY] * 4
        assert head.read("HEAD").status == 200
    assert len(origin.seen(path)) == 3
