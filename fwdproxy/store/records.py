"""The bytes of one row: what a stored response's head, or the list of a key's variants, looks like on disk.

A row's value is one version byte and one msgpack array. A value of another version, or that doesn't decode, raises
UnreadableRecord; the store then removes the row. No reader of an older version is kept: a cache may start over.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fwdproxy.messages import BodyRef, CacheKey, Headers, Nominated, ResponseHead, StoredMeta, StoredResponse

VERSION: Final = 2


class UnreadableRecord(Exception):
    """The bytes of a row aren't a record of this version."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stored response, as the list of a key's variants names it.

    ``received`` is the response time, ``dated`` the Date field (the response time where it is missing), both Unix
    seconds; ``etag`` is the ETag field's value and ``coding`` that of Content-Encoding, in lower case. ``part`` is
    (start, end, complete length) of a partial response; ``moment`` what the store's purge counter was when the request
    was sent; after ``expires``, Unix seconds, nothing may find the response.
    """

    ident: str
    nominated: Nominated
    received: float
    dated: float
    etag: bytes | None
    coding: bytes = b""
    part: tuple[int, int, int] | None = None
    moment: int = 0
    expires: float | None = None


class VariantList(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The primary row of a key with variants or parts; each of the responses lies in a row of its own."""

    entries: tuple[Entry, ...]


class ResponseRecord(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One stored response: its head, its selection, and its body or what the body file must be.

    ``key`` is the primary row's key, so that a record can be told from one that lies in the wrong place.
    ``body`` is None when the body lies in a file. ``part`` is (start, complete length) of a partial response, whose
    ``length`` bytes begin there. ``moment``: see Entry.
    """

    key: bytes
    ident: str
    method: str
    status: int
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    request_time: float
    response_time: float
    nominated: Nominated
    heuristic_lifetime: int | None
    heuristic_reason: str
    authorized: bool
    length: int
    digest: bytes
    body: bytes | None
    controls: tuple[bytes, ...] | None
    part: tuple[int, int] | None
    moment: int


Record = ResponseRecord | VariantList

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Record]] = msgspec.msgpack.Decoder(Record)
_PREFIX: Final = bytes([VERSION])


def encode(record: Record) -> bytes:
    """The value of a row."""
    return _PREFIX + _encoder.encode(record)


def decode(value: bytes) -> Record:
    """The record in a row's value. Raises UnreadableRecord."""
    if value[:1] != _PREFIX:
        raise UnreadableRecord(f"record version {value[:1].hex() or 'missing'}, not {VERSION}")
    try:
        return _decoder.decode(memoryview(value)[1:])
    except msgspec.DecodeError as error:  # ValidationError is one of them
        raise UnreadableRecord(str(error)) from None


def place(key: CacheKey) -> bytes:
    """What the rows of all that is stored for ``key``'s vantage and URI begin with, and no other's."""
    # No URI that was parsed has a NUL in it; one that has is forgotten with the one that it begins with, at worst.
    return b"k" + f"{key.vantage}\0{key.uri}\0".encode("utf-8", "surrogatepass")


def primary_row(key: CacheKey) -> bytes:
    """The row key under which everything stored for ``key`` is found; never equal to a variant's."""
    return place(key) + f"{key.kind}\0{key.content}".encode("utf-8", "surrogatepass")


def place_of(row: bytes) -> bytes:
    """The place of a primary row."""
    return row[: row.rindex(b"\0", 0, row.rindex(b"\0")) + 1]


def cache_key(row: bytes) -> CacheKey:
    """The cache key of a primary row."""
    vantage, rest = row[1:].decode("utf-8", "surrogatepass").split("\0", 1)
    uri, kind, content = rest.rsplit("\0", 2)
    return CacheKey(vantage, kind, uri, content)


def variant_row(ident: str) -> bytes:
    """The row key of one variant."""
    return b"v" + ident.encode("ascii")


def body_name(ident: str) -> str:
    """The name of a body file, relative to the index folder: 256 folders, one per first byte."""
    return f"{ident[:2]}/{ident[2:]}.body"


def pack(
    row: bytes,
    ident: str,
    meta: StoredMeta,
    length: int,
    digest: bytes,
    body: bytes | None,
    *,
    part: tuple[int, int] | None = None,
    moment: int = 0,
) -> ResponseRecord:
    """The record of a response. ``row``: its primary row; ``body``: None when it lies in a file."""
    head = meta.head
    return ResponseRecord(
        row,
        ident,
        meta.method,
        head.status,
        head.reason,
        head.headers.fields,
        meta.request_time,
        meta.response_time,
        meta.nominated,
        meta.heuristic_lifetime,
        meta.heuristic_reason,
        meta.authorized,
        length,
        digest,
        body,
        meta.controls,
        part,
        moment,
    )


def repack(record: ResponseRecord, meta: StoredMeta) -> ResponseRecord:
    """The same stored copy with another head and other times."""
    return pack(
        record.key,
        record.ident,
        meta,
        record.length,
        record.digest,
        record.body,
        part=record.part,
        moment=record.moment,
    )


def unpack(record: ResponseRecord, key: CacheKey, path: str | None, trusted: bool) -> StoredResponse:
    """The stored response of a record. ``path``: its body file's absolute name, None when the body is inline."""
    meta = StoredMeta(
        record.method,
        ResponseHead(record.status, Headers(record.fields), record.reason),
        record.request_time,
        record.response_time,
        record.nominated,
        record.heuristic_lifetime,
        record.heuristic_reason,
        record.authorized,
        record.controls,
    )
    return StoredResponse(key, record.ident, meta, BodyRef(record.length, record.digest, record.body, path, trusted))
