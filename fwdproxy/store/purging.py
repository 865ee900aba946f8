"""What a purge names, and which stored responses it outdates: pure, of keys and heads.

Purges are numbered. A stored response bears the number of the last purge that was known before its request was sent,
its *moment*; a purge with a higher number that names the response outdates it, however late it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fwdproxy.errors import StoreError
from fwdproxy.fields import groups
from fwdproxy.messages import Field, Headers

Kind = Literal["all", "url", "prefix", "host", "tag", "group"]

EVERYWHERE: Final = 2**62
"""For ``swept``: no purge that has been dropped can concern this response any more."""

_COMMA_TAGS: Final = (b"cache-tag",)
_SPACE_TAGS: Final = (b"surrogate-key", b"xkey")


@dataclass(frozen=True, slots=True)
class PurgeRule:
    """What is to be outdated: ``kind`` says what ``value`` is.

    ``url``: the URI of the key, whatever the vantage, the method class and the content. ``prefix``: how it begins.
    ``host``: its host, or with a dot before it (".example.com") that host and all below it. ``tag``: a member of
    Cache-Tag, Surrogate-Key or xkey; letter case doesn't count, as a purge too many costs a request and one too few
    serves what should be gone. ``group``: a member of Cache-Groups of the ``origin`` "https://host[:port]" (RFC 9875
    §2). ``all``: everything. Raises StoreError for an unknown kind and for a part that is missing.
    """

    kind: Kind
    value: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise StoreError(f"can't purge by {self.kind!r}; name one of {', '.join(get_args(Kind))}")
        if (self.kind != "all") != bool(self.value):
            raise StoreError(f"a purge by {self.kind} {'takes no' if self.kind == 'all' else 'needs a'} value")
        if (self.kind == "group") != bool(self.origin):
            raise StoreError(
                f"a purge by {self.kind} {'needs' if self.kind == 'group' else 'takes no'} origin"
                f"{', such as https://example.com' if self.kind == 'group' else ''}"
            )
        try:
            self.value.encode("utf-8", "surrogateescape")
            self.origin.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise StoreError(f"can't purge by {self.value[:80]!r}; it isn't text") from None
        if self.kind == "host":
            object.__setattr__(self, "value", _plain_host(self.value))
        elif self.kind == "group":
            object.__setattr__(self, "origin", self.origin.lower().rstrip("/"))


@dataclass(frozen=True, slots=True)
class Numbered:
    """A purge in force. ``added``: Unix seconds."""

    number: int
    rule: PurgeRule
    added: float


class RuleSet:
    """All purges in force at one time, ready to be asked about any response.

    ``newest``: the highest number given so far. ``dropped``: purges up to this number have been carried out on the
    shared folder, and may be missing here.
    """

    __slots__ = ("_all", "_below", "_groups", "_hosts", "_prefixes", "_tags", "_urls", "dropped", "newest", "rules")

    def __init__(self, rules: Sequence[Numbered] = (), newest: int = 0, dropped: int = 0) -> None:
        self.rules = tuple(sorted(rules, key=lambda each: each.number))
        self.newest = newest
        self.dropped = dropped
        self._all = 0
        self._urls: dict[str, int] = {}
        self._prefixes: dict[int, dict[str, int]] = {}  # by length, so that a thousand of them are asked in few steps
        self._hosts: dict[str, int] = {}
        self._below: dict[str, int] = {}
        self._tags: dict[bytes, int] = {}
        self._groups: dict[tuple[str, str], int] = {}
        for each in self.rules:
            self._add(each.number, each.rule)

    def _add(self, number: int, rule: PurgeRule) -> None:
        value = rule.value
        match rule.kind:
            case "all":
                self._all = number
            case "url":
                self._urls[value] = number
            case "prefix":
                self._prefixes.setdefault(len(value), {})[value] = number
            case "host" if value.startswith("."):
                self._below[value[1:]] = number
            case "host":
                self._hosts[value] = number
            case "tag":
                self._tags[value.encode("utf-8", "surrogateescape").lower()] = number
            case "group":
                self._groups[rule.origin, value] = number

    def idle(self, swept: int) -> bool:
        """Is nothing outdated that bears any moment and lies where purges up to ``swept`` have been carried out?"""
        return not self.rules and swept >= self.dropped

    def outdates(self, uri: str, fields: Iterable[Field], moment: int, *, swept: int) -> bool:
        """Is the response to ``uri`` with these head fields outdated?

        ``swept``: purges up to this number have been carried out where the response lies, so that it can't be among
        those that they named. Where that is less than ``dropped``, what can't be told any more counts as outdated.
        """
        if moment >= self.newest:
            return False
        if moment < self.dropped and swept < self.dropped:
            return True
        return bool(self.rules) and any(number > moment for number in self._naming(uri, fields))

    def outdates_all(self, moment: int) -> bool:
        """Does a purge of everything outdate what bears this moment?"""
        return self._all > moment

    def _naming(self, uri: str, fields: Iterable[Field]) -> Iterator[int]:
        """The numbers of the purges that name a response, and zeros."""
        yield self._all
        yield self._urls.get(uri, 0)
        for length, prefixes in self._prefixes.items():
            yield prefixes.get(uri[:length], 0)
        if self._hosts or self._below:
            host = host_of(uri)
            yield self._hosts.get(host, 0)
            while host:
                yield self._below.get(host, 0)
                host = host.partition(".")[2]
        if self._tags or self._groups:
            headers = Headers(fields)
            yield from (self._tags.get(tag, 0) for tag in tags_of(headers))
            origin = _origin_of(uri)
            yield from (self._groups.get((origin, name), 0) for name in groups.parse(headers.get_all(b"cache-groups")))


def tags_of(headers: Headers) -> Iterator[bytes]:
    """The tags that an origin gave a response for purging, in lower case; there is no standard for them."""
    for name in _COMMA_TAGS:
        for line in headers.get_all(name):
            yield from (tag for part in line.lower().split(b",") if (tag := part.strip()))
    for name in _SPACE_TAGS:
        for line in headers.get_all(name):
            yield from line.lower().split()


def host_of(uri: str) -> str:
    """The host of a key's URI, without the brackets of an IPv6 address."""
    authority = _origin_of(uri).partition("://")[2]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def is_host(pattern: str, uri: str) -> bool:
    """Does the URI's host fit ``pattern``, the value of a purge by host?"""
    host = host_of(uri)
    return host == pattern or (pattern.startswith(".") and f".{host}".endswith(pattern))


def _origin_of(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.partition("/")[0]


def _plain_host(host: str) -> str:
    """A host as the URI of a key has it: lower case, ASCII, without brackets."""
    plain = host.removeprefix("[").removesuffix("]")
    if "/" in plain or plain.count(":") == 1:
        raise StoreError(f"can't purge by the host {host[:80]!r}; name the host alone, without scheme, port or path")
    try:
        return (plain if plain.isascii() else plain.encode("idna").decode("ascii")).lower()
    except UnicodeError:
        raise StoreError(f"can't purge by the host {host[:80]!r}; it is no valid host name") from None
