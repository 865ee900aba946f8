"""A scripted origin server on loopback, over HTTP and HTTPS, in a thread of its own.

Each path has a handler: raw bytes, or a coroutine that takes an :class:`Call` and writes what it wants, byte for
byte. Every request is kept in a log, with the bytes of its head and the number of its connection, so that a test can
say what reached the origin and what did not. All public methods may be called from the test's thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Self

Handler = Callable[["Call"], Awaitable[None]]
Fields = Iterable[tuple[str, str]]

KEPT_BODY = 1 << 20
HEAD_LIMIT = 1 << 20


@dataclass
class Seen:
    """One request as the origin received it. ``body`` is kept up to 1 MB; ``length`` and ``digest`` cover all of it."""

    connection: int
    head: bytes
    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    secure: bool
    arrived: float
    body: bytes = b""
    length: int = 0
    digest: str = ""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    chunked: bool = False
    complete: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def values(self, name: str) -> list[str]:
        """The values of all field lines called ``name``."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """The first value of ``name``, or None."""
        return next(iter(self.values(name)), None)


class Gate:
    """An event that the test opens and a handler awaits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def open(self) -> None:
        """Lets every waiting handler go on; from any thread."""
        self._loop.call_soon_threadsafe(self._event.set)

    async def passed(self) -> None:
        """For handlers: waits until the test opened the gate."""
        await self._event.wait()


class Call:
    """What a handler works with: the request, and the connection to write to."""

    def __init__(
        self, origin: Origin, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, serial: int
    ) -> None:
        self.origin = origin
        self.seen = seen
        self.serial = serial
        """How many requests for this path came before this one."""
        self.reader = reader
        self.writer = writer
        self.keep_alive = True
        self._body_read = False

    async def send(self, data: bytes) -> None:
        """Writes raw bytes and waits until the peer takes them (back-pressure)."""
        self.writer.write(data)
        await self.writer.drain()

    async def respond(self, body: bytes = b"", *fields: tuple[str, str], status: str = "200 OK") -> None:
        """A response with Content-Length and Date; for HEAD the content is left out."""
        await self.send(response(body, *fields, status=status, head_only=self.seen.method == "HEAD"))

    async def head(self, *fields: tuple[str, str], status: str = "200 OK") -> None:
        """A head with Date and ``fields`` alone."""
        await self.send(response_head(*fields, status=status))

    async def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def last_chunk(self, *trailers: tuple[str, str]) -> None:
        """The end of a chunked body, with trailer fields."""
        lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in trailers)
        await self.send(b"0\r\n" + lines + b"\r\n")

    async def read_body(self) -> bytes:
        """Reads the request's content to its end; returns it (only its first megabyte when it is larger)."""
        if self._body_read:
            return self.seen.body
        self._body_read = True
        kept = bytearray()
        digest = hashlib.sha256()
        async for piece in _body(self.reader, self.seen):
            digest.update(piece)
            self.seen.length += len(piece)
            if len(kept) + len(piece) <= KEPT_BODY:
                kept += piece
        self.seen.body = bytes(kept)
        self.seen.digest = digest.hexdigest()
        self.seen.complete = True
        return self.seen.body

    def close(self) -> None:
        """Closes the connection after what was written (FIN)."""
        self.keep_alive = False

    def reset(self) -> None:
        """Cuts the connection with RST, whatever was written."""
        self.keep_alive = False
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Origin:
    """The server. Use as a context manager, or call :meth:`start` and :meth:`stop`."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.host = host
        self._tls = tls
        self._handlers: dict[str, Handler] = {}
        self._prefixes: list[tuple[str, Handler]] = []
        self._log: list[Seen] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._serials: dict[str, int] = {}
        self._paths = itertools.count(1)
        self._connections = itertools.count(1)
        self.connections_opened = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="origin", daemon=True)
        self.http_port = 0
        self.https_port = 0

    # -- for tests ---------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listens on free ports; returns itself."""
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the origin did not start")
        return self

    def stop(self) -> None:
        """Closes every connection and ends the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def gate(self) -> Gate:
        """A fresh closed gate for a handler to wait at."""
        return Gate(self.loop)

    def unique(self, stem: str = "page") -> str:
        """A path that no test has used."""
        return f"/{next(self._paths)}/{stem}"

    def url(self, path: str, scheme: str = "http", host: str = "localhost") -> str:
        """The absolute URL of ``path`` here."""
        return f"{scheme}://{host}:{self.port(scheme)}{path}"

    def port(self, scheme: str = "http") -> int:
        """The port of ``scheme``."""
        return self.https_port if scheme == "https" else self.http_port

    def on(self, path: str, handler: Handler | bytes) -> str:
        """Sets the handler of ``path`` (bytes: that raw response each time); returns the path."""
        if isinstance(handler, bytes):
            raw = handler

            async def handle(call: Call) -> None:
                await call.send(raw)

            handler = handle
        self._handlers[path] = handler
        return path

    def on_prefix(self, prefix: str, handler: Handler) -> None:
        """Sets the handler of every path that starts with ``prefix`` and has none of its own."""
        self._prefixes.append((prefix, handler))

    def page(
        self, body: bytes = b"a page\n", *fields: tuple[str, str], status: str = "200 OK", stem: str = "page"
    ) -> str:
        """A fresh path that answers ``body`` with ``fields`` each time; returns the path."""

        async def handle(call: Call) -> None:
            await call.read_body()
            await call.respond(body, *fields, status=status)

        return self.on(self.unique(stem), handle)

    def script(self, *handlers: Handler | bytes, stem: str = "page") -> str:
        """A fresh path whose n-th request gets the n-th handler (the last one from then on)."""

        async def handle(call: Call) -> None:
            step = handlers[min(call.serial, len(handlers) - 1)]
            if isinstance(step, bytes):
                await call.read_body()
                await call.send(step)
            else:
                await step(call)

        return self.on(self.unique(stem), handle)

    def seen(self, path: str) -> list[Seen]:
        """The requests for ``path`` so far, in order of arrival."""
        with self._lock:
            return [entry for entry in self._log if entry.path == path]

    def seen_under(self, prefix: str) -> list[Seen]:
        """The requests whose path starts with ``prefix``."""
        with self._lock:
            return [entry for entry in self._log if entry.path.startswith(prefix)]

    def log(self) -> list[Seen]:
        """All requests so far."""
        with self._lock:
            return list(self._log)

    def wait_for(self, path: str, count: int = 1, timeout: float = 10) -> list[Seen]:
        """Waits until ``count`` requests for ``path`` have arrived; raises AssertionError when they do not."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [entry for entry in self._log if entry.path == path]
                left = deadline - time.monotonic()
                if len(found) >= count:
                    return found
                if left <= 0 or not self._changed.wait(left):
                    raise AssertionError(f"{len(found)} of {count} requests for {path} within {timeout} s")

    # -- in the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._listen())
        self._ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _listen(self) -> None:
        plain = await asyncio.start_server(self._serve, self.host, 0, backlog=1024)
        self.http_port = plain.sockets[0].getsockname()[1]
        if self._tls is not None:
            secure = await asyncio.start_server(self._serve, self.host, 0, ssl=self._tls, backlog=1024)
            self.https_port = secure.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._connections)
        self.connections_opened = number
        secure = writer.get_extra_info("ssl_object") is not None
        try:
            while True:
                seen = await self._read_head(reader, number, secure)
                if seen is None:
                    break
                call = Call(self, seen, reader, writer, self._enter(seen))
                await self._handler(seen)(call)
                if not call.keep_alive or (seen.value("connection") or "").lower() == "close":
                    break
                await call.read_body()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the peer left: what arrived is in the log
        finally:
            writer.close()

    def _handler(self, seen: Seen) -> Handler:
        handler = self._handlers.get(seen.path)
        if handler is not None:
            return handler
        return next((found for prefix, found in self._prefixes if seen.path.startswith(prefix)), _not_found)

    def _enter(self, seen: Seen) -> int:
        with self._changed:
            serial = self._serials.get(seen.path, 0)
            self._serials[seen.path] = serial + 1
            self._log.append(seen)
            self._changed.notify_all()
        return serial

    async def _read_head(self, reader: asyncio.StreamReader, number: int, secure: bool) -> Seen | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            if cut.partial.strip():
                raise
            return None
        lines = head[:-4].split(b"\r\n")
        method, target, version = lines[0].decode("latin-1").split(" ")
        return Seen(number, head, method, target, version, _fields(lines[1:]), secure, time.monotonic())


def response_head(*fields: tuple[str, str], status: str = "200 OK", date: bool = True) -> bytes:
    """The bytes of a head; Date is added unless it is among ``fields`` or ``date`` is False."""
    lines = [f"HTTP/1.1 {status}"]
    if date and not any(name.lower() == "date" for name, _ in fields):
        lines.append(f"Date: {formatdate(usegmt=True)}")
    lines += [f"{name}: {value}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def response(body: bytes, *fields: tuple[str, str], status: str = "200 OK", head_only: bool = False) -> bytes:
    """The bytes of a response with Content-Length (none for 204 and 304)."""
    bare = status[:3] in ("204", "304")
    length = () if bare else (("Content-Length", str(len(body))),)
    head = response_head(*fields, *length, status=status)
    return head if head_only or bare else head + body


def pattern(path: str, length: int) -> bytes:
    """``length`` bytes that are a function of ``path``: any cut, shift or mix-up of bodies shows."""
    return b"".join(pattern_stream(path, length))


def pattern_stream(path: str, length: int, block: int = 1 << 16) -> Iterable[bytes]:
    """:func:`pattern` in blocks; each begins with its own number, so no two blocks of a body are equal."""
    seed = hashlib.shake_128(path.encode()).digest(block)
    number = 0
    while length > 0:
        piece = (struct.pack(">Q", number) + seed[8:])[:length]
        yield piece
        length -= len(piece)
        number += 1


def _fields(lines: list[bytes]) -> list[tuple[str, str]]:
    pairs = []
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        pairs.append((name, value.strip(" \t")))
    return pairs


async def _body(reader: asyncio.StreamReader, seen: Seen) -> AsyncIterator[bytes]:
    if "chunked" in (seen.value("transfer-encoding") or "").lower():
        seen.chunked = True
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                break
            async for piece in _exactly(reader, size):
                yield piece
            if await reader.readexactly(2) != b"\r\n":
                raise ConnectionError("a chunk without its end")
        lines = []
        while (line := (await reader.readuntil(b"\r\n"))[:-2]) != b"":
            lines.append(line)
        seen.trailers = _fields(lines)
        return
    async for piece in _exactly(reader, int(seen.value("content-length") or 0)):
        yield piece


async def _exactly(reader: asyncio.StreamReader, count: int) -> AsyncIterator[bytes]:
    while count > 0:
        piece = await reader.read(min(count, 1 << 18))
        if not piece:
            raise asyncio.IncompleteReadError(b"", count)
        count -= len(piece)
        yield piece


async def _not_found(call: Call) -> None:
    await call.read_body()
    await call.respond(b"no such page\n", ("Cache-Control", "no-store"), status="404 Not Found")
