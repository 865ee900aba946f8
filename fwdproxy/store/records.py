"""The bytes of one row: what a stored response's head, or the list of a key's variants, looks like on disk.

A row's value is one version byte and one msgpack array. A value of another version, or that doesn't decode, raises
UnreadableRecord; the store then removes the row. No reader of an older version is kept: a cache may start over.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fwdproxy.messages import BodyRef, CacheKey, Headers, Nominated, ResponseHead, StoredMeta, StoredResponse

VERSION: Final = 1


class UnreadableRecord(Exception):
    """The bytes of a row aren't a record of this version."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One stored response, as the list of a key's variants names it.

    ``received`` is the response time, ``dated`` the Date field (the response time where it is missing), both Unix
    seconds; ``etag`` is the ETag field's value.
    """

    ident: str
    nominated: Nominated
    received: float
    dated: float
    etag: bytes | None


class VariantList(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The primary row of a key whose responses have a Vary field; each response lies in a row of its own."""

    entries: tuple[Entry, ...]


class ResponseRecord(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One stored response: its head, its selection, and its body or what the body file must be.

    ``key`` is the primary row's key, so that a record can be told from one that lies in the wrong place.
    ``body`` is None when the body lies in a file.
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


def primary_row(key: CacheKey) -> bytes:
    """The row key under which everything stored for ``key`` is found; never equal to a variant's."""
    return b"k" + "\0".join((key.vantage, key.kind, key.uri)).encode("utf-8", "surrogatepass")


def cache_key(row: bytes) -> CacheKey:
    """The cache key of a primary row."""
    vantage, kind, uri = row[1:].decode("utf-8", "surrogatepass").split("\0", 2)
    return CacheKey(vantage, kind, uri)


def variant_row(ident: str) -> bytes:
    """The row key of one variant."""
    return b"v" + ident.encode("ascii")


def body_name(ident: str) -> str:
    """The name of a body file, relative to the index folder: 256 folders, one per first byte."""
    return f"{ident[:2]}/{ident[2:]}.body"


def pack(row: bytes, ident: str, meta: StoredMeta, length: int, digest: bytes, body: bytes | None) -> ResponseRecord:
    """The record of a complete response. ``row``: its primary row; ``body``: None when it lies in a file."""
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
    )


def repack(record: ResponseRecord, meta: StoredMeta) -> ResponseRecord:
    """The same stored copy with another head and other times."""
    return pack(record.key, record.ident, meta, record.length, record.digest, record.body)


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
    )
    return StoredResponse(key, record.ident, meta, BodyRef(record.length, record.digest, record.body, path, trusted))
