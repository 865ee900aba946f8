"""Which stored responses a key holds, and how each change alters that: pure functions over tuples of entries.

A key holds either one whole response without Vary (its entry nominates nothing) or a bounded number of selections:
under each either one whole response or parts of one representation (RFC 9111 §3.3). The writer applies these functions
to the rows, a lookup applies them to the changes that aren't committed yet; so both see the same. Each may be applied
twice with the same outcome, because a lookup may meet a change in the rows and among the pending ones at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fwdproxy.messages import Headers, Nominated, StoredMeta
from fwdproxy.policy.freshness import date_value
from fwdproxy.policy.selection import matches
from fwdproxy.store.records import Entry

MAX_VARIANTS: Final = 32
"""Selections that a key holds."""

MAX_PARTS: Final = 16
"""Parts of one representation that a key holds."""

Entries = tuple[Entry, ...]


def entry_of(
    ident: str,
    meta: StoredMeta,
    *,
    part: tuple[int, int, int] | None = None,
    moment: int = 0,
    expires: float | None = None,
) -> Entry:
    """How a stored response is listed under its key."""
    headers = meta.head.headers
    received = meta.response_time
    coding = (headers.combined(b"content-encoding") or b"").strip(b" \t").lower()
    dated = date_value(headers, received)
    return Entry(ident, meta.nominated, received, dated, headers.get(b"etag"), coding, part, moment, expires)


def is_listed(entry: Entry) -> bool:
    """Does the response lie in a row of its own, with a list in the primary row?"""
    return bool(entry.nominated) or entry.part is not None


def living(entries: Entries, now: float) -> Entries:
    """Those that haven't expired."""
    if all(entry.expires is None for entry in entries):
        return entries
    return tuple(entry for entry in entries if entry.expires is None or entry.expires > now)


def select(entries: Entries, request: Headers) -> Entries:
    """The most recent entry whose selection matches the request (RFC 9111 §4.1), or all parts beside it by start."""
    fitting = [entry for entry in entries if matches(entry.nominated, request, coding=entry.coding)]
    newest = max(fitting, key=_recency, default=None)
    if newest is None or newest.part is None:
        return () if newest is None else (newest,)
    parts = [entry for entry in fitting if entry.part is not None and _are_one(entry, newest)]
    return tuple(sorted(parts, key=lambda entry: entry.part or ()))


def added(entries: Entries, new: Entry, now: float) -> Entries:
    """With a new response, which takes the place of those that it makes unreachable or superfluous.

    A response without Vary replaces all, one with Vary replaces a response without, and those of the same selection.
    A part leaves other parts of the same representation (same selection, same strong entity tag), except those that lie
    within it, and is itself superfluous beside the whole. But a response that was received later than ``new`` stays:
    ``new`` only took longer to arrive.
    """
    if new.expires is not None and new.expires <= now:
        return entries
    beside = {entry.ident for entry in entries if entry.part is not None and _are_one(entry, new)}
    replaced = {
        entry.ident
        for entry in entries
        if not new.nominated or not entry.nominated or entry.nominated == new.nominated or entry.ident == new.ident
    }
    rivals = [entry for entry in entries if entry.ident in replaced and entry.ident not in beside]
    if any(new.received < entry.received <= now for entry in rivals):
        return entries
    if new.part is None:
        return (*(entry for entry in entries if entry.ident not in replaced), new)
    if any(entry.part is None and _are_one(entry, new) for entry in rivals):
        return entries
    parts = [entry for entry in entries if entry.ident in beside and not _is_within(entry, new)]
    kept = [new, *parts]
    if len(kept) > MAX_PARTS:  # by what the entries say alone, so that it is the same when it is done again
        kept = sorted(kept, key=lambda entry: (entry.received, entry.ident))[-MAX_PARTS:]
    gone = (replaced | beside) - {entry.ident for entry in kept}
    left = tuple(entry for entry in entries if entry.ident not in gone and entry.ident != new.ident)
    return (*left, new) if new in kept else left


def freshened(entries: Entries, ident: str, meta: StoredMeta) -> Entries:
    """With new times and validators of the stored copy ``ident``, if it is there."""
    return tuple(
        entry_of(ident, meta, part=entry.part, moment=entry.moment, expires=entry.expires)
        if entry.ident == ident
        else entry
        for entry in entries
    )


def without(entries: Entries, ident: str) -> Entries:
    """Without that stored copy."""
    return tuple(entry for entry in entries if entry.ident != ident)


def pruned(entries: Entries, last_uses: Mapping[str, float], limit: int = MAX_VARIANTS) -> Entries:
    """With at most ``limit`` selections: the least recently used go, those of unknown use (gone already) first."""
    by_selection: dict[Nominated, tuple[float, float]] = {}
    for entry in entries:
        use = (last_uses.get(entry.ident, 0.0), entry.received)
        by_selection[entry.nominated] = max(use, by_selection.get(entry.nominated, use))
    surplus = len(by_selection) - limit
    if surplus <= 0:
        return entries
    dropped = set(sorted(by_selection, key=lambda nominated: by_selection[nominated])[:surplus])
    return tuple(entry for entry in entries if entry.nominated not in dropped)


def _recency(entry: Entry) -> tuple[float, float]:
    return entry.dated, entry.received


def _are_one(one: Entry, other: Entry) -> bool:
    """Are both of one representation: the same selection, strong entity tag and content coding?"""
    if one.nominated != other.nominated or one.etag is None or one.etag[:2] == b"W/" or one.etag != other.etag:
        return False
    if one.coding != other.coding:  # an origin that calls two things by one name
        return False
    return one.part is None or other.part is None or one.part[2] == other.part[2]


def _is_within(entry: Entry, other: Entry) -> bool:
    if entry.part is None or other.part is None:
        return False
    return other.part[0] <= entry.part[0] and entry.part[1] <= other.part[1]
