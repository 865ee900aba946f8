"""Each trap of the machinery underneath, closed and kept closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Http2, Wire, chunked, fetch, open_to, request_head
from tests.e2e.origin import Call, pattern_stream, response
from tests.e2e.waiting import settle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Start
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

FRESH = ("Cache-Control", "max-age=600")
MEGABYTE = 1 << 20

both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])


# -- 1xx -----------------------------------------------------------------------------------------------------------


def early(origin: Origin, body: bytes) -> str:
    """A path that sends 100, 102 and 103 before its answer."""

    async def handle(call: Call) -> None:
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        await call.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        await call.respond(body, FRESH)

    return origin.on(origin.unique(), handle)


@pytest.mark.rfc("9110", "15.2", "forwarded")
@pytest.mark.rfc("9110", "15.2", "not-final")
@pytest.mark.rfc("9111", "3", "final-status")
@both_schemes
def test_informational_responses_pass_and_the_right_answer_follows(proxy: Program, origin: Origin, scheme: str) -> None:
    one, two = early(origin, b"first page"), early(origin, b"second page")
    wire, target = open_to(proxy, origin.url(one, scheme))
    host = ("Host", f"localhost:{origin.port(scheme)}")
    with wire:
        for path, body in ((one, b"first page"), (two, b"second page")):
            answer = wire.send(request_head("GET", target.replace(one, path), host)).read()
            assert (answer.status, answer.body) == (200, body)
            statuses = [status for status, _ in answer.informational]
            assert [status for status in statuses if status != 100] == [102, 103]
            assert ("Link", "</style.css>; rel=preload") in dict(answer.informational)[103]
    again = fetch(proxy, origin.url(two, scheme))
    assert (again.body, again.hit, again.informational) == (b"second page", True, [])


@pytest.mark.rfc("9110", "15.2", "forwarded")
def test_informational_responses_reach_an_http_2_client(proxy: Program, origin: Origin) -> None:
    path = early(origin, b"page")
    with Http2(proxy, f"localhost:{origin.https_port}") as client:
        answer = client.fetch(path)
    assert (answer.status, answer.body) == (200, b"page")
    assert [status for status, _ in answer.informational if status != 100] == [102, 103]


def test_an_http_1_0_client_gets_no_informational_response(proxy: Program, origin: Origin) -> None:
    url = origin.url(early(origin, b"page"))
    with Wire.to(proxy.port) as wire:
        answer = wire.send(request_head("GET", url, ("Host", "localhost"), version="HTTP/1.0")).read()
    assert (answer.status, answer.body, answer.informational) == (200, b"page", [])


# -- trailers ------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9111", "3.1", "trailers-apart")
@pytest.mark.rfc("9110", "6.5.1", "trailers-not-merged")
@both_schemes
def test_response_trailers_break_nothing(proxy: Program, origin: Origin, scheme: str) -> None:
    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum"))
        await call.chunk(b"summed")
        await call.last_chunk(("X-Sum", "6"))

    path, plain = origin.on(origin.unique(), handle), origin.page(b"after")
    wire, target = open_to(proxy, origin.url(path, scheme))
    host = ("Host", f"localhost:{origin.port(scheme)}")
    with wire:
        for _ in range(2):
            answer = wire.send(request_head("GET", target, host, ("TE", "trailers"))).read()
            assert (answer.body, answer.complete) == (b"summed", True)
            assert answer.trailers in ([], [("X-Sum", "6")])
        after = wire.send(request_head("GET", target.replace(path, plain), host)).read()
        assert after.body == b"after"


@both_schemes
def test_request_trailers_break_nothing(proxy: Program, origin: Origin, scheme: str) -> None:
    path = origin.page(b"taken")
    wire, target = open_to(proxy, origin.url(path, scheme))
    host = ("Host", f"localhost:{origin.port(scheme)}")
    with wire:
        for _ in range(2):
            wire.send(request_head("POST", target, host, ("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")))
            answer = wire.send(chunked(b"some", b"thing", trailers=[("X-Sum", "9")])).read()
            assert (answer.status, answer.body) == (200, b"taken")
    for seen in origin.seen(path):
        assert seen.body == b"something"
        assert seen.trailers in ([], [("X-Sum", "9")])


def test_trailers_reach_an_http_2_client(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        await call.head(("Transfer-Encoding", "chunked"))
        await call.chunk(b"message")
        await call.last_chunk(("Grpc-Status", "0"))

    path, plain = origin.on(origin.unique(), handle), origin.page(b"after")
    with Http2(proxy, f"localhost:{origin.https_port}") as client:
        answer = client.fetch(path, ("te", "trailers"))
        assert (answer.body, answer.complete) == (b"message", True)
        assert [(name.lower(), value) for name, value in answer.trailers] == [("grpc-status", "0")]
        assert client.fetch(plain).body == b"after"


# -- ends of bodies ------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9110", "9.3.2", "no-content")
@both_schemes
def test_content_in_answer_to_head_stays_off_the_wire(proxy: Program, origin: Origin, scheme: str) -> None:
    async def handle(call: Call) -> None:
        await call.send(response(b"no content is allowed here", FRESH))
        call.close()

    path, plain = origin.on(origin.unique(), handle), origin.page(b"after")
    wire, target = open_to(proxy, origin.url(path, scheme))
    host = ("Host", f"localhost:{origin.port(scheme)}")
    with wire:
        answer = wire.send(request_head("HEAD", target, host)).read("HEAD")
        assert answer.status == 200
        after = wire.send(request_head("GET", target.replace(path, plain), host)).read()
        assert (after.status, after.body) == (200, b"after")


def test_an_error_page_for_head_has_no_content(proxy: Program, origin: Origin) -> None:
    plain = origin.page(b"after")
    with Wire.to(proxy.port) as wire:
        answer = wire.send(request_head("HEAD", "http://localhost:1/", ("Host", "localhost:1"))).read("HEAD")
        assert answer.status >= 500
        if (answer.value("connection") or "").lower() != "close":
            after = wire.send(request_head("GET", origin.url(plain), ("Host", "localhost"))).read()
            assert after.body == b"after"


@pytest.mark.rfc("8246", "3", "length")
@pytest.mark.parametrize(("scheme", "client"), [("http", "http/1.1"), ("https", "http/1.1"), ("https", "h2")])
def test_a_body_that_ends_with_the_connection_is_not_stored(
    proxy: Program, origin: Origin, scheme: str, client: str
) -> None:
    async def handle(call: Call) -> None:
        await call.head(FRESH)
        await call.send(b"as far as it goes")
        call.close()

    path = origin.on(origin.unique(), handle)
    for _ in range(2):
        if client == "h2":
            with Http2(proxy, f"localhost:{origin.https_port}") as http2:
                answer = http2.fetch(path)
        else:
            answer = fetch(proxy, origin.url(path, scheme))
        assert answer.body == b"as far as it goes"
        assert answer.complete
        assert not answer.hit
        assert not answer.stored
    assert len(origin.seen(path)) == 2


CUTS = ["length", "chunked", "chunk", "reset"]


@pytest.mark.rfc("9111", "3.3", "incomplete-not-used")
@both_schemes
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", [500, 200_000])
def test_a_cut_body_is_never_stored_and_never_looks_complete(
    proxy: Program, origin: Origin, scheme: str, cut: str, size: int
) -> None:
    whole = b"".join(pattern_stream("cut", 2 * size))

    async def handle(call: Call) -> None:
        if call.serial > 0:
            await call.respond(whole, FRESH)
            return
        if cut in ("length", "reset"):
            await call.head(FRESH, ("Content-Length", str(len(whole))))
            await call.send(whole[:size])
        else:
            await call.head(FRESH, ("Transfer-Encoding", "chunked"))
            await call.chunk(whole[:size])
            if cut == "chunk":
                await call.send(b"1000\r\nnot all of it")
        call.reset() if cut == "reset" else call.close()

    url = origin.url(path := origin.on(origin.unique(), handle), scheme)
    first = fetch(proxy, url)
    assert first.status >= 500 or not first.complete
    second, third = fetch(proxy, url), fetch(proxy, url)
    assert (second.complete, second.body, second.hit) == (True, whole, False)
    assert (third.body, third.hit) == (whole, True)
    assert len(origin.seen(path)) == 2


def test_a_cut_body_looks_cut_to_an_http_2_client(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Content-Length", "1000"))
        await call.send(b"half")
        call.close()

    path, plain = origin.on(origin.unique(), handle), origin.page(b"after")
    with Http2(proxy, f"localhost:{origin.https_port}") as client:
        answer = client.fetch(path)
        assert not answer.complete
        assert client.fetch(plain).body == b"after"


@pytest.mark.rfc("9111", "7.1", "poisoning")
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\nCache-Control: max-age=60\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3x\r\nCache-Control: max-age=60\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nCache-Control: max-age=60\r\n\r\nabc",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 300_000 + b"\r\nContent-Length: 1\r\n\r\na",
    ],
    ids=["two-lengths", "bad-length", "bad-chunk", "bad-coding", "no-http", "huge-head"],
)
def test_a_framing_fault_is_an_error_and_not_stored(proxy: Program, origin: Origin, raw: bytes) -> None:
    async def handle(call: Call) -> None:
        await call.send(raw)
        call.close()

    url = origin.url(path := origin.on(origin.unique(), handle))
    for _ in range(2):
        answer = fetch(proxy, url)
        assert answer.status >= 500 or not answer.complete
    assert len(origin.seen(path)) >= 2
    assert fetch(proxy, origin.url(origin.page(b"after"))).body == b"after"


@pytest.mark.rfc("9110", "9.2.2", "not-repeated")
def test_a_connection_closed_before_the_head(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        call.close()

    url = origin.url(path := origin.on(origin.unique(), handle))
    assert fetch(proxy, url).status in (502, 504)
    assert fetch(proxy, url, method="POST", body=b"pay").status in (502, 504)
    assert [seen.method for seen in origin.seen(path)].count("POST") == 1


def test_a_dead_pooled_connection_is_tried_again(proxy: Program, origin: Origin) -> None:
    """The origin closes a kept-alive connection without a word, as servers do after their idle time."""

    async def handle(call: Call) -> None:
        await call.respond(b"%d" % call.serial)
        call.close()

    url = origin.url(origin.on(origin.unique(), handle))
    assert [fetch(proxy, url).body for _ in range(5)] == [b"%d" % number for number in range(5)]


# -- HTTP/2 windows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storable", [True, False], ids=["storable", "no-store"])
def test_a_closed_http_2_window_holds_no_memory(proxy: Program, origin: Origin, storable: bool) -> None:
    total = 80 * MEGABYTE
    sent = 0

    async def handle(call: Call) -> None:
        nonlocal sent
        lifetime = FRESH if storable else ("Cache-Control", "no-store")
        await call.head(lifetime, ("Content-Length", str(total)))
        for piece in pattern_stream("window", total):
            await call.send(piece)
            sent += len(piece)

    path = origin.on(origin.unique(), handle)
    before = proxy.reset_peak()
    with Http2(proxy, f"localhost:{origin.https_port}", keep=False) as client:
        client.acknowledge = False
        number = client.request(path)
        while client.streams[number].received < 60_000:
            assert client.pump()
        settle(lambda: sent, quiet=0.6)
        assert proxy.peak() - before < 50 * MEGABYTE
        client.acknowledge = True
        client.release(number, client.streams[number].received)
        answer = client.finish(number)
        assert (answer.complete, client.streams[number].received) == (True, total)
    assert proxy.peak() - before < 50 * MEGABYTE


# -- the user's own scripts --------------------------------------------------------------------------------------------

RAISING = """
def request(flow):
    raise RuntimeError("a fault in a user's script")
"""

CHANGING = """
from mitmproxy import ctx

class Changing:
    def __init__(self):
        self.count = 0

    def request(self, flow):
        if "/asked" in flow.request.path:
            flow.request.path = flow.request.path.replace("/asked", "/sent")
            flow.request.headers["X-By-Script"] = "request"
        if flow.request.path.endswith("/made-up"):
            from mitmproxy import http
            flow.response = http.Response.make(200, b"made up here", {"Cache-Control": "max-age=600"})

    def response(self, flow):
        self.count += 1
        flow.response.headers["X-Count"] = str(self.count)

addons = [Changing()]
"""


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_raising_script_does_not_fail_open(start: Start, tmp_path: Path, origin: Origin, place: str) -> None:
    script = tmp_path / "raising.py"
    script.write_text(RAISING)
    chosen = {"scripts_before": [script]} if place == "before" else {"scripts": [script]}
    program = start("mitmdump", **chosen)
    secret = ("Proxy-Authorization", "Basic c2VjcmV0")
    hop = ("Connection", "X-Hop"), ("X-Hop", "1")
    for scheme in ("http", "https"):
        path = origin.page(b"page", FRESH)
        answers = [fetch(program, origin.url(path, scheme), secret, *hop) for _ in range(2)]
        for seen in origin.seen(path):
            assert b"c2VjcmV0" not in seen.head
            assert b"x-hop" not in seen.head.lower()
        assert [answer.status for answer in answers] in ([200, 200], [502, 502])
    program.terminate()
    assert program.wait() == 0, program.text()


@pytest.mark.parametrize("place", ["before", "after"])
def test_scripts_work_before_and_after_the_cache(start: Start, tmp_path: Path, origin: Origin, place: str) -> None:
    script = tmp_path / "changing.py"
    script.write_text(CHANGING)
    program = start("mitmdump", **({"scripts_before": [script]} if place == "before" else {"scripts": [script]}))
    asked = origin.unique("asked")
    path = origin.on(asked.replace("/asked", "/sent"), response(b"what the script asked for", FRESH))
    answers = [fetch(program, origin.url(asked)) for _ in range(3)]
    answers.append(fetch(program, origin.url(path)))
    assert {answer.body for answer in answers} == {b"what the script asked for"}
    assert [answer.hit for answer in answers] == [False, True, True, True]
    assert [answer.values("x-count") for answer in answers] == [["1"], ["2"], ["3"], ["4"]]
    (seen,) = origin.seen(path)
    assert seen.value("x-by-script") == "request"
    assert origin.seen(asked) == []


def test_what_a_script_answers_is_not_stored(start: Start, tmp_path: Path, origin: Origin) -> None:
    script = tmp_path / "changing.py"
    script.write_text(CHANGING)
    program = start("mitmdump", scripts=[script])
    path = origin.page(b"real", FRESH, stem="made-up")
    assert fetch(program, origin.url(path)).body == b"made up here"
    program.stop()
    without = start("mitmdump")
    answer = fetch(without, origin.url(path))
    assert (answer.body, answer.hit) == (b"real", False)
