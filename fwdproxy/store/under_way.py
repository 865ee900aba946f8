"""The fills of one store that are under way, and the purges that keep them from being stored and from being joined."""

from __future__ import annotations

import sqlite3
from collections.abc import Container
from dataclasses import dataclass

from fwdproxy.messages import CacheKey, ResponseHead
from fwdproxy.store import records
from fwdproxy.store.commits import Trouble
from fwdproxy.store.enforcing import Purges
from fwdproxy.store.fills import DiskFill
from fwdproxy.store.purging import RuleSet


@dataclass(slots=True)
class _Watched:
    key: CacheKey
    head: ResponseHead
    moment: int


class UnderWay:
    """Where each fill is from its beginning to its end. All but `on_disk` is for the event loop."""

    def __init__(self, purges: Purges, trouble: Trouble) -> None:
        self._purges = purges
        self._trouble = trouble
        self._seen = RuleSet()
        self._fills: dict[DiskFill, _Watched] = {}

    def begin(self, fill: DiskFill, key: CacheKey, head: ResponseHead, moment: int) -> None:
        """A fill has begun. ``moment``: what the purge counter was before its request was sent."""
        watched = self._fills[fill] = _Watched(key, head, moment)
        self.look()
        self._judge(fill, watched)

    def end(self, fill: DiskFill) -> None:
        """Nothing more happens to a fill."""
        self._fills.pop(fill, None)

    def look(self) -> None:
        """Let new purges have their effect; asked whenever someone wants to know whether a fill will be stored."""
        try:
            rules = self._purges.current()
        except sqlite3.Error as error:
            self._trouble.note(error)
            for fill in self._fills:
                fill.forbid("it can't be told whether it was purged")
            return
        if rules is not self._seen:
            self._seen = rules
            for fill, watched in self._fills.items():
                self._judge(fill, watched)

    def moment(self, fill: DiskFill) -> int:
        """The newest purge of which it is known that it doesn't name the fill; asked when the fill is complete."""
        self.look()
        watched = self._fills.get(fill)
        return 0 if watched is None else watched.moment

    def forbid_at(self, places: Container[bytes]) -> None:
        """Keep the fills for some places from being stored."""
        for fill, watched in self._fills.items():
            if records.place(watched.key) in places:
                fill.forbid("it was invalidated while it was received")

    def abort(self, why: str) -> None:
        """Abort all."""
        for fill in tuple(self._fills):
            fill.abort(why)

    def on_disk(self) -> int:
        """Bytes that the fills take on disk; for the writer thread."""
        return sum(fill.on_disk for fill in tuple(self._fills))  # tuple() copies at once, whatever the loop does

    def _judge(self, fill: DiskFill, watched: _Watched) -> None:
        if self._seen.outdates(watched.key.uri, watched.head.headers, watched.moment, swept=0):
            fill.forbid("it was purged while it was received")
        else:
            watched.moment = max(watched.moment, self._seen.newest)
