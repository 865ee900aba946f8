"""Heuristic freshness (RFC 9111 §4.2.2) through the interface of `cachecontrol.heuristics`.

A heuristic is asked once, when a response is about to be stored. Of what it answers only the lifetime is taken.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import TYPE_CHECKING, Final, cast, final

from cachecontrol.heuristics import BaseHeuristic
from urllib3 import HTTPHeaderDict

from fwdproxy.errors import ConfigError
from fwdproxy.fields import cache_control
from fwdproxy.fields.dates import format_date, parse_date, with_date
from fwdproxy.messages import Headers
from fwdproxy.policy import controls
from fwdproxy.policy.freshness import CREDENTIALS, date_value, explicit
from fwdproxy.policy.rules import NO_RULE, Rule
from fwdproxy.policy.storing import HEURISTICALLY_CACHEABLE, personal, response_forbids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import HTTPResponse

    from fwdproxy.messages import RequestHead, ResponseHead
    from fwdproxy.policy.decisions import PolicySettings

DAY: Final = 24 * 3600


class TenthOfAge(BaseHeuristic):
    """Fresh for a tenth of the time since the last modification, a day at most: what has not changed for long will
    not change soon. Goes by Date and Last-Modified alone, so it needs no clock.
    """

    def update_headers(self, response: HTTPResponse) -> dict[str, str]:
        """An Expires for ``response``, which has a valid Date; nothing where it has no Last-Modified before that."""
        date = _date(response.headers, "Date", 0)
        modified = None if date is None else _date(response.headers, "Last-Modified", date)
        if date is None or modified is None or modified >= date:
            return {}
        return {"Expires": format_date(date + min((date - modified) // 10, DAY)).decode("ascii")}


@final
@dataclass(frozen=True, slots=True)
class _Response:
    """As much of urllib3's response as heuristics look at."""

    status: int
    headers: HTTPHeaderDict


def ask(
    heuristic: BaseHeuristic,
    request: RequestHead,
    response: ResponseHead,
    now: float,
    *,
    settings: PolicySettings,
    rule: Rule = NO_RULE,
) -> tuple[int | None, str]:
    """The heuristic lifetime of a response received at ``now`` (Unix seconds), in seconds, and which rule gave it.

    None, with the reason, where the heuristic has no answer or fails, and where nothing may be guessed: explicit
    freshness, no-store, private, no-cache (Pragma's too), cookies or credentials on either side (`CREDENTIALS`, even
    where a lifetime is stated), and a status that is neither heuristically cacheable nor marked public. The user's
    ``rule`` may have Authorization count for nothing.
    """
    kept_back = _nothing_to_guess(request, response, now, settings, rule)
    if kept_back is not None:
        return None, kept_back
    headers = with_date(response.headers, now)
    name = type(heuristic).__name__
    view = _Response(
        response.status,
        HTTPHeaderDict([(field.decode("latin-1"), value.decode("latin-1")) for field, value in headers]),
    )
    try:
        lifetime = _lifetime(heuristic.update_headers(cast("HTTPResponse", view)), headers, now)
    except Exception as error:  # noqa: BLE001 - the user's code; a heuristic that fails has no answer
        return None, f"{name} failed: {error!r}"
    return (lifetime, name) if lifetime > 0 else (None, f"{name} gives no lifetime")


def load(path: str) -> BaseHeuristic:
    """The heuristic that ``path`` ("package.module:Class", or with a dot) names, made without arguments.

    Raises ConfigError when it can't be imported, or is no subclass of `cachecontrol.heuristics.BaseHeuristic`.
    """
    module_name, _, class_name = path.rpartition(":" if ":" in path else ".")
    wanted = 'write it as "package.module:Class"'
    if not module_name or not class_name:
        raise ConfigError(f"the heuristic {path!r} names no class; {wanted}")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # the module is the user's and may raise anything
        raise ConfigError(f"the heuristic {path!r} can't be imported ({error}); {wanted}") from error
    if not (isinstance(found, type) and issubclass(found, BaseHeuristic)):
        raise ConfigError(f"the heuristic {path!r} is no subclass of cachecontrol.heuristics.BaseHeuristic")
    try:
        return found()
    except Exception as error:
        raise ConfigError(f"the heuristic {path!r} can't be made without arguments ({error})") from error


def _nothing_to_guess(
    request: RequestHead, response: ResponseHead, now: float, settings: PolicySettings, rule: Rule
) -> str | None:
    headers = response.headers
    lines = controls.governing(headers, settings.targets)
    directives = controls.directives(headers, lines)
    if personal(request.headers, rule) or personal(headers):
        return CREDENTIALS
    if explicit(headers, now, lines) is not None:
        return "explicit freshness"
    if response_forbids(response, lines) is not None or directives.whole(b"no-cache"):
        return "the response forbids it"
    if cache_control.parse(headers.get_all(b"pragma")).has(b"no-cache"):
        return "Pragma: no-cache"
    if response.status not in HEURISTICALLY_CACHEABLE and not directives.has(b"public"):
        return "the status is not heuristically cacheable"
    return None


def _lifetime(updates: Mapping[str, str], headers: Headers, now: float) -> int:
    """The lifetime in the fields that a heuristic would set: that of Cache-Control, or else Expires − Date."""
    fields = HTTPHeaderDict(updates)
    stated = explicit(Headers([(b"Cache-Control", fields.get("Cache-Control", "").encode("latin-1"))]), now, None)
    if stated is not None:
        return stated.lifetime
    # Those of cachecontrol write a date of e-mail, "… -0000", which is no HTTP date.
    expires = parsedate_tz(fields.get("Expires", ""))
    return 0 if expires is None else mktime_tz(expires) - date_value(headers, now)


def _date(headers: Mapping[str, str], name: str, now: float) -> int | None:
    return parse_date(headers.get(name, "").encode("latin-1"), now)
