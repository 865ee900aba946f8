"""An origin that speaks HTTP/2 only, as gRPC servers do; in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from typing import Self

import h2.config
import h2.connection
import h2.events


class GrpcOrigin:
    """Answers every unary call with its own message, and ``grpc-status: 0`` in the trailers.

    ``calls`` holds each request's fields and content, in order.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as secure:
            if secure.selected_alpn_protocol() != "h2":
                return
            conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
            conn.initiate_connection()
            secure.sendall(conn.data_to_send())
            heads: dict[int, dict[str, str]] = {}
            bodies: dict[int, bytes] = {}
            while data := secure.recv(1 << 16):
                for event in conn.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        heads[event.stream_id] = {str(name): str(value) for name, value in event.headers}
                        bodies[event.stream_id] = b""
                    elif isinstance(event, h2.events.DataReceived):
                        bodies[event.stream_id] += event.data
                        conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        number = event.stream_id
                        self.calls.append((heads[number], bodies[number]))
                        answer = [(":status", "200"), ("content-type", "application/grpc")]
                        conn.send_headers(number, answer)
                        conn.send_data(number, bodies[number])
                        conn.send_headers(number, [("grpc-status", "0"), ("grpc-message", "fine")], end_stream=True)
                secure.sendall(conn.data_to_send())


def message(content: bytes) -> bytes:
    """A gRPC message: not compressed, its length, its content."""
    return struct.pack(">BI", 0, len(content)) + content
