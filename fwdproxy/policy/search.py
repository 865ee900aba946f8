"""Which URIs an origin says are one resource although their queries differ: No-Vary-Search.

The field is a draft of the IETF's HTTP working group (draft-ietf-httpbis-no-vary-search), so the user has to turn it
on. Queries are read as application/x-www-form-urlencoded, in the way of the WHATWG URL standard.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from fwdproxy.fields.structured import Member, parse_dictionary, strings
from fwdproxy.fields.urlencoded import decoded, parameter, pieces

MAX_QUERY: Final = 16 * 1024
"""A URI with a longer query, or with more than `MAX_PARAMETERS` parameters in it, is equivalent to itself only."""

MAX_PARAMETERS: Final = 1000

_MEMOISED_LENGTH: Final = 512  # so that hostile fields can't fill the memory


@dataclass(frozen=True, slots=True)
class SearchVariance:
    """Which part of a query tells two URIs apart.

    ``only``: the names of the parameters that do; None: all do but those called as in ``ignored``. ``ordered``: the
    order of parameters with different names does, too. The default: every byte does.
    """

    ignored: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    ordered: bool = True

    def counts(self, name: str) -> bool:
        """Whether the parameters called ``name`` tell two URIs apart."""
        return name not in self.ignored if self.only is None else name in self.only


EXACT: Final = SearchVariance()


def parse(value: bytes | None) -> SearchVariance:
    """What a No-Vary-Search says, all its lines combined; `EXACT` without one and for a malformed one. Never raises.

    Where earlier drafts wrote ``params, except=("a")`` and ``params`` the later ones write ``except=("a")`` and
    ``except=()``. Both are in use and can't be mistaken for something else, so both are read.
    """
    if value is None:
        return EXACT
    return _memoised(value) if len(value) <= _MEMOISED_LENGTH else _parse(value)


def canonical(uri: str, variance: SearchVariance) -> str:
    """The form that all URIs which ``variance`` makes equivalent to ``uri`` share; ``uri`` itself for `EXACT`."""
    if variance == EXACT:
        return uri
    path, _, query = uri.partition("?")
    if len(query) > MAX_QUERY or query.count("&") >= MAX_PARAMETERS:
        return uri
    parameters = [pair for piece in pieces(query) if piece and variance.counts((pair := parameter(piece))[0])]
    if not variance.ordered:
        parameters.sort(key=lambda pair: pair[0])  # stable: the order of the same name's values still counts
    written = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters)
    return f"{path}?{written}" if written else path


def _parse(value: bytes) -> SearchVariance:
    members = parse_dictionary((value,))
    if members is None:
        return EXACT
    unordered = _boolean(members.get("key-order"))
    params, excepted = members.get("params"), members.get("except")
    if unordered is None:
        return EXACT
    every = _boolean(params)
    names = _names(params if excepted is None else excepted)
    if excepted is not None:
        # Beside `except`, `params` has nothing left to say but that it means all parameters.
        valid = names is not None and (params is None or every is True)
        return SearchVariance(only=names, ordered=not unordered) if valid else EXACT
    if every is None:
        return EXACT if names is None else SearchVariance(ignored=names, ordered=not unordered)
    return SearchVariance(only=frozenset() if every else None, ordered=not unordered)


def _boolean(member: Member | None) -> bool | None:
    """False for what isn't there, None for what is no boolean."""
    if member is None:
        return False
    return member[0] if isinstance(member[0], bool) else None


def _names(member: Member | None) -> frozenset[str] | None:
    written = strings(member) if member is not None else None
    return None if written is None else frozenset(decoded(name) for name in written)


_memoised: Final = lru_cache(maxsize=1024)(_parse)
