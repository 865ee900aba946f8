"""What became of a request, as one value: the source of the access log's line and of the metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: the access log's line and the metrics' increment.

    ``started`` is Unix seconds, ``seconds`` the duration until the last byte was handed over, ``sent`` body bytes.
    ``finished``: the body reached its end. ``cache_status`` is our own member of that field.
    """

    started: float
    seconds: float
    client: str
    method: str
    target: str
    status: int
    sent: int
    finished: bool
    cache_status: str


def access_line(outcome: Outcome) -> str:
    """The access log's line: when, who, what, status, bytes, seconds, and Cache-Status. Never a query string."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(outcome.started))
    path, question, _ = outcome.target.partition("?")
    target = _printable(path) + ("?…" if question else "")
    cut = "" if outcome.finished else " cut"
    return (
        f"{when} {outcome.client or '-'} {_printable(outcome.method)} {target} {outcome.status} "
        f"{outcome.sent}B {outcome.seconds:.3f}s{cut} {outcome.cache_status}"
    )


def _printable(text: str) -> str:
    """No character of a client's may end or forge a line."""
    return "".join(char if "!" <= char <= "~" else f"%{ord(char):02X}" for char in text)
