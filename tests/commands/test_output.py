"""What the commands print."""

from __future__ import annotations

import io
import sys
import time

import pytest

from fwdproxy.commands import explain, output, show
from fwdproxy.control.messages import Entry, Explanation, Why


def entry(**changes: object) -> Entry:
    values: dict[str, object] = {
        "url": "https://a.example/x",
        "kind": "GET",
        "vantage": "direct",
        "content": "",
        "ident": "1",
        "status": 200,
        "length": 1500,
        "received": 1_800_000_000.0,
        "age": 60,
        "lifetime": 3660,
    }
    return Entry(**values | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "200    1.5 kB  fresh 1h        https://a.example/x"),
        ({"age": 3660}, "200    1.5 kB  stale 0s        https://a.example/x"),
        ({"age": 3720}, "200    1.5 kB  stale 1m        https://a.example/x"),
        ({"outdated": True}, "200    1.5 kB  outdated        https://a.example/x"),
        ({"kind": "QUERY"}, "200    1.5 kB  fresh 1h        https://a.example/x  QUERY"),
        ({"part": (10, 20, 30)}, "200    1.5 kB  fresh 1h        https://a.example/x  bytes 10-19 of 30"),
        (
            {"selected_by": (("accept-encoding", "br"), ("cookie", None))},
            "200    1.5 kB  fresh 1h        https://a.example/x  for accept-encoding: br, cookie:",
        ),
        ({"url": "https://a.example/\x1b[2J"}, "200    1.5 kB  fresh 1h        https://a.example/\\x1b[2J"),
    ],
)
def test_a_line_of_the_list(changes: dict[str, object], line: str) -> None:
    assert show.in_list(entry(**changes), long=False) == line


def test_a_long_line_has_type_and_times() -> None:
    line = show.in_list(entry(type="text/html"), long=True)
    assert (
        line
        == "200    1.5 kB  fresh 1h        text/html                2027-01-15T08:00:00Z  -                     https://a.example/x"
    )


def test_a_whole_entry_has_its_fields_and_none_steers_the_terminal() -> None:
    lines = list(show.whole(entry(fields=(("X", "a\x1b]0;b"), ("Y", "ä")))))
    assert lines[0] == "https://a.example/x"
    assert lines[-2:] == ["    X: a\\x1b]0;b", "    Y: ä"]


def test_an_explanation_has_reason_section_and_advice() -> None:
    told = Explanation(
        url="https://a.example/x?utm_source=b",
        key="https://a.example/x",
        keyed_by="ignored parameters: utm_source",
        rule=("bypass: no",),
        stored=(entry(),),
        status=200,
        source="origin",
        cache_status="fwdproxy; fwd=stale",
        why=Why(code="stale", section="RFC 9111 §4.2", text="it is stale", advice="send a longer max-age"),
        kept_why=Why(code="no-store", section="RFC 9111 §5.2.2.5", text="forbidden", advice="leave no-store out"),
        lifetime=60,
        lifetime_why=Why(code="max-age", section="", text="stated", advice="not said here"),
    )
    assert explain.text(told, dry_run=False).splitlines() == [
        "https://a.example/x?utm_source=b",
        "  key           https://a.example/x",
        "                because of ignored parameters: utm_source",
        "  your rules    bypass: no",
        "  stored before 200    1.5 kB  fresh 1h",
        "  answer        200 from the origin",
        "  because       it is stale (stale, RFC 9111 §4.2)",
        "                → send a longer max-age",
        "  stored now    no: forbidden (no-store, RFC 9111 §5.2.2.5)",
        "                → leave no-store out",
        "  fresh for     1m: stated (max-age)",
        "  Cache-Status  fwdproxy; fwd=stale",
    ]
    assert explain.text(told, dry_run=True).splitlines()[-1] == "  stored before 200    1.5 kB  fresh 1h"


def test_a_hit_says_its_reason_once_and_needs_no_advice() -> None:
    why = Why(code="max-age", section="RFC 9111 §5.2.2.1", text="stated")
    told = Explanation(url="u", key="u", status=200, source="cache", why=why, lifetime=60, lifetime_why=why)
    assert explain.text(told, dry_run=False).splitlines()[5:7] == [
        "  because       stated (max-age, RFC 9111 §5.2.2.1)",
        "  fresh for     1m",
    ]


def test_a_hit_that_could_be_better_says_how() -> None:
    why = Why(code="heuristic", section="RFC 9111 §4.2.2", text="guessed", advice="send a lifetime")
    told = Explanation(url="u", key="u", status=200, source="cache", why=why, lifetime=60, lifetime_why=why)
    assert explain.text(told, dry_run=False).splitlines()[5:8] == [
        "  because       guessed (heuristic, RFC 9111 §4.2.2)",
        "                → send a lifetime",
        "  fresh for     1m",
    ]


def test_what_failed_needs_no_advice_of_the_cache() -> None:
    why = Why(code="uri-miss", section="RFC 9111 §4", text="nothing is stored", advice="nothing")
    told = Explanation(url="u", key="u", status=502, source="proxy", fault="connection_refused", why=why)
    assert explain.text(told, dry_run=False).splitlines()[4:6] == [
        "  answer        502 from the proxy itself (connection_refused)",
        "  because       nothing is stored (uri-miss, RFC 9111 §4)",
    ]


def test_what_passes_the_cache_by_has_no_key() -> None:
    assert "  key           none: the cache is passed by" in explain.text(Explanation(url="u"), dry_run=True)


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with output.progress("verifying") as showing:
        showing.advance(1, 10)
        now[0] = output.LINE_PAUSE
        showing.advance(2, 10)
        showing.advance(3, 10)
        now[0] = 2 * output.LINE_PAUSE
        showing.advance(4, None)
    assert capsys.readouterr().err == "verifying: 2 of 10\nverifying: 4\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with output.progress("warming") as showing:
        showing.advance(3, 7)
        showing.say("stored: a")
        showing.say("failed: b [red]c", fault=True)
    assert "failed: b [red]c\n" in terminal.getvalue()
    assert "stored" not in terminal.getvalue()
    assert "warming" in terminal.getvalue()
    assert "3/7" in terminal.getvalue()
