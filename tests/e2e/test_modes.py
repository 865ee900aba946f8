"""mitmproxy's other modes with the same cache, and hosts that are tunnelled unopened."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Wire, curl, fetch, request_head
from tests.e2e.conftest import BYPASSED
from tests.e2e.origin import Origin
from tests.e2e.tcp_origin import TcpOrigin
from tests.e2e.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.authority import Authority
    from tests.e2e.conftest import Start
    from tests.e2e.programs import Program

FRESH = ("Cache-Control", "max-age=600")


@pytest.fixture(scope="module")
def pinned(authority: Authority) -> Iterator[Origin]:
    """An origin on the bypass list."""
    with Origin(authority.server_context(BYPASSED), host=BYPASSED) as running:
        yield running


@pytest.mark.rfc("9110", "3.8", "tunnels")
@pytest.mark.rfc("9110", "9.3.6", "connect")
def test_a_host_on_the_bypass_list_is_tunnelled_unopened(proxy: Program, pinned: Origin, authority: Authority) -> None:
    path = pinned.page(b"end to end", FRESH)
    host = f"{BYPASSED}:{pinned.https_port}"
    for _ in range(2):
        with Wire.to(proxy.port) as plain:
            plain.tunnel(host)
            # Verified by the origin's own authority, which signs nothing that the proxy presents.
            wire = plain.start_tls(authority.ca_file, BYPASSED)
            assert isinstance(wire.sock, ssl.SSLSocket)
            answer = wire.send(request_head("GET", path, ("Host", host), ("X-Mine", "1"))).read()
        assert (answer.body, answer.cache_status) == (b"end to end", "")
    assert len(pinned.seen(path)) == 2
    assert pinned.seen(path)[0].values("via") == []


def test_other_hosts_are_opened(proxy: Program, origin: Origin) -> None:
    path = origin.page(b"page", FRESH)
    assert curl(proxy, origin.url(path, "https", "127.0.0.1")).stored


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_reverse_mode(start: Start, origin: Origin, scheme: str) -> None:
    program = start("mitmdump", mode=f"reverse:{origin.url('', scheme)}")
    path = origin.page(b"published", FRESH)
    answers = []
    for _ in range(2):
        with Wire.to(program.port) as wire:
            answers.append(wire.send(request_head("GET", path, ("Host", "www.example.com"))).read())
    assert [answer.body for answer in answers] == [b"published", b"published"]
    assert [answer.hit for answer in answers] == [False, True]
    (seen,) = origin.seen(path)
    assert seen.secure is (scheme == "https")


def socks(program: Program, host: str, port: int) -> Wire:
    """A SOCKS5 connection (RFC 1928) to ``host``, a name or an IPv4 address."""
    wire = Wire.to(program.port)
    wire.send(b"\x05\x01\x00")
    assert wire.read_exactly(2) == b"\x05\x00"
    try:
        address = b"\x01" + socket.inet_aton(host)
    except OSError:
        address = b"\x03" + bytes([len(host)]) + host.encode()
    wire.send(b"\x05\x01\x00" + address + port.to_bytes(2))
    assert wire.read_exactly(4)[:2] == b"\x05\x00"
    wire.read_exactly(6)
    return wire


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_socks5_mode(start: Start, origin: Origin, scheme: str) -> None:
    program = start("mitmdump", mode="socks5")
    path = origin.page(b"by socks", FRESH)
    authority = f"localhost:{origin.port(scheme)}"
    answers = []
    for _ in range(2):
        wire = socks(program, "localhost", origin.port(scheme))
        if scheme == "https":
            wire = wire.start_tls(program.ca_file, "localhost")
        with wire:
            answers.append(wire.send(request_head("GET", path, ("Host", authority))).read())
    assert [answer.body for answer in answers] == [b"by socks", b"by socks"]
    assert [answer.hit for answer in answers] == [False, True]
    assert len(origin.seen(path)) == 1


def test_an_address_that_a_socks_client_chose_fills_no_name(start: Start, origin: Origin, other_origin: Origin) -> None:
    """The client connects to an attacker's server and says Host: victim; others must get the victim's page."""
    program = start("mitmdump", mode="socks5")
    path = origin.page(b"the true page", FRESH)
    other_origin.on(path, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nCache-Control: max-age=600\r\n\r\npoison")
    victim = ("Host", f"localhost:{origin.http_port}")
    with socks(program, "127.0.0.1", other_origin.http_port) as wire:
        wire.send(request_head("GET", path, victim)).read()
    with socks(program, "localhost", origin.http_port) as wire:
        answer = wire.send(request_head("GET", path, victim)).read()
    assert answer.body == b"the true page"


def test_a_server_name_that_differs_from_the_host_is_misdirected(start: Start, origin: Origin) -> None:
    program = start("mitmdump", mode="socks5")
    path = origin.page(b"page", FRESH)
    with socks(program, "localhost", origin.https_port) as plain:
        wire = plain.start_tls(program.ca_file, "localhost")
        answer = wire.send(request_head("GET", path, ("Host", f"elsewhere.example:{origin.https_port}"))).read()
    assert answer.status == 421
    assert origin.seen(path) == []


def test_socks5_with_another_protocol(start: Start) -> None:
    program = start("mitmdump", mode="socks5")
    with TcpOrigin() as server, socks(program, "127.0.0.1", server.port) as wire:
        wire.send(b"\x00raw")
        assert wire.read_exactly(4) == b"\x00RAW"


def test_two_programs_share_one_store(start: Start, origin: Origin, tmp_path: Path) -> None:
    one = start("fwdproxy", tmp_path / "shared")
    two = start("mitmdump", tmp_path / "shared")
    path, large = origin.page(b"shared", FRESH), origin.page(b"L" * 300_000, FRESH)
    only = ("Cache-Control", "only-if-cached")
    bodies = [fetch(one, origin.url(shared)).body for shared in (path, large)]
    # Commits are grouped: the other process sees them a few milliseconds later.
    until(lambda: all(fetch(two, origin.url(shared), only).hit for shared in (path, large)))
    assert [fetch(two, origin.url(shared)).body for shared in (path, large)] == bodies
    assert [len(origin.seen(shared)) for shared in (path, large)] == [1, 1]
    fetch(two, origin.url(path), method="POST", body=b"change")
    assert not fetch(one, origin.url(path)).hit
