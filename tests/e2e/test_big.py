"""Bodies larger than memory should ever be: two gigabytes pass, are stored and are served again.

``FWDPROXY_BIG`` is the size in megabytes. What counts is the growth of the process's resident memory while it works.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Http2, Wire, fetch, open_to, request_head
from tests.e2e.conftest import PROGRAMS
from tests.e2e.origin import Call, pattern_stream
from tests.e2e.programs import Program, environment
from tests.e2e.waiting import settle, until

if TYPE_CHECKING:
    from tests.e2e.conftest import Start
    from tests.e2e.origin import Origin

MEGABYTE = 1 << 20
BIG = int(os.environ.get("FWDPROXY_BIG", "2048")) * MEGABYTE
BLOCK = 1 << 18
MAY_GROW = 50 * MEGABYTE
FRESH = ("Cache-Control", "max-age=600")


def big_pieces(total: int) -> Iterable[bytes]:
    """A body made as fast as it can be sent: each block begins with its number."""
    return pattern_stream("big", total, BLOCK)


@cache
def big_digest(total: int) -> str:
    digest = hashlib.sha256()
    for piece in big_pieces(total):
        digest.update(piece)
    return digest.hexdigest()


def big_page(origin: Origin, total: int, *, chunked: bool = False) -> str:
    async def handle(call: Call) -> None:
        if chunked:
            await call.head(FRESH, ("Transfer-Encoding", "chunked"))
            for piece in big_pieces(total):
                await call.chunk(piece)
            await call.last_chunk()
        else:
            await call.head(FRESH, ("Content-Length", str(total)))
            for piece in big_pieces(total):
                await call.send(piece)

    return origin.on(origin.unique("big"), handle)


def download(program: Program, url: str, *arguments: str) -> tuple[str, str]:
    """The body's SHA-256 and the head, by curl, without keeping the body."""
    command = ["curl", "-sS", "--fail", "-x", program.url, "--cacert", str(program.ca_file), "-D", "/dev/stderr"]
    with subprocess.Popen(
        [*command, *arguments, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as client:
        assert client.stdout is not None
        assert client.stderr is not None
        digest = hashlib.sha256()
        while piece := client.stdout.read(1 << 20):
            digest.update(piece)
        printed = client.stderr.read().decode()
        assert client.wait(10) == 0, printed
    return digest.hexdigest(), printed.lower()


@pytest.mark.slow
@pytest.mark.parametrize("kind", PROGRAMS)
def test_two_gigabytes_pass_are_stored_and_are_served(start: Start, origin: Origin, kind: str) -> None:
    total = BIG if kind == "fwdproxy" else BIG // 8  # the same shell under both
    program = start(kind)
    url = origin.url(path := big_page(origin, total))
    warm_up(program, origin)
    before = program.reset_peak()
    first, head = download(program, url)
    grown = [program.peak() - before]
    assert "; stored" in head
    assert first == big_digest(total)
    second, head = download(program, url)
    grown.append(program.peak() - before)
    assert "; hit" in head
    assert second == first
    assert len(origin.seen(path)) == 1
    assert max(grown) < MAY_GROW, f"grew by {[size >> 20 for size in grown]} MB"


@pytest.mark.slow
def test_large_bodies_over_http_2(start: Start, origin: Origin) -> None:
    """Over HTTP/2, filled and then served; smaller, since every frame costs the client and the proxy time."""
    total = BIG // 8
    program = start("fwdproxy")
    url = origin.url(path := big_page(origin, total, chunked=True), "https")
    warm_up(program, origin)
    before = program.reset_peak()
    first, _ = download(program, url, "--http2")
    second, head = download(program, url, "--http2")
    assert (first, second) == (big_digest(total), first)
    assert head.count("http/2 200") == 1
    assert "; hit" in head
    assert len(origin.seen(path)) == 1
    assert program.peak() - before < MAY_GROW, f"grew by {(program.peak() - before) >> 20} MB"


# The miss over HTTP/2 is in test_traps.py.
@pytest.mark.parametrize(
    ("client", "hit"),
    [("http", False), ("http", True), ("https", False), ("https", True), ("h2", True)],
    ids=lambda value: value if isinstance(value, str) else "hit" if value else "miss",
)
def test_a_stalled_reader_holds_no_memory(proxy: Program, origin: Origin, client: str, hit: bool) -> None:
    """The client reads the head and then nothing, until everything has come to rest; then it reads all."""
    total = 80 * MEGABYTE
    scheme = "http" if client == "http" else "https"
    url = origin.url(path := big_page(origin, total), scheme)
    if hit:
        download(proxy, url)
    before = proxy.reset_peak()
    digest = hashlib.sha256()
    if client == "h2":
        stalled_http_2(proxy, origin, path, total)
    else:
        wire, target = open_to(proxy, url)
        with wire:
            wire.send(request_head("GET", target, ("Host", f"localhost:{origin.port(scheme)}")))
            answer = wire.read_head()
            assert answer.hit is hit
            settle(proxy.rss, quiet=0.6)
            assert proxy.peak() - before < MAY_GROW
            left = total
            while left and (piece := wire.read_some(1 << 18)):
                digest.update(piece)
                left -= len(piece)
        assert digest.hexdigest() == big_digest(total)
    assert proxy.peak() - before < MAY_GROW, f"grew by {(proxy.peak() - before) >> 20} MB"
    assert len(origin.seen(path)) == 1


def stalled_http_2(program: Program, origin: Origin, path: str, total: int) -> None:
    with Http2(program, f"localhost:{origin.https_port}", keep=False) as client:
        client.acknowledge = False
        number = client.request(path)
        while client.streams[number].received < 60_000:
            assert client.pump()
        settle(program.rss, quiet=0.6)
        client.acknowledge = True
        client.release(number, client.streams[number].received)
        assert client.finish(number).complete
        assert client.streams[number].received == total


def test_many_slow_readers_share_one_stored_body(proxy: Program, origin: Origin) -> None:
    """Twenty stalled readers of one large stored body cost next to nothing."""
    total = 30 * MEGABYTE
    url = origin.url(path := big_page(origin, total))
    download(proxy, url)
    before = proxy.reset_peak()
    wires = [Wire.to(proxy.port, receive_buffer=65536) for _ in range(20)]
    for wire in wires:
        wire.send(request_head("GET", url, ("Host", f"localhost:{origin.http_port}")))
        assert wire.read_head().hit
    settle(proxy.rss, quiet=0.6)
    assert proxy.peak() - before < MAY_GROW
    for wire in wires:
        wire.close()
    assert len(origin.seen(path)) == 1


def test_a_client_that_leaves_early_leaves_no_partial_response(proxy: Program, origin: Origin) -> None:
    total = 40 * MEGABYTE
    gate = origin.gate()
    ended = threading.Event()

    async def handle(call: Call) -> None:
        try:
            await call.head(FRESH, ("Content-Length", str(total)))
            for number, piece in enumerate(big_pieces(total)):
                if number == 4 and call.serial == 0:
                    await gate.passed()
                await call.send(piece)
        finally:
            ended.set()

    path = origin.on(origin.unique("left"), handle)
    with Wire.to(proxy.port) as wire:
        wire.send(request_head("GET", origin.url(path), ("Host", f"localhost:{origin.http_port}")))
        wire.read_head()
        wire.read_exactly(100_000)
    gate.open()
    assert ended.wait(20)
    digest, _ = download(proxy, origin.url(path))
    assert digest == big_digest(total)


def test_the_store_stays_within_its_size(start: Start, origin: Origin) -> None:
    """Twenty megabytes are allowed, sixty pass: what is dropped is dropped in the background."""
    program = start("fwdproxy", config="[cache]\nsize = '20MB'\n")
    body = os.urandom(MEGABYTE)
    paths = [origin.page(body, FRESH) for _ in range(60)]
    for path in paths:
        assert fetch(program, origin.url(path)).body == body
    until(lambda: used(program) < 25_000_000)  # the store looks after its size once a second
    answers = [fetch(program, origin.url(path), ("Cache-Control", "only-if-cached")) for path in paths]
    assert all(answer.body == body for answer in answers if answer.hit)
    assert 5 < sum(answer.hit for answer in answers) <= 20
    assert answers[-1].hit


def test_an_object_larger_than_the_store_passes(start: Start, origin: Origin) -> None:
    program = start("fwdproxy", config="[cache]\nsize = '5MB'\n")
    url = origin.url(path := big_page(origin, 30 * MEGABYTE))
    for _ in range(2):
        digest, _ = download(program, url)
        assert digest == big_digest(30 * MEGABYTE)
    assert len(origin.seen(path)) == 2
    until(lambda: used(program) < 15_000_000)


def warm_up(program: Program, origin: Origin) -> None:
    """One small request each way, so that what is loaded once is not counted as growth."""
    path = origin.page(b"x" * 100_000, FRESH)
    for scheme in ("http", "https"):
        for _ in range(2):
            fetch(program, origin.url(path, scheme))
    with Http2(program, f"localhost:{origin.https_port}") as client:
        client.fetch(path)


def used(program: Program) -> int:
    """Bytes in the program's data folder."""
    total = 0
    for file in program.data_dir.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue  # dropped in the meantime
    return total
