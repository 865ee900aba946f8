"""The client against real sockets: reuse, retries, bodies, interim responses, tunnels, closing."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from fwdproxy.errors import OriginError
from fwdproxy.messages import Headers, Origin
from tests.origin.scripted import Peer, Scripted, answering, client, content, origin, response


async def test_a_response():
    async with origin(answering(response(b"hello", b"200 Fine", b"A: b"))) as server, client() as http:
        got = await http.send(server.request(path="/a?b=c"))
        assert (got.head.status, got.head.reason) == (200, b"Fine")
        assert got.head.headers == Headers([(b"Content-Length", b"5"), (b"A", b"b")])
        assert (got.length, got.delimited, got.tunnel) == (5, True, None)
        assert await content(got) == b"hello"
        assert await got.read() == b""
        await got.aclose()


async def test_what_the_origin_sees():
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.head())
        await peer.say(response())

    async with origin(script) as server, client() as http:
        request = server.request("GET", "/x", ((b"Accept", b"*/*"), (b"X-Case", b"1"), (b"x-case", b"2")))
        await http.send(request)
        assert seen == [
            b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\nX-Case: 1\r\nx-case: 2\r\n\r\n" % server.port
        ]


async def test_connections_are_reused_by_whoever_comes():
    async with origin(answering(response(b"x"))) as server, client() as http:
        for _ in range(5):
            assert await content(await http.send(server.request())) == b"x"
        assert len(server.peers) == 1


async def test_a_connection_is_free_as_soon_as_the_message_is_complete():
    async with origin(answering(response(b"x"))) as server, client() as http:
        first = await http.send(server.request())
        second = await http.send(server.request())
        assert len(server.peers) == 1
        assert (await content(first), await content(second)) == (b"x", b"x")
        await first.aclose()
        assert await content(await http.send(server.request())) == b"x"
        assert len(server.peers) == 1


async def test_requests_at_once_use_connections_of_their_own():
    together = asyncio.Barrier(3)

    async def script(peer: Peer) -> None:
        while await peer.head():
            await together.wait()
            await peer.say(response(b"x"))

    async with origin(script) as server, client() as http:
        for _ in range(2):
            answers = await asyncio.gather(*(http.send(server.request()) for _ in range(3)))
            assert [await content(answer) for answer in answers] == [b"x"] * 3
        assert len(server.peers) == 3


NOT_REUSED = {
    "closed by the origin": response(b"x", b"200 OK", b"Connection: close"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "bytes behind the message": response(b"x") + b"y",
    "a line end behind the message": response(b"x") + b"\r\n",
    "idle time of a second": response(b"x", b"200 OK", b"Keep-Alive: timeout=1, max=100"),
}


@pytest.mark.parametrize("raw", NOT_REUSED.values(), ids=NOT_REUSED.keys())
async def test_not_reused(raw):
    async with origin(answering(raw)) as server, client() as http:
        for connections in (1, 2):
            assert await content(await http.send(server.request())) == b"x"
            assert len(server.peers) == connections


async def test_not_reused_after_a_login_that_binds_the_connection():
    async with origin(answering(response(b"x"))) as server, client() as http:
        for connections in (1, 2):
            request = server.request(fields=((b"Authorization", b"Negotiate YII="),))
            assert await content(await http.send(request)) == b"x"
            assert len(server.peers) == connections


async def test_bytes_without_a_request_close_the_connection():
    told = asyncio.Event()

    async def talkative(peer: Peer) -> None:
        await peer.head()
        await peer.say(response(b"x"))
        await told.wait()
        await peer.say(response(b"poison"))
        await peer.gone()
        told.clear()

    async with origin(talkative, answering(response(b"y"))) as server, client() as http:
        assert await content(await http.send(server.request())) == b"x"
        told.set()
        while told.is_set():
            await asyncio.sleep(0)
        assert await content(await http.send(server.request())) == b"y"


async def test_head_then_get_on_one_connection():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with origin(answering(raw, raw + b"hello")) as server, client() as http:
        got = await http.send(server.request("HEAD"))
        assert (got.length, await content(got)) == (0, b"")
        assert await content(await http.send(server.request())) == b"hello"
        assert len(server.peers) == 1


async def test_body_without_a_length():
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await peer.say(b"lo")

    async with origin(script) as server, client() as http:
        got = await http.send(server.request())
        assert (got.length, got.delimited) == (None, False)
        assert await content(got) == b"hello"


async def test_body_without_a_length_that_is_reset():
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await read.wait()
        peer.reset()

    async with origin(script) as server, client() as http:
        got = await http.send(server.request())
        assert await got.read() == b"hel"
        read.set()
        with pytest.raises(OriginError) as caught:
            await content(got)
        assert (caught.value.kind, caught.value.sent) == ("http_response_incomplete", True)


CUT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
}


@pytest.mark.parametrize("raw", CUT.values(), ids=CUT.keys())
async def test_cut_bodies(raw):
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(raw)

    async with origin(script) as server, client() as http:
        got = await http.send(server.request())
        with pytest.raises(OriginError) as caught:
            await content(got)
        assert (caught.value.kind, caught.value.sent) == ("http_response_incomplete", True)
        assert not http._pool


async def test_malformed_chunk_after_the_head():
    async with (
        origin(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"")) as server,
        client() as http,
    ):
        got = await http.send(server.request())
        server.peers[0].writer.write(b"3\r\nabcd\r\n")
        with pytest.raises(OriginError) as caught:
            await content(got)
        assert caught.value.kind == "http_response_transfer_coding"


async def test_trailers():
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: y\r\n\r\n"
    async with origin(answering(raw)) as server, client() as http:
        got = await http.send(server.request())
        assert await content(got) == b"x"
        assert got.trailers == Headers([(b"Digest", b"y")])


async def dies(peer: Peer) -> None:
    """Answer once, then take a request and close without a word."""
    await peer.head()
    await peer.say(response(b"x"))
    await peer.head()


class TestRetry:
    async def test_once_when_a_pooled_connection_was_dead(self):
        async with origin(dies, answering(response(b"y"))) as server, client() as http:
            assert await content(await http.send(server.request())) == b"x"
            assert await content(await http.send(server.request())) == b"y"
            assert len(server.peers) == 2

    async def test_only_once(self):
        async def silent(peer: Peer) -> None:
            await peer.head()

        async with origin(dies, silent, answering(response(b"y"))) as server, client() as http:
            await content(await http.send(server.request()))
            with pytest.raises(OriginError) as caught:
                await http.send(server.request())
            assert (caught.value.kind, caught.value.sent) == ("connection_terminated", True)
            assert len(server.peers) == 2

    async def test_not_on_a_new_connection(self):
        async def silent(peer: Peer) -> None:
            await peer.head()

        async with origin(silent, answering(response(b"y"))) as server, client() as http:
            with pytest.raises(OriginError) as caught:
                await http.send(server.request())
            assert (caught.value.kind, caught.value.sent) == ("connection_terminated", True)

    async def test_not_after_a_byte_of_the_response(self):
        async def stutters(peer: Peer) -> None:
            await peer.head()
            await peer.say(response(b"x"))
            await peer.head()
            await peer.say(b"HTTP/1.1 2")

        async with origin(stutters, answering(response(b"y"))) as server, client() as http:
            await content(await http.send(server.request()))
            with pytest.raises(OriginError) as caught:
                await http.send(server.request())
            assert caught.value.kind == "http_response_incomplete"
            assert len(server.peers) == 1

    async def test_not_when_the_method_is_not_idempotent(self):
        async with origin(dies, answering(response(b"y"))) as server, client() as http:
            await content(await http.send(server.request()))
            with pytest.raises(OriginError) as caught:
                await http.send(server.request("POST"))
            assert (caught.value.kind, caught.value.sent) == ("connection_terminated", True)
            assert len(server.peers) == 1

    async def test_sent_stays_true_when_the_second_try_can_not_connect(self):
        closed = asyncio.Event()

        async def last_one(peer: Peer) -> None:
            await peer.head()
            await peer.say(response(b"x"))
            await peer.head()
            listener.close()
            closed.set()

        listener: asyncio.Server
        async with client() as http:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await last_one(Peer(reader, writer, None))
                writer.close()

            listener = await asyncio.start_server(serve, "127.0.0.1", 0)
            server = Scripted(listener.sockets[0].getsockname()[1], "http")
            await content(await http.send(server.request()))
            with pytest.raises(OriginError) as caught:
                await http.send(server.request())
            assert closed.is_set()
            assert (caught.value.kind, caught.value.sent) == ("connection_refused", True)


class TestInterim:
    RAW = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"

    async def test_passed_on_in_order(self):
        seen = []
        async with origin(answering(self.RAW + response(b"x"))) as server, client() as http:
            got = await http.send(server.request(), on_informational=lambda head: seen.append(head.status))
            assert seen == [103, 100, 102]
            assert (got.head.status, await content(got)) == (200, b"x")
            assert await content(await http.send(server.request())) == b"x"
            assert len(server.peers) == 1

    async def test_awaited(self):
        seen = []

        async def slowly(head) -> None:
            await asyncio.sleep(0)
            seen.append((head.status, head.headers.get(b"link")))

        async with origin(answering(self.RAW + response(b"x"))) as server, client() as http:
            await http.send(server.request(), on_informational=slowly)
            assert seen == [(103, b"</a>"), (100, None), (102, None)]

    async def test_what_the_listener_raises_comes_out_and_the_connection_goes(self):
        def gone(head) -> None:
            raise ConnectionResetError

        async with origin(answering(self.RAW)) as server, client() as http:
            with pytest.raises(ConnectionResetError):
                await http.send(server.request(), on_informational=gone)
            await server.peers[0].left.wait()
            assert not http._pool


class TestTunnel:
    SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"

    async def test_both_ways(self):
        async def echo(peer: Peer) -> None:
            head = await peer.head()
            assert b"\r\nConnection: Upgrade\r\nUpgrade: echo\r\n" in head
            await peer.say(self.SWITCH + b"early")
            await peer.say(await peer.exactly(4))
            assert await peer.reader.read() == b"last"
            await peer.say(b"bye")

        async with origin(echo) as server, client() as http:
            got = await http.send(server.request(), upgrade=b"echo")
            assert got.head.status == 101
            tunnel = got.tunnel
            assert tunnel is not None
            assert await tunnel.read() == b"early"
            await tunnel.write(b"ping")
            assert await tunnel.read() == b"ping"
            await tunnel.write(b"last")
            tunnel.write_eof()
            assert await tunnel.read() == b"bye"
            assert await tunnel.read() == b""
            tunnel.close()
            assert not http._pool

    async def test_our_side_stays_open_after_the_origin_has_ended_its_own(self):
        got_last = asyncio.Event()

        async def half(peer: Peer) -> None:
            await peer.head()
            await peer.say(self.SWITCH)
            peer.writer.write_eof()
            assert await peer.reader.read() == b"last"
            got_last.set()

        async with origin(half) as server, client() as http:
            got = await http.send(server.request(), upgrade=b"echo")
            assert got.tunnel is not None
            assert await got.tunnel.read() == b""
            await got.tunnel.write(b"last")
            got.tunnel.close()
            await got_last.wait()

    async def test_reset(self):
        async def drop(peer: Peer) -> None:
            await peer.head()
            await peer.say(self.SWITCH)
            await peer.exactly(1)
            peer.reset()

        async with origin(drop) as server, client() as http:
            got = await http.send(server.request(), upgrade=b"echo")
            assert got.tunnel is not None
            await got.tunnel.write(b"x")
            with pytest.raises(OriginError):
                await got.tunnel.read()
            with pytest.raises(OriginError):
                await got.tunnel.write(b"y")

    async def test_declined(self):
        async with origin(answering(response(b"no"))) as server, client() as http:
            got = await http.send(server.request(), upgrade=b"echo")
            assert (got.tunnel, await content(got)) == (None, b"no")


class TestFlow:
    async def test_a_reader_that_stalls_stops_the_origin(self):
        size = 64 << 20
        written = 0

        async def flood(peer: Peer) -> None:
            nonlocal written
            await peer.head()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while written < size:
                await peer.say(bytes(1 << 16))
                written += 1 << 16

        async with origin(flood) as server, client() as http:
            got = await http.send(server.request())
            stopped = -1
            while stopped != written:  # until nothing moves for a while
                stopped = written
                for _ in range(200):
                    await asyncio.sleep(0)
            assert written < size / 2
            assert got._inbox._size < 1 << 20
            total = 0
            while part := await got.read():
                assert len(part) <= 1 << 18
                total += len(part)
                assert got._inbox._size < 1 << 20
            assert total == size

    async def test_a_paused_connection_reads_again_for_the_next_request(self):
        big = response(bytes(600_000))
        async with origin(answering(big, response(b"x"))) as server, client() as http:
            got = await http.send(server.request())
            while not got._inbox.ended:
                await got.read()
            assert await content(await http.send(server.request())) == b"x"
            assert len(server.peers) == 1

    async def test_close_before_the_end_drops_the_connection(self):
        async with origin(answering(response(bytes(5_000_000)))) as server, client() as http:
            got = await http.send(server.request())
            assert await got.read()
            await got.aclose()
            await server.peers[0].left.wait()
            with pytest.raises(OriginError) as caught:
                await content(got)
            assert caught.value.kind == "connection_terminated"
            assert not http._pool

    async def test_a_cancelled_request_drops_the_connection(self):
        asked = asyncio.Event()

        async def silent(peer: Peer) -> None:
            await peer.head()
            asked.set()
            await peer.gone()

        async with origin(silent) as server, client() as http:
            task = asyncio.create_task(http.send(server.request()))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.peers[0].left.wait()


@pytest.mark.parametrize(
    "raw", [response(b"x"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"]
)
async def test_an_exchange_leaves_nothing_to_the_garbage_collector(raw):
    async with origin(answering(raw)) as server, client() as http:
        await content(await http.send(server.request()))
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await content(await http.send(server.request()))
            assert gc.collect() == 0
        finally:
            gc.enable()


class TestLimits:
    async def test_the_head_must_come_in_time(self):
        async def drips(peer: Peer) -> None:
            await peer.head()
            for byte in b"HTTP/1.1 200 OK\r\n" * 1000:
                await peer.say(bytes([byte]))
                await asyncio.sleep(0.01)

        async with origin(drips) as server, client(head_timeout=0.15) as http:
            with pytest.raises(OriginError) as caught:
                await http.send(server.request())
            assert (caught.value.kind, caught.value.sent) == ("http_response_timeout", True)

    async def test_a_silent_body_ends(self):
        async with origin(answering(response(b"hello")[:-1])) as server, client(idle_timeout=0.1) as http:
            got = await http.send(server.request())
            with pytest.raises(OriginError) as caught:
                await content(got)
            assert caught.value.kind == "connection_read_timeout"

    async def test_a_reader_that_stalls_is_not_the_origins_fault(self):
        async with origin(answering(response(bytes(1_000_000)))) as server, client(idle_timeout=0.05) as http:
            got = await http.send(server.request())
            while not got._inbox.full:
                await asyncio.sleep(0)
            await asyncio.sleep(0.15)
            assert len(await content(got)) == 1_000_000

    async def test_idle_connections_are_closed(self):
        async with origin(answering(response(b"x"))) as server, client(pool_idle=0.05) as http:
            await content(await http.send(server.request()))
            await server.peers[0].left.wait()
            assert not http._pool

    async def test_idle_connections_are_few(self):
        together = asyncio.Barrier(4)

        async def script(peer: Peer) -> None:
            while await peer.head():
                await together.wait()
                await peer.say(response(b"x"))

        async with origin(script) as server, client(max_idle=2) as http:
            for answer in await asyncio.gather(*(http.send(server.request()) for _ in range(4))):
                await content(answer)
            assert len(http._pool) == 2

    async def test_idle_connections_are_few_in_all(self):
        async with (
            origin(answering(response(b"x"))) as one,
            origin(answering(response(b"y"))) as two,
            client(max_idle_total=1) as http,
        ):
            await content(await http.send(one.request()))
            await content(await http.send(two.request()))
            await one.peers[0].left.wait()
            assert len(http._pool) == 1


class TestConnecting:
    async def test_refused(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            async with origin(answering(response())) as server, client() as http:
                server.port = port
                with pytest.raises(OriginError) as caught:
                    await http.send(server.request())
                assert (caught.value.kind, caught.value.sent) == ("connection_refused", False)

    async def test_an_unknown_name(self):
        async with origin(answering(response())) as server, client() as http:
            with pytest.raises(OriginError) as caught:
                await http.send(server.request(host="name.invalid"))
            assert (caught.value.kind, caught.value.sent) == ("dns_error", False)

    async def test_dialled_elsewhere(self):
        seen = []

        async def script(peer: Peer) -> None:
            seen.append(await peer.head())
            await peer.say(response(b"x"))

        async with origin(script) as server, client() as http:
            request = server.request(host="name.invalid")
            got = await http.send(request, dial=Origin("http", "127.0.0.1", server.port))
            assert await content(got) == b"x"
            assert b"Host: name.invalid:" in seen[0]

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "::ffff:127.0.0.1"]
    )
    async def test_forbidden_addresses_are_not_dialled(self, host):
        async with (
            origin(answering(response())) as server,
            client(allow=lambda address, port: not address.is_loopback) as http,
        ):
            with pytest.raises(OriginError) as caught:
                await http.send(server.request(host=host))
            assert (caught.value.kind, caught.value.sent) == ("destination_ip_prohibited", False)
            assert not server.peers

    async def test_silence_while_connecting(self):
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            try:
                for filler in fillers:
                    filler.setblocking(False)
                    filler.connect_ex(full.getsockname())
                async with origin(answering(response())) as server, client(connect_timeout=0.1) as http:
                    server.port = full.getsockname()[1]
                    with pytest.raises(OriginError) as caught:
                        await http.send(server.request())
                    assert (caught.value.kind, caught.value.sent) == ("connection_timeout", False)
            finally:
                for filler in fillers:
                    filler.close()


class TestRefused:
    async def test_a_head_that_was_not_rewritten(self):
        async with origin(answering(response())) as server, client() as http:
            with pytest.raises(TypeError):
                await http.send(server.request().head)  # type: ignore[arg-type]
            assert not server.peers

    async def test_nothing_of_a_malformed_head_is_sent(self):
        async with origin(answering(response())) as server, client() as http:
            with pytest.raises(OriginError) as caught:
                await http.send(server.request(fields=((b"A", b"b\r\nC: d"),)))
            assert (caught.value.kind, caught.value.sent) == ("http_request_error", False)
            assert not server.peers

    async def test_another_scheme(self):
        async with origin(answering(response())) as server, client() as http:
            server.scheme = "ftp"
            with pytest.raises(OriginError) as caught:
                await http.send(server.request())
            assert caught.value.kind == "http_request_error"


class TestClosing:
    async def test_idle_and_busy_connections_are_gone(self):
        asked = asyncio.Event()

        async def silent(peer: Peer) -> None:
            await peer.head()
            asked.set()
            await peer.gone()

        async with origin(answering(response(b"x"))) as idle, origin(silent) as busy, client() as http:
            await content(await http.send(idle.request()))
            waiting = asyncio.create_task(http.send(busy.request()))
            await asked.wait()
            await http.aclose()
            with pytest.raises(OriginError):
                await waiting
            assert not http._connections
            with pytest.raises(OriginError) as caught:
                await http.send(idle.request())
            assert not caught.value.sent
