"""What a proxy owes both sides (RFC 9110 §7.6, RFC 9112): fields of one hop, targets, versions, framing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.e2e.clients import Http2, Wire, fetch, open_to, request_head

if TYPE_CHECKING:
    from tests.e2e.origin import Call, Origin
    from tests.e2e.programs import Program

FRESH = ("Cache-Control", "max-age=600")

both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])


@pytest.mark.rfc("9110", "7.6.1", "listed-removed")
@pytest.mark.rfc("9110", "7.6.1", "known-removed")
@pytest.mark.rfc("9110", "11.7", "proxy-authentication")
@both_schemes
@pytest.mark.parametrize("upgrade", ["other/2", "h2c"])
def test_fields_of_one_hop_never_reach_the_origin(proxy: Program, origin: Origin, scheme: str, upgrade: str) -> None:
    url = origin.url(path := origin.page(), scheme)
    fetch(
        proxy,
        url,
        ("Connection", "keep-alive, X-Private-Hop"),
        ("connection", "x-second-hop"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic c2VjcmV0OnNlY3JldA=="),
        ("Proxy-Frob", "1"),
        ("TE", "trailers"),
        ("Upgrade", upgrade),
        ("X-Private-Hop", "1"),
        ("X-Second-Hop", "1"),
        ("X-End-To-End", "yes"),
    )
    (seen,) = origin.seen(path)
    head = seen.head.lower()
    for name in (b"x-private-hop", b"x-second-hop", b"keep-alive:", b"proxy-", b"\r\nte:", b"upgrade"):
        assert name not in head, seen.head
    assert b"secret" not in seen.head
    assert seen.value("x-end-to-end") == "yes"


@pytest.mark.rfc("9111", "3.1", "connection-fields")
@pytest.mark.rfc("9111", "3.1", "hop-by-hop")
@pytest.mark.rfc("9111", "3.1", "proxy-fields")
@pytest.mark.rfc("9110", "7.6.1", "listed-removed")
@pytest.mark.rfc("9110", "7.6.1", "known-removed")
@pytest.mark.rfc("9110", "11.7", "proxy-authentication")
@both_schemes
def test_fields_of_one_hop_never_reach_the_client(proxy: Program, origin: Origin, scheme: str) -> None:
    url = origin.url(
        origin.page(
            b"page",
            FRESH,
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Connection", "keep-alive"),
            ("Upgrade", "h2c"),
            ("X-Kept", "yes"),
        ),
        scheme,
    )
    for answer in (fetch(proxy, url), fetch(proxy, url)):
        names = {name.lower() for name, _ in answer.headers}
        assert not names & {"x-hop", "keep-alive", "proxy-authenticate", "proxy-connection", "upgrade"}, answer.headers
        assert answer.value("x-kept") == "yes"
        assert answer.body == b"page"


def test_proxy_authorization_on_connect_stays_here(proxy: Program, origin: Origin) -> None:
    path = origin.page()
    authority = f"localhost:{origin.https_port}"
    with Wire.to(proxy.port) as plain:
        plain.tunnel(authority, ("Proxy-Authorization", "Basic c2VjcmV0"))
        wire = plain.start_tls(proxy.ca_file, "localhost")
        wire.send(request_head("GET", path, ("Host", authority))).read()
    assert b"c2VjcmV0" not in origin.seen(path)[0].head


@pytest.mark.rfc("9110", "7.6.3", "via")
@pytest.mark.rfc("9110", "7.6.3", "pseudonym")
@both_schemes
def test_via_names_the_proxy_in_both_directions(proxy: Program, origin: Origin, scheme: str) -> None:
    url = origin.url(path := origin.page(b"page", FRESH, ("Via", "1.1 before")), scheme)
    for answer in (fetch(proxy, url, ("Via", "1.0 client")), fetch(proxy, url)):
        assert ", ".join(answer.values("via")) == "1.1 before, 1.1 fwdproxy"
    assert ", ".join(origin.seen(path)[0].values("via")) == "1.0 client, 1.1 fwdproxy"


@pytest.mark.rfc("9111", "3.1", "all-fields")
@pytest.mark.rfc("9110", "5.1", "unknown-fields")
@pytest.mark.rfc("9110", "5.3", "order")
def test_end_to_end_fields_keep_their_values_and_order(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"page", FRESH, ("X-A", "1"), ("X-B", "é"), ("X-A", "2, 3"), ("x-empty", "")))
    first = fetch(proxy, url, ("X-Q", "1"), ("X-Q", "2"), ("X-R", ""))
    second = fetch(proxy, url)
    for answer in (first, second):
        assert [pair for pair in answer.headers if pair[0].lower().startswith("x-")] == [
            ("X-A", "1"),
            ("X-B", "é"),
            ("X-A", "2, 3"),
            ("x-empty", ""),
        ]
    seen = origin.seen(path)[0]
    assert [pair for pair in seen.headers if pair[0].startswith("X-")] == [("X-Q", "1"), ("X-Q", "2"), ("X-R", "")]


def test_the_host_is_that_of_the_target(proxy: Program, origin: Origin, other_origin: Origin) -> None:
    """RFC 9112 §3.2.2: with the absolute form, a differing Host is ignored and replaced."""
    path = origin.page(b"the target's", FRESH)
    other_origin.on(path, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nCache-Control: max-age=60\r\n\r\nanother")
    elsewhere = f"localhost:{other_origin.http_port}"
    with Wire.to(proxy.port) as wire:
        answer = wire.send(request_head("GET", origin.url(path), ("Host", elsewhere))).read()
    if answer.status != 400:
        assert answer.body == b"the target's"
        assert origin.seen(path)[0].values("host") == [f"localhost:{origin.http_port}"]
    assert fetch(proxy, other_origin.url(path)).body == b"another"
    assert fetch(proxy, origin.url(path)).body == b"the target's"


def test_a_host_inside_a_tunnel_fills_no_other_key(proxy: Program, origin: Origin, other_origin: Origin) -> None:
    path = origin.page(b"from the tunnel's end", FRESH)
    other_origin.on(path, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nCache-Control: max-age=60\r\n\r\nanother")
    wire, _ = open_to(proxy, origin.url(path, "https"))
    with wire:
        wire.send(request_head("GET", path, ("Host", f"localhost:{other_origin.https_port}"))).read()
    assert fetch(proxy, other_origin.url(path, "https")).body == b"another"
    assert fetch(proxy, origin.url(path, "https")).body == b"from the tunnel's end"


def test_a_request_in_origin_form_is_for_the_host_it_names(proxy: Program, origin: Origin) -> None:
    """RFC 9112 §3.3: a proxy that takes it at all may only take Host for the target."""
    path = origin.page(b"named by Host", FRESH)
    with Wire.to(proxy.port) as wire:
        answer = wire.send(request_head("GET", path, ("Host", f"localhost:{origin.http_port}"))).read()
    if answer.status == 200:
        assert answer.body == b"named by Host"
        assert fetch(proxy, origin.url(path)).hit
    else:
        assert 400 <= answer.status < 500
        assert origin.seen(path) == []


@pytest.mark.rfc("9110", "7.6", "itself")
@pytest.mark.parametrize("form", ["absolute", "origin"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_a_request_for_the_proxy_itself_does_not_go_round_in_circles(proxy: Program, form: str, host: str) -> None:
    authority = f"{host}:{proxy.port}"
    printed = len(proxy.text())
    with Wire.to(proxy.port) as wire:
        target = "/circle" if form == "origin" else f"http://{authority}/circle"
        answer = wire.send(request_head("GET", target, ("Host", authority))).read()
    assert 400 <= answer.status < 600
    assert proxy.text()[printed:].count(f"GET http://{authority}/circle ") <= 2


@pytest.mark.parametrize("hit", [False, True])
def test_an_http_1_0_client_gets_no_chunks(proxy: Program, origin: Origin, hit: bool) -> None:
    path = origin.unique()

    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Transfer-Encoding", "chunked"))
        await call.chunk(b"in ")
        await call.chunk(b"pieces")
        await call.last_chunk()

    url = origin.url(origin.on(path, handle))
    if hit:
        fetch(proxy, url)
    with Wire.to(proxy.port) as wire:
        wire.send(request_head("GET", url, ("Host", urlsplit(url).netloc), version="HTTP/1.0"))
        answer = wire.read()
    assert answer.body == b"in pieces"
    assert answer.value("transfer-encoding") is None
    assert answer.framing in ("close", "length")
    assert answer.hit is hit


def test_an_http_1_0_client_without_host(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"old client"))
    with Wire.to(proxy.port) as wire:
        answer = wire.send(request_head("GET", url, version="HTTP/1.0")).read()
        assert answer.body == b"old client"
        assert wire.read_to_end() == b""
    assert origin.seen(path)[0].values("host") == [f"localhost:{origin.http_port}"]
    assert origin.seen(path)[0].version == "HTTP/1.1"


def test_connection_close_is_honoured(proxy: Program, origin: Origin) -> None:
    url = origin.url(origin.page(b"bye", FRESH))
    for _ in range(2):
        with Wire.to(proxy.port) as wire:
            wire.send(request_head("GET", url, ("Host", urlsplit(url).netloc), ("Connection", "close")))
            answer = wire.read()
            assert answer.body == b"bye"
            assert wire.read_to_end() == b""


def test_an_http_1_0_origin(proxy: Program, origin: Origin) -> None:
    async def handle(call: Call) -> None:
        await call.send(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nCache-Control: max-age=60\r\n\r\nold")
        call.close()

    url = origin.url(path := origin.on(origin.unique(), handle))
    first, second = fetch(proxy, url), fetch(proxy, url)
    assert (first.body, second.body) == (b"old", b"old")
    assert first.version == "HTTP/1.1"
    assert second.hit
    assert len(origin.seen(path)) == 1


def test_an_http_2_client_shares_the_store(proxy: Program, origin: Origin) -> None:
    path = origin.page(b"for all", FRESH, ("X-Kept", "1"))
    authority = f"localhost:{origin.https_port}"
    with Http2(proxy, authority) as client:
        first = client.fetch(path, ("x-field", "1"), ("cookie", "a=1"), ("cookie", "b=2"))
        second = client.fetch(path)
    third = fetch(proxy, origin.url(path, "https"))
    assert [answer.body for answer in (first, second, third)] == [b"for all"] * 3
    assert (first.stored, second.hit, third.hit) == (True, True, True)
    assert second.value("x-kept") == "1"
    (seen,) = origin.seen(path)
    assert (seen.version, seen.value("x-field"), seen.value("cookie")) == ("HTTP/1.1", "1", "a=1; b=2")
    assert seen.values("host") == [authority]


def test_http_2_streams_answer_side_by_side(proxy: Program, origin: Origin) -> None:
    gate = origin.gate()

    async def wait(call: Call) -> None:
        await gate.passed()
        await call.respond(b"slow")

    slow, quick = origin.on(origin.unique(), wait), origin.page(b"quick")
    with Http2(proxy, f"localhost:{origin.https_port}") as client:
        waiting = client.request(slow)
        origin.wait_for(slow)
        assert client.fetch(quick).body == b"quick"
        assert not client.streams[waiting].ended
        gate.open()
        assert client.finish(waiting).body == b"slow"


@pytest.mark.rfc("9110", "9.1", "case")
@pytest.mark.parametrize("method", ["get", "Get", "post"])
def test_methods_keep_their_spelling(proxy: Program, origin: Origin, method: str) -> None:
    """Method names are case-sensitive (RFC 9110 §9.1): ``get`` is not GET, and nothing stored answers it."""
    url = origin.url(path := origin.page(b"page", FRESH))
    assert fetch(proxy, url).stored
    assert fetch(proxy, url, method=method).fwd == "method"
    assert [seen.method for seen in origin.seen(path)] == ["GET", method]


def test_a_refusal_says_why_in_its_page_and_in_the_log(proxy: Program) -> None:
    printed = len(proxy.text())
    with Wire.to(proxy.port) as wire:
        answer = wire.send(b"GET http://localhost/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").read()
    assert (answer.status, answer.cache_status) == (400, "fwdproxy; detail=request_refused")
    assert b"more than one Host" in answer.body
    proxy.wait_for_text(" GET http://localhost/ 400 ", start=printed)


@pytest.mark.rfc("9110", "9.3.7", "options")
def test_options_and_trace_pass(proxy: Program, origin: Origin) -> None:
    url = origin.url(path := origin.page(b"options", FRESH))
    answer = fetch(proxy, url, method="OPTIONS")
    assert (answer.status, answer.fwd) == (200, "method")
    assert [seen.method for seen in origin.seen(path)] == ["OPTIONS"]


@pytest.mark.parametrize(
    "target", ["http://localhost:99999/", "http://user:word@localhost/", "http:///nothing", "ftp://localhost/x"]
)
def test_a_target_that_is_none_is_refused(proxy: Program, target: str) -> None:
    with Wire.to(proxy.port) as wire:
        answer = wire.send(request_head("GET", target, ("Host", "localhost"))).read()
    assert 400 <= answer.status < 600
    assert b"Traceback" not in answer.body
