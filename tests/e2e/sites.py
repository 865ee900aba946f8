"""What several tests have their origin be: a file server that knows ranges."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.e2e.origin import Call

if TYPE_CHECKING:
    from tests.e2e.origin import Handler

FRESH = ("Cache-Control", "max-age=600")
STALE = (("Cache-Control", "max-age=10"), ("Age", "20"))
"""A response that is stale when it arrives: no test has to wait for that."""


def file_of(body: bytes, *fields: tuple[str, str], etag: str = '"v1"') -> Handler:
    """Serves ``body`` with ``fields`` and ``etag``: whole, a single range of it, or a 304 (RFC 9110 §13, §14)."""

    async def handle(call: Call) -> None:
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", call.seen.value("range") or "")
        said = (*fields, ("ETag", etag), ("Accept-Ranges", "bytes"))
        if call.seen.value("if-none-match") == etag:
            await call.respond(b"", *said, status="304 Not Modified")
        elif asked is None or call.seen.value("if-range") not in (None, etag):
            await call.respond(body, *said)
        else:
            first, last = asked.groups()
            start = int(first) if first else max(0, len(body) - int(last))
            end = min(int(last) + 1, len(body)) if first and last else len(body)
            if start >= end:
                unsatisfied = ("Content-Range", f"bytes */{len(body)}")
                await call.respond(b"", unsatisfied, status="416 Range Not Satisfiable")
            else:
                part = ("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
                await call.respond(body[start:end], *said, part, status="206 Partial Content")

    return handle
