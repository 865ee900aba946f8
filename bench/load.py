"""The two ends of a measurement on loopback: an origin that answers at once, and a load client that checks answers.

Run as programs, so that each has a core's worth of interpreter of its own:

    load.py origin                                  prints its port, serves until it is ended
    load.py client PROXY ORIGIN CASE SECONDS CONNECTIONS      prints one JSON line: requests, seconds, faults
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import time
from typing import Final, cast

import uvloop

BODY: Final = bytes(range(32, 96)) * 16
"""1 KB."""
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: max-age=2000000000\r\n"
    b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(BODY)
)


class OriginProtocol(asyncio.Protocol):
    """Answers every request head with the same kilobyte, fresh for ever."""

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        if heads:
            self._transport.write((HEAD + BODY) * len(heads))


class ClientProtocol(asyncio.Protocol):
    """One connection that asks, checks the answer, and asks again."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = bytearray()
        self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self.ask()

    def ask(self) -> None:
        """Sends the next request."""
        self._transport.write(self._load.next_request())

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._wanted:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._wanted = end + 4 + len(BODY)
        if len(self._received) >= self._wanted:
            self._load.check(self._received)
            self._received.clear()
            self._wanted = 0
            if self._load.going:
                self.ask()
            else:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._load.going:
            self._load.faults += 1
            self._load.ended.set()


class Load:
    """A closed loop of requests: ``hit`` asks for one page, ``miss`` for a new page each time.

    ``warm`` asks for the page of ``hit`` and takes every answer.
    """

    def __init__(self, origin: str, case: str) -> None:
        self._origin = origin
        self._case = case
        self._numbers = itertools.count()
        self._stem = f"{os.getpid():x}-{time.time_ns():x}"
        # A program without a cache says nothing; one with it must say what this case is about.
        self._wrong = {"hit": b"fwd=", "miss": b"fwdproxy; hit"}.get(case, b"\0")
        self.going = True
        self.requests = 0
        self.faults = 0
        self.ended = asyncio.Event()

    def next_request(self) -> bytes:
        """A request in absolute form, as proxies get them."""
        path = f"miss/{self._stem}/{next(self._numbers)}" if self._case == "miss" else "hit"
        return f"GET http://{self._origin}/{path} HTTP/1.1\r\nHost: {self._origin}\r\n\r\n".encode()

    def check(self, answer: bytearray) -> None:
        """Counts an answer; a wrong one is a fault."""
        right = answer.startswith(b"HTTP/1.1 200") and answer.endswith(BODY) and self._wrong not in answer
        self.requests += right
        self.faults += not right

    async def run(self, proxy: str, seconds: float, connections: int) -> dict[str, float]:
        """Loads ``proxy`` for ``seconds``; returns what was counted."""
        host, _, port = proxy.partition(":")
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        for _ in range(connections):
            await loop.create_connection(lambda: ClientProtocol(self), host, int(port))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)
        taken = time.perf_counter() - started
        counted = {"requests": self.requests, "seconds": taken, "faults": self.faults}
        self.going = False
        return counted


async def serve() -> None:
    """The origin's whole life."""
    server = await asyncio.get_running_loop().create_server(OriginProtocol, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """See the module's text."""
    if sys.argv[1] == "origin":
        uvloop.run(serve())
        return
    proxy, origin, case, seconds, connections = sys.argv[2:]
    print(json.dumps(uvloop.run(Load(origin, case).run(proxy, float(seconds), int(connections)))))


if __name__ == "__main__":
    main()
