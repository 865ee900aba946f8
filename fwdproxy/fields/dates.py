"""HTTP dates (RFC 9110 §5.6.7): three formats in, the preferred one out, as whole Unix seconds."""

from __future__ import annotations

import re
import time
from calendar import timegm
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fwdproxy.messages import Headers

_DAYS: Final = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH_NUMBER: Final = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
_DAYS_IN_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MAX_DATE_LENGTH: Final = 64  # longer values are no dates, and are not to be memoised

# The weekday's name is not looked at: it says nothing that the date does not.
_TIME: Final = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_FORMATS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rb"[a-z]+, (?P<day>\d\d) (?P<month>[a-z]{3}) (?P<year>\d{4}) " + _TIME + rb" GMT",
        rb"[a-z]+, (?P<day>\d\d)-(?P<month>[a-z]{3})-(?P<year>\d\d) " + _TIME + rb" GMT",
        rb"[a-z]+ (?P<month>[a-z]{3}) (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})",
    )
)
_IMF_FIXDATE, _RFC850, _ASCTIME = _FORMATS


def parse_date(value: bytes, now: float) -> int | None:
    """The Unix seconds of an HTTP date, or None when it is none.

    ``now`` (Unix seconds) serves the two-digit years of RFC 850 alone: one that seems more than 50 years ahead means
    the past century.
    """
    if len(value) > _MAX_DATE_LENGTH:
        return None
    return _parse(value, time.gmtime(now).tm_year if b"-" in value else 0)


def format_date(seconds: float) -> bytes:
    """The IMF-fixdate of Unix ``seconds``, fractions cut off."""
    return _format(int(seconds))


def with_date(headers: Headers, received: float) -> Headers:
    """A copy with Date set to ``received`` (Unix seconds) where it is missing or invalid (RFC 9110 §6.6.1)."""
    lines = headers.get_all(b"date")
    if len(lines) == 1 and parse_date(lines[0], received) is not None:
        return headers
    return headers.without({b"date"}).adding((b"Date", format_date(received)))


@lru_cache(maxsize=4096)
def _parse(value: bytes, this_year: int) -> int | None:
    value = value.strip(b" \t")
    match = next((match for form in _FORMATS if (match := form.fullmatch(value))), None)
    if match is None:
        return None
    year, month = int(match["year"]), _MONTH_NUMBER.get(match["month"].lower())
    day, hour, minute, second = (int(match[part]) for part in ("day", "hour", "minute", "second"))
    if match.re is _RFC850:
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    # Second 60 is a leap second (RFC 9110 §5.6.7 takes RFC 5322's).
    if month is None or year < 1 or not (0 < day <= _DAYS_IN_MONTH[month - 1] and hour < 24 and minute < 60):
        return None
    if second > 60 or (month == 2 and day == 29 and not _is_leap(year)):
        return None
    return timegm((year, month, day, hour, minute, second))


@lru_cache(maxsize=1024)
def _format(seconds: int) -> bytes:
    moment = time.gmtime(seconds)
    return b"%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        _DAYS[moment.tm_wday],
        moment.tm_mday,
        _MONTHS[moment.tm_mon - 1],
        moment.tm_year,
        moment.tm_hour,
        moment.tm_min,
        moment.tm_sec,
    )


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
