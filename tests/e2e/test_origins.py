"""Origins that can't be trusted, reached or waited for; and those on other kinds of address."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.e2e.authority import Authority
from tests.e2e.clients import Http2, Wire, fetch, request_head
from tests.e2e.origin import Call, Origin
from tests.e2e.tcp_origin import TcpOrigin

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Start
    from tests.e2e.programs import Program

FRESH = ("Cache-Control", "max-age=600")
QUICK = "[origin]\nconnect_timeout = '1s'\nhead_timeout = '1s'\nidle_timeout = '1s'\n"


def test_an_origin_with_an_unknown_authority_is_refused(proxy: Program, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "nobody knows this one")
    with Origin(stranger.server_context()) as origin:
        path = origin.page(b"secret", FRESH)
        answers = [fetch(proxy, origin.url(path, "https"))]
        with Http2(proxy, f"localhost:{origin.https_port}") as client:
            answers.append(client.fetch(path))
        assert [answer.status for answer in answers] == [502, 502]
        assert not any(b"secret" in answer.body for answer in answers)
        assert origin.seen(path) == []


def test_an_origin_with_another_name_is_refused(proxy: Program, authority: Authority) -> None:
    with Origin(authority.server_context("elsewhere.example")) as origin:
        path = origin.page(b"secret", FRESH)
        assert fetch(proxy, origin.url(path, "https")).status == 502
        assert origin.seen(path) == []


def test_an_origin_that_speaks_no_tls_is_an_error(proxy: Program) -> None:
    with TcpOrigin() as server:
        assert fetch(proxy, f"https://localhost:{server.port}/").status == 502


def test_a_name_that_does_not_exist_is_an_error(proxy: Program) -> None:
    answer = fetch(proxy, "http://no-such-host.invalid/")
    assert answer.status in (502, 504)
    assert b"no-such-host.invalid" in answer.body


def test_an_origin_on_ipv6(proxy: Program) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with Origin(host="::1") as origin:
        path = origin.page(b"six", FRESH)
        url = origin.url(path, host="[::1]")
        assert fetch(proxy, url).body == b"six"
        assert fetch(proxy, url).hit
        assert origin.seen(path)[0].values("host") == [f"[::1]:{origin.http_port}"]


def test_the_time_for_an_origin_is_bounded(start: Start, origin: Origin) -> None:
    program = start("fwdproxy", config=QUICK)
    never = origin.gate()

    async def silent(call: Call) -> None:
        await never.passed()

    async def stuck(call: Call) -> None:
        await call.head(FRESH, ("Content-Length", "10"))
        await call.send(b"half")
        await never.passed()

    assert fetch(program, origin.url(origin.on(origin.unique(), silent))).status == 504
    path = origin.on(origin.unique(), stuck)
    for _ in range(2):
        cut = fetch(program, origin.url(path))
        assert (cut.status, cut.complete, cut.hit) == (200, False, False)
    assert len(origin.seen(path)) == 2
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert fetch(program, f"https://localhost:{mute.getsockname()[1]}/").status == 504
    assert fetch(program, origin.url(origin.page(b"fine"))).body == b"fine"


def test_a_slow_client_is_not_a_slow_origin(start: Start, origin: Origin) -> None:
    """Limits of time are the origin's: an upload that pauses longer than they say is no error."""
    program = start("fwdproxy", config=QUICK.replace("1s", "500ms"))

    async def handle(call: Call) -> None:
        await call.read_body()
        await call.respond(b"taken")

    path = origin.on(origin.unique(), handle)
    with Wire.to(program.port) as wire:
        host = ("Host", f"localhost:{origin.http_port}")
        wire.send(request_head("POST", origin.url(path), host, ("Transfer-Encoding", "chunked")) + b"1\r\na\r\n")
        origin.wait_for(path)
        wire.sock.settimeout(1.5)
        with pytest.raises(TimeoutError):
            wire.read_some()
        wire.sock.settimeout(10)
        answer = wire.send(b"1\r\nb\r\n0\r\n\r\n").read()
    assert (answer.status, answer.body) == (200, b"taken")
