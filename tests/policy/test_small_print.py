"""What RFCs on caching say in passing."""

from __future__ import annotations

import time

import pytest

from fwdproxy.fields.dates import format_date, parse_date
from fwdproxy.messages import Origin, TargetURI
from fwdproxy.policy import reuse
from fwdproxy.policy.decisions import Serve, Validate
from fwdproxy.policy.freshness import freshness
from tests.policy.builders import DATE, NOW, SETTINGS, at, get, meta, stored


@pytest.mark.rfc("8246", "2", "arguments")
@pytest.mark.rfc("8246", "2", "repeated")
@pytest.mark.parametrize("directive", ["immutable", "immutable=0", 'immutable="no"', "Immutable, immutable"])
def test_immutable_takes_no_argument_and_may_be_repeated(directive: str) -> None:
    found = stored(f"Cache-Control: max-age=60, {directive}", 'ETag: "a"', DATE)
    reload = get("Cache-Control: max-age=0", target=TargetURI(Origin("https", "origin.example", 443), "/"))
    decision = reuse.decide(reload, found, known=True, now=NOW + 1, settings=SETTINGS)
    assert isinstance(decision, Serve)


@pytest.mark.rfc("8246", "2", "request")
def test_immutable_in_a_request_means_nothing() -> None:
    found = stored("Cache-Control: max-age=60", 'ETag: "a"', DATE)
    request = get("Cache-Control: max-age=0, immutable")
    assert isinstance(reuse.decide(request, found, known=True, now=NOW + 1, settings=SETTINGS), Validate)


@pytest.mark.rfc("9111", "5.3", "s-maxage-wins")
@pytest.mark.parametrize("expires", [at(3600), at(-3600), "0"])
def test_s_maxage_counts_before_expires(expires: str) -> None:
    assert freshness(meta("Cache-Control: s-maxage=60", f"Expires: {expires}", DATE)).lifetime == 60


@pytest.mark.rfc("9111", "4.2", "time-zone")
@pytest.mark.parametrize("zone", ["UTC0", "EST5EDT,M3.2.0,M11.1.0", "NZST-12NZDT,M9.5.0,M4.1.0/3"])
def test_the_local_time_zone_has_no_influence(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for month in (1, 7):
            written = b"Sun, 06 %b 2025 08:49:37 GMT" % (b"Jan" if month == 1 else b"Jul")
            days = 5 if month == 1 else 186
            assert parse_date(written, NOW) == 1_735_689_600 + days * 86_400 + 31_777
            assert format_date(1_735_689_600 + days * 86_400 + 31_777)[5:] == written[5:]
    finally:
        monkeypatch.undo()
        time.tzset()
