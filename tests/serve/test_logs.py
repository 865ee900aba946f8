"""Log lines: which stream, one line each, and a proxy that doesn't wait for them."""

from __future__ import annotations

import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fwdproxy.serve.logs import ACCESS_LOG, WHY_LOST, LineWriter


def record(name: str, message: str, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord(name, logging.ERROR, "file.py", 1, message, None, exc_info)


def test_the_access_log_goes_its_own_way() -> None:
    access, other = io.StringIO(), io.StringIO()
    writer = LineWriter(access, other)
    writer.emit(record(ACCESS_LOG, "GET / 200"))
    writer.emit(record("fwdproxy.mitm", "something is wrong"))
    writer.close()
    assert access.getvalue() == "GET / 200\n"
    assert other.getvalue().endswith(" ERROR fwdproxy.mitm: something is wrong\n")


def test_an_exception_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FWDPROXY_TRACEBACK", raising=False)
    other = io.StringIO()
    writer = LineWriter(io.StringIO(), other)
    with pytest.raises(ValueError, match="two") as caught:
        raise ValueError("two\nlines")
    failed = record("mitmproxy", "Addon error", caught.value)
    writer.emit(failed)
    monkeypatch.setenv("FWDPROXY_TRACEBACK", "1")
    writer.emit(failed)
    writer.close()
    first, *rest = other.getvalue().splitlines()
    assert "ERROR mitmproxy: Addon error: ValueError: two lines (" in first
    assert first.endswith(f"{Path(__file__).name}:{caught.tb.tb_lineno})")
    assert any(line.startswith("Traceback") for line in rest)


def test_a_reader_that_takes_nothing_stops_the_lines_and_not_the_proxy() -> None:
    reading, writing = os.pipe()
    other = io.StringIO()
    stream = os.fdopen(writing, "w")
    writer = LineWriter(stream, other)
    for number in range(20_000):  # comes to its end though nobody reads
        writer.emit(record(ACCESS_LOG, f"{number:0100}"))
    with os.fdopen(reading) as reader, ThreadPoolExecutor() as pool:
        taken = pool.submit(reader.readlines)
        writer.close()
        stream.close()
        numbers = [int(line) for line in taken.result()]
    assert numbers == list(range(len(numbers)))
    assert other.getvalue() == f"{20_000 - len(numbers)} log lines were lost: {WHY_LOST}\n"


def test_a_reader_that_has_gone_is_no_fault(capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    writer = LineWriter(stream, io.StringIO())
    writer.emit(record(ACCESS_LOG, "to nobody"))
    writer.close()
    with pytest.raises(BrokenPipeError):
        stream.close()
    assert capfd.readouterr() == ("", "")
