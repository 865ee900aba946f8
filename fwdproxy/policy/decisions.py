"""The values that policy decides by: each carries the reason for which it was taken."""

from __future__ import annotations

from dataclasses import dataclass

from fwdproxy.messages import Field, StoredResponse


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision is as it is.

    ``code`` is a short word for Cache-Status and the log, ``section`` where the rule stands ("RFC 9111 §5.2.2.5"),
    ``text`` says it in plain words.
    """

    code: str
    section: str
    text: str


@dataclass(frozen=True, slots=True)
class Storing:
    """Whether a response may be stored (RFC 9111 §3)."""

    store: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with a stored response (RFC 9111 §4).

    ``status`` is the stored one, or 304 when the client's own condition says that it has this response already.
    ``age`` and ``ttl`` (negative when stale) are whole seconds. ``stale`` with the reason `stale.WHILE_REVALIDATE`
    asks the caller to validate in the background.
    """

    stored: StoredResponse
    status: int
    age: int
    ttl: int
    stale: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Validate:
    """Ask the origin before the stored response is used (RFC 9111 §4.3).

    ``conditions`` are the fields to add to the request; none when the stored response has no validator, so that the
    answer will replace it. ``fwd`` is ``stale`` or ``request`` (RFC 9211 §2.2).
    """

    stored: StoredResponse
    conditions: tuple[Field, ...]
    fwd: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on; nothing stored can answer it.

    ``fwd`` is a token of RFC 9211 §2.2: ``bypass`` and ``method`` pass the cache by, so that the answer is not to be
    stored; ``uri-miss``, ``vary-miss`` and ``miss`` are misses.
    """

    fwd: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an error of our own."""

    status: int
    reason: Reason


Decision = Serve | Validate | Forward | Refuse


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What the user may choose.

    ``grace``: for how many seconds past its freshness a response may stand in when its origin fails, where the origin
    states no ``stale-if-error`` of its own and nothing forbids it (RFC 9111 §4.2.4). ``targets``: the response fields,
    in lower case, that govern a response before Cache-Control does, in their order (RFC 9213 §2.2).
    """

    grace: int = 0
    targets: tuple[bytes, ...] = ()
