"""Clients for the tests: raw sockets with a byte-exact reader of responses, curl, and HTTP/2 through CONNECT."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.settings

from tests.e2e.programs import Program, environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TIMEOUT = 20.0


@dataclass
class Answer:
    """One response as a client received it.

    ``framing`` is how the content ended: "length", "chunked", "close" or "none". ``complete`` is False when the
    connection was cut before the framing said so.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    informational: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)
    version: str = "HTTP/1.1"
    framing: str = "length"
    complete: bool = True
    head: bytes = b""

    def values(self, name: str) -> list[str]:
        """The values of all field lines called ``name``."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """The first value of ``name``, or None."""
        return next(iter(self.values(name)), None)

    @property
    def cache_status(self) -> str:
        """fwdproxy's own entry of Cache-Status, "" when there is none."""
        entries = [entry.strip() for line in self.values("cache-status") for entry in line.split(",")]
        return next((entry for entry in entries if entry.startswith("fwdproxy")), "")

    @property
    def hit(self) -> bool:
        """Whether fwdproxy says it answered from its store."""
        return "hit" in [part.strip() for part in self.cache_status.split(";")]

    @property
    def fwd(self) -> str | None:
        """The reason of RFC 9211 §2.2 for asking the origin, None on a hit."""
        return self.parameter("fwd")

    @property
    def stored(self) -> bool:
        """Whether fwdproxy says it stores this response."""
        return "stored" in [part.strip() for part in self.cache_status.split(";")]

    def parameter(self, name: str) -> str | None:
        """A parameter of Cache-Status, without quotes."""
        for part in self.cache_status.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value.strip('"')
        return None


class ConnectionEndedError(AssertionError):
    """The connection ended where a response was expected."""


class Wire:
    """A client connection: sends bytes as they are, reads responses one by one."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    @classmethod
    def to(
        cls, port: int, timeout: float = TIMEOUT, receive_buffer: int | None = None, host: str = "127.0.0.1"
    ) -> Wire:
        """Connects to a proxy, on loopback unless ``host`` says otherwise.

        ``receive_buffer`` makes the kernel take little, for stalled readers.
        """
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        sock.connect((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    def send(self, data: bytes) -> Wire:
        """Writes ``data``; returns itself."""
        self.sock.sendall(data)
        return self

    def tunnel(self, authority: str, *fields: tuple[str, str]) -> Wire:
        """CONNECT; raises AssertionError unless the answer is 200."""
        self.send(request_head("CONNECT", authority, ("Host", authority), *fields))
        answer = self.read("CONNECT")
        assert answer.status == 200, answer
        return self

    def start_tls(self, ca_file: Path, host: str, alpn: list[str] | None = None) -> Wire:
        """TLS to ``host`` over this connection; returns the secured connection, ``peer`` is its certificate."""
        context = ssl.create_default_context(cafile=str(ca_file))
        context.set_alpn_protocols(alpn or ["http/1.1"])
        return Wire(context.wrap_socket(self.sock, server_hostname=host))

    def read(self, method: str = "GET") -> Answer:
        """Reads one response, 1xx before it included."""
        informational = []
        while True:
            answer = self.read_head()
            if not 100 <= answer.status < 200 or answer.status == 101:
                break
            informational.append((answer.status, answer.headers))
        answer.informational = informational
        self._read_content(answer, method)
        return answer

    def read_head(self) -> Answer:
        """Reads one head, 1xx or final, and leaves the content on the connection."""
        head = self._until(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        version, status = lines[0].decode("latin-1").split(" ", 2)[:2]
        return Answer(int(status), _fields(lines[1:]), version=version, head=head)

    def read_some(self, limit: int = 1 << 16) -> bytes:
        """What comes next, b"" at the end of the connection."""
        if self._buffer:
            data, self._buffer = self._buffer[:limit], self._buffer[limit:]
            return data
        return self.sock.recv(limit)

    def read_exactly(self, count: int) -> bytes:
        """``count`` bytes; raises ConnectionEndedError when the connection ends before."""
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def read_to_end(self) -> bytes:
        """Everything until the connection ends."""
        pieces = []
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while piece := self.read_some():
                pieces.append(piece)
        return b"".join(pieces)

    def chunk(self) -> bytes:
        """The next chunk of a chunked body, b"" for the last one (its trailers stay on the connection)."""
        size = int(self._until(b"\r\n").split(b";")[0], 16)
        return self.read_exactly(size + 2)[:-2] if size else b""

    def close(self) -> None:
        """Closes the connection."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_content(self, answer: Answer, method: str) -> None:
        tunnel = method == "CONNECT" and 200 <= answer.status < 300
        if method == "HEAD" or tunnel or answer.status in (101, 204, 304):
            answer.framing = "none"
            return
        try:
            if "chunked" in (answer.value("transfer-encoding") or "").lower():
                answer.framing = "chunked"
                pieces = []
                while piece := self.chunk():
                    pieces.append(piece)
                    answer.body = b"".join(pieces) if len(pieces) < 1000 else b""
                answer.body = b"".join(pieces)
                lines = []
                while line := self._until(b"\r\n")[:-2]:
                    lines.append(line)
                answer.trailers = _fields(lines)
            elif (length := answer.value("content-length")) is not None:
                answer.body = self.read_exactly(int(length))
            else:
                answer.framing = "close"
                answer.body = self.read_to_end()
        except (ConnectionEndedError, ConnectionError, ssl.SSLError):
            answer.complete = False
            if answer.framing == "length":
                answer.body, self._buffer = self._buffer, b""

    def _until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            self._more()
        at += len(end)
        data, self._buffer = self._buffer[:at], self._buffer[at:]
        return data

    def _more(self) -> None:
        piece = self.sock.recv(1 << 18)
        if not piece:
            raise ConnectionEndedError(f"the connection ended after {self._buffer[-200:]!r}")
        self._buffer += piece


def request_head(method: str, target: str, *fields: tuple[str, str], version: str = "HTTP/1.1") -> bytes:
    """The bytes of a request head; nothing is added."""
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def open_to(program: Program, url: str, timeout: float = TIMEOUT) -> tuple[Wire, str]:
    """A connection on which ``url`` can be asked, and the request target to use.

    Plain HTTP: a connection to the proxy and the absolute form. HTTPS: a tunnel with TLS and the origin form.
    """
    parts = urlsplit(url)
    wire = Wire.to(program.port, timeout)
    if parts.scheme == "http":
        return wire, url
    assert parts.hostname is not None
    secure = wire.tunnel(parts.netloc).start_tls(program.ca_file, parts.hostname)
    return secure, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def fetch(
    program: Program, url: str, *fields: tuple[str, str], method: str = "GET", body: bytes | None = None
) -> Answer:
    """One request on a connection of its own: a new client each time."""
    wire, target = open_to(program, url)
    with wire:
        length = () if body is None else (("Content-Length", str(len(body))),)
        wire.send(request_head(method, target, ("Host", urlsplit(url).netloc), *fields, *length) + (body or b""))
        return wire.read(method)


def curl(program: Program, url: str, *arguments: str, timeout: float = 60) -> Answer:
    """The real curl through the proxy, trusting the proxy's CA; the last response's head and the body."""
    with tempfile.TemporaryDirectory() as folder:
        head, body = Path(folder, "head"), Path(folder, "body")
        command = ["curl", "-sS", "-x", program.url, "-D", str(head), "-o", str(body)]
        if url.startswith("https:"):
            command += ["--cacert", str(program.ca_file)]
        done = subprocess.run(
            [*command, *arguments, url],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment(),
        )
        assert done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr}"
        blocks = [block for block in head.read_bytes().split(b"\r\n\r\n") if block]
        lines = blocks[-1].split(b"\r\n")
        version, status = lines[0].decode("latin-1").split(" ")[:2]
        content = body.read_bytes() if body.exists() else b""
        return Answer(int(status), _fields(lines[1:]), content, version=version)


@dataclass
class Stream:
    """An HTTP/2 stream's answer so far."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    received: int = 0
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    informational: list[int] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    def answer(self) -> Answer:
        """As an :class:`Answer`."""
        complete = self.ended and self.reset is None
        return Answer(
            self.status,
            self.headers,
            bytes(self.body),
            self.trailers,
            [(status, []) for status in self.informational],
            "HTTP/2",
            complete=complete,
        )


class Http2:
    """An HTTP/2 client in a tunnel through the proxy (blocking, one thread)."""

    def __init__(self, program: Program, authority: str, *, window: int | None = None, keep: bool = True) -> None:
        """``window``: the initial flow-control window of streams; ``keep``: whether bodies are kept."""
        host = authority.rpartition(":")[0]
        self.authority = authority
        self.keep = keep
        self.acknowledge = True
        self.wire = Wire.to(program.port).tunnel(authority).start_tls(program.ca_file, host, ["h2"])
        assert isinstance(self.wire.sock, ssl.SSLSocket)
        assert self.wire.sock.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1", validate_inbound_headers=False)
        self.conn = h2.connection.H2Connection(config)
        if window is not None:
            self.conn.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window
        self.conn.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.flush()

    def request(
        self,
        path: str,
        *fields: tuple[str, str],
        method: str = "GET",
        end: bool = True,
    ) -> int:
        """Sends a request head; returns the stream's number."""
        number: int = self.conn.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", self.authority), (":path", path)]
        self.conn.send_headers(number, [*head, *((name.lower(), value) for name, value in fields)], end_stream=end)
        self.streams[number] = Stream()
        self.flush()
        return number

    def send_data(self, number: int, data: bytes, *, end: bool = False) -> None:
        """Sends content as the windows allow."""
        while True:
            room = min(self.conn.local_flow_control_window(number), self.conn.max_outbound_frame_size)
            piece, data = data[:room], data[room:]
            if piece or (end and not data):
                self.conn.send_data(number, piece, end_stream=end and not data)
                self.flush()
            if not data:
                return
            if room == 0:
                self.pump()

    def pump(self) -> bool:
        """Takes one read's worth of what the proxy sent; False when it closed the connection."""
        try:
            data = self.wire.sock.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            return False
        for event in self.conn.receive_data(data):
            self._take(event)
        self.flush()
        return True

    def finish(self, number: int) -> Answer:
        """Reads until stream ``number`` ends."""
        stream = self.streams[number]
        while not stream.ended and stream.reset is None and self.pump():
            pass
        return stream.answer()

    def fetch(self, path: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
        """One request and its answer."""
        return self.finish(self.request(path, *fields, method=method))

    def release(self, number: int, count: int) -> None:
        """Opens the windows, wide, for a client that had stopped to acknowledge after ``count`` bytes."""
        self.conn.acknowledge_received_data(count, number)
        for stream in (None, number):
            self.conn.increment_flow_control_window(1 << 24, stream)
        self.flush()

    def flush(self) -> None:
        """Sends what the state machine wants to send."""
        self.wire.sock.sendall(self.conn.data_to_send())

    def close(self) -> None:
        """Closes the connection."""
        self.wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, event: object) -> None:
        number = getattr(event, "stream_id", None)
        stream = self.streams.get(number or 0)
        if stream is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            stream.informational.append(int(dict(_text(event.headers))[":status"]))
        elif isinstance(event, h2.events.ResponseReceived):
            fields = _text(event.headers)
            stream.status = int(dict(fields)[":status"])
            stream.headers = [pair for pair in fields if not pair[0].startswith(":")]
        elif isinstance(event, h2.events.DataReceived):
            stream.received += len(event.data)
            if self.keep:
                stream.body += event.data
            if self.acknowledge:
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = _text(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code or 0)


def chunked(*pieces: bytes, trailers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A chunked body."""
    lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in trailers)
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + lines + b"\r\n"


def blocks_of(wire: Wire, length: int) -> Iterator[bytes]:
    """The next ``length`` bytes of a connection, as they come."""
    while length > 0:
        piece = wire.read_some(min(length, 1 << 18))
        if not piece:
            return
        length -= len(piece)
        yield piece


def _fields(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    pairs = []
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        pairs.append((name, value.strip(" \t")))
    return pairs


def _text(fields: Iterable[tuple[object, object]]) -> list[tuple[str, str]]:
    def plain(value: object) -> str:
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)

    return [(plain(name), plain(value)) for name, value in fields]
