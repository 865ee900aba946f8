"""``kill -9`` at random moments under load; no stored response is ever wrong or cut.

Each round starts the proxy on the same folder, loads it with several clients and kills it at a random moment. Every
body is a function of its path and of its version, which the head tells and which changes with every third request; so
each answer is checked against what its origin sent, and a head with another version's body shows. At the end every
path is asked for once more with ``only-if-cached``.

``FWDPROXY_CRASH_ROUNDS`` (20) rounds are run from ``FWDPROXY_CRASH_SEED`` (printed; random when it is not set).
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from tests.e2e.clients import Answer, ConnectionEndedError, Wire, request_head
from tests.e2e.conftest import start_program
from tests.e2e.origin import Call, Origin, pattern, pattern_stream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.authority import Authority
    from tests.e2e.programs import Program

ROUNDS = int(os.environ.get("FWDPROXY_CRASH_ROUNDS", "20"))
CLIENTS = 6
PATHS = 150
FRESH = ("Cache-Control", "max-age=86400")
LOAD_SECONDS = (0.02, 0.8)


def name_of(path: str, version: int) -> str:
    """What the bytes of a body are a function of."""
    return f"{path}#{version}"


@lru_cache(maxsize=4096)
def size_of(name: str) -> int:
    """1 KB to 2 MB, most of them small."""
    drawn = random.Random(name)
    return int(1024 * 2048 ** (drawn.random() ** 2)) + drawn.randrange(100)


@lru_cache(maxsize=4096)
def digest_of(name: str) -> bytes:
    """The digest of a body."""
    return hashlib.sha256(pattern(name, size_of(name))).digest()


def path_of(number: int) -> str:
    """One in three is chunked, one in three has a validator and is stale at once."""
    return f"/crash/{('length', 'chunked', 'stale')[number % 3]}/{number}"


async def body_of_the_path(call: Call) -> None:
    """Sends the body that belongs to path and version, in several pieces, so that a kill falls between them."""
    await call.read_body()
    kind = call.seen.path.split("/")[2]
    version = call.serial // 3
    name = name_of(call.seen.path, version)
    known = [("X-Version", str(version)), ("ETag", f'"{version}"')]
    known += [("Cache-Control", "max-age=5"), ("Age", "6")] if kind == "stale" else [FRESH]
    if kind == "stale" and call.seen.value("if-none-match") == f'"{version}"':
        await call.respond(b"", *known, status="304 Not Modified")
        return
    chunked = kind == "chunked"
    length = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size_of(name)))
    await call.head(*known, length)
    for piece in pattern_stream(name, size_of(name)):
        await (call.chunk(piece) if chunked else call.send(piece))
    if chunked:
        await call.last_chunk()


@dataclass
class Tally:
    """What the clients saw."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, path: str, answer: Answer, when: str) -> None:
        """Counts an answer, and keeps what is wrong with it."""
        fault = ""
        if answer.status == 200:
            name = name_of(path, int(answer.value("x-version") or -1))
            if answer.complete and hashlib.sha256(answer.body).digest() != digest_of(name):
                fault = f"{when}: {name} has {len(answer.body)} bytes of {size_of(name)}, or wrong ones"
            elif answer.value("etag") != f'"{answer.value("x-version")}"':
                fault = f"{when}: {name} has the ETag {answer.value('etag')}"
            elif not answer.complete and answer.body != pattern(name, size_of(name))[: len(answer.body)]:
                fault = f"{when}: the beginning of {name} is wrong"
        elif answer.status not in (504, 502):
            fault = f"{when}: status {answer.status} for {path}"
        with self.lock:
            outcome = "cut by the kill" if not answer.complete else "hit" if answer.hit else str(answer.status)
            self.counts[outcome] += 1
            if fault:
                self.faults.append(f"{fault} ({answer.cache_status})")


def ask(wire: Wire, origin: Origin, path: str, *fields: tuple[str, str]) -> Answer:
    """One request on a kept connection."""
    return wire.send(request_head("GET", origin.url(path), ("Host", f"localhost:{origin.http_port}"), *fields)).read()


def load(program: Program, origin: Origin, seed: int, tally: Tally, stop: threading.Event) -> None:
    """One client: random paths, until the proxy is dead."""
    drawn = random.Random(seed)
    while not stop.is_set():
        try:
            with Wire.to(program.port, timeout=20) as wire:
                while True:
                    path = path_of(drawn.randrange(PATHS))
                    reload = [("Cache-Control", "no-cache")] if drawn.random() < 0.5 else []
                    answer = ask(wire, origin, path, *reload)
                    tally.note(path, answer, f"under load (seed {seed})")
                    if not answer.complete:
                        break
        except (OSError, ConnectionEndedError):
            if stop.wait(0.005):
                return


def one_round(program: Program, origin: Origin, seed: int, tally: Tally) -> None:
    """Loads a running proxy and kills it at a random moment."""
    drawn = random.Random(seed)
    stop = threading.Event()
    clients = [
        threading.Thread(target=load, args=(program, origin, drawn.randrange(1 << 30), tally, stop))
        for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    time.sleep(drawn.uniform(*LOAD_SECONDS))  # the moment of the crash is what this test draws
    program.kill()
    stop.set()
    for client in clients:
        client.join(30)
        assert not client.is_alive()


def check_stored(program: Program, origin: Origin, tally: Tally, numbers: list[int], when: str) -> int:
    """Asks for paths with only-if-cached (stale ones too); returns how many were in the store."""
    stored = 0
    with Wire.to(program.port, timeout=20) as wire:
        for number in numbers:
            path = path_of(number)
            answer = ask(wire, origin, path, ("Cache-Control", "only-if-cached, max-stale"))
            assert answer.complete, f"{when}: a stored response was cut: {path} {answer.cache_status}"
            tally.note(path, answer, when)
            stored += answer.status == 200
    return stored


def test_no_crash_leaves_a_wrong_or_cut_response(tmp_path: Path, authority: Authority) -> None:
    seed = int(os.environ.get("FWDPROXY_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"crash test: {ROUNDS} rounds, FWDPROXY_CRASH_SEED={seed}", flush=True)
    drawn = random.Random(seed)
    tally = Tally()
    folder = tmp_path / "crash"
    with Origin() as origin:
        origin.on_prefix("/crash/", body_of_the_path)
        for number in range(ROUNDS):
            program = start_program("fwdproxy", folder, authority)
            try:
                if number:
                    sample = drawn.sample(range(PATHS), 10)
                    check_stored(program, origin, tally, sample, f"after crash {number}")
                one_round(program, origin, drawn.randrange(1 << 30), tally)
            finally:
                if program.process.poll() is None:
                    program.kill()
            assert "Traceback" not in program.text(), program.text()
            assert not tally.faults, f"seed {seed}, round {number}: {tally.faults[:5]}"
            if number % 10 == 9:
                print(f"crash test: {number + 1} of {ROUNDS} rounds, {dict(tally.counts)}", flush=True)
        program = start_program("fwdproxy", folder, authority)
        stored = check_stored(program, origin, tally, list(range(PATHS)), "at the end")
        program.stop()
    print(f"crash test: {stored} of {PATHS} stored responses checked at the end; {dict(tally.counts)}", flush=True)
    assert not tally.faults, f"seed {seed}: {tally.faults[:5]}"
    assert stored > PATHS // 3, "nothing much was stored: the test proves nothing"
    assert tally.counts["hit"] > stored
    assert_no_leftovers(folder)


def assert_no_leftovers(folder: Path) -> None:
    """After a clean stop: the index is sound, and no half fill lies about."""
    for index in folder.rglob("cache.db"):
        with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
