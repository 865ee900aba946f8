"""Whether the bytes received are those that the origin says it sent: Content-Digest and Repr-Digest (RFC 9530)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fwdproxy.fields.digests import parse
from fwdproxy.fields.lists import members
from fwdproxy.messages import Headers

_HASHES: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_CONTENT: Final = b"content-digest"
_REPRESENTATION: Final = b"repr-digest"
_NAMES: Final = {_CONTENT: "Content-Digest", _REPRESENTATION: "Repr-Digest"}


@dataclass(frozen=True, slots=True)
class Checks:
    """What the content of a response is to be compared with.

    ``stated``: the digests of the head, as (field, algorithm, digest). ``fields``: the lower-case digest fields that
    speak of just this content, in the head and in the trailers. ``algorithms``: all that may be needed.
    """

    stated: tuple[tuple[bytes, str, bytes], ...]
    fields: tuple[bytes, ...]
    algorithms: tuple[str, ...]


def expected(headers: Headers, status: int, partial: bool) -> Checks | None:
    """What to check the content of a response by; None when nothing known was stated or announced.

    Content-Digest speaks of the content of this message, whatever part it is (§2). Repr-Digest speaks of the whole
    representation (§3): that is the content only of a 200 that isn't ``partial``. Digests in the trailers are checked
    when Trailer announces them (RFC 9110 §6.6.2), as they would come after the bytes.
    """
    fields = (_CONTENT, _REPRESENTATION) if status == 200 and not partial else (_CONTENT,)
    stated = _stated(headers, fields)
    announced = {member.lower() for line in headers.get_all(b"trailer") for member in members(line)}
    if not announced.isdisjoint(fields):
        return Checks(stated, fields, tuple(_HASHES))
    return Checks(stated, fields, tuple(dict.fromkeys(algorithm for _, algorithm, _ in stated))) if stated else None


class Digesting:
    """Takes the content of one response as it comes, after transfer codings and before content codings are undone."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._hashes = {algorithm: _HASHES[algorithm]() for algorithm in checks.algorithms}

    def update(self, chunk: bytes) -> None:
        """Take the next bytes."""
        for running in self._hashes.values():
            running.update(chunk)

    def mismatch(self, trailers: Headers) -> str | None:
        """After the last byte: which digest isn't that of the bytes, in plain words; None when all agree."""
        digests: Mapping[str, bytes] = {algorithm: running.digest() for algorithm, running in self._hashes.items()}
        for field, algorithm, digest in (*self._checks.stated, *_stated(trailers, self._checks.fields)):
            if algorithm in digests and digests[algorithm] != digest:
                return f"its content is not what the {algorithm} of {_NAMES[field]} says"
        return None


def _stated(headers: Headers, fields: tuple[bytes, ...]) -> tuple[tuple[bytes, str, bytes], ...]:
    return tuple(
        (field, algorithm, digest)
        for field in fields
        for algorithm, digest in parse(headers.get_all(field)).items()
        if algorithm in _HASHES
    )
