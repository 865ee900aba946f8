"""Structured fields (RFC 9651): the lists and dictionaries that newer fields are written in.

A field that is malformed anywhere says nothing at all (§4.2): its readers get None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import http_sf

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LENGTH: Final = 16 * 1024
"""A longer field is taken for malformed."""

Parameters = dict[str, Any]
Member = tuple[Any, Parameters]
"""An item and its parameters: a str, int, bool, bytes, …, or for an inner list a list of such members."""


def parse_list(lines: Iterable[bytes]) -> list[Member] | None:
    """The members of a list (§3.1) from all its field lines, None when malformed. Never raises."""
    parsed: list[Member] | None = _parse(lines, "list")
    return parsed


def parse_dictionary(lines: Iterable[bytes]) -> dict[str, Member] | None:
    """The members of a dictionary (§3.2) from all its field lines, None when malformed. Never raises."""
    parsed: dict[str, Member] | None = _parse(lines, "dictionary")
    return parsed


def strings(member: Member) -> tuple[str, ...] | None:
    """The strings of an inner list, None for another member than an inner list of strings alone."""
    value, _ = member
    if not isinstance(value, list) or not all(is_string(item) for item, _ in value):
        return None
    return tuple(item for item, _ in value)


def is_string(item: object) -> bool:
    """Whether an item is a String (§3.3.3); tokens and display strings are types of their own."""
    return type(item) is str


def _parse(lines: Iterable[bytes], kind: str) -> Any:
    value = b", ".join(lines)
    if len(value) > MAX_LENGTH:
        return None
    try:
        return http_sf.parse(value, tltype=kind)
    except http_sf.StructuredFieldError:
        return None
