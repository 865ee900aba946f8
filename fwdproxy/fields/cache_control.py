"""Cache-Control (RFC 9111 §5.2) and Age (§5.1), read so that a doubtful Cache-Control makes a response staler."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from fwdproxy.fields.lists import is_token, members, unquoted

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_DELTA: Final = 2**31
"""The ceiling of delta-seconds (RFC 9111 §1.2.2)."""

MAX_DIRECTIVES: Final = 256
"""A message with more directives is read as ``no-cache, no-store``."""

_MEMOISED_LENGTH: Final = 512  # so that hostile fields can't fill the memory
_INVALID: Final = b"\x00"  # the argument of a directive whose quoted string is malformed; never a valid one


@dataclass(frozen=True, slots=True)
class CacheControl:
    """The directives of all Cache-Control lines of a message: lower-case names and unquoted arguments, in order.

    Unknown directives are kept; what is not a directive at all is skipped.
    """

    directives: tuple[tuple[bytes, bytes | None], ...] = ()
    _arguments: dict[bytes, list[bytes | None]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        arguments: dict[bytes, list[bytes | None]] = {}
        for name, argument in self.directives:
            arguments.setdefault(name, []).append(argument)
        object.__setattr__(self, "_arguments", arguments)

    def __bool__(self) -> bool:
        return bool(self.directives)

    def has(self, name: bytes) -> bool:
        """Whether the directive is present, in whatever form."""
        return name in self._arguments

    def argument(self, name: bytes) -> bytes | None:
        """The first argument of the directive; None when it is absent or has none."""
        return next((argument for argument in self._arguments.get(name, ()) if argument is not None), None)

    def seconds(self, name: bytes, otherwise: int = 0) -> int | None:
        """The directive's delta-seconds, at most `MAX_DELTA`; None when the directive is absent.

        ``otherwise`` is what a value counts as that is missing, not a number, or contradicted by another one (§4.2.1
        lets us take the response as stale then); the default suits lifetimes and windows.
        """
        arguments = self._arguments.get(name)
        if arguments is None:
            return None
        argument = arguments[0]
        value = delta_seconds(argument) if argument is not None and len(set(arguments)) == 1 else None
        return otherwise if value is None else value

    def whole(self, name: bytes) -> bool:
        """Whether the directive is present and speaks of the whole message, not of some fields only.

        A qualified form that can't be read speaks of the whole message.
        """
        return name in self._arguments and self.field_names(name) is None

    def field_names(self, name: bytes) -> frozenset[bytes] | None:
        """The lower-case fields that a qualified ``private`` or ``no-cache`` names (§5.2.2.4, §5.2.2.7).

        None when the directive is absent or speaks of the whole message (see `whole`).
        """
        names: set[bytes] = set()
        for argument in self._arguments.get(name, (None,)):
            named = [part.strip(b" \t").lower() for part in argument.split(b",")] if argument else []
            if not named or not all(is_token(part) for part in named):
                return None
            names.update(named)
        return frozenset(names)


def parse(lines: Iterable[bytes]) -> CacheControl:
    """Read all Cache-Control field lines of a message. Never raises.

    More than `MAX_DIRECTIVES` directives are not read but taken as ``no-cache, no-store``, whatever they say: nobody
    means them, and reading them again at each use would cost more than the origin's answer.
    """
    lines = tuple(lines)
    if not lines:
        return _NOTHING
    return _memoised(lines) if len(lines) == 1 and len(lines[0]) <= _MEMOISED_LENGTH else _parse(lines)


def delta_seconds(value: bytes) -> int | None:
    """Delta-seconds (RFC 9111 §1.2.2), at most `MAX_DELTA`; None when it is not a run of digits."""
    if not value.isdigit():
        return None
    # A longer run of digits than 2^31 has is over the ceiling; int() would refuse one of thousands.
    return min(int(value), MAX_DELTA) if len(value) <= 10 else _long_delta(value)


def parse_age(lines: tuple[bytes, ...]) -> int | None:
    """The received Age in seconds (RFC 9111 §5.1): the first member of the list; None when absent or invalid."""
    return delta_seconds(lines[0].split(b",", 1)[0].strip(b" \t")) if lines else None


def _long_delta(value: bytes) -> int:
    significant = value.lstrip(b"0")
    return min(int(significant or b"0"), MAX_DELTA) if len(significant) <= 10 else MAX_DELTA


def _parse(lines: tuple[bytes, ...]) -> CacheControl:
    directives: list[tuple[bytes, bytes | None]] = []
    for line in lines:
        for member in members(line):
            raw_name, equals, raw_argument = member.partition(b"=")
            # The grammar has no white space round "=": `no-store =x` is still meant as no-store, but `max-age =9` is
            # no number to rely on.
            name = raw_name.rstrip(b" \t").lower()
            if is_token(name):
                argument = unquoted(raw_argument) if equals and len(name) == len(raw_name) else None
                directives.append((name, _INVALID if equals and argument is None else argument))
                if len(directives) > MAX_DIRECTIVES:
                    return _TOO_MANY
    return CacheControl(tuple(directives))


_NOTHING: Final = CacheControl()
_TOO_MANY: Final = CacheControl(((b"no-cache", None), (b"no-store", None)))
_memoised: Final = lru_cache(maxsize=2048)(_parse)
