"""The purges of a store: persisted in its database, and known to every process on it at the next lookup."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final, cast

from fwdproxy.errors import StoreError
from fwdproxy.store.generation import Generation
from fwdproxy.store.index import DATABASE, PATIENCE, Index
from fwdproxy.store.purging import Kind, Numbered, PurgeRule, RuleSet

log = logging.getLogger(__name__)

LINGER: Final = 60.0
"""Seconds for which a purge stays known after it was asked for, swept or not: responses that were under way then and
aren't named by it can still be stored as long as it is known what it names."""

_STATE: Final = """CREATE TABLE IF NOT EXISTS PurgeState (
    only INTEGER PRIMARY KEY CHECK (only = 0), newest INTEGER NOT NULL, dropped INTEGER NOT NULL)"""
_RULES: Final = """CREATE TABLE IF NOT EXISTS Purge (
    kind TEXT NOT NULL, value BLOB NOT NULL, origin BLOB NOT NULL, number INTEGER NOT NULL, added REAL NOT NULL,
    PRIMARY KEY (kind, value, origin)) WITHOUT ROWID"""
_TABLES: Final = (_STATE, "INSERT OR IGNORE INTO PurgeState VALUES (0, 0, 0)", _RULES)
# One statement, so that it is one snapshot.
_ALL: Final = "SELECT newest, dropped, number, kind, value, origin, added FROM PurgeState LEFT JOIN Purge ON TRUE"
_EVERYTHING: Final = PurgeRule("all")


class Purges:
    """The purges of the store in one folder, for all threads. Raises sqlite3.Error where the database can't be read."""

    def __init__(self, index: Index, generation: Generation) -> None:
        self._index = index
        self._generation = generation
        self._lock = threading.Lock()
        index.prepare(_TABLES)
        self._rules = self._read()
        generation.advance(self._rules.newest, self._rules.dropped)

    def moment(self) -> int:
        """The number of the newest purge."""
        return self._generation.numbers[0]

    def current(self) -> RuleSet:
        """The purges in force now."""
        rules = self._rules
        newest, dropped = self._generation.numbers
        return self._reload() if newest > rules.newest or dropped > rules.dropped else rules

    def certain(self) -> RuleSet:
        """The purges in force, to be asked inside a transaction: those too that other threads don't see quite yet."""
        rules = self._rules
        ((newest,),) = self._index.query("SELECT newest FROM PurgeState")
        return rules if newest == rules.newest else self._reload()

    def add(self, rule: PurgeRule) -> None:
        """Put a purge into force for every process. Blocks. Raises StoreError when it can't be written."""
        try:
            with closing(self._connection()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                if rule.kind == "all":
                    connection.execute("DELETE FROM Purge")  # this one says it all
                update = "UPDATE PurgeState SET newest = newest + 1 RETURNING newest, dropped"
                ((newest, dropped),) = connection.execute(update).fetchall()
                values = (rule.kind, _bytes(rule.value), _bytes(rule.origin), newest, time.time())
                connection.execute("INSERT OR REPLACE INTO Purge VALUES (?, ?, ?, ?, ?)", values)
                connection.execute("COMMIT")
            self._generation.advance(newest, dropped)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"can't purge, the cache's database can't be written: {error};"
                " nothing was purged, see to the disk and try again"
            ) from None

    def droppable(self, swept: int, now: float) -> int:
        """The number up to which purges have been carried out (``swept``) and known for long enough."""
        waiting = [each.number for each in self._rules.rules if each.added + LINGER > now]
        return min([swept, *(number - 1 for number in waiting)])

    def drop(self, number: int) -> None:
        """Drop the purges up to ``number``; inside a transaction, after which `announce_drop` is to be called."""
        self._index.query("DELETE FROM Purge WHERE number <= ?", (number,))
        self._index.query("UPDATE PurgeState SET dropped = max(dropped, ?)", (number,))

    def announce_drop(self, number: int) -> None:
        """The drop is committed. Raises OSError."""
        self._generation.advance(0, number)

    def close(self) -> None:
        """Give up this thread's connection to the database."""
        self._index.close()

    def _reload(self) -> RuleSet:
        with self._lock:
            rules = self._read()
            if (rules.newest, rules.dropped) >= (self._rules.newest, self._rules.dropped):
                self._rules = rules
            return self._rules

    def _read(self) -> RuleSet:
        rows = self._index.query(_ALL)
        rules = [Numbered(row[2], _rule(*row[3:6]), row[6]) for row in rows if row[2] is not None]
        newest, dropped = rows[0][:2]
        return RuleSet(rules, newest, dropped)

    def _connection(self) -> sqlite3.Connection:
        # Of its own: a purge that was acknowledged must survive a loss of power too, and what it outdates may.
        path = Path(self._index.directory) / DATABASE
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _rule(kind: Any, value: Any, origin: Any) -> PurgeRule:
    """A purge as the database has it. One that can't be understood outdates everything: it outdated something."""
    try:
        parts = (bytes(value).decode("utf-8", "surrogateescape"), bytes(origin).decode("utf-8", "surrogateescape"))
        return PurgeRule(cast("Kind", kind), *parts)
    except (StoreError, TypeError) as error:
        log.warning("a purge in the cache's database can't be understood and counts for everything: %s", error)
        return _EVERYTHING
