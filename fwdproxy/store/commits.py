"""The writer thread's half of a commit: a group of changes in one transaction, and what to do when that fails."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final

import diskcache

from fwdproxy.store.changes import Change, Forget, Freshen, Pending, Put, Remove
from fwdproxy.store.enforcing import Purges
from fwdproxy.store.index import Index, is_damage
from fwdproxy.store.purging import RuleSet
from fwdproxy.store.records import ResponseRecord, cache_key
from fwdproxy.store.rows import Rows

log = logging.getLogger(__name__)

_SILENCE: Final = 60.0  # seconds between two log lines about the same kind of trouble


class Trouble:
    """Notes what goes wrong with the database: says so now and then, and knows when nothing more can be expected."""

    def __init__(self, on_damage: Callable[[], None]) -> None:
        self.damaged = False
        self._on_damage = on_damage
        self._quiet_until: dict[str, float] = {}

    def note(self, error: Exception) -> None:
        """An operation failed with ``error``; what was asked for counts as not found, or as not stored."""
        now = time.monotonic()
        kind = type(error).__name__
        if now >= self._quiet_until.get(kind, 0.0):
            self._quiet_until[kind] = now + _SILENCE
            log.error("the cache's database fails: %s", str(error) or "another process holds its lock")
        if isinstance(error, sqlite3.Error) and is_damage(error) and not self.damaged:
            self.damaged = True
            self._on_damage()
            log.error("the cache is damaged and isn't used any more; it will start empty at the next start")


class Committer:
    """Writes groups of changes, and takes them off the pending ones."""

    def __init__(self, index: Index, rows: Rows, pending: Pending, trouble: Trouble, purges: Purges) -> None:
        self._index = index
        self._purges = purges
        self._rows = rows
        self._pending = pending
        self._trouble = trouble

    def commit(self, group: Sequence[Change]) -> list[Change]:
        """Write all or nothing of ``group``; the changes to try again later."""
        now = time.time()
        passing = [change for change in group if isinstance(change, Put | Freshen)]
        going: list[Change] = [change for change in group if isinstance(change, Remove | Forget)]
        try:
            with self._index.group():
                rules = self._purges.certain()
                for change in group:
                    # A purge's sweep may have passed the row already; so nothing outdated may come after it.
                    if not (isinstance(change, Put) and _is_outdated(change.record, rules)):
                        self._rows.apply(change, now)
        except diskcache.Timeout as error:
            self._trouble.note(error)
            return list(group)
        except (sqlite3.Error, OSError) as error:
            self._trouble.note(error)
            self._finish(passing)
            if self._trouble.damaged:
                self._acknowledge(going)
                return []
            # What must go is gone for our own lookups, as it stays pending; the rows follow when the disk lets them.
            return going
        except Exception:
            self._finish(passing)
            raise
        self._finish(group)
        self._acknowledge(group)
        return []

    @staticmethod
    def _acknowledge(changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Forget):
                change.done.set_result(None)

    def _finish(self, changes: Sequence[Change]) -> None:
        """Nothing more is done for these: committed, or given up."""
        self._pending.settle(changes)
        for change in changes:
            if isinstance(change, Put) and change.source is not None:
                with contextlib.suppress(OSError):  # then the next opening removes it
                    change.source.unlink(missing_ok=True)  # it is still there when the response wasn't stored


def _is_outdated(record: ResponseRecord, rules: RuleSet) -> bool:
    if record.moment >= rules.newest:
        return False
    return rules.outdates(cache_key(record.key).uri, record.fields, record.moment, swept=0)
