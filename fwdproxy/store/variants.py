"""Which stored responses a key holds, and how each change alters that: pure functions over tuples of entries.

A key holds either one response without Vary (its entry nominates nothing) or a bounded number of variants. The writer
applies these functions to the rows, a lookup applies them to the changes that aren't committed yet; so both see the
same. Each may be applied twice with the same outcome, because a lookup may meet a change in the rows and among the
pending ones at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fwdproxy.messages import Headers, StoredMeta
from fwdproxy.policy.freshness import date_value
from fwdproxy.policy.selection import matches
from fwdproxy.store.records import Entry

MAX_VARIANTS: Final = 32

Entries = tuple[Entry, ...]


def entry_of(ident: str, meta: StoredMeta) -> Entry:
    """How a stored response is listed under its key."""
    headers = meta.head.headers
    received = meta.response_time
    return Entry(ident, meta.nominated, received, date_value(headers, received), headers.get(b"etag"))


def select(entries: Entries, request: Headers) -> Entry | None:
    """The most recent entry whose selection matches the request (RFC 9111 §4.1)."""
    fitting = [entry for entry in entries if matches(entry.nominated, request)]
    return max(fitting, key=lambda entry: (entry.dated, entry.received), default=None)


def added(entries: Entries, new: Entry, now: float) -> Entries:
    """With a new response, which takes the place of those that it makes unreachable.

    A response without Vary replaces all, one with Vary replaces a response without, and the variant of the same
    selection. But a response that was received later than ``new`` stays: ``new`` only took longer to arrive whole.
    """
    replaced = {
        entry.ident
        for entry in entries
        if not new.nominated or not entry.nominated or entry.nominated == new.nominated or entry.ident == new.ident
    }
    if any(new.received < entry.received <= now for entry in entries if entry.ident in replaced):
        return entries
    return (*(entry for entry in entries if entry.ident not in replaced), new)


def freshened(entries: Entries, new: Entry) -> Entries:
    """With new times and validators of the stored copy ``new.ident``, if it is there."""
    return tuple(new if entry.ident == new.ident else entry for entry in entries)


def without(entries: Entries, ident: str) -> Entries:
    """Without that stored copy."""
    return tuple(entry for entry in entries if entry.ident != ident)


def pruned(entries: Entries, last_uses: Mapping[str, float], limit: int = MAX_VARIANTS) -> Entries:
    """With at most ``limit`` variants: the least recently used go, those of unknown use (gone already) first."""
    surplus = len(entries) - limit
    if surplus <= 0:
        return entries
    by_use = sorted(entries, key=lambda entry: (last_uses.get(entry.ident, 0.0), entry.received))
    dropped = {entry.ident for entry in by_use[:surplus]}
    return tuple(entry for entry in entries if entry.ident not in dropped)
