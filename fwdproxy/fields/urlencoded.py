"""application/x-www-form-urlencoded, as the WHATWG URL standard reads it: the names and values in a URI's query."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


def pieces(query: str) -> list[str]:
    """The parameters of a query as they are written; some may be empty."""
    return query.split("&")


def parameter(piece: str) -> tuple[str, str]:
    """Name and value of one written parameter; the value is empty where there is none. Never raises."""
    name, _, value = piece.partition("=")
    return decoded(name), decoded(value)


def decoded(text: str) -> str:
    """The text that a name or a value stands for: "+" is a space, and what is no UTF-8 is U+FFFD.

    Characters beyond ASCII stand for the bytes that were received (Latin-1, see `messages.TargetURI`).
    """
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1", "replace")).decode("utf-8", "replace")
