"""The URI in a key where the user wants it to be another than the target URI: recipes and ignored parameters.

A recipe maps the many URIs of one object (mirrors, signed URLs) to one. It is the only way for an origin to fill the
keys of another one, so its pattern has to say for which hosts that may be: the part of it that stands for scheme and
host must match these alone, and no path can pose as a host.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import ClassVar, Final

from fwdproxy.errors import ConfigError, RequestRefused
from fwdproxy.fields.urlencoded import parameter, pieces
from fwdproxy.messages import TargetURI
from fwdproxy.policy.keys import parse_target

_ABSOLUTE: Final = re.compile(r"([A-Za-z]+)://([^/?#]*)(.*)", re.DOTALL)
_KEY_START: Final = re.compile(r"https?://[^/?#\s]|\\", re.IGNORECASE)  # or a group of the pattern
_SCHEME_END: Final = re.compile(r":(?:\\?/){2}")
_REPEATED: Final = ("*", "+", "?", "{")
# One element of a regular expression, so far as to tell where a "/" stands for itself.
_ELEMENT: Final = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|.", re.DOTALL)

_MATCHED_LENGTH: Final = 4096  # a regular expression may take quadratic time or worse
_MEMOISED: Final = 4096
_MEMOISED_LENGTH: Final = 1024  # so that hostile targets can't fill the memory


@dataclass(frozen=True, slots=True)
class KeyURI:
    """The URI for a key. ``why``: in plain words, what makes it another than the target URI; empty where it isn't."""

    uri: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Maps each target URI that ``pattern`` matches from end to end to the URI that ``key`` makes of its groups.

    ``origin`` is the beginning of the pattern, as far as scheme and host go. `build` makes one.
    """

    pattern: re.Pattern[str]
    origin: re.Pattern[str]
    key: str

    @classmethod
    def build(cls, pattern: str, key: str) -> Recipe:
        r"""The recipe of a pattern such as ``https://mirror\d\.example/(.*)`` and a key such as
        ``https://mirrors.internal/\1``. Raises ConfigError for one that can't be used.
        """
        try:
            compiled, origin = re.compile(pattern), re.compile(_origin_part(pattern))
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(
                f"the pattern {pattern!r} of a recipe can't be used ({_told(error)}); write a regular expression for "
                r"whole URIs such as 'https://mirror\d\.example/(.*)', with no group open at the '/' after the host"
            ) from None
        try:
            compiled.sub(key, "")  # where there is nothing to replace, this still parses the template
        except (re.error, IndexError) as error:
            raise ConfigError(
                f"the key {key!r} of a recipe can't be used ({_told(error)}); "
                r"write the groups of its pattern as \1, \2, …"
            ) from None
        if not _KEY_START.match(key):
            raise ConfigError(
                f"the key {key!r} of a recipe is not an absolute http or https URI; "
                r"write one such as 'https://mirrors.internal/\1'"
            )
        return cls(compiled, origin, key)

    def apply(self, target: TargetURI) -> str | None:
        """The URI for the key of ``target``, normalised; None where the recipe isn't for it or makes no URI of it."""
        match = self.pattern.fullmatch(str(target))
        if match is None or self.origin.fullmatch(str(target.origin)) is None:
            return None
        parts = _ABSOLUTE.fullmatch(match.expand(self.key))
        if parts is None:
            return None
        try:
            return str(parse_target(parts[1], parts[2], parts[3]))
        except RequestRefused:
            return None


@dataclass(frozen=True, slots=True)
class IgnoredParams:
    """Query parameters that don't count: those called as in ``names`` and those that ``pattern`` matches."""

    names: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None

    @classmethod
    def build(cls, globs: Iterable[str], *, tracking: bool = False) -> IgnoredParams:
        """Those that a glob (``utm_*``) stands for; ``tracking``: and all that are known to follow people about."""
        globs = tuple(globs)
        names = frozenset(glob for glob in globs if not re.search(r"[*?\[]", glob))
        patterns = [fnmatch.translate(glob) for glob in globs if glob not in names]
        return cls(
            names | tracking_params() if tracking else names, re.compile("|".join(patterns)) if patterns else None
        )

    def __bool__(self) -> bool:
        return bool(self.names) or self.pattern is not None

    def without(self, uri: str) -> tuple[str, tuple[str, ...]]:
        """``uri`` without such parameters, and which they were. The others keep their order and spelling."""
        path, mark, query = uri.partition("?")
        if not mark:
            return uri, ()
        written = pieces(query)
        names = [parameter(piece)[0] for piece in written]
        dropped = tuple(dict.fromkeys(name for name in names if self._has(name)))
        if not dropped:
            return uri, ()
        gone = frozenset(dropped)
        kept = "&".join(piece for piece, name in zip(written, names, strict=True) if name not in gone)
        return (f"{path}?{kept}" if kept else path), dropped

    def _has(self, name: str) -> bool:
        return name in self.names or (self.pattern is not None and self.pattern.match(name) is not None)


@dataclass(frozen=True)
class Keying:
    """How the user has keys made: of ``recipes``, the first that is for a URI counts; then ``ignored`` go."""

    recipes: tuple[Recipe, ...] = ()
    ignored: IgnoredParams = field(default_factory=IgnoredParams)

    _memoised: Callable[[TargetURI], KeyURI] = field(init=False, repr=False, compare=False)

    default: ClassVar[Keying]
    """Target URIs as they are."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_memoised", lru_cache(_MEMOISED)(self._map))

    def uri(self, target: TargetURI) -> KeyURI:
        """The URI for the key of ``target``."""
        if not self.recipes and not self.ignored:
            return KeyURI(str(target))
        return self._memoised(target) if len(target.path) <= _MEMOISED_LENGTH else self._map(target)

    def _map(self, target: TargetURI) -> KeyURI:
        uri, reasons = str(target), []
        for recipe in self.recipes if len(uri) <= _MATCHED_LENGTH else ():
            made = recipe.apply(target)
            if made is not None:
                uri = made
                reasons.append(f"the recipe for {recipe.pattern.pattern}")
                break
        if self.ignored:
            uri, dropped = self.ignored.without(uri)
            if dropped:
                reasons.append(f"ignored parameters: {', '.join(dropped)}")
        return KeyURI(uri, "; ".join(reasons))


Keying.default = Keying()


@cache
def tracking_params() -> frozenset[str]:
    """The names of query parameters that tell who followed which link, and change nothing of what a URI means."""
    return frozenset(files("fwdproxy").joinpath("data/query-params.txt").read_text("utf-8").split())


def _origin_part(pattern: str) -> str:
    """The beginning of a pattern for whole URIs up to the "/" after the host; all of it where there is none.

    Raises re.error where it names no scheme and host, or by an oversight more hosts than were meant.
    """
    scheme = _SCHEME_END.search(pattern)
    if scheme is None:
        raise re.error("it names no scheme and host")
    for element in _ELEMENT.finditer(pattern, scheme.end()):
        if element[0] in {"/", r"\/"}:
            return pattern[: element.start()]
        if element[0] == "." and not pattern.startswith(_REPEATED, element.end()):
            raise re.error(r"a '.' in the host stands for any character; a dot is '\.'")
    return pattern


def _told(error: Exception) -> str:
    return "it nests too deeply" if isinstance(error, RecursionError) else str(error)
