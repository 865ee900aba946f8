"""The small values that a setting may hold, each parsed from text once and valid from then on.

Every ``parse`` takes what TOML, a flag or a mitmproxy option may hold and raises ValueError with a text that continues
"<place> = <value> …": what is wrong, and after a semicolon what to write instead.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final, Self, final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NUMBER_AND_UNIT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")
_PERCENTAGE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")
_PARAM: Final = re.compile(r"[^\s&=#?\x00-\x20\x7f]+")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST: Final = re.compile(r"[0-9a-z*_.:-]+")

_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}
_LEAST_SIZE: Final = 10**6
_LARGEST_SIZE: Final = 9 * 10**18
_LONGEST_DURATION: Final = 36500 * 86400
_DURATION_UNITS: Final = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Size(int):
    """A number of bytes: ``10GB`` (powers of 1000), ``512MiB`` (powers of 1024), or a plain number.

    What is parsed is at least 1 MB, since less is a slip more likely than a cache, and less than 2^63, SQLite's limit.
    """

    @classmethod
    def parse(cls, raw: object) -> Self:
        size = _quantity(raw, _SIZE_UNITS, 'is not a size; write a number and a unit, such as "10GB" or "512MiB"')
        if size < _LEAST_SIZE:
            raise ValueError('is too small; write at least "1MB", and for useful work some "GB"')
        if size > _LARGEST_SIZE:
            raise ValueError('is too large; write at most "9000000TB", or leave it out for a size that fits the disk')
        return cls(size)

    def __str__(self) -> str:
        for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "k")):
            if self >= 1000**power:
                return f"{int(self) / 1000**power:.4g} {prefix}B"
        return f"{int(self)} B"


class Limit(Size):
    """A number of bytes that may be small, or 0."""

    @classmethod
    def parse(cls, raw: object) -> Self:
        size = _quantity(raw, _SIZE_UNITS, 'is not a size; write a number and a unit, such as "16MB" or "512KiB", or 0')
        if size > _LARGEST_SIZE:
            raise ValueError('is too large; write at most "9000000TB"')
        return cls(size)

    def __str__(self) -> str:
        # Small limits are mostly powers of two.
        return f"{self // 1024**2} MiB" if self and self % 1024**2 == 0 else super().__str__()


class Share(float):
    """A part of a whole, from 0 to 1, written as a percentage: ``50%``."""

    @classmethod
    def parse(cls, raw: object) -> Self:
        complaint = 'is not a percentage; write one from "0%" to "100%"'
        found = _PERCENTAGE.fullmatch(_text(raw, complaint).strip())
        if found is None or float(found[1]) > 100:
            raise ValueError(complaint)
        return cls(float(found[1]) / 100)

    def __str__(self) -> str:
        return f"{float(self) * 100:g}%"


class Duration(float):
    """Seconds, from 0 to 100 years: ``500ms``, ``30s``, ``5m``, ``2h``, ``1d``, or a plain number of seconds."""

    @classmethod
    def parse(cls, raw: object) -> Self:
        seconds = _quantity(raw, _DURATION_UNITS, 'is not a duration; write a number and a unit, such as "30s"')
        if seconds > _LONGEST_DURATION:
            raise ValueError('is too long; write at most "36500d"')
        return cls(seconds)

    def __str__(self) -> str:
        return f"{float(self):g}s"


class Timeout(Duration):
    """A duration above 0."""

    @classmethod
    def parse(cls, raw: object) -> Self:
        timeout = super().parse(raw)
        if timeout <= 0:
            raise ValueError('is too short; write a duration above 0, such as "10s"')
        return timeout


def _quantity(raw: object, units: dict[str, int] | dict[str, float], complaint: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError(complaint)
    found = _NUMBER_AND_UNIT.fullmatch(str(raw).strip())
    if found is None or found[2].lower() not in units:
        raise ValueError(complaint)
    return float(found[1]) * units[found[2].lower()]


class File(Path):
    """The path of a file that can be read."""


def parse_path(raw: object, kind: type[Path], base: Path) -> Path:
    """A `Path` or `File` from text; ``~`` is the user's home folder, and relative paths start at ``base``."""
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError("is not a path; write the name of a file or folder in quotation marks")
    try:
        path = kind(base / Path(raw).expanduser())
    except RuntimeError:
        raise ValueError("names a home folder that doesn't exist; write the whole path") from None
    if kind is File:
        try:
            open_file(path).close()
        except OSError as error:
            raise ValueError(f"can't be read ({error.strerror}); name a readable file") from None
    return path


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError, also for what may never end or never begin: devices, pipes."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is a folder" if path.is_dir() else "it is not a regular file", str(path))
    return path.open("rb")


class _Value:
    """Equality, hash and text by the one text that a value is written as."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


@final
class Endpoint(_Value):
    """Where to listen: an IP address or ``localhost``, and a port; port 0 lets the system choose one."""

    __slots__ = ("host", "port")

    host: str
    port: int

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @classmethod
    def parse(cls, raw: object) -> Self:
        complaint = 'is not an address and a port; write "127.0.0.1:8080" or "[::1]:8080"'
        host, colon, port = _text(raw, complaint).strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
            raise ValueError(complaint)
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if bracketed != (":" in host):
            raise ValueError(complaint)
        if host != "localhost":
            try:
                host = str(ipaddress.ip_address(host))
            except ValueError:
                raise ValueError(complaint) from None
        return cls(host, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@final
class Network(_Value):
    """A range of IP addresses in CIDR notation; one address stands for itself."""

    __slots__ = ("_network",)

    def __init__(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        self._network = network

    @classmethod
    def parse(cls, raw: object) -> Self:
        complaint = 'is not a network; write one in CIDR notation, such as "192.168.0.0/16" or "fd00::/8"'
        text = _text(raw, complaint).strip()
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(complaint) from None
        # A slip such as 10.1.2.3/8 would let far more clients in than its writer sees.
        if "/" in text and str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
            raise ValueError(f'has bits beyond its prefix; write "{network}" for the whole network')
        return cls(network)

    def __contains__(self, address: object) -> bool:
        """Whether the address lies within; one of IPv4 written as IPv6 (``::ffff:192.0.2.1``) is taken as IPv4."""
        return plain_address(str(address)) in self._network

    def __str__(self) -> str:
        return str(self._network)


def plain_address(text: str) -> Address:
    """The IP address in ``text``, IPv4-mapped IPv6 as IPv4, zone left out. ValueError when there is none."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@final
class HostPattern(_Value):
    """Host names: ``a.example`` itself, ``.a.example`` with all names below it, ``*`` for any run of characters."""

    __slots__ = ("_matches", "_text", "regex")

    regex: str
    """A regular expression for the whole of a lower-case host name."""

    def __init__(self, text: str) -> None:
        self._text = text
        pattern = re.escape(text.removeprefix(".")).replace(r"\*", ".*")
        self.regex = rf"(?:.*\.)?{pattern}" if text.startswith(".") else pattern
        self._matches = re.compile(self.regex).fullmatch

    @classmethod
    def parse(cls, raw: object) -> Self:
        complaint = 'is not a host pattern; write "example.com", ".example.com" or "*.example.com", without a port'
        text = _text(raw, complaint).strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")
        try:
            text = text if text.isascii() else ".".join(_alabel(label) for label in text.split("."))
        except UnicodeError:
            raise ValueError(complaint) from None
        name = text.removeprefix(".")
        if not name or name.startswith(".") or not _HOST.fullmatch(name) or text.count(":") == 1:
            raise ValueError(complaint)
        return cls(text)

    def matches(self, host: str) -> bool:
        """Whether ``host`` (without brackets and port, any case, with or without the root's dot) is meant."""
        return self._matches(host.lower().removesuffix(".")) is not None

    def __str__(self) -> str:
        return self._text


@lru_cache(maxsize=256)
def _alabel(label: str) -> str:
    return label if label.isascii() else label.encode("idna").decode("ascii")


@final
class Pseudonym(_Value):
    """What the proxy calls itself in Via (RFC 9110 §7.6.3); ``name`` is None where it is silent (``off`` or false)."""

    __slots__ = ("name",)

    name: str | None

    def __init__(self, name: str | None) -> None:
        self.name = name

    @classmethod
    def parse(cls, raw: object) -> Self:
        if raw is False or raw == "off":
            return cls(None)
        complaint = 'is not a name for Via; write one word, such as "fwdproxy", or "off" for none'
        text = _text(raw, complaint)
        if not _TOKEN.fullmatch(text):
            raise ValueError(complaint)
        return cls(text)

    def __str__(self) -> str:
        return self.name or "off"


class FieldName(str):
    """The name of a header field (RFC 9110 §5.1), in lower case."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> Self:
        complaint = 'is not the name of a field; write one such as "CDN-Cache-Control"'
        text = _text(raw, complaint).strip()
        if not _TOKEN.fullmatch(text):
            raise ValueError(complaint)
        return cls(text.lower())


class ParamGlob(str):
    """The name of a query parameter, as it stands in the URI; ``*`` stands for any run of characters."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> Self:
        complaint = 'is not the name of a query parameter; write one such as "utm_source" or "utm_*"'
        text = _text(raw, complaint)
        if not _PARAM.fullmatch(text):
            raise ValueError(complaint)
        return cls(text)


def _text(raw: object, complaint: str) -> str:
    if not isinstance(raw, str):
        raise ValueError(complaint)
    return raw
