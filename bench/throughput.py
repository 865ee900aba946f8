"""Requests per second of 1 KB, hits and misses, through both programs, beside a stock mitmdump in the same run.

The programs are measured in turn, several rounds, one loaded at a time; the figures are medians. With two cores or
more each program has one for itself, and origin and load client have the other. "Stock" is a mitmdump without this
project: for hits with a script that answers from the ``request`` hook, for misses forwarding.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
BIN: Final = Path(sys.executable).parent
LOAD: Final = [sys.executable, str(ROOT / "bench" / "load.py")]
CASES: Final = ("hit", "miss")

STOCK_HIT: Final = """
from mitmproxy import http

BODY = bytes(range(32, 96)) * 16

def request(flow):
    flow.response = http.Response.make(200, BODY, {"Content-Type": "application/octet-stream"})
"""


@dataclass
class Subject:
    """A program that is measured. ``stock`` marks the one that the others are compared with in its cases."""

    name: str
    command: list[str]
    cases: Sequence[str]
    port: int
    stock: bool = False
    pid: int = 0
    rates: dict[str, list[float]] = field(default_factory=lambda: {case: [] for case in CASES})
    costs: dict[str, list[float]] = field(default_factory=lambda: {case: [] for case in CASES})


def subjects(folder: Path) -> list[Subject]:
    """The programs, each with a folder and a port of its own."""
    script = folder / "stock_hit.py"
    script.write_text(STOCK_HIT)
    (folder / "config.toml").write_text('allow_destination = ["127.0.0.0/8"]\n')

    def mitmdump(name: str, port: int, *arguments: str) -> list[str]:
        listen = ["--listen-host", "127.0.0.1", "--listen-port", str(port)]
        return [str(BIN / "mitmdump"), "-q", *listen, "--set", f"confdir={folder / name}", *arguments]

    cache = ["-s", str(ROOT / "addons" / "cache.py"), "--set", f"fwd_data_dir={folder / 'hooks'}"]
    cache += ["--set", "fwd_allow_destination=127.0.0.0/8"]
    one, two, three, four = (free_port() for _ in range(4))
    run = [str(BIN / "fwdproxy"), "run", "--listen", f"127.0.0.1:{one}", "--config", str(folder / "config.toml")]
    run += ["--data-dir", str(folder / "own"), "--certs", str(folder / "own" / "certs"), "--no-access-log"]
    return [
        Subject("fwdproxy run", run, CASES, one),
        Subject("mitmdump -s addons/cache.py", mitmdump("hooks", two, *cache), CASES, two),
        Subject("stock mitmdump, a script answers", mitmdump("sh", three, "-s", str(script)), ("hit",), three, True),
        Subject("stock mitmdump, forwards", mitmdump("sm", four), ("miss",), four, True),
    ]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], cores: set[int], *, output: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program pinned to ``cores``, ended with SIGTERM."""
    with ExitStack() as stack:
        sink = stack.enter_context(output.open("w")) if output else subprocess.PIPE
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, text=True)
        pin(process.pid, cores)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def pin(pid: int, cores: set[int]) -> None:
    """Keeps a process on some cores, where the platform can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, cores)


def halves() -> tuple[set[int], set[int]]:
    """One core for the program under load, the others for origin and client; both the same on a single core."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return {cores[0]}, set(cores[1:]) or {cores[0]}


def await_listener(process: subprocess.Popen[str], subject: Subject, output: Path) -> None:
    """Waits until the program accepts connections."""
    deadline = time.monotonic() + 40
    while True:
        try:
            socket.create_connection(("127.0.0.1", subject.port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{subject.name} does not listen; it printed:\n{output.read_text()}")
            time.sleep(0.05)


def measure(subject: Subject, origin: str, case: str, seconds: float, connections: int, cores: set[int]) -> None:
    """Loads one program with one case and notes the rate and the CPU time per request."""
    before = cpu_seconds(subject.pid)
    counted = ask(subject, origin, case, seconds, connections, cores)
    spent = cpu_seconds(subject.pid) - before
    subject.rates[case].append(counted["requests"] / counted["seconds"])
    subject.costs[case].append(spent / counted["requests"] * 1e6)


def ask(
    subject: Subject, origin: str, case: str, seconds: float, connections: int, cores: set[int]
) -> dict[str, float]:
    """Runs the load client; wrong answers end the whole run, since a wrong answer's speed is no figure."""
    command = [*LOAD, "client", f"127.0.0.1:{subject.port}", origin, case, str(seconds), str(connections)]
    with running(command, cores) as client:
        printed, errors = client.communicate(timeout=seconds + 30)
    if client.returncode != 0:
        sys.exit(f"the load client failed:\n{errors}")
    counted: dict[str, float] = json.loads(printed)
    if counted["faults"] or not counted["requests"]:
        sys.exit(f"{subject.name}: {counted['faults']:.0f} wrong answers to {case} requests")
    return counted


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far; 0 where the platform does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(measured: list[Subject], rounds: int) -> str:
    """The table, ratios to the stock mitmdump of the same case."""
    lines = [f"{'1 KB':<8}{'program':<36}{'requests/s':>12}{'CPU µs each':>13}{'to stock':>10}{'spread':>10}"]
    for case in CASES:
        stock = next(statistics.median(s.rates[case]) for s in measured if s.stock and case in s.cases)
        for subject in (entry for entry in measured if case in entry.cases):
            rate, cost = statistics.median(subject.rates[case]), statistics.median(subject.costs[case])
            spread = (max(subject.rates[case]) - min(subject.rates[case])) / rate
            row = f"{case:<8}{subject.name:<36}{rate:>12,.0f}{cost:>13,.0f}{rate / stock:>9.2f}×{spread:>9.0%}"
            lines.append(row)
    today = dt.datetime.now(dt.UTC).date()
    machine = f"{os.cpu_count()} cores, CPython {platform.python_version()}, {platform.machine()}"
    return "\n".join([*lines, f"medians of {rounds} rounds in turn, {today}, {machine}"])


def main() -> None:
    """Measures everything and prints the table; a copy in JSON goes to bench/results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all programs (5)")
    parser.add_argument("--seconds", type=float, default=3, help="length of one measurement (3)")
    parser.add_argument("--connections", type=int, default=16, help="connections of the load client (16)")
    chosen = parser.parse_args()
    if chosen.rounds < 1 or chosen.seconds <= 0 or chosen.connections < 1:
        parser.error("rounds, seconds and connections are above 0")
    program_cores, load_cores = halves()
    pin(0, load_cores)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fwdproxy-bench-")))
        origin_process = stack.enter_context(running([*LOAD, "origin"], load_cores))
        assert origin_process.stdout is not None
        origin = f"localhost:{int(origin_process.stdout.readline())}"
        measured = subjects(folder)
        for number, subject in enumerate(measured):
            output = folder / f"output-{number}.log"
            process = stack.enter_context(running(subject.command, program_cores, output=output))
            subject.pid = process.pid
            await_listener(process, subject, output)
            # What is loaded, connected or stored once is not measured.
            ask(subject, origin, "warm", 2, chosen.connections, load_cores)
        for number in range(chosen.rounds):
            for subject in measured:
                for case in subject.cases:
                    measure(subject, origin, case, chosen.seconds, chosen.connections, load_cores)
                    rate = subject.rates[case][-1]
                    shown = f"round {number + 1} of {chosen.rounds}  {subject.name:<36}{case:<6}{rate:>10,.0f}/s"
                    print(shown, file=sys.stderr, flush=True)
        print(report(measured, chosen.rounds))
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    kept = [{"name": entry.name, "rates": entry.rates, "cpu_us": entry.costs} for entry in measured]
    (results / "throughput.json").write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
