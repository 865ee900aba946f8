"""Starts and stops the real programs: ``fwdproxy run`` and ``mitmdump -s addons/cache.py``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
"""Where the virtual environment that runs the tests keeps its programs."""
START_LIMIT = 40.0
STOP_LIMIT = 20.0


class ProgramError(AssertionError):
    """The program did not start, did not stop or ended with the wrong status; the text has its output."""


@dataclass
class Program:
    """A running program, its folders and the address where it listens."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    certs: Path
    output: Path
    command: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The proxy's URL, as clients want it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate that clients must trust."""
        found = sorted(self.certs.glob("*-ca-cert.pem"))
        if not found:
            raise ProgramError(f"no CA certificate in {self.certs}: {sorted(self.certs.iterdir())}")
        return found[0]

    def text(self) -> str:
        """All that the program printed so far."""
        return self.output.read_text(errors="replace")

    def wait_for_text(self, needle: str, timeout: float = 5, start: int = 0) -> str:
        """Waits until the output after ``start`` contains ``needle``; returns the first line with it."""
        deadline = time.monotonic() + timeout
        while True:
            for line in self.text()[start:].splitlines():
                if needle in line:
                    return line
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.name} never printed {needle!r}; it printed:\n{self.text()[start:]}")
            time.sleep(0.02)

    def rss(self) -> int:
        """Resident memory now, in bytes, its children's included."""
        return sum(_status_value(pid, "VmRSS") for pid in self.pids())

    def reset_peak(self) -> int:
        """Makes the kernel forget the peak of resident memory so far; returns the present size."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        return self.peak()

    def peak(self) -> int:
        """The peak of resident memory since :meth:`reset_peak`, in bytes."""
        return sum(_status_value(pid, "VmHWM") for pid in self.pids())

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split()]
        return found

    def kill(self) -> None:
        """Ends the process (and its children) with SIGKILL, as a crash would."""
        for pid in self.pids() if self.process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT)

    def terminate(self) -> None:
        """Sends SIGTERM, and does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = STOP_LIMIT) -> int:
        """Waits for the end; returns the exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProgramError(f"{self.name} did not end within {timeout} s:\n{self.text()}") from None

    def stop(self) -> None:
        """SIGTERM and the check that it ends with status 0 and without a traceback."""
        if self.process.poll() is None:
            self.terminate()
        status = self.wait()
        text = self.text()
        if status != 0 or "Traceback" in text:
            raise ProgramError(f"{self.name} ended with status {status}:\n{text}")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would steer a client or a proxy."""
    dropped = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "pythonpath")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in dropped}
    kept.setdefault("PYTHONUNBUFFERED", "1")
    return kept | dict(extra or {})


def fwdproxy_command(*arguments: str) -> list[str]:
    """The command line of ``fwdproxy``."""
    script = BIN / "fwdproxy"
    return [*([str(script)] if script.exists() else [sys.executable, "-m", "fwdproxy"]), *arguments]


def start_fwdproxy(
    folder: Path,
    *arguments: str,
    origin_ca: Path | None = None,
    config: str | None = None,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Program:
    """``fwdproxy run`` on a free port with its folders under ``folder`` (kept when they exist)."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = fwdproxy_command("run", "--listen", f"127.0.0.1:{port}")
    command += ["--data-dir", str(folder / "data"), "--certs", str(folder / "certs")]
    command += ["--allow-destination", "127.0.0.0/8"]
    if origin_ca is not None:
        command += ["--origin-ca", str(origin_ca)]
    if config is not None:
        config_file = folder / "fwdproxy.toml"
        config_file.write_text(config)
        command += ["--config", str(config_file)]
    return launch("fwdproxy", [*command, *arguments], folder, port, env=env)


def start_mitmdump(
    folder: Path,
    *arguments: str,
    origin_ca: Path | None = None,
    options: Mapping[str, str] | None = None,
    scripts: Sequence[Path] = (),
    scripts_before: Sequence[Path] = (),
    mode: str | None = None,
    port: int | None = None,
    script: str | None = "addons/cache.py",
    env: Mapping[str, str] | None = None,
) -> Program:
    """``mitmdump -s addons/cache.py`` on a free port; ``script=None`` is a stock mitmdump."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [str(BIN / "mitmdump"), "--listen-host", "127.0.0.1", "--listen-port", str(port)]
    command += ["--set", f"confdir={folder / 'certs'}"]
    if mode is not None:
        command += ["--mode", mode]
    for path in scripts_before:
        command += ["-s", str(path)]
    if script is not None:
        command += ["-s", str(ROOT / script), "--set", f"fwd_data_dir={folder / 'data'}"]
        command += ["--set", "fwd_allow_destination=127.0.0.0/8"]
        if origin_ca is not None:
            command += ["--set", f"fwd_origin_ca={origin_ca}"]
    if origin_ca is not None:
        command += ["--set", f"ssl_verify_upstream_trusted_ca={origin_ca}"]
    for path in scripts:
        command += ["-s", str(path)]
    for name, value in (options or {}).items():
        command += ["--set", f"{name}={value}"]
    return launch("mitmdump", [*command, *arguments], folder, port, env=env)


def launch(name: str, command: list[str], folder: Path, port: int, *, env: Mapping[str, str] | None = None) -> Program:
    """Starts ``command`` and waits until ``port`` accepts connections; its output goes to a file."""
    number = sum(1 for _ in folder.glob("output-*.log"))
    output = folder / f"output-{number}.log"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=folder, env=environment(env)
        )
    program = Program(name, process, port, folder / "data", folder / "certs", output, command)
    try:
        _await_listener(program)
    except BaseException:
        if process.poll() is None:
            program.kill()
        raise
    return program


def run_to_end(
    command: Iterable[str], cwd: Path, timeout: float = 30, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command that is expected to end by itself; for start-up errors."""
    return subprocess.run(
        list(command),
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _await_listener(program: Program) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", program.port), timeout=1).close()
            return
        except OSError:
            pass
        try:
            status = program.process.wait(0.02)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise ProgramError(f"{program.name} does not listen:\n{program.text()}") from None
        else:
            shown = " ".join(program.command)
            raise ProgramError(f"{program.name} ended at once with status {status}:\n{shown}\n{program.text()}")


def _status_value(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
