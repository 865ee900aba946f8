"""What one field of the largest size may cost: every parser of `fields` and `policy` reads it in linear time."""

import time
from collections.abc import Callable

import pytest

from fwdproxy.errors import RequestRefused
from fwdproxy.fields import cache_control, connection, dates, etags, groups, lists, request_head
from fwdproxy.fields.cache_status import CacheStatus
from fwdproxy.messages import Headers, ResponseHead
from fwdproxy.policy import (
    answering,
    freshness,
    heuristics,
    integrity,
    invalidation,
    keys,
    search,
    selection,
    storing,
    validation,
)
from fwdproxy.policy.decisions import PolicySettings
from tests.policy.builders import NOW, SETTINGS, get

SIZE = 64 * 1024
ALLOWED = 0.5
"""Seconds of CPU time. Each takes less than a tenth of it; quadratic time is many times as much."""

UNITS = {
    "commas": b",",
    "spaces": b" ",
    "tabs": b"\t",
    "quotes": b'"',
    "semicolons": b";",
    "backslashes": b"\\",
    "quoted pairs": b'"\\',
    "quoted commas": b'",',
    "tags": b'"a",',
    "weak": b'W/"',
    "members": b"a,",
    "weights": b"a ; q=1 ,",
    "directives": b"a=1,",
    "digits": b"9",
    "letters": b"a",
    "dots": b"../",
    "colons": b":",
    "zeros": b":0",
    "beyond ASCII": b"\xc3\xa9",
}
# What comes before and after decides where a regular expression gives up.
FRAMES = [(b"", b""), (b"a", b"\x00"), (b'a="', b""), (b'a="', b'"')]
INPUTS = {
    f"{before!r} {name} {after!r}": before + (unit * SIZE)[: SIZE - len(before + after)] + after
    for name, unit in UNITS.items()
    for before, after in FRAMES
}


def headers(*names: bytes, value: bytes) -> Headers:
    return Headers((name, value) for name in names)


def directives(value: bytes) -> None:
    read = cache_control.parse([value])
    for name in (b"a", b"private"):
        read.argument(name)
        read.seconds(name)
        read.whole(name)


def target(scheme: bytes, authority: bytes, path: bytes) -> None:
    try:
        keys.parse_target(scheme.decode("latin-1"), authority.decode("latin-1"), path.decode("latin-1"))
    except RequestRefused as refused:
        assert len(str(refused)) < 500


def vary(value: bytes) -> None:
    names = selection.nominated_fields(headers(b"Vary", value=value)) or ()
    assert selection.matches(selection.nominate(Headers(), names), Headers())


def nominate(value: bytes) -> None:
    names = (b"accept", b"accept-language", b"accept-encoding", b"cookie", b"x")
    nominated = selection.nominate(headers(*names, value=value), names)
    selection.matches(nominated, headers(*names, value=b"a"), coding=value)
    selection.matches(selection.nominate(headers(*names, value=b"a"), names), headers(*names, value=value))


def query(value: bytes) -> None:
    uri = "http://a.example/?" + value.decode("latin-1")
    for said in (b"key-order", b'params=("a")', value):
        search.canonical(uri, search.parse(said))


def digests(value: bytes) -> None:
    checks = integrity.expected(headers(b"Content-Digest", b"Repr-Digest", b"Trailer", value=value), 200, False)
    integrity.Digesting(checks or integrity.Checks((), (), ())).mismatch(headers(b"Content-Digest", value=value))


def request_lines(value: bytes) -> None:
    for line in (value, b"GET " + value, b"GET http://" + value, b"GET http://" + value + b" HTTP/1.1"):
        request_head.request_head_fault(line)
        request_head.absolute_form(line)


def field_lines(value: bytes) -> None:
    for name in (b"X", b"Host", b"Content-Length", b"Transfer-Encoding"):
        request_head.request_head_fault(b"GET / HTTP/1.1\r\n" + name + b":" + value)


def conditions(value: bytes) -> None:
    for name, validator in ((b"If-None-Match", b'"z"'), (b"If-Modified-Since", b"x"), (b"If-None-Match", value)):
        asked = headers(name, value=value)
        validation.evaluate(asked, response(b"ETag", b"Last-Modified", value=validator), "GET")


PARSERS: dict[str, Callable[[bytes], object]] = {
    "cache-control": directives,
    "age": lambda value: cache_control.parse_age((value,)),
    "members": lists.members,
    "token": lists.is_token,
    "quoted string": lists.unquoted,
    "etag": etags.parse_etag,
    "etags": lambda value: etags.parse_list([value]),
    "date": lambda value: dates.parse_date(value, NOW),
    "connection": lambda value: connection.end_to_end(headers(b"Connection", value=value)),
    "cache-status": lambda value: CacheStatus("c", key=value.decode("latin-1")).serialize(),
    "request line": request_lines,
    "field lines": field_lines,
    "vary": vary,
    "nominated": nominate,
    "scheme": lambda value: target(value, b"a", b"/"),
    "authority": lambda value: target(b"http", value, b"/"),
    "IPv6": lambda value: target(b"http", b"[" + value + b"]", b"/"),
    "path": lambda value: target(b"http", b"a", value),
    "location": lambda value: invalidation.targets(get(method="POST"), response(b"Location", value=value)),
    "location's host": lambda value: invalidation.targets(
        get(method="POST"), response(b"Location", value=b"http://" + value)
    ),
    "lifetime": lambda value: freshness.explicit(headers(b"Cache-Control", b"Expires", value=value), NOW, None),
    "conditions": conditions,
    "storing": lambda value: storing.decide(
        get(),
        response(b"Cache-Control", b"Vary", b"ETag", b"Last-Modified", b"Connection", value=value),
        heuristic_lifetime=None,
        settings=SETTINGS,
    ),
    "heuristic": lambda value: heuristics.ask(
        heuristics.TenthOfAge(), get(), response(b"Last-Modified", b"Date", b"X", value=value), NOW, settings=SETTINGS
    ),
    "answer": lambda value: answering.from_origin(
        response(b"Age", b"Date", b"Connection", value=value), via=None, now=NOW
    ),
    "targeted": lambda value: storing.decide(
        get(method="POST"),
        response(b"CDN-Cache-Control", b"Content-Location", value=value),
        heuristic_lifetime=None,
        settings=PolicySettings(targets=(b"cdn-cache-control",)),
    ),
    "groups": lambda value: groups.parse([value]),
    "digests": digests,
    "query": query,
    "content": lambda value: storing.has_content(headers(b"Content-Length", value=value)),
}


def response(*names: bytes, value: bytes) -> ResponseHead:
    return ResponseHead(200, headers(*names, value=value))


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
def test_hostile_fields_take_linear_time(parse: Callable[[bytes], object]) -> None:
    for name, value in INPUTS.items():
        started = time.process_time()
        parse(value)
        assert time.process_time() - started < ALLOWED, name


def test_many_lines_take_linear_time() -> None:
    started = time.process_time()
    for name in (b"a", b"no-cache=b", b"max-age=1"):
        directives(b",".join([name] * 8000))
        cache_control.parse([name] * 8000)
        cache_control.CacheControl(((name, None),) * 30_000)
    assert time.process_time() - started < ALLOWED
