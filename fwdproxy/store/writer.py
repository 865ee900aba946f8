"""The one thread that writes to the index: it commits changes in groups and does the store's chores in between.

One transaction for one response costs more than the response; so the first change of a group waits up to WINDOW for
company. Nobody waits with it, except who must not go on before other processes see the change (urgent).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from fwdproxy.store.changes import Change

log = logging.getLogger(__name__)

WINDOW: Final = 0.02
MAX_GROUP: Final = 256
"""Changes in one transaction; more would keep other processes from writing for too long."""

BACKLOG: Final = 1024
"""Changes in the queue above which those who bring more should wait."""

RETRY: Final = 0.5
"""Seconds before changes that could not be committed are tried again, and before failed chores are."""


class GroupWriter:
    """Runs ``commit(changes)`` and ``chores()`` in a thread of its own, between ``begin()`` and ``end()``.

    ``commit`` returns the changes to try again later. ``chores`` returns the seconds until it wants to run again, and
    is told whether this is the last time.
    """

    def __init__(
        self,
        *,
        begin: Callable[[], None],
        commit: Callable[[Sequence[Change]], list[Change]],
        chores: Callable[[bool], float],
        end: Callable[[], None],
    ) -> None:
        self._begin = begin
        self._commit = commit
        self._chores = chores
        self._end = end
        self._condition = threading.Condition()
        self._queue: list[Change] = []
        self._ready = 0.0  # monotonic time at which the queue is due
        self._urgent = False
        self._stopping = False
        self._waiting: list[Future[None]] = []
        self._thread = threading.Thread(target=self._run, name="fwdproxy-store-writer", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, change: Change, *, urgent: bool = False) -> None:
        """Put a change into the next group; ``urgent``: don't wait for company."""
        with self._condition:
            if not self._queue:
                self._ready = time.monotonic() + WINDOW
            self._queue.append(change)
            self._urgent = self._urgent or urgent
            if urgent or len(self._queue) in (1, MAX_GROUP):
                self._condition.notify()

    def room(self) -> Future[None] | None:
        """None when there is room for more changes, else what is resolved when there is again."""
        with self._condition:
            if len(self._queue) < BACKLOG:
                return None
            future: Future[None] = Future()
            self._waiting.append(future)
            return future

    def stop(self) -> None:
        """Write what is queued, do the chores a last time, and end. Blocks."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        self._guarded(self._begin)
        due = 0.0
        last = False
        while not last:
            group, last = self._collect(due)
            if group:
                self._write(group)
            if last or time.monotonic() >= due:
                chores = self._guarded(lambda: self._chores(last))  # noqa: B023  # called at once
                due = time.monotonic() + (RETRY if chores is None else chores)
        self._guarded(self._end)

    def _collect(self, due: float) -> tuple[list[Change], bool]:
        """(The next group, whether it is the last); the group is empty when the chores are due first."""
        with self._condition:
            while not self._is_ready():
                wait = (min(due, self._ready) if self._queue else due) - time.monotonic()
                if wait <= 0:
                    return [], False
                self._condition.wait(wait)
            group, self._queue = self._queue[:MAX_GROUP], self._queue[MAX_GROUP:]
            self._urgent = self._urgent and bool(self._queue)
            ready: list[Future[None]] = []
            if len(self._queue) < BACKLOG:
                ready, self._waiting = self._waiting, ready
            last = self._stopping and not self._queue
        for future in ready:
            future.set_result(None)
        return group, last

    def _is_ready(self) -> bool:
        if self._stopping or self._urgent or len(self._queue) >= MAX_GROUP:
            return True
        return bool(self._queue) and time.monotonic() >= self._ready

    def _write(self, group: list[Change]) -> None:
        again = self._guarded(lambda: self._commit(group))
        with self._condition:
            if again and not self._stopping:
                self._queue[:0] = again
                self._ready = time.monotonic() + RETRY

    @staticmethod
    def _guarded[T](work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception:  # a mistake of ours: it must be seen, and must not end the only thread that writes
            log.exception("the store's writer thread failed at a piece of its work")
            return None
