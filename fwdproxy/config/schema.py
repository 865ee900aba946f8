"""Every setting there is: its type, its default, and what it is for. `SETTINGS` lists them as people see them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_origin

import msgspec
from msgspec import Meta, Struct, field

from fwdproxy.errors import ConfigError
from fwdproxy.values import (
    Duration,
    Endpoint,
    FieldName,
    File,
    HostPattern,
    Limit,
    Network,
    ParamGlob,
    Pseudonym,
    Share,
    Size,
    Timeout,
    plain_address,
)


def default_data_dir() -> Path:
    """Where this user's programs keep their data: XDG's folder, on macOS Application Support."""
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support" / "fwdproxy"
    # A relative path there is to be ignored, says the XDG base directory specification.
    xdg = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (xdg if xdg.is_absolute() else _home() / ".local" / "share") / "fwdproxy"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigError("there is no home folder to keep data in; name a folder with --data-dir") from None


class CacheTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept, and for how long."""

    size: Annotated[
        Size | None,
        Meta(
            description="Disk space for stored responses; default: 10 GB or a tenth of the free disk, if that is less."
        ),
    ] = None
    grace: Annotated[
        Duration,
        Meta(
            description="How long past its freshness a response may stand in while its origin fails, "
            "unless that origin forbids it."
        ),
    ] = Duration(0)
    heuristic: Annotated[
        str | None,
        Meta(description="A class, as package.module:Class, that guesses a lifetime where the origin states none."),
    ] = None
    collapse_timeout: Annotated[
        Duration,
        Meta(
            description="How long a request waits for another's answer to the same URI to begin, "
            "before it asks the origin itself; 0: none waits."
        ),
    ] = Duration(5)
    finish_share: Annotated[
        Share, Meta(description="A download that its last client left goes on when this much of it is there.")
    ] = Share(0.5)
    finish_rest: Annotated[
        Limit, Meta(description="A download that its last client left goes on when no more than this is missing.")
    ] = Limit(1024 * 1024)
    range_limit: Annotated[
        Limit,
        Meta(description="The largest object that is fetched whole, and stored, for a request for a part of it."),
    ] = Limit(16 * 10**6)
    targets: Annotated[
        tuple[FieldName, ...],
        Meta(
            description="Response fields that count before Cache-Control, such as CDN-Cache-Control (RFC 9213); "
            "the first that a response has, counts."
        ),
    ] = ()
    no_vary_search: Annotated[
        bool,
        Meta(description="Whether No-Vary-Search in responses makes URIs with other query parameters the same."),
    ] = False
    ignore_tracking: Annotated[
        bool,
        Meta(
            description="Whether well-known tracking parameters in the query (utm_source, fbclid, …) tell URIs apart "
            "no more."
        ),
    ] = False
    ignore_params: Annotated[
        tuple[ParamGlob, ...],
        Meta(description='Query parameters that don\'t tell URIs apart either; "*" stands for any characters.'),
    ] = ()
    offline: Annotated[
        bool, Meta(description="Whether to answer from the cache alone, whatever its age, and to ask no origin.")
    ] = False
    memory: Annotated[bool, Meta(description="Whether to store in memory only, until the proxy stops.")] = False
    memory_size: Annotated[Size, Meta(description="Memory for what is stored there.")] = Size(256 * 10**6)
    retention: Annotated[
        Timeout | None,
        Meta(description="The longest time that a response is kept and used, whatever its origin allows."),
    ] = None


class OriginTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How origins are reached."""

    ca: Annotated[
        tuple[File, ...],
        Meta(description="A PEM file with certificates to trust in origins, besides those of the system."),
    ] = ()
    connect_timeout: Annotated[Timeout, Meta(description="Time to connect to an origin, TLS included.")] = Timeout(10)
    head_timeout: Annotated[Timeout, Meta(description="Time for an origin to begin its answer.")] = Timeout(60)
    idle_timeout: Annotated[Timeout, Meta(description="Time that an origin may pause within its answer.")] = Timeout(
        120
    )


class RuleTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ``[[rules]]`` of the file: for which requests and responses, and what changes for them.

    ``host``, ``path`` and ``type`` are the conditions: each holds when one of its members matches, or when it is empty.
    ``path`` has globs over the origin-form of the target (path and query), ``type`` globs over the media type;
    ``*`` stands for any run of characters. The others are the fields of `policy.rules.Rule`; None: not stated.
    """

    host: tuple[HostPattern, ...] = ()
    path: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    bypass: bool | None = None
    min_lifetime: Duration | None = None
    max_lifetime: Duration | None = None
    ignore_reload: bool | None = None
    offline: bool | None = None
    negative_lifetime: Duration | None = None
    share_authorized: bool | None = None
    retention: Timeout | None = None
    memory: bool | None = None


class RecipeTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    r"""One ``[[recipes]]`` of the file: target URIs that ``pattern``, a regular expression, matches whole are stored
    and found under ``key``, a URI in which ``\1`` or ``\g<name>`` stands for a group of the pattern.
    """

    pattern: str
    key: str


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of one running proxy; valid once built by `load` or `from_options`."""

    listen: Annotated[Endpoint, Meta(description="Address and port to listen on.")] = Endpoint("127.0.0.1", 8080)
    data_dir: Annotated[Path, Meta(description="Folder of the cache; default: the user's data folder.")] = field(
        default_factory=default_data_dir
    )
    certs: Annotated[Path, Meta(description="Folder of the CA; default: certs in the data folder.")] = field(
        default_factory=lambda: default_data_dir() / "certs"
    )
    allow_client: Annotated[
        tuple[Network, ...],
        Meta(description="Clients that may use the proxy, besides this machine itself."),
    ] = ()
    allow_destination: Annotated[
        tuple[Network, ...],
        Meta(description="Private networks that clients may reach; accepted, without effect so far."),
    ] = ()
    bypass: Annotated[
        tuple[HostPattern, ...],
        Meta(description="Hosts whose HTTPS is passed through unopened: example.com, .example.com, *.example.com."),
    ] = ()
    via: Annotated[Pseudonym, Meta(description='This proxy\'s name in the Via field; "off" for none.')] = Pseudonym(
        "fwdproxy"
    )
    access_log: Annotated[bool, Meta(description="Whether to log one line for each request.")] = True
    forward_validators: Annotated[
        bool,
        Meta(
            description="Whether a client's own If-None-Match and If-Modified-Since may reach origins, "
            "which can tell clients apart by them."
        ),
    ] = False
    cache: CacheTable = CacheTable()
    origin: OriginTable = OriginTable()
    # Tables of the file only: no flag could hold one.
    rules: tuple[RuleTable, ...] = ()
    recipes: tuple[RecipeTable, ...] = ()

    @property
    def cache_dir(self) -> Path:
        """The folder that the store owns."""
        return self.data_dir / "cache"

    @property
    def control_dir(self) -> Path:
        """The folder with the control sockets of running proxies."""
        return self.data_dir / "control"

    def admits(self, address: str) -> bool:
        """Whether a client with this IP address may use the proxy: this machine always, others when allowed."""
        plain = plain_address(address)
        return plain.is_loopback or any(plain in network for network in self.allow_client)


_LIST: Final[Any] = Sequence[str]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as people see it: what flags, mitmproxy's options and documentation are made from.

    ``kind`` is the type of its mitmproxy option: ``str`` (None: not given), ``bool`` or ``Sequence[str]``.
    ``default`` is its text, empty where there is none or it is worked out.
    """

    key: str
    kind: type[str | bool | Sequence[str]]
    default: str
    about: str
    for_mitmproxy: bool

    @property
    def repeatable(self) -> bool:
        """Whether it holds a list."""
        return self.kind is _LIST

    @property
    def flag(self) -> str:
        """The spelling on the command line."""
        return "--" + re.sub(r"[._]", "-", self.key)

    @property
    def option(self) -> str:
        """The spelling among mitmproxy's options."""
        return "fwd_" + self.key.replace(".", "_")


# mitmproxy has options of its own for these.
_NOT_FOR_MITMPROXY: Final = frozenset({"listen", "certs", "allow_client"})

TABLES: Final[dict[str, type[Struct]]] = {"rules": RuleTable, "recipes": RecipeTable}
"""Lists of tables that only a file can hold."""


def _describe(struct: type[Struct], prefix: str = "") -> Iterator[Setting]:
    for entry in msgspec.structs.fields(struct):
        key = prefix + entry.name
        if key in TABLES:
            continue
        if isinstance(entry.default, Struct):
            yield from _describe(type(entry.default), key + ".")
            continue
        held, about = entry.type.__origin__, entry.type.__metadata__[0].description
        kind: Any = _LIST if get_origin(held) is tuple else bool if held is bool else str
        yield Setting(key, kind, _written(entry.default), about, key not in _NOT_FOR_MITMPROXY)


def _written(default: object) -> str:
    """A default as one would write it; empty where there is none."""
    if default in (None, (), msgspec.NODEFAULT):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return str(default).replace(" ", "") if isinstance(default, Size) else str(default)


SETTINGS: Final = tuple(_describe(Settings))
"""All settings, in the order of the structs: the source of flags' help, mitmproxy's options and the README's table."""
