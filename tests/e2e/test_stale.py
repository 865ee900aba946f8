"""Stale responses: while they are validated, and while their origin fails (RFC 5861); and when never."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Wire, fetch, request_head
from tests.e2e.origin import Call, response
from tests.e2e.sites import FRESH, STALE
from tests.e2e.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.origin import Handler, Origin
    from tests.e2e.programs import Program

ETAG = ("ETag", '"v1"')
NOT_MODIFIED = response(b"", FRESH, ETAG, status="304 Not Modified")
FAILED = response(b"broken", status="503 Broken")


def old(control: str, age: int = 20) -> bytes:
    """A response that had ``age`` when it left the origin."""
    return response(b"old", ("Cache-Control", control), ("Age", str(age)), ETAG)


# -- while it is validated


@pytest.mark.rfc("5861", "3", "served")
@pytest.mark.rfc("5861", "3", "revalidated")
@pytest.mark.rfc("5861", "3", "age")
@pytest.mark.rfc("5861", "5", "on-request")
def test_one_validation_in_the_background(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()

    async def slow(call: Call) -> None:
        await gate.passed()
        await call.send(NOT_MODIFIED)

    path = origin.script(old("max-age=10, stale-while-revalidate=600"), slow)
    url = origin.url(path)
    fetch(proxy, url)
    with contextlib.ExitStack() as closing:
        wires = [closing.enter_context(Wire.to(proxy.port)) for _ in range(8)]
        for wire in wires:
            wire.send(request_head("GET", url, ("Host", "localhost"), ("X-Client", "1")))
        answers = [wire.read() for wire in wires]
    assert [(answer.body, answer.hit, answer.parameter("detail")) for answer in answers] == [
        (b"old", True, "stale-while-revalidate")
    ] * 8
    assert all(int(answer.value("age") or 0) >= 20 for answer in answers)
    assert all(int(answer.parameter("ttl") or 0) < 0 for answer in answers)
    _, asked = origin.wait_for(path, 2)
    assert asked.value("if-none-match") == '"v1"'
    gate.open()
    until(lambda: fetch(proxy, url).parameter("detail") == "max-age")
    assert len(origin.seen(path)) == 2


def test_a_failed_validation_in_the_background_harms_nobody(proxy: Program, origin: Origin) -> None:
    path = origin.script(old("max-age=10, stale-while-revalidate=600"), FAILED, NOT_MODIFIED)
    url = origin.url(path)
    fetch(proxy, url)
    assert fetch(proxy, url).body == b"old"
    origin.wait_for(path, 2)
    # The one that failed is over some time after it arrived; only then does a request start another.
    until(lambda: fetch(proxy, url).body == b"old" and len(origin.seen(path)) >= 3)
    until(lambda: fetch(proxy, url).parameter("detail") == "max-age")
    assert len(origin.seen(path)) == 3


@pytest.mark.rfc("5861", "3", "window")
@pytest.mark.rfc("9111", "4.2.4", "prohibited")
@pytest.mark.rfc("9111", "5.2.2.2", "must-revalidate")
@pytest.mark.rfc("9111", "5.2.2.4", "no-cache")
@pytest.mark.rfc("9111", "5.2.2.8", "proxy-revalidate")
@pytest.mark.parametrize(
    ("control", "asked", "served"),
    [
        ("max-age=10, stale-while-revalidate=60", None, True),
        ("s-maxage=10, stale-while-revalidate=60", None, True),
        ("max-age=10, stale-while-revalidate=5", None, False),
        ("max-age=10, stale-while-revalidate=10", None, False),
        ("max-age=10, stale-while-revalidate", None, False),
        ("max-age=10, stale-while-revalidate=x", None, False),
        ("max-age=10, stale-while-revalidate=60, must-revalidate", None, False),
        ("max-age=10, stale-while-revalidate=60, proxy-revalidate", None, False),
        ("max-age=10, stale-while-revalidate=60, no-cache", None, False),
        ("s-maxage=10, stale-while-revalidate=60, must-revalidate", None, False),
        ("max-age=10, stale-while-revalidate=60", "no-cache", False),
        ("max-age=10, stale-while-revalidate=60", "max-age=5", False),
        ("max-age=10, stale-while-revalidate=60", "min-fresh=1", False),
        ("max-age=10", "max-stale", True),
        ("max-age=10", "max-stale=5", False),
        ("s-maxage=10", "max-stale", False),
        ("max-age=10, must-revalidate", "max-stale", False),
    ],
)
def test_when_a_stale_response_is_served_at_once(
    proxy: Program, origin: Origin, control: str, asked: str | None, served: bool
) -> None:
    path = origin.script(old(control), response(b"new", FRESH))
    url = origin.url(path)
    fetch(proxy, url)
    answer = fetch(proxy, url, *([] if asked is None else [("Cache-Control", asked)]))
    assert (answer.body, answer.hit) == ((b"old", True) if served else (b"new", False)), answer.cache_status


# -- while the origin fails


async def reset(call: Call) -> None:
    """Cuts the connection before a word."""
    call.reset()


async def closed(call: Call) -> None:
    call.close()


async def cut_head(call: Call) -> None:
    """Ends in the middle of the head."""
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    call.close()


async def reset_head(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    call.reset()


async def junk(call: Call) -> None:
    await call.send(b"no HTTP at all\r\n\r\n")
    call.close()


async def cut_304(call: Call) -> None:
    await call.send(b"HTTP/1.1 304 Not Modified\r\nETag: ")
    call.close()


@pytest.mark.rfc("5861", "4", "served")
@pytest.mark.rfc("5861", "4", "errors")
@pytest.mark.rfc("5861", "4", "age")
@pytest.mark.rfc("9111", "4.3.3", "server-error")
@pytest.mark.parametrize(
    ("failure", "detail"),
    [
        (reset, "stale-if-error:connection_terminated"),
        (closed, "stale-if-error:connection_terminated"),
        (cut_head, "stale-if-error:http_response_incomplete"),
        (reset_head, "stale-if-error:http_response_incomplete"),
        (cut_304, "stale-if-error:http_response_incomplete"),
        (junk, "stale-if-error:http_protocol_error"),
        *((response(b"", status=f"{status} X"), "stale-if-error") for status in (500, 502, 503, 504)),
    ],
    ids=["reset", "closed", "cut-head", "reset-head", "cut-304", "junk", "500", "502", "503", "504"],
)
def test_a_stale_response_stands_in_for_a_failing_origin(
    proxy: Program, origin: Origin, failure: Handler | bytes, detail: str
) -> None:
    for control in ("max-age=10, stale-if-error=600", "s-maxage=10, stale-if-error=600"):
        url = origin.url(origin.script(old(control), failure))
        fetch(proxy, url)
        answer = fetch(proxy, url)
        assert (answer.status, answer.body, answer.fwd) == (200, b"old", "stale")
        assert answer.parameter("detail") == detail
        assert int(answer.value("age") or 0) >= 20


@pytest.mark.parametrize("status", ["404 Not Found", "501 Never", "505 No", "429 Slow"])
def test_other_statuses_are_no_failure(proxy: Program, origin: Origin, status: str) -> None:
    url = origin.url(origin.script(old("max-age=10, stale-if-error=600"), response(b"said", status=status)))
    fetch(proxy, url)
    assert fetch(proxy, url).body == b"said"


@contextlib.contextmanager
def origin_for_once(answer: bytes) -> Iterator[int]:
    """A port that answers one request and refuses every connection after that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            listener.close()
            with peer:
                peer.recv(1 << 16)
                peer.sendall(answer)

        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield port
        thread.join(5)


@pytest.mark.rfc("5861", "4", "errors")
@pytest.mark.rfc("9111", "5.2.2.2", "disconnected")
@pytest.mark.parametrize(
    ("control", "served"),
    [
        ("max-age=10, stale-if-error=600", True),
        ("max-age=10", False),
        ("max-age=10, must-revalidate, stale-if-error=600", False),
    ],
)
def test_a_refused_connection(proxy: Program, control: str, served: bool) -> None:
    page = response(b"old", ("Cache-Control", control), ("Age", "20"), ETAG, ("Connection", "close"))
    with origin_for_once(page) as port:
        url = f"http://localhost:{port}/page"
        assert fetch(proxy, url).body == b"old"
        answer = fetch(proxy, url)
    if served:
        assert (answer.status, answer.body) == (200, b"old")
        assert answer.parameter("detail") == "stale-if-error:connection_refused"
    else:
        assert answer.status in (502, 504)
        assert answer.parameter("detail") == "connection_refused"


@pytest.mark.rfc("5861", "4", "errors")
def test_an_origin_that_is_silent_for_too_long(configured: Program, origin: Origin) -> None:
    gate = origin.gate()

    async def silent(call: Call) -> None:
        await gate.passed()
        call.close()

    urls = [
        origin.url(origin.script(old(control), silent))
        for control in ("max-age=10, stale-if-error=60", "max-age=10, must-revalidate")
    ]
    for url in urls:
        fetch(configured, url)
    with Wire.to(configured.port) as allowed, Wire.to(configured.port) as forbidden:
        for wire, url in zip((allowed, forbidden), urls, strict=True):
            wire.send(request_head("GET", url, ("Host", "localhost")))
        answers = [wire.read() for wire in (allowed, forbidden)]
    gate.open()
    assert [(answer.status, answer.parameter("detail")) for answer in answers] == [
        (200, "stale-if-error:http_response_timeout"),
        (504, "http_response_timeout"),
    ]
    assert answers[0].body == b"old"


@pytest.mark.rfc("5861", "4", "errors")
def test_a_name_that_is_gone(configured: Program, origin: Origin) -> None:
    # A recipe gives the mirror whose name no longer exists the same key.
    path = origin.script(old("max-age=10, stale-if-error=600"), stem="mirrored")
    fetch(configured, origin.url(path))
    answer = fetch(configured, origin.url(path, host="nowhere.invalid"))
    assert (answer.status, answer.body) == (200, b"old")
    assert answer.parameter("detail") == "stale-if-error:dns_error"


@pytest.mark.rfc("5861", "4", "window")
@pytest.mark.rfc("5861", "4", "request")
@pytest.mark.rfc("9111", "4.2.4", "prohibited")
@pytest.mark.parametrize(
    ("control", "asked", "served"),
    [
        ("max-age=10, stale-if-error=10", None, False),
        ("max-age=10, stale-if-error=5", None, False),
        ("max-age=10, stale-if-error", None, False),
        ("max-age=10", None, False),
        ("max-age=10, stale-if-error=60, must-revalidate", None, False),
        ("max-age=10, stale-if-error=60, proxy-revalidate", None, False),
        ("max-age=10, stale-if-error=60, no-cache", None, False),
        ("max-age=10", "stale-if-error=60", True),
        ("max-age=10", "stale-if-error=5", False),
        ("max-age=10, stale-if-error=5", "stale-if-error=60", True),
        ("s-maxage=10", "stale-if-error=60", False),
        ("max-age=10, must-revalidate", "stale-if-error=60", False),
        ("max-age=10, stale-if-error=60", "no-cache", False),
        ("max-age=10, stale-if-error=60", "max-age=5", True),
        ("max-age=10, stale-if-error=60", "min-fresh=5", True),
    ],
)
def test_when_a_stale_response_may_stand_in(
    proxy: Program, origin: Origin, control: str, asked: str | None, served: bool
) -> None:
    url = origin.url(origin.script(old(control), FAILED))
    fetch(proxy, url)
    answer = fetch(proxy, url, *([] if asked is None else [("Cache-Control", asked)]))
    assert (answer.status, answer.body) == ((200, b"old") if served else (503, b"broken")), answer.cache_status


@pytest.mark.rfc("9111", "4.2.4", "permitted")
@pytest.mark.parametrize("failure", [FAILED, cut_head], ids=["503", "cut-head"])
@pytest.mark.parametrize(
    ("control", "age", "served"),
    [
        ("max-age=10", 20, True),
        ("max-age=10", 10 + 3600, False),
        ("max-age=10", 10 + 3500, True),
        ("max-age=10, stale-if-error=5", 20, False),
        ("max-age=10, must-revalidate", 20, False),
        ("max-age=10, proxy-revalidate", 20, False),
        ("s-maxage=10", 20, False),
        ("max-age=10, no-cache", 20, False),
    ],
)
def test_the_users_grace(
    configured: Program, origin: Origin, failure: Handler | bytes, control: str, age: int, served: bool
) -> None:
    url = origin.url(origin.script(old(control, age), failure))
    fetch(configured, url)
    answer = fetch(configured, url)
    if served:
        assert (answer.status, answer.body) == (200, b"old")
        assert (answer.parameter("detail") or "").startswith("grace")
    else:
        assert answer.status in (502, 503)
        assert answer.body != b"old"


def test_those_that_wait_get_the_stale_response_too(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()

    async def fails(call: Call) -> None:
        await gate.passed()
        await cut_head(call)  # silence would be asked once more, on a new connection

    path = origin.script(old("max-age=10, stale-if-error=600"), fails)
    url = origin.url(path)
    # One with cookies leads nobody, so that it isn't remembered that what came was of no use to others.
    fetch(proxy, url, ("Cookie", "a=1"))
    with contextlib.ExitStack() as closing:
        wires = [closing.enter_context(Wire.to(proxy.port)) for _ in range(5)]
        for wire in wires:
            wire.send(request_head("GET", url, ("Host", "localhost")))
        origin.wait_for(path, 2)
        fetch(proxy, origin.url(origin.page()))  # so that the others have come to wait
        gate.open()
        answers = [wire.read() for wire in wires]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"old")] * 5
    assert len(origin.seen(path)) == 2


def test_a_stale_response_without_validator_is_fetched_anew(proxy: Program, origin: Origin) -> None:
    first = response(b"old", ("Cache-Control", "max-age=10, stale-if-error=60"), ("Age", "20"))
    path = origin.script(first, FAILED, response(b"new", *STALE))
    answers = [fetch(proxy, origin.url(path)) for _ in range(3)]
    assert [answer.body for answer in answers] == [b"old", b"old", b"new"]
    assert [seen.value("if-none-match") for seen in origin.seen(path)] == [None] * 3
