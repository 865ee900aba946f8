"""The few pages that fwdproxy itself answers with: plain HTML, no script, every value escaped, never stored."""

from __future__ import annotations

from html import escape
from typing import Final

from fwdproxy.messages import Headers, ResponseHead

_TITLES: Final = {
    400: "Bad request",
    405: "Method not allowed",
    421: "Misdirected request",
    431: "Request head too large",
    502: "The origin gave no usable answer",
    504: "Nothing stored, or the origin took too long",
}

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{status} {title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em}}code{{color:#555}}</style>
</head><body><h1>{title}</h1><p>{text}</p><p><code>fwdproxy: {status} {kind}</code></p></body></html>
"""


def error_page(status: int, text: str, kind: str = "") -> tuple[ResponseHead, bytes]:
    """The head and body that tell a client ``text``; ``kind`` is the short word that the log has too."""
    title = _TITLES.get(status, "The request was not served")
    body = _PAGE.format(status=status, title=escape(title), text=escape(text), kind=escape(kind)).encode()
    headers = Headers(
        [
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"Content-Length", str(len(body)).encode()),
            (b"Cache-Control", b"no-store"),
        ]
    )
    return ResponseHead(status, headers), body
