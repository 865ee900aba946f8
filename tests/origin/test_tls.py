"""TLS towards origins: trust, names, versions, sessions, orderly ends."""

from __future__ import annotations

import asyncio
import socket
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest

from fwdproxy.errors import ConfigError, OriginError
from fwdproxy.origin.tls import client_context, system_has_trust
from tests.origin.scripted import Body, Peer, answering, client, content, origin, response


def server_tls(authority, version=None, names=(), alpn=("http/1.1",)):
    context = authority.server_context(*names, alpn=list(alpn) if alpn else None)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


async def test_a_response(authority):
    tls = server_tls(authority)
    async with origin(answering(response(b"hello")), tls=tls) as server, client(ca_files=(authority.ca_file,)) as http:
        for _ in range(3):
            assert await content(await http.send(server.request())) == b"hello"
        assert len(server.peers) == 1
        assert server.peers[0].ssl.selected_alpn_protocol() == "http/1.1"
        assert server.peers[0].ssl.version() == "TLSv1.3"


async def test_an_address_as_the_name(authority):
    async with (
        origin(answering(response(b"x")), tls=server_tls(authority)) as server,
        client(ca_files=(authority.ca_file,)) as http,
    ):
        assert await content(await http.send(server.request(host="127.0.0.1"))) == b"x"


@pytest.mark.parametrize(
    ("version", "tickets"),
    [(ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)],
    ids=["1.2 by ticket", "1.2 by id", "1.3"],
)
async def test_sessions_are_taken_up_again(authority, version, tickets):
    tls = server_tls(authority, version)
    if not tickets:
        tls.options |= ssl.OP_NO_TICKET
    closing = answering(response(b"x", b"200 OK", b"Connection: close"))
    async with origin(closing, tls=tls) as server, client(ca_files=(authority.ca_file,)) as http:
        for _ in range(3):
            assert await content(await http.send(server.request())) == b"x"
        assert [peer.ssl.session_reused for peer in server.peers] == [False, True, True]


async def test_sessions_of_one_origin_are_not_shown_to_another(authority):
    closing = answering(response(b"x", b"200 OK", b"Connection: close"))
    tls = server_tls(authority)
    async with (
        origin(closing, tls=tls) as one,
        origin(closing, tls=tls) as two,
        client(ca_files=(authority.ca_file,)) as http,
    ):
        for server in (one, two):
            await content(await http.send(server.request()))
        assert [server.peers[0].ssl.session_reused for server in (one, two)] == [False, False]


async def refusal(http, request):
    with pytest.raises(OriginError) as caught:
        await http.send(request)
    assert not caught.value.sent
    return caught.value


async def test_a_certificate_of_an_unknown_authority(authority, stranger):
    async with (
        origin(answering(response()), tls=server_tls(stranger)) as server,
        client(ca_files=(authority.ca_file,)) as http,
    ):
        error = await refusal(http, server.request())
        assert error.kind == "tls_certificate_error"
        assert "certificate" in str(error)


async def test_a_certificate_for_another_name(authority):
    tls = server_tls(authority, names=("example.test",))
    async with origin(answering(response()), tls=tls) as server, client(ca_files=(authority.ca_file,)) as http:
        assert (await refusal(http, server.request())).kind == "tls_certificate_error"


async def test_a_trusted_leaf_without_its_authority(authority):
    certificate, key = authority.leaf("localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with origin(answering(response(b"x")), tls=tls) as server, client(ca_files=(certificate,)) as http:
        assert await content(await http.send(server.request())) == b"x"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_1_1_is_refused(authority):
    tls = server_tls(authority, ssl.TLSVersion.TLSv1_1)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = tls.wrap_bio(incoming, outgoing, server_side=True)

    async def script(peer: Peer) -> None:
        incoming.write(await peer.reader.read(65536))
        with pytest.raises(ssl.SSLError):
            handshake.do_handshake()
        await peer.say(outgoing.read())
        await peer.gone()

    async with origin(script) as server, client(ca_files=(authority.ca_file,)) as http:
        server.scheme = "https"
        assert (await refusal(http, server.request())).kind == "tls_alert_received"


@pytest.mark.parametrize("alert", [40, 80, 112])
async def test_an_origin_that_refuses_us(alert):
    async def script(peer: Peer) -> None:
        await peer.exactly(5)
        await peer.say(bytes([21, 3, 3, 0, 2, 2, alert]))
        await peer.gone()

    async with origin(script) as server, client() as http:
        server.scheme = "https"
        assert (await refusal(http, server.request())).kind == "tls_alert_received"


async def test_an_origin_that_wants_a_client_certificate(authority):
    tls = server_tls(authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = tls.wrap_bio(incoming, outgoing, server_side=True)

    async def script(peer: Peer) -> None:
        for failure in (ssl.SSLWantReadError, ssl.SSLError):
            incoming.write(await peer.reader.read(65536))
            with pytest.raises(failure):
                handshake.do_handshake()
            await peer.say(outgoing.read())
        await peer.gone()

    async with origin(script) as server, client(ca_files=(authority.ca_file,)) as http:
        server.scheme = "https"
        with pytest.raises(OriginError) as caught:
            await http.send(server.request())
        assert caught.value.kind == "tls_alert_received"
        assert "certificate required" in str(caught.value)


async def test_an_origin_that_speaks_no_tls(authority):
    async def plain(peer: Peer) -> None:
        await peer.exactly(5)
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with origin(plain) as server, client(ca_files=(authority.ca_file,)) as http:
        server.scheme = "https"
        assert (await refusal(http, server.request())).kind == "tls_protocol_error"


async def test_an_origin_that_closes_in_the_handshake():
    async def closes(peer: Peer) -> None:
        await peer.exactly(5)

    async with origin(closes) as server, client() as http:
        server.scheme = "https"
        assert (await refusal(http, server.request())).kind == "connection_terminated"


async def test_an_origin_that_is_silent_in_the_handshake():
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with origin(silent) as server, client(connect_timeout=0.1) as http:
        server.scheme = "https"
        assert (await refusal(http, server.request())).kind == "connection_timeout"
        await server.peers[0].left.wait()


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "."])
async def test_a_name_that_tls_can_not_carry(name):
    async with origin(answering(response())) as server, client() as http:
        server.scheme = "https"
        http._connector._resolver._lookup = lambda _: (ip_address("127.0.0.1"),)
        assert (await refusal(http, server.request(host=name))).kind == "tls_protocol_error"


class TestEnds:
    BODY = b"HTTP/1.1 200 OK\r\n\r\nhello"

    async def test_close_notify_ends_a_body_without_length(self, authority):
        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.say(self.BODY)

        async with (
            origin(script, tls=server_tls(authority)) as server,
            client(ca_files=(authority.ca_file,)) as http,
        ):
            got = await http.send(server.request())
            assert (got.delimited, await content(got)) == (False, b"hello")

    async def test_without_close_notify_such_a_body_is_cut(self, authority):
        read = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.say(self.BODY)
            await read.wait()
            with peer.writer.get_extra_info("socket").dup() as raw:
                raw.shutdown(socket.SHUT_WR)
            await peer.gone()

        async with (
            origin(script, tls=server_tls(authority)) as server,
            client(ca_files=(authority.ca_file,)) as http,
        ):
            got = await http.send(server.request())
            assert await got.read() == b"hello"
            read.set()
            with pytest.raises(OriginError) as caught:
                await content(got)
            assert caught.value.kind == "http_response_incomplete"

    async def test_a_dead_pooled_connection_is_replaced(self, authority):
        async def dies(peer: Peer) -> None:
            await peer.head()
            await peer.say(response(b"x"))
            await peer.head()

        async with (
            origin(dies, answering(response(b"y")), tls=server_tls(authority)) as server,
            client(ca_files=(authority.ca_file,)) as http,
        ):
            assert await content(await http.send(server.request())) == b"x"
            assert await content(await http.send(server.request())) == b"y"

    async def test_garbage_between_records(self, authority):
        read = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
            await read.wait()
            with peer.writer.get_extra_info("socket").dup() as raw:
                raw.send(b"not a TLS record")
            await peer.gone()

        async with (
            origin(script, tls=server_tls(authority)) as server,
            client(ca_files=(authority.ca_file,)) as http,
        ):
            got = await http.send(server.request())
            assert await got.read() == b"hello"
            read.set()
            with pytest.raises(OriginError) as caught:
                await content(got)
            assert caught.value.kind == "http_response_incomplete"


async def test_large_bodies_both_ways(authority):
    size = 3_000_000

    async def echo(peer: Peer) -> None:
        await peer.head()
        data = await peer.exactly(size)
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + data)
        await peer.gone()

    data = bytes(range(250)) * (size // 250)
    parts = [data[at : at + 100_000] for at in range(0, size, 100_000)]
    async with origin(echo, tls=server_tls(authority)) as server, client(ca_files=(authority.ca_file,)) as http:
        got = await http.send(server.request("POST"), Body(*parts, length=size))
        assert await content(got) == data


async def test_a_tunnel(authority):
    async def echo(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
        await peer.say(await peer.exactly(4))

    async with origin(echo, tls=server_tls(authority)) as server, client(ca_files=(authority.ca_file,)) as http:
        got = await http.send(server.request(), upgrade=b"echo")
        tunnel = got.tunnel
        assert tunnel is not None
        await tunnel.write(b"ping")
        assert await tunnel.read() == b"ping"
        assert await tunnel.read() == b""
        tunnel.write_eof()
        tunnel.close()


class TestTrust:
    def test_the_systems(self):
        assert system_has_trust()
        assert len(client_context(()).get_ca_certs()) == 1

    def test_certifi_where_the_system_has_none(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        assert not system_has_trust()
        assert len(client_context(()).get_ca_certs()) > 50

    def test_a_folder_of_the_systems(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert not system_has_trust()
        (tmp_path / "0a1b2c3d.0").write_text("")
        assert system_has_trust()

    def test_a_file_more(self, authority):
        assert len(client_context((authority.ca_file,)).get_ca_certs()) == 2

    @pytest.mark.parametrize("text", [None, "", "no certificate"], ids=["missing", "empty", "text"])
    def test_a_file_that_can_not_be_used(self, tmp_path: Path, text):
        path = tmp_path / "ca.pem"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            client_context((path,))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
