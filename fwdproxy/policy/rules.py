"""The user's own rules for parts of the web: what they change in the decisions of RFC 9111, and for which requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final, Protocol

from fwdproxy.messages import TargetURI


@dataclass(frozen=True, slots=True)
class Rule:
    """What the user's configuration says of one request and the response to it; times are whole seconds.

    ``bypass``: neither answer from the store nor store. ``min_lifetime`` and ``max_lifetime`` bound the freshness
    lifetime, whether stated or estimated; the former not that of errors, and with cookies or credentials only one that
    the origin states. ``ignore_reload``: a client's no-cache, max-age and Pragma don't have a fresh response validated.
    ``offline``: answer from the store whatever its age, ask nobody. ``negative_lifetime``: for how long an error (4xx,
    5xx, but 401 and those that answer one request only) that states no lifetime is fresh; not with cookies or
    credentials. ``share_authorized``: responses to requests with Authorization may be stored and reused as if they had
    none. ``retention``: no response is used or kept longer than this after its bytes were received. ``memory``:
    store in memory only.
    """

    bypass: bool = False
    min_lifetime: int | None = None
    max_lifetime: int | None = None
    ignore_reload: bool = False
    offline: bool = False
    negative_lifetime: int | None = None
    share_authorized: bool = False
    retention: int | None = None
    memory: bool = False


NO_RULE: Final = Rule()

_EFFECTS: Final = tuple(effect.name for effect in fields(Rule))
_REMEMBERED: Final = 4096  # hosts


class Host(Protocol):
    """A pattern for hosts, such as `values.HostPattern`."""

    @property
    def regex(self) -> str:
        """A regular expression for the whole of a lower-case host name."""
        ...


class Table(Protocol):
    """One table of the configuration: conditions, empty where there is none, and effects by the names of `Rule`, None
    where it states none.
    """

    @property
    def host(self) -> Sequence[Host]:
        """Patterns, one of which the host of the target must match."""
        ...

    @property
    def path(self) -> Sequence[str]:
        """Globs, one of which the path and query of the target must match."""
        ...

    @property
    def type(self) -> Sequence[str]:
        """Globs, one of which the media type of the response must match."""
        ...


class Rules:
    """All tables of the user's, in their order."""

    def __init__(self, tables: Iterable[_Compiled] = ()) -> None:
        self._tables = tuple(tables)
        # By host alone: paths and types are the client's and the origin's to make up without end.
        self._of_host = lru_cache(maxsize=_REMEMBERED)(self._for_host)

    @classmethod
    def build(cls, tables: Iterable[Table]) -> Rules:
        """The rules that the tables of a configuration make."""
        return cls(map(_Compiled.of, tables))

    def of(self, target: TargetURI, content_type: bytes | None) -> Rule:
        """What the user says of a request to ``target``, and of the response to it with ``content_type``.

        Every table whose conditions hold counts; for each effect, the first of them that states it. A condition on the
        type holds only where a type is known.
        """
        if not self._tables:
            return NO_RULE
        tables, always = self._of_host(target.origin.host)
        if always is not None:
            return always
        media = (content_type or b"").partition(b";")[0].strip(b" \t").decode("latin-1").lower()
        return _merged(table for table in tables if table.matches(target.path, media))

    def _for_host(self, host: str) -> tuple[tuple[_Compiled, ...], Rule | None]:
        """The tables that may count for ``host``, and what they make where no path or type can matter."""
        tables = tuple(table for table in self._tables if table.host is None or table.host.fullmatch(host))
        always = all(table.path is None and table.type is None for table in tables)
        return tables, _merged(tables) if always else None


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One table made ready: a pattern for each condition (None: there is none), and what it states."""

    host: re.Pattern[str] | None
    path: re.Pattern[str] | None
    type: re.Pattern[str] | None
    effects: dict[str, Any]

    @classmethod
    def of(cls, table: Table) -> _Compiled:
        stated = {name: value for name in _EFFECTS if (value := getattr(table, name)) is not None}
        return cls(
            _any(pattern.regex for pattern in table.host),
            _any(_glob(glob) for glob in table.path),
            _any(_glob(glob.lower()) for glob in table.type),
            {name: value if isinstance(value, bool) else int(value) for name, value in stated.items()},
        )

    def matches(self, path: str, media: str) -> bool:
        """Whether the conditions but for the host hold; ``media`` is in lower case, empty where it is not known."""
        if self.path is not None and not self.path.fullmatch(path):
            return False
        return self.type is None or (bool(media) and self.type.fullmatch(media) is not None)


def _merged(tables: Iterable[_Compiled]) -> Rule:
    effects: dict[str, Any] = {}
    for table in tables:
        effects = table.effects | effects
    return Rule(**effects) if effects else NO_RULE


def _any(patterns: Iterable[str]) -> re.Pattern[str] | None:
    expression = "|".join(f"(?:{pattern})" for pattern in patterns)
    return re.compile(expression, re.DOTALL) if expression else None


def _glob(glob: str) -> str:
    """A glob, in which ``*`` stands for any run of characters, as a regular expression.

    Each run but the last ends as soon as what follows it is met, for good (atomic groups): for a glob that is enough,
    and it takes linear time.
    """
    first, *others = [re.escape(piece) for piece in glob.split("*")]
    if not others:
        return first
    *inner, last = others
    runs = "".join(f"(?>.*?{piece})" for piece in inner if piece)
    return f"{first}{runs}.*{last}"
