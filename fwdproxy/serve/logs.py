"""Where log lines go: the access log to standard output, all else to standard error.

A thread of its own writes them, so a terminal or pipe that takes nothing stops the lines and not the proxy.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

ACCESS_LOG: Final = "fwdproxy.access"
"""The logger of the access log; its lines carry their own time."""

WHY_LOST: Final = "they came faster than they could be written"

# mitmproxy's own chatter shows from warnings on. (Its Master sets the root logger to DEBUG, so not by way of that.)
_LEVELS: Final = {
    "fwdproxy": logging.INFO,
    "mitmproxy": logging.WARNING,
    "mitmproxy.addons.proxyserver": logging.CRITICAL,  # it tells why it can't listen, and so do we, in one line
    "asyncio": logging.WARNING,
}
_MOST_WAITING: Final = 10_000
_STOP_SECONDS: Final = 1.0


@contextmanager
def written() -> Iterator[None]:
    """Send our log records, mitmproxy's and asyncio's to the standard streams while the context lasts."""
    writer = LineWriter(sys.stdout, sys.stderr)
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        logger.addHandler(writer)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for name in _LEVELS:
            logging.getLogger(name).removeHandler(writer)
        writer.close()


class LineWriter(logging.Handler):
    """One line a record. While `_MOST_WAITING` lines wait, further ones are lost, and their number is told later."""

    def __init__(self, access: TextIO, other: TextIO) -> None:
        super().__init__()
        self._access = access
        self._other = other
        self._lost = 0
        self._lines: queue.Queue[tuple[TextIO, str] | None] = queue.Queue(_MOST_WAITING)
        self.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        # A daemon: a stream that takes nothing mustn't keep the process alive.
        self._thread = threading.Thread(target=self._write, name="log lines", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line; never waits."""
        is_access = record.name == ACCESS_LOG
        line = record.getMessage() if is_access else self.format(record)
        try:
            self._lines.put_nowait((self._access if is_access else self._other, line))
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Write what waits, as far as that is possible in a second."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=_STOP_SECONDS)
        self._thread.join(_STOP_SECONDS)
        super().close()

    def _write(self) -> None:
        while (entry := self._lines.get()) is not None:
            self._put(*entry)
            if self._lines.empty():
                self._tell_lost()
        self._tell_lost()

    def _tell_lost(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            self._put(self._other, f"{lost} log lines were lost: {WHY_LOST}")

    def _put(self, stream: TextIO, line: str) -> None:
        # OSError, ValueError: the reader has gone or the stream is closed, and there is nobody to tell.
        with suppress(OSError, ValueError):
            stream.write(line + "\n")
            if self._lines.empty():
                stream.flush()


class _OneLine(logging.Formatter):
    """A fault is one line too: its kind and words and where it happened, as a traceback is no message to a user."""

    def format(self, record: logging.LogRecord) -> str:
        if "FWDPROXY_TRACEBACK" in os.environ:
            return super().format(record)
        plain = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None, "stack_info": None})
        return " ".join((super().format(plain) + self._fault(record)).split("\n"))

    @staticmethod
    def _fault(record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return ""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
        return f": {type(error).__name__}: {error}{where}"
