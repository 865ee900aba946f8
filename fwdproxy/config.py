"""The one typed configuration. A TOML file, command-line flags and mitmproxy options are all parsed into it once.

Each setting has one key, from which its other spellings follow: ``cache.size`` in the file is ``--cache-size`` on the
command line and ``fwd_cache_size`` among mitmproxy's options. What comes later wins: default, file, flag; a list given
later takes the place of the earlier one. Relative paths in a file start at its folder, others at the current one.

Every fault raises ConfigError with one line that names place, value and remedy.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_origin

import msgspec
from msgspec import Meta, Struct, field

from fwdproxy.errors import ConfigError
from fwdproxy.values import (
    Duration,
    Endpoint,
    File,
    HostPattern,
    Network,
    Pseudonym,
    Size,
    Timeout,
    open_file,
    parse_path,
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

    @property
    def cache_dir(self) -> Path:
        """The folder that the store owns."""
        return self.data_dir / "cache"

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


def _describe(struct: type[Struct], prefix: str = "") -> Iterator[Setting]:
    for entry in msgspec.structs.fields(struct):
        key = prefix + entry.name
        if isinstance(entry.default, Struct):
            yield from _describe(type(entry.default), key + ".")
            continue
        held, about = entry.type.__origin__, entry.type.__metadata__[0].description
        kind: Any = _LIST if get_origin(held) is tuple else bool if held is bool else str
        unset = entry.default in (None, (), msgspec.NODEFAULT)
        default = "" if unset else str(entry.default).lower() if kind is bool else str(entry.default)
        yield Setting(key, kind, default, about, key not in _NOT_FOR_MITMPROXY)


SETTINGS: Final = tuple(_describe(Settings))
"""All settings, in the order of the structs: the source of flags' help, mitmproxy's options and the README's table."""


def load(file: Path | None = None, flags: Mapping[str, object] | None = None) -> Settings:
    """Defaults, then the TOML ``file``, then ``flags`` by setting key (``cache.size``; None and () are not given).

    Raises ConfigError, also when the proxy would listen beyond loopback without `allow_client`.
    """
    layers = []
    if file is not None:
        layers.append(_Layer(_read(file), file.absolute().parent, lambda key: f"{file}: {key}"))
    if flags:
        layers.append(_Layer(_nested(flags), Path.cwd(), lambda key: "--" + re.sub(r"[._]", "-", key)))
    settings = _combine(layers)
    if not settings.listen.loopback and not settings.allow_client:
        raise ConfigError(
            f"listen = {settings.listen} lets other machines connect, and none is allowed; say which with "
            "--allow-client, such as --allow-client 192.168.0.0/16, or listen on 127.0.0.1"
        )
    return settings


def from_options(options: Mapping[str, object]) -> Settings:
    """Settings from mitmproxy's options: those named ``fwd_…``; None and () are not given. Raises ConfigError."""
    keys = {setting.option: setting.key for setting in SETTINGS if setting.for_mitmproxy}
    flat = {keys[name]: value for name, value in options.items() if name in keys}
    return _combine([_Layer(_nested(flat), Path.cwd(), lambda key: "fwd_" + key.replace(".", "_"))])


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of settings: nested raw values, where its relative paths start, and how it spells a key."""

    raw: dict[str, Any]
    base: Path
    spell: Callable[[str], str]


_LARGEST_FILE: Final = 1024 * 1024


def _read(file: Path) -> dict[str, Any]:
    try:
        with open_file(file) as source:
            text = source.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise ConfigError(f"{file}: is larger than 1 MiB; a configuration is a small TOML file")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: can't be read ({error.strerror}); name a readable file with --config") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text; a configuration is a TOML file") from None
    except ValueError as error:  # also a number with thousands of digits
        raise ConfigError(f"{file}: is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: nests brackets too deeply; no setting needs more than a list of texts") from None


def _nested(flat: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        if value is None or value in ((), []):
            continue
        table, _, name = key.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[name] = value
    return nested


def _combine(layers: Sequence[_Layer]) -> Settings:
    settings = Settings()
    for layer in layers:
        settings = _overlay(settings, _convert(layer), layer.raw)
    if not any("certs" in layer.raw for layer in layers):
        settings = msgspec.structs.replace(settings, certs=settings.data_dir / "certs")
    return settings


def _overlay[S: Struct](below: S, above: S, given: Mapping[str, Any]) -> S:
    """``below`` with those fields of ``above`` that were given."""
    changes = {
        name: _overlay(getattr(below, name), getattr(above, name), raw)
        if isinstance(getattr(above, name), Struct)
        else getattr(above, name)
        for name, raw in given.items()
    }
    return msgspec.structs.replace(below, **changes)


def _convert(layer: _Layer) -> Settings:
    def parse(kind: type, raw: object) -> object:
        return parse_path(raw, kind, layer.base) if issubclass(kind, Path) else kind.parse(raw)  # type: ignore[attr-defined]

    try:
        return msgspec.convert(layer.raw, Settings, dec_hook=parse)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), layer)) from None


_EXPECTED: Final = {
    "array": 'a list; write it in brackets, such as ["…"]',
    "object": "a table; write its settings below a line such as [cache]",
    "bool": "a switch; write true or false",
    "str": "text; write it in quotation marks",
}


_SHOWN: Final = 200  # characters of a wrong value


def _explain(message: str, layer: _Layer) -> str:
    """One line on what msgspec complains of: place, value and remedy."""
    complaint, _, path = message.partition(" - at `$")
    steps = re.findall(r"[^.\[\]`]+", path)
    key = ".".join(step for step in steps if not step.isdigit())
    unknown = re.search(r"unknown field `(.*)`", complaint, re.DOTALL)
    if unknown:
        return _unknown(f"{key}.{unknown[1]}" if key else unknown[1], layer)
    value: Any = layer.raw
    for step in steps:
        value = value[int(step)] if step.isdigit() else value[step]
    expected = re.match(r"Expected `(\w+)", complaint)
    if expected:
        complaint = f"is not {_EXPECTED.get(expected[1], expected[1])}"
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    return f"{layer.spell(key)} = {shown} {complaint}"


def _unknown(key: str, layer: _Layer) -> str:
    known = [setting.key for setting in SETTINGS]
    if key in known and key in layer.raw:  # '"cache.size" = …': in quotation marks, TOML takes the dot for a letter
        table, _, name = key.rpartition(".")
        return (
            f"{layer.spell(json.dumps(key))} is one name to TOML, dot included; "
            f"write {key} = … without quotation marks, or {name} = … below a line [{table}]"
        )
    if not key.isprintable() or len(key) > _SHOWN:
        key = json.dumps(key)[:_SHOWN]
    close = difflib.get_close_matches(key, known, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(known)}"
    return f"{layer.spell(key)} is not a setting; {remedy}"
