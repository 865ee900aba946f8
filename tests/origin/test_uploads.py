"""Request bodies: framing, back-pressure, early responses, Expect."""

from __future__ import annotations

import asyncio

import pytest

from fwdproxy.errors import FwdProxyError, OriginError
from tests.origin.scripted import Body, Peer, answering, client, content, origin, response


class Gone(FwdProxyError):
    """The client has left."""


class Failing(Body):
    async def read(self) -> bytes:
        return await super().read() or self._gone()

    def _gone(self) -> bytes:
        raise Gone


class Endless(Body):
    """Never ends; ``given`` counts its bytes."""

    given = 0

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        self.given += 65536
        return bytes(65536)


async def test_with_a_length():
    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert b"\r\nContent-Length: 10\r\n" in head
        assert b"Transfer-Encoding" not in head
        await peer.say(response(await peer.exactly(10)))
        await peer.say(response(await peer.head()))

    async with origin(script) as server, client() as http:
        body = Body(b"hello", b"world", length=10)
        fields = ((b"Content-Length", b"99"),)
        assert await content(await http.send(server.request("POST", fields=fields), body)) == b"helloworld"
        assert (await content(await http.send(server.request()))).startswith(b"GET / ")
        assert len(server.peers) == 1


async def test_without_a_length():
    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert b"Content-Length" not in head
        await peer.say(response(await peer.until(b"\r\n\r\n")))

    trailers = ((b"Digest", b"x"), (b"Content-Length", b"3"), (b"Host", b"evil"), (b"Transfer-Encoding", b"x"))
    async with origin(script) as server, client() as http:
        body = Body(b"hello", b"w" * 17, trailers=trailers)
        got = await http.send(server.request("PUT"), body)
        assert await content(got) == b"5\r\nhello\r\n11\r\n" + b"w" * 17 + b"\r\n0\r\nDigest: x\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "stated"), [("POST", True), ("PUT", True), ("PATCH", True), ("GET", False), ("DELETE", False)]
)
async def test_no_body(method, stated):
    async def script(peer: Peer) -> None:
        await peer.say(response(await peer.head()))

    async with origin(script) as server, client() as http:
        head = await content(await http.send(server.request(method)))
        assert (b"\r\nContent-Length: 0\r\n" in head) is stated


@pytest.mark.parametrize("parts", [(b"hell",), (b"hell", b"o!"), ()], ids=["short", "long", "nothing"])
async def test_a_body_of_another_length_than_stated(parts):
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with origin(script) as server, client() as http:
        with pytest.raises(OriginError) as caught:
            await http.send(server.request("POST"), Body(*parts, length=5))
        assert (caught.value.kind, caught.value.sent) == ("http_request_error", True)
        await server.peers[0].left.wait()


@pytest.mark.parametrize("length", [None, 50], ids=["chunked", "length"])
async def test_what_the_body_raises_comes_out(length):
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with origin(script) as server, client() as http:
        with pytest.raises(Gone):
            await http.send(server.request("POST"), Failing(b"hello", length=length))
        await server.peers[0].left.wait()
        assert not http._connections


async def test_a_client_that_leaves_after_the_response_head():
    answered = asyncio.Event()

    class Waiting(Failing):
        async def read(self) -> bytes:
            if self.taken:
                await answered.wait()
            return await super().read()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await peer.gone()

    async with origin(script) as server, client() as http:
        got = await http.send(server.request("POST"), Waiting(b"hello", length=10))
        assert await got.read() == b"he"
        answered.set()
        with pytest.raises(OriginError) as caught:
            await content(got)
        assert caught.value.kind == "http_request_error"


@pytest.mark.parametrize("length", [15, None])
async def test_both_directions_at_once(length):
    """An origin that answers 2xx while it reads gets the rest of the body, and the connection is used again."""

    async def echo(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            line = b"" if length else await peer.exactly(3)
            await peer.say((line or b"5\r\n") + await peer.exactly(5) + b"\r\n")
            if line:
                await peer.exactly(2)
        await peer.say(b"0\r\n\r\n" if length else await peer.until(b"0\r\n\r\n"))
        await peer.head()
        await peer.say(response(b"again"))

    class Paced(Body):
        async def read(self) -> bytes:
            if self.taken:
                await heard[self.taken - 1].wait()
            return await super().read()

    heard = [asyncio.Event() for _ in range(4)]
    async with origin(echo) as server, client() as http:
        got = await http.send(server.request("POST"), Paced(b"first", b"secnd", b"third", length=length))
        for number, part in enumerate([b"first", b"secnd", b"third"]):
            assert await got.read() == part
            heard[number].set()
        assert await got.read() == b""
        assert await content(await http.send(server.request())) == b"again"


async def test_an_early_refusal_stops_the_body():
    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.exactly(100_000)
        await peer.say(response(b"too much", b"413 Content Too Large"))
        await peer.gone()

    async with origin(refuse) as server, client() as http:
        body = Endless()
        got = await http.send(server.request("POST"), body)
        assert (got.head.status, await content(got)) == (413, b"too much")
        given = body.given
        await server.peers[0].left.wait()
        assert body.given == given
        assert not http._pool


async def test_a_response_that_ends_before_the_request_does():
    async def hasty(peer: Peer) -> None:
        await peer.head()
        await peer.exactly(100_000)
        await peer.say(response(b"enough"))
        await peer.gone()

    async with origin(hasty) as server, client() as http:
        got = await http.send(server.request("POST"), Endless())
        assert (got.head.status, await content(got)) == (200, b"enough")
        await server.peers[0].left.wait()
        assert not http._pool


async def test_an_origin_that_takes_nothing_stops_the_body():
    async def stuck(peer: Peer) -> None:
        await peer.head()
        peer.stop_reading()
        await asyncio.Event().wait()

    async with origin(stuck) as server, client(idle_timeout=0.2) as http:
        body = Endless()
        with pytest.raises(OriginError) as caught:
            await http.send(server.request("POST"), body)
        assert (caught.value.kind, caught.value.sent) == ("connection_write_timeout", True)
        assert body.given < 32 << 20


async def test_a_slow_client_is_not_the_origins_fault():
    class Slow(Body):
        async def read(self) -> bytes:
            await asyncio.sleep(0.1)
            return await super().read()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(response(await peer.exactly(5)))

    async with origin(script) as server, client(head_timeout=0.05, idle_timeout=0.05) as http:
        assert await content(await http.send(server.request("POST"), Slow(b"hello", length=5))) == b"hello"


async def test_the_time_to_answer_begins_at_the_bodys_end():
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with origin(silent) as server, client(head_timeout=0.05) as http:
        with pytest.raises(OriginError) as caught:
            await http.send(server.request("POST"), Body(b"hello", length=5))
        assert caught.value.kind == "http_response_timeout"


class TestExpect:
    async def test_the_body_follows_the_100(self):
        async def script(peer: Peer) -> None:
            assert b"\r\nExpect: 100-continue\r\n" in await peer.head()
            assert body.taken == 0
            await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
            await peer.say(response(await peer.exactly(5)))

        seen = []
        body = Body(b"hello", length=5, expect_continue=True)
        async with origin(script) as server, client(continue_timeout=60) as http:
            got = await http.send(server.request("POST"), body, on_informational=lambda head: seen.append(head.status))
            assert await content(got) == b"hello"
            assert seen == []

    async def test_the_body_follows_when_nothing_comes(self):
        async def script(peer: Peer) -> None:
            await peer.head()
            data = await peer.exactly(5)
            await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n" + response(data))

        seen = []
        body = Body(b"hello", length=5, expect_continue=True)
        async with origin(script) as server, client(continue_timeout=0.02) as http:
            got = await http.send(server.request("POST"), body, on_informational=lambda head: seen.append(head.status))
            assert await content(got) == b"hello"
            assert seen == []  # late, but still the answer to our Expect

    @pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized", b"417 Expectation Failed"])
    async def test_no_body_after_a_final_status(self, status):
        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.say(response(b"x", status))
            assert await peer.reader.read() == b""

        body = Body(b"hello", length=5, expect_continue=True)
        async with origin(script) as server, client(continue_timeout=60) as http:
            got = await http.send(server.request("POST"), body)
            assert await content(got) == b"x"
            await server.peers[0].left.wait()
            assert body.taken == 0
            assert not http._pool

    async def test_other_interim_responses_are_passed_on(self):
        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.say(
                b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
            )
            await peer.say(response(await peer.exactly(5)))

        seen = []
        body = Body(b"hello", length=5, expect_continue=True)
        async with origin(script) as server, client(continue_timeout=60) as http:
            await http.send(server.request("POST"), body, on_informational=lambda head: seen.append(head.status))
            assert seen == [103, 100]

    async def test_a_dead_connection_costs_nothing_before_the_body(self):
        async def dies(peer: Peer) -> None:
            await peer.head()
            await peer.say(response(b"x"))
            await peer.head()

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
            await peer.say(response(await peer.exactly(5)))

        async with origin(dies, script) as server, client(continue_timeout=60) as http:
            await content(await http.send(server.request()))
            body = Body(b"hello", length=5, expect_continue=True)
            assert await content(await http.send(server.request("POST"), body)) == b"hello"

    async def test_not_asked_for_without_content(self):
        async def script(peer: Peer) -> None:
            await peer.say(response(await peer.head()))

        async with origin(script) as server, client() as http:
            got = await http.send(server.request("POST"), Body(length=0, expect_continue=True))
            assert b"Expect" not in await content(got)


class TestReuse:
    async def test_a_connection_idle_for_long_is_not_trusted_with_a_body(self, monkeypatch):
        monkeypatch.setattr("fwdproxy.origin.client._LIKELY_ALIVE", -1.0)
        async with origin(answering(response(b"x"))) as server, client() as http:
            await content(await http.send(server.request()))
            await content(await http.send(server.request("POST")))
            assert len(server.peers) == 2
            await content(await http.send(server.request("PUT"), Body(length=0)))
            assert len(server.peers) == 3
            await content(await http.send(server.request("PUT")))
            assert len(server.peers) == 3

    async def test_a_body_is_not_sent_twice(self):
        async def dies(peer: Peer) -> None:
            await peer.head()
            await peer.say(response(b"x"))
            await peer.head()

        async with origin(dies, answering(response(b"y"))) as server, client() as http:
            await content(await http.send(server.request()))
            with pytest.raises(OriginError) as caught:
                await http.send(server.request("PUT"), Body(b"hello", length=5))
            assert (caught.value.kind, caught.value.sent) == ("connection_terminated", True)
            assert len(server.peers) == 1
