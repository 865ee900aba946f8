"""The thread that writes: groups, urgency, room, and mistakes that must not end it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from fwdproxy.store.changes import Change, Remove
from fwdproxy.store.writer import BACKLOG, MAX_GROUP, RETRY, WINDOW, GroupWriter


class Log:
    """What the writer was made to do, in order."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.chores: list[bool] = []
        self.began = self.ended = 0
        self.outcomes: list[Callable[[Sequence[Change]], list[Change]]] = []
        self.written = threading.Condition()
        self.open = threading.Event()
        self.open.set()

    def begin(self) -> None:
        self.began += 1

    def end(self) -> None:
        self.ended += 1

    def commit(self, group: Sequence[Change]) -> list[Change]:
        assert self.open.wait(10)
        with self.written:
            self.groups.append([change.row.decode() for change in group if isinstance(change, Remove)])
            self.written.notify()
        return self.outcomes.pop(0)(group) if self.outcomes else []

    def do(self, last: bool) -> float:
        self.chores.append(last)
        return 1000.0

    def wait(self, count: int) -> None:
        """Until ``count`` changes are committed."""
        with self.written:
            assert self.written.wait_for(lambda: sum(map(len, self.groups)) >= count, 10)

    def writer(self) -> GroupWriter:
        writer = GroupWriter(begin=self.begin, commit=self.commit, chores=self.do, end=self.end)
        writer.start()
        return writer


def change(name: object) -> Change:
    return Remove(str(name).encode(), "")


def test_changes_are_grouped_and_keep_their_order() -> None:
    log = Log()
    writer = log.writer()
    for number in range(600):
        writer.submit(change(number))
    writer.stop()
    assert [name for group in log.groups for name in group] == [str(number) for number in range(600)]
    assert len(log.groups) < 10
    assert max(map(len, log.groups)) <= MAX_GROUP
    assert (log.began, log.ended, log.chores[-1]) == (1, 1, True)


def test_a_change_waits_for_company_and_an_urgent_one_does_not() -> None:
    log = Log()
    writer = log.writer()
    start = time.monotonic()
    writer.submit(change("a"))
    log.wait(1)
    assert time.monotonic() - start >= WINDOW * 0.9
    log.open.clear()
    writer.submit(change("b"), urgent=True)
    writer.submit(change("c"))
    log.open.set()
    log.wait(3)
    writer.stop()
    assert [name for group in log.groups for name in group] == ["a", "b", "c"]


def test_who_brings_too_much_is_asked_to_wait() -> None:
    log = Log()
    log.open.clear()
    writer = log.writer()
    assert writer.room() is None
    for number in range(BACKLOG + MAX_GROUP):
        writer.submit(change(number))
    room = writer.room()
    assert room is not None
    assert not room.done()
    log.open.set()
    room.result(10)
    assert writer.room() is None
    writer.stop()


def test_what_could_not_be_written_is_tried_again_in_its_place() -> None:
    log = Log()
    log.outcomes = [lambda group: [group[1]]]
    writer = log.writer()
    for name in "abc":
        writer.submit(change(name))
    log.wait(3)
    start = time.monotonic()
    writer.submit(change("d"))
    log.wait(5)
    assert time.monotonic() - start > RETRY / 2
    writer.stop()
    assert log.groups == [["a", "b", "c"], ["b", "d"]]


def test_nothing_is_tried_again_when_the_writer_stops() -> None:
    log = Log()
    log.outcomes = [list, list, list]
    writer = log.writer()
    writer.submit(change("a"))
    writer.stop()
    assert log.groups == [["a"]]


def test_a_mistake_is_logged_and_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    def fail(group: Sequence[Change]) -> list[Change]:
        raise ZeroDivisionError("a mistake")

    log = Log()
    log.outcomes = [fail]
    writer = log.writer()
    with caplog.at_level(logging.ERROR):
        writer.submit(change("a"))
        log.wait(1)
        writer.submit(change("b"))
        log.wait(2)
    writer.stop()
    assert "a mistake" in caplog.text
    assert log.groups == [["a"], ["b"]]
