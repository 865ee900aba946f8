"""Run by test_transparent.py in a network namespace of its own: redirected clients, an origin, and a decoy.

Clients connect to 10.9.9.9:80, where the decoy listens; the kernel hands those connections to mitmdump. What they ask
for is ``localhost``, which is the origin. Prints one JSON object with what everybody saw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.e2e.clients import Wire, request_head
from tests.e2e.programs import start_mitmdump

NAMED = "10.9.9.9"


def serve(address: str, body: bytes) -> list[str]:
    """A server on port 80 of ``address`` with one cacheable page; returns the list of paths it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Cache-Control", "max-age=600")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *parts: object) -> None:
            """Not here: standard output is the result."""

    threading.Thread(target=ThreadingHTTPServer((address, 80), Handler).serve_forever, daemon=True).start()
    return asked


def main(folder: Path) -> None:
    """Set the namespace up, ask twice, and say what happened."""
    for command in (
        "ip link set lo up",
        f"ip address add {NAMED}/32 dev lo",
        f"iptables -t nat -A OUTPUT -p tcp -d {NAMED} --dport 80 -j REDIRECT --to-ports 8080",
    ):
        subprocess.run(command.split(), check=True)
    origin, decoy = serve("127.0.0.1", b"the origin's"), serve(NAMED, b"the decoy's")
    proxy = start_mitmdump(folder, mode="transparent", port=8080)
    answers = []
    try:
        for _ in range(2):
            with Wire.to(80, host=NAMED) as wire:
                answer = wire.send(request_head("GET", "/page", ("Host", "localhost"))).read()
            answers.append((answer.body.decode(), answer.cache_status))
    finally:
        proxy.stop()
    print(json.dumps({"answers": answers, "origin": origin, "decoy": decoy}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
