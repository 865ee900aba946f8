"""Stored responses as lines."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fwdproxy.commands import output
from fwdproxy.control import wording
from fwdproxy.control.messages import Entry


def one_line(entry: Entry) -> str:
    """Status, size and freshness, and what makes this one special."""
    return f"{_start(entry)}  {_special(entry)}".rstrip()


def _start(entry: Entry) -> str:
    return f"{entry.status} {output.size(entry.length):>9}  {freshness(entry):<14}"


def _special(entry: Entry) -> str:
    special = [] if entry.kind == "GET" else [entry.kind]
    if entry.part is not None:
        start, end, complete = entry.part
        special.append(f"bytes {start}-{end - 1} of {complete}")
    if entry.selected_by:
        special.append("for " + ", ".join(f"{name}: {value or ''}".rstrip() for name, value in entry.selected_by))
    return "; ".join(special)


def in_list(entry: Entry, *, long: bool) -> str:
    """One line of `ls`; ``long``: with type and times."""
    more = f"{entry.type:<24} {_when(entry.received)}  {_when(entry.used):<20}  " if long else ""
    return output.printable(f"{_start(entry)}  {more}{entry.url}  {_special(entry)}").rstrip()


def whole(entry: Entry) -> Iterator[str]:
    """All that is known of one stored response."""
    yield output.printable(f"{entry.url}")
    yield output.printable(f"  {one_line(entry)}")
    yield f"  lifetime {wording.span(entry.lifetime)} ({entry.lifetime_code}), age {wording.span(entry.age)}"
    yield f"  received {_when(entry.received)}, last used {_when(entry.used)}"
    for name, value in entry.fields:
        yield output.printable(f"    {name}: {value}")


def freshness(entry: Entry) -> str:
    """How fresh it is, in two or three words."""
    if entry.outdated:
        return "outdated"
    left = entry.fresh_for
    return f"fresh {wording.span(left)}" if left > 0 else f"stale {wording.span(left)}"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else "-"
