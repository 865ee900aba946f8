"""The messages that every part of fwdproxy speaks of: frozen values, valid once built.

Field names and values stay bytes, in the order, spelling and number in which they were received (RFC 9110 §5.3);
look-ups are case-insensitive and take the name in lower case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, final

Field = tuple[bytes, bytes]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@final
class Headers:
    """An immutable, ordered list of field lines (RFC 9110 §5).

    Every method that takes a name wants it in lower case.
    """

    __slots__ = ("_index", "fields")

    fields: tuple[Field, ...]

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        self.fields = tuple(fields)
        self._index: dict[bytes, tuple[bytes, ...]] | None = None

    def _by_name(self) -> dict[bytes, tuple[bytes, ...]]:
        index = self._index
        if index is None:
            index = {}
            for name, value in self.fields:
                lowered = name.lower()
                known = index.get(lowered)
                index[lowered] = (value,) if known is None else (*known, value)
            self._index = index
        return index

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field line called ``name``, or None."""
        values = self._by_name().get(name)
        return values[0] if values else None

    def get_all(self, name: bytes) -> tuple[bytes, ...]:
        """The values of all field lines called ``name``, in order."""
        return self._by_name().get(name, ())

    def combined(self, name: bytes) -> bytes | None:
        """All values of ``name`` joined by ``, `` (RFC 9110 §5.3), or None when the field is absent."""
        values = self._by_name().get(name)
        return b", ".join(values) if values else None

    def names(self) -> frozenset[bytes]:
        """The lower-case names of all fields present."""
        return frozenset(self._by_name())

    def without(self, names: frozenset[bytes] | set[bytes]) -> Headers:
        """A copy without the fields whose lower-case name is in ``names``."""
        if names.isdisjoint(self._by_name()):
            return self
        return Headers(pair for pair in self.fields if pair[0].lower() not in names)

    def adding(self, *fields: Field) -> Headers:
        """A copy with ``fields`` appended."""
        return Headers((*self.fields, *fields))

    def replacing(self, name: bytes, value: bytes) -> Headers:
        """A copy with one field ``name: value``, at the place of the first of that name or else at the end."""
        lowered = name.lower()
        if lowered not in self._by_name():
            return self.adding((name, value))
        kept: list[Field] = []
        placed = False
        for pair in self.fields:
            if pair[0].lower() != lowered:
                kept.append(pair)
            elif not placed:
                kept.append((pair[0], value))
                placed = True
        return Headers(kept)

    def __contains__(self, name: bytes) -> bool:
        return name in self._by_name()

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.fields)

    def __repr__(self) -> str:
        return f"Headers({list(self.fields)!r})"


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port (RFC 9110 §4.3.1); host in lower case ASCII, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """``host`` or ``host:port``, brackets round IPv6, the scheme's default port left out (for Host)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if DEFAULT_PORTS.get(self.scheme) == self.port else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class TargetURI:
    """The target URI of a request (RFC 9110 §7.1). ``path`` is the origin-form: absolute path and query, or ``*``."""

    origin: Origin
    path: str

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"


@dataclass(frozen=True)
class RequestHead:
    """Method, target and fields of a request, framing and hop-by-hop fields included as received."""

    method: str
    target: TargetURI
    headers: Headers

    @cached_property
    def safe(self) -> bool:
        """Safe methods (RFC 9110 §9.2.1, QUERY of RFC 10008); unknown ones count as unsafe."""
        return self.method in SAFE_METHODS


SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
IDEMPOTENT_METHODS: Final = SAFE_METHODS | {"PUT", "DELETE"}


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and fields of a response. ``reason`` may be empty."""

    status: int
    headers: Headers
    reason: bytes = b""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """The primary key of RFC 9111 §2: what a stored response is found by.

    ``vantage`` is the egress region that saw the content; ``kind`` the method class ("GET" serves HEAD too).
    ``content`` is a digest of the request's content where that is part of the key (QUERY), else empty.
    """

    vantage: str
    kind: str
    uri: str
    content: str = ""

    def __str__(self) -> str:
        return f"{self.vantage} {self.kind} {self.uri}"


@dataclass(frozen=True, slots=True)
class BodyRef:
    """Where the body of a stored response lies.

    ``inline`` holds it when it is small, else ``path`` is the absolute name of a file of exactly ``length`` bytes.
    ``digest`` is BLAKE2b-128 over the body; ``trusted`` is False when it must be checked before first reuse.
    """

    length: int
    digest: bytes
    inline: bytes | None = None
    path: str | None = None
    trusted: bool = True


Nominated = tuple[tuple[bytes, bytes | None], ...]
"""The request fields that Vary nominates, lower case, sorted, each with its normalised value (None: absent)."""


@dataclass(frozen=True, slots=True)
class StoredMeta:
    """What policy knows of a stored response. Times are Unix seconds, lifetimes and ages whole seconds.

    ``head`` holds what may be replayed (RFC 9111 §3.1 fields removed). ``request_time`` and ``response_time`` are
    those of §4.2.3. ``heuristic_lifetime`` is set only where the response states no explicit one (§4.2.2);
    ``heuristic_reason`` says which rule gave it. ``nominated`` is the Vary selection (§4.1).
    ``authorized``: the request carried Authorization (§3.5). ``controls`` are the Cache-Control lines that count in the
    place of the head's own Cache-Control and Expires: those of a targeted field (RFC 9213 §2.2); None: its own count.
    """

    method: str
    head: ResponseHead
    request_time: float
    response_time: float
    nominated: Nominated = ()
    heuristic_lifetime: int | None = None
    heuristic_reason: str = ""
    authorized: bool = False
    controls: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response found in the store. ``ident`` names this stored copy among all others, ever."""

    key: CacheKey
    ident: str
    meta: StoredMeta
    body: BodyRef = field(default_factory=lambda: BodyRef(0, b"", b""))


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes ``start`` up to, not including, ``end`` of a representation (RFC 9110 §14.1.2 counts inclusively)."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A stored partial response (RFC 9111 §3.3): ``span`` of a representation that has ``complete`` bytes.

    ``stored.body`` holds just the span. ``stored.meta.head`` is the head that the whole 200 would have: no
    Content-Range, no Content-Length, and a strong entity tag.
    """

    stored: StoredResponse
    span: Span
    complete: int
