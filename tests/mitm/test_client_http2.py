"""The client's HTTP/2 side is paced in both directions: nothing is buffered without bound."""

import asyncio
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._events import ResponseData, ResponseEndOfMessage, ResponseHeaders

from fwdproxy.mitm.client_http2 import KEPT_BACK, UPLOAD_WINDOW, ClientHttp2


class Wire:
    """A layer of ours and an h2 client, with their bytes handed over by hand."""

    def __init__(self, window: int = 65535) -> None:
        client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN, alpn=b"h2")
        options = Options()
        Proxyserver().load(options)
        self.layer = ClientHttp2(Context(client, options))
        self.conn = client
        self.peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.peer.initiate_connection()
        self.seen: list[h2.events.Event] = []
        self._take(self.layer.handle_event(events.Start()))
        self.flush()

    def flush(self) -> None:
        data = self.peer.data_to_send()
        if data:
            self._take(self.layer.handle_event(events.DataReceived(self.conn, data)))

    def answer(self, *happened: events.Event) -> None:
        for event in happened:
            self._take(self.layer.handle_event(event))

    def _take(self, given: Iterator[commands.Command]) -> None:
        for command in given:
            if isinstance(command, commands.SendData):
                self.seen += self.peer.receive_data(command.data)

    def request(self, method: str, *, end: bool) -> int:
        stream_id = self.peer.get_next_available_stream_id()
        headers = [(":method", method), (":scheme", "https"), (":authority", "a.test"), (":path", "/")]
        self.peer.send_headers(stream_id, headers, end_stream=end)
        self.flush()
        return stream_id


def response(status: int = 200) -> http.Response:
    return http.Response(b"HTTP/1.1", status, b"", http.Headers(), None, None, 0, None)


async def test_a_closed_window_holds_the_exchange_up() -> None:
    wire = Wire()
    stream_id = wire.request("GET", end=True)
    wire.answer(ResponseHeaders(stream_id, response()))
    await asyncio.wait_for(wire.layer.room(stream_id), 1)
    for _ in range(8):
        wire.answer(ResponseData(stream_id, b"x" * 65536))
    assert wire.layer.kept_back(stream_id) > KEPT_BACK
    waiting = asyncio.ensure_future(wire.layer.room(stream_id))
    await asyncio.sleep(0)
    assert not waiting.done()
    wire.peer.increment_flow_control_window(1 << 20)
    wire.peer.increment_flow_control_window(1 << 20, stream_id)
    wire.flush()
    await asyncio.wait_for(waiting, 1)
    wire.answer(ResponseEndOfMessage(stream_id))
    received = sum(len(event.data) for event in wire.seen if isinstance(event, h2.events.DataReceived))
    assert received == 8 * 65536


def test_an_upload_that_is_held_runs_into_its_window() -> None:
    wire = Wire()
    stream_id = wire.request("POST", end=False)
    assert wire.peer.local_flow_control_window(stream_id) == UPLOAD_WINDOW
    wire.layer.hold(stream_id)
    sent = 0
    while sent <= UPLOAD_WINDOW // 2:  # h2 tells of more window once half of it is taken
        wire.peer.send_data(stream_id, b"x" * 16384)
        wire.flush()
        sent += 16384
    assert wire.peer.local_flow_control_window(stream_id) == UPLOAD_WINDOW - sent
    wire._take(wire.layer.release(stream_id))
    assert wire.peer.local_flow_control_window(stream_id) == UPLOAD_WINDOW


def test_interim_responses_come_before_the_answer() -> None:
    wire = Wire()
    stream_id = wire.request("GET", end=True)
    wire.answer(
        ResponseHeaders(stream_id, response(103)),
        ResponseHeaders(stream_id, response()),
        ResponseEndOfMessage(stream_id),
    )
    kinds = [type(event) for event in wire.seen]
    assert h2.events.InformationalResponseReceived in kinds
    assert h2.events.ResponseReceived in kinds
    assert h2.events.StreamEnded in kinds
