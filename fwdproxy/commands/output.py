"""Lines on standard output; progress and faults on standard error, as a bar where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import typer

from fwdproxy.control.messages import Event
from fwdproxy.values import Size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_PAUSE: Final = 2.0
"""Seconds between two lines of progress where there is no terminal."""


class Showing(Protocol):
    """Shows how far long work has come."""

    def advance(self, done: int, total: int | None) -> None:
        """So far it has come; ``total`` None: nobody knows how much there is."""
        ...

    def say(self, line: str, *, fault: bool = False) -> None:
        """A line about one step; where there is a bar, only faults are worth one."""
        ...


@contextmanager
def progress(what: str) -> Iterator[Showing]:
    """Shows how far long work has come, for as long as the context lasts."""
    if not sys.stderr.isatty():
        yield _Lines(what)
        return
    from rich.console import Console  # noqa: PLC0415  # takes a while, and only a terminal needs it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task(what, total=None))


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def advance(self, done: int, total: int | None) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def say(self, line: str, *, fault: bool = False) -> None:
        if fault:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Lines:
    def __init__(self, what: str) -> None:
        self._what = what
        self._said_at = time.monotonic()

    def advance(self, done: int, total: int | None) -> None:
        if time.monotonic() - self._said_at >= LINE_PAUSE:
            self._said_at = time.monotonic()
            typer.echo(f"{self._what}: {done}" + ("" if total is None else f" of {total}"), err=True)

    def say(self, line: str, *, fault: bool = False) -> None:
        typer.echo(line, err=fault)


def json(event: Event) -> str:
    """One line of JSON."""
    return msgspec.json.encode(event).decode()


def size(count: int) -> str:
    """Bytes as people read them."""
    return str(Size(count))


def printable(text: str) -> str:
    """What came from an origin, unable to steer a terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
