"""The clients and servers that people really use: requests with CacheControl, pip, Chromium, nginx."""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from cachecontrol import CacheControl
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.e2e.clients import Answer, fetch
from tests.e2e.origin import Call
from tests.e2e.programs import Program, environment, free_port

if TYPE_CHECKING:
    from tests.e2e.origin import Origin

FRESH = ("Cache-Control", "max-age=600")


def program_named(*names: str) -> str:
    """The path of an installed program; the test fails, not skips, where CI should have it."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    if os.environ.get("CI"):
        pytest.fail(f"{names[0]} is not installed")
    pytest.skip(f"{names[0]} is not installed")


# -- requests and CacheControl --------------------------------------------------------------------------------------


def session(program: Program) -> requests.Session:
    """A client with a private cache of its own behind the proxy."""
    plain = requests.Session()
    plain.trust_env = False
    plain.proxies = {"http": program.url, "https": program.url}
    plain.verify = str(program.ca_file)
    wrapped: requests.Session = CacheControl(plain)
    return wrapped


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_private_caches_behind_the_shared_one(proxy: Program, origin: Origin, scheme: str) -> None:
    url = origin.url(path := origin.page(b"for everyone", FRESH, ("ETag", '"e"')), scheme)
    with session(proxy) as one, session(proxy) as two:
        answers = [one.get(url, timeout=20), one.get(url, timeout=20), two.get(url, timeout=20)]
        assert [answer.content for answer in answers] == [b"for everyone"] * 3
        assert [getattr(answer, "from_cache", False) for answer in answers] == [False, True, False]
    assert "hit" in answers[2].headers["cache-status"]
    assert len(origin.seen(path)) == 1


def test_a_private_caches_validation_is_answered_by_the_shared_one(proxy: Program, origin: Origin) -> None:
    """Each client must ask anew, but the shared cache may answer: max-age=0, s-maxage=600."""
    lifetime = ("Cache-Control", "max-age=0, s-maxage=600")
    url = origin.url(path := origin.page(b"shared for a while", lifetime, ("ETag", '"e"')))
    with session(proxy) as one:
        first, second = one.get(url, timeout=20), one.get(url, timeout=20)
    assert (first.content, second.content) == (b"shared for a while",) * 2
    assert getattr(second, "from_cache", False)
    assert len(origin.seen(path)) == 1
    conditional = fetch(proxy, url, ("If-None-Match", '"e"'))
    assert (conditional.status, conditional.hit) == (304, True)


# -- pip -----------------------------------------------------------------------------------------------------------


def wheel(folder: Path) -> bytes:
    """A tiny, valid wheel."""
    file = folder / "made.whl"
    files = {
        "fwdproxy_demo/__init__.py": f"x = {'1' * 50_000!r}\n",
        "fwdproxy_demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: fwdproxy-demo\nVersion: 1.0\n",
        "fwdproxy_demo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "fwdproxy_demo-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.read_bytes()


def test_a_second_pip_download_asks_the_index_for_no_file(proxy: Program, origin: Origin, tmp_path: Path) -> None:
    content = wheel(tmp_path)
    file = origin.page(content, FRESH, ("ETag", '"w"'), stem="fwdproxy_demo-1.0-py3-none-any.whl")
    digest = hashlib.sha256(content).hexdigest()
    index = origin.unique("simple")
    listing = f'<!DOCTYPE html><a href="{file}#sha256={digest}">{file.rpartition("/")[2]}</a>'.encode()

    async def listed(call: Call) -> None:
        await call.respond(listing, ("Content-Type", "text/html"), ("Cache-Control", "max-age=600"))

    project = origin.on(f"{index}/fwdproxy-demo/", listed)
    for run in ("one", "two"):
        command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "download", "--no-deps"]
        command += ["--no-cache-dir", "--index-url", origin.url(index, "https"), "--proxy", proxy.url]
        command += ["--cert", str(proxy.ca_file), "--dest", str(tmp_path / run), "fwdproxy-demo"]
        done = subprocess.run(
            command,
            env=environment({"PIP_CONFIG_FILE": os.devnull}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / run / file.rpartition("/")[2]).read_bytes() == content
    assert len(origin.seen(file)) == 1
    # pip asks for the listing with max-age=0, so that one is asked for again.
    assert 1 <= len(origin.seen(project)) <= 2


# -- Chromium ------------------------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><title>waiting</title><link rel="stylesheet" href="{style}">
<body><img src="{one}"><img src="{two}"><p id="out"></p><script>
onload = () => {{
  const sizes = [...document.images].map(image => image.naturalWidth + "x" + image.naturalHeight).join(" ");
  document.getElementById("out").textContent = sizes + " " + getComputedStyle(document.body).color;
}};
</script></body>"""


def png(width: int, height: int) -> bytes:
    """A picture of noise, so that it doesn't shrink to nothing."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + os.urandom(width * 3) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def public_key_pin(certificate_file: Path) -> str:
    """What Chromium's --ignore-certificate-errors-spki-list wants: this CA, and nothing else, is accepted."""
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def browse(program: Program, profile: Path, url: str) -> str:
    """The page as Chromium has it after loading, from a fresh profile."""
    command = [
        program_named("chromium", "chromium-browser", "google-chrome"),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--disable-quic",
        f"--user-data-dir={profile}",
        f"--proxy-server={program.url}",
        "--proxy-bypass-list=<-loopback>",
        f"--ignore-certificate-errors-spki-list={public_key_pin(program.ca_file)}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        url,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment({"HOME": str(profile)}),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_second_browser_gets_its_page_from_the_store(
    proxy: Program, origin: Origin, tmp_path: Path, scheme: str
) -> None:
    pictures = [
        origin.page(png(20 + number, 30), FRESH, ("Content-Type", "image/png"), stem="picture.png")
        for number in range(2)
    ]
    style = origin.page(b"body { color: rgb(1, 2, 3) }", FRESH, ("Content-Type", "text/css"), stem="style.css")
    content = PAGE.format(style=style, one=pictures[0], two=pictures[1]).encode()
    page = origin.page(content, FRESH, ("Content-Type", "text/html"), stem="index.html")
    doms = []
    for profile in ("one", "two"):
        (tmp_path / profile).mkdir()
        doms.append(browse(proxy, tmp_path / profile, origin.url(page, scheme)))
    for dom in doms:
        assert "20x30 21x30 rgb(1, 2, 3)" in dom, dom
    for path in (page, style, *pictures):
        assert len(origin.seen(path)) == 1, path


# -- nginx -----------------------------------------------------------------------------------------------------------

NGINX = """
user {user};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/www;
    location /short/ {{ add_header Cache-Control max-age=1; }}
    location /long/ {{ expires 1h; gzip on; gzip_proxied any; gzip_types text/plain; gzip_min_length 1; gzip_vary on; }}
  }}
}}
"""


class Nginx:
    """A running nginx with files to serve."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        for name in ("www/short", "www/long"):
            (folder / name).mkdir(parents=True)
        (folder / "nginx.conf").write_text(NGINX.format(user=getpass.getuser(), folder=folder, port=self.port))
        command = [program_named("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
        self._process = subprocess.Popen([*command, "-e", str(folder / "error.log")])
        deadline = time.monotonic() + 10
        while not (folder / "nginx.pid").exists() or not (folder / "nginx.pid").read_text().strip():
            assert self._process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def file(self, name: str, content: bytes) -> str:
        """Puts a file in place; returns its URL."""
        (self.folder / "www" / name).write_bytes(content)
        return f"http://localhost:{self.port}/{name}"

    def log(self, name: str) -> list[str]:
        """The statuses with which nginx answered for ``name``."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [line.split('"')[2].split()[0] for line in lines if f"/{name} " in line]

    def stop(self) -> None:
        """Ends it."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(10) == 0


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    running = Nginx(tmp_path_factory.mktemp("nginx"))
    yield running
    running.stop()


def test_a_file_of_nginx_is_validated_after_its_time(proxy: Program, nginx: Nginx) -> None:
    name = f"short/{proxy.name}.txt"
    url = nginx.file(name, b"a static file\n" * 5000)
    first = fetch(proxy, url)
    assert first.value("etag")
    assert first.value("last-modified")
    assert fetch(proxy, url).hit
    answer = until_not_hit(proxy, url)
    assert (answer.status, answer.body) == (200, first.body)
    assert (answer.fwd, answer.parameter("fwd-status")) == ("stale", "304")
    assert fetch(proxy, url).hit
    assert nginx.log(name) == ["200", "304"]


def test_a_changed_file_of_nginx_is_fetched_anew(proxy: Program, nginx: Nginx) -> None:
    name = f"short/{proxy.name}-changed.txt"
    url = nginx.file(name, b"before")
    assert fetch(proxy, url).body == b"before"
    nginx.file(name, b"after, and longer")
    answer = until_not_hit(proxy, url)
    assert (answer.status, answer.body) == (200, b"after, and longer")
    assert nginx.log(name) == ["200", "200"]


def test_nginxs_compressed_and_plain_variants(proxy: Program, nginx: Nginx) -> None:
    name = f"long/{proxy.name}.txt"
    url = nginx.file(name, b"words and words " * 1000)
    packed = ("Accept-Encoding", "gzip")
    answers = [fetch(proxy, url, packed), fetch(proxy, url), fetch(proxy, url, packed), fetch(proxy, url)]
    assert [answer.value("content-encoding") for answer in answers] == ["gzip", None, "gzip", None]
    assert [answer.hit for answer in answers] == [False, False, True, True]
    assert answers[1].body == answers[3].body == b"words and words " * 1000
    assert zlib.decompress(answers[2].body, 31) == answers[1].body
    assert nginx.log(name) == ["200", "200"]


def until_not_hit(program: Program, url: str) -> Answer:
    """Asks until the stored response has outlived its second."""
    deadline = time.monotonic() + 10
    while (answer := fetch(program, url)).hit:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer
