"""Starting and stopping: one clear line when it can't be, a bounded and clean end when it is told to."""

from __future__ import annotations

import datetime as dt
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fwdproxy.errors import StartupError
from fwdproxy.mitm.certs import ready_folder
from tests.e2e.clients import Answer, Wire, fetch, open_to, request_head
from tests.e2e.conftest import PROGRAMS
from tests.e2e.origin import Call
from tests.e2e.programs import BIN, ROOT, environment, free_port, fwdproxy_command, run_to_end, start_fwdproxy
from tests.e2e.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Start
    from tests.e2e.origin import Origin
    from tests.e2e.programs import Program

FRESH = ("Cache-Control", "max-age=600")


def fwdproxy_run(folder: Path, *arguments: str, listen: str | None = None) -> subprocess.CompletedProcess[str]:
    """``fwdproxy run`` that is expected to end by itself."""
    folders = ["--data-dir", str(folder / "data"), "--certs", str(folder / "certs")]
    command = fwdproxy_command("run", "--listen", listen or f"127.0.0.1:{free_port()}", *folders, *arguments)
    return run_to_end(command, folder)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear line on standard error that holds ``words``, and a status that is not 0."""
    printed = done.stdout + done.stderr
    assert done.returncode != 0, printed
    assert "Traceback" not in printed, printed
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    for word in words:
        assert word in line, line


def test_an_occupied_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(fwdproxy_run(tmp_path, listen=address), address)


def test_an_unwritable_folder(tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.write_text("not a folder")
    done = run_to_end(
        fwdproxy_command("run", "--listen", f"127.0.0.1:{free_port()}", "--data-dir", str(file / "data")), tmp_path
    )
    refused(done, "a-file")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    foreign = tmp_path / "data" / "cache"
    foreign.mkdir(parents=True)
    (foreign / "letters.txt").write_text("dear all")
    (foreign / "cache.db").write_bytes(b"this is no database" * 100)
    done = fwdproxy_run(tmp_path)
    refused(done, str(foreign))
    assert (foreign / "letters.txt").read_text() == "dear all"


def ca_parts(days: int = 30) -> tuple[bytes, bytes]:
    """A key and its certificate, which ends in ``days``, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=60))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return pem, certificate.public_bytes(serialization.Encoding.PEM)


def encrypted_ca() -> bytes:
    pem, certificate = ca_parts()
    key = serialization.load_pem_private_key(pem, None)
    how = serialization.BestAvailableEncryption(b"secret")
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how) + certificate


DAMAGED_CAS = {
    "junk": (lambda: b"junk\n", "it holds no readable private key in PEM form"),
    "empty": (lambda: b"", "it holds no readable private key in PEM form"),
    "cut": (lambda: b"".join(ca_parts())[:-100], "it holds no readable certificate in PEM form"),
    "no certificate": (lambda: ca_parts()[0], "it holds no readable certificate in PEM form"),
    "no key": (lambda: ca_parts()[1], "it holds no readable private key in PEM form"),
    "mixed": (lambda: ca_parts()[0] + ca_parts()[1], "its key is not that of its certificate"),
    "encrypted": (encrypted_ca, "its key is encrypted"),
    "expired": (lambda: b"".join(ca_parts(days=-1)), "its certificate expired on 20"),
}


@pytest.mark.parametrize("name", DAMAGED_CAS)
def test_a_damaged_ca_is_found_before_anything_starts(tmp_path: Path, name: str) -> None:
    make, why = DAMAGED_CAS[name]
    file = tmp_path / "mitmproxy-ca.pem"
    content = make()
    file.write_bytes(content)
    with pytest.raises(StartupError) as caught:
        ready_folder(tmp_path)
    line = str(caught.value)
    assert line.startswith(f"the CA in {file} can't be used: {why}")
    assert "delete it to get a new CA" in line
    assert "--certs" in line
    assert file.read_bytes() == content


def test_a_damaged_ca_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "certs" / "mitmproxy-ca.pem"
    file.parent.mkdir()
    file.write_text("junk\n")
    done = fwdproxy_run(tmp_path)
    refused(done, str(file), "--certs")
    assert done.returncode == 1


def test_an_unreadable_ca(tmp_path: Path) -> None:
    file = tmp_path / "mitmproxy-ca.pem"
    file.mkdir()
    with pytest.raises(StartupError, match="mitmproxy-ca.pem can't be used: it is a folder; restore that file"):
        ready_folder(tmp_path)
    file.rmdir()
    file.write_bytes(b"".join(ca_parts()))
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(StartupError, match="mitmproxy-ca.pem can't be used: Permission denied; restore that file"):
        ready_folder(tmp_path)


def test_a_ca_of_ones_own_gets_the_file_to_hand_out(tmp_path: Path) -> None:
    key, certificate = ca_parts()
    handed_out = tmp_path / "mitmproxy-ca-cert.pem"
    (tmp_path / "mitmproxy-ca.pem").write_bytes(key + certificate)
    ready_folder(tmp_path)
    assert handed_out.read_bytes() == certificate
    ready_folder(tmp_path)
    handed_out.write_bytes(ca_parts()[1])
    with pytest.raises(StartupError, match="cert.pem is not the certificate in .*mitmproxy-ca.pem; delete it, and"):
        ready_folder(tmp_path)
    handed_out.write_bytes(b"junk")
    with pytest.raises(StartupError, match="cert.pem can't be used: it holds no readable certificate .*; delete it"):
        ready_folder(tmp_path)


def test_listening_for_others_needs_allow_client(tmp_path: Path) -> None:
    refused(fwdproxy_run(tmp_path, listen=f"0.0.0.0:{free_port()}"), "--allow-client")


CONFIGS = {
    "unknown": ("cache.sise = '1GB'\n", ("cache.sise",)),
    "type": ("[cache]\nsize = 'much'\n", ("cache.size", "much")),
    "toml": ("listen = \n", ("bad.toml",)),
    "list": ("bypass = 'example.com'\n", ("bypass",)),
    "network": ("allow_client = ['10.0.0.0/99']\n", ("allow_client", "10.0.0.0/99")),
    "class": ("[cache]\nheuristic = 'no.such:Class'\n", ("no.such",)),
    "ca": ("[origin]\nca = ['missing.pem']\n", ("missing.pem",)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_configuration(tmp_path: Path, name: str) -> None:
    text, words = CONFIGS[name]
    file = tmp_path / "bad.toml"
    file.write_text(text)
    refused(fwdproxy_run(tmp_path, "--config", str(file)), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "missing.toml"], ["missing.toml"]),
        (["--cache-size", "banana"], ["--cache-size", "banana"]),
        (["--allow-destination", "everywhere"], ["--allow-destination", "everywhere"]),
        (["--origin-ca", "missing.pem"], ["missing.pem"]),
    ],
    ids=lambda value: value[0],
)
def test_a_bad_flag(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    refused(fwdproxy_run(tmp_path, *arguments), *words)


@pytest.mark.parametrize(
    "option", ["fwd_cache_size=banana", "fwd_allow_destination=everywhere", "fwd_origin_ca=missing.pem", "fwd_nix=1"]
)
def test_mitmdump_refuses_a_bad_option(tmp_path: Path, option: str) -> None:
    command = [str(BIN / "mitmdump"), "--listen-host", "127.0.0.1", "--listen-port", str(free_port())]
    command += ["--set", f"confdir={tmp_path}", "-s", str(ROOT / "addons/cache.py")]
    command += ["--set", f"fwd_data_dir={tmp_path / 'data'}", "--set", option]
    done = run_to_end(command, tmp_path)
    printed = done.stdout + done.stderr
    assert done.returncode != 0, printed
    assert "Traceback" not in printed, printed
    assert option.partition("=")[0] in printed, printed


def test_mitmdump_on_an_occupied_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [str(BIN / "mitmdump"), "--listen-host", "127.0.0.1", "--listen-port", str(taken.getsockname()[1])]
        command += ["--set", f"confdir={tmp_path}", "-s", str(ROOT / "addons/cache.py")]
        done = run_to_end([*command, "--set", f"fwd_data_dir={tmp_path / 'data'}"], tmp_path)
    printed = done.stdout + done.stderr
    assert done.returncode != 0, printed
    assert "Traceback" not in printed, printed


def test_what_is_printed_at_the_start(start: Start) -> None:
    program = start("fwdproxy", config="[cache]\nsize = '123MB'\n")
    printed = program.wait_for_text("SHA-256", timeout=5) and program.text()
    assert f"127.0.0.1:{program.port}" in printed
    assert str(program.data_dir) in printed
    assert "123 MB" in printed
    assert str(program.ca_file) in printed


def test_the_folders_are_private(start: Start, origin: Origin) -> None:
    program = start("fwdproxy")
    fetch(program, origin.url(origin.page(b"x" * 100_000, FRESH)))
    for folder, _, files in os.walk(program.data_dir / "cache"):
        assert os.stat(folder).st_mode & 0o077 == 0, folder  # noqa: PTH116
        for name in files:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o077 == 0, name  # noqa: PTH116, PTH118
    keys = [file for file in program.certs.iterdir() if b"PRIVATE KEY" in file.read_bytes()]
    assert keys
    assert all(file.stat().st_mode & 0o077 == 0 for file in keys)


def test_it_runs_as_a_module_from_any_folder(tmp_path: Path) -> None:
    done = run_to_end([sys.executable, "-m", "fwdproxy", "--version"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fwdproxy ")


@pytest.mark.parametrize("kind", PROGRAMS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_cleanly(start: Start, origin: Origin, kind: str, number: signal.Signals) -> None:
    program = start(kind)
    path = origin.page(b"kept", FRESH)
    idle, target = open_to(program, origin.url(path))
    idle.send(request_head("GET", target, ("Host", f"localhost:{origin.http_port}"))).read()
    program.process.send_signal(number)
    assert program.wait(10) == 0, program.text()
    assert "Traceback" not in program.text()
    idle.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_under_way_is_finished(start: Start, origin: Origin, scheme: str) -> None:
    program = start("fwdproxy")
    gate = origin.gate()

    async def handle(call: Call) -> None:
        await call.head(("Content-Length", "10"))
        await call.send(b"first")
        await gate.passed()
        await call.send(b" last")

    wire, target = open_to(program, origin.url(origin.on(origin.unique(), handle), scheme))
    with wire:
        wire.send(request_head("GET", target, ("Host", f"localhost:{origin.port(scheme)}")))
        wire.read_head()
        assert wire.read_exactly(5) == b"first"
        program.terminate()
        until(lambda: refuses(program))
        gate.open()
        assert wire.read_exactly(5) == b" last"
    assert program.wait(10) == 0, program.text()
    assert "Traceback" not in program.text()


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_request_that_never_ends_does_not_hold_it_up(start: Start, origin: Origin, kind: str) -> None:
    program = start(kind)
    never = origin.gate()

    async def handle(call: Call) -> None:
        await call.head(FRESH, ("Content-Length", "10"))
        await call.send(b"first")
        await never.passed()

    path = origin.on(origin.unique(), handle)
    wire, target = open_to(program, origin.url(path))
    with wire:
        wire.send(request_head("GET", target, ("Host", f"localhost:{origin.http_port}")))
        assert wire.read_head().status == 200
        program.terminate()
        assert program.wait(30) == 0, program.text()
    assert "Traceback" not in program.text()
    again = start(kind)
    assert fetch(again, origin.url(origin.page(b"fine"))).body == b"fine"


def test_two_on_one_port_at_the_same_time(tmp_path: Path) -> None:
    program = start_fwdproxy(tmp_path / "one")
    try:
        refused(fwdproxy_run(tmp_path, listen=f"127.0.0.1:{program.port}"), str(program.port))
    finally:
        program.stop()


def test_many_clients_at_once(proxy: Program, origin: Origin) -> None:
    paths = [origin.page(b"page %d" % number, FRESH) for number in range(40)]
    answers: dict[str, list[Answer]] = {path: [] for path in paths}

    def work() -> None:
        for path in paths:
            answers[path].append(fetch(proxy, origin.url(path)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number, path in enumerate(paths):
        assert [answer.body for answer in answers[path]] == [b"page %d" % number] * 8


def refuses(program: Program) -> bool:
    """Whether new connections are no longer accepted."""
    try:
        Wire.to(program.port, timeout=1).close()
    except OSError:
        return True
    return False


def test_the_environment_of_the_tests_steers_nothing() -> None:
    assert not {name for name in environment() if name.lower().endswith("_proxy")}
