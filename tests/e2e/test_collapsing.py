"""Many clients at once for one cold object: one request to the origin, and everyone is served as it arrives."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.origin import Call, Origin
    from tests.e2e.programs import Program

SIZE = 10_000_000
RATE = 5_000_000
PIECE = 50_000


@dataclass
class Received:
    """What one client got: when its first byte of content came, and a digest of all of it."""

    first: float
    digest: str
    length: int
    head: bytes


async def fetch(port: int, url: str) -> Received:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        digest, length, first = hashlib.sha256(), 0, 0.0
        while piece := await reader.read(1 << 16):
            first = first or time.time()
            digest.update(piece)
            length += len(piece)
        return Received(first, digest.hexdigest(), length, head)
    finally:
        writer.close()


@pytest.mark.slow
@pytest.mark.rfc("9111", "4", "collapse")
def test_a_hundred_clients_make_one_request(proxy: Program, origin: Origin) -> None:
    path = origin.unique("collapsed.bin")
    body = bytes(range(251)) * (SIZE // 251 + 1)
    body = body[:SIZE]
    began: list[float] = []

    async def paced(call: Call) -> None:
        await call.head(("Content-Length", str(SIZE)), ("Cache-Control", "max-age=600"))
        began.append(time.time())
        loop = asyncio.get_running_loop()
        start = loop.time()
        for at in range(0, SIZE, PIECE):
            await call.send(body[at : at + PIECE])
            await asyncio.sleep(max(0.0, start + (at + PIECE) / RATE - loop.time()))

    origin.on(path, paced)

    async def all_at_once() -> list[Received]:
        async with asyncio.timeout(120):
            return await asyncio.gather(*(fetch(proxy.port, origin.url(path)) for _ in range(100)))

    received = asyncio.run(all_at_once())
    assert len(origin.seen(path)) == 1
    right = hashlib.sha256(body).hexdigest()
    assert [(each.length, each.digest) for each in received] == [(SIZE, right)] * 100
    late = sorted(each.first - began[0] for each in received)
    print(f"first bytes after the origin's: median {late[50]:.3f} s, slowest {late[-1]:.3f} s")
    assert late[-1] < 1.0
