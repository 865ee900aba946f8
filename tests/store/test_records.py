"""The bytes of a row."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwdproxy.messages import CacheKey, Headers, ResponseHead, StoredMeta
from fwdproxy.store import records
from fwdproxy.store.records import Entry, UnreadableRecord, VariantList
from tests.store.samples import key, meta

IDENT = "0123456789abcdef" * 2
times = st.floats(min_value=0, max_value=1e11)
small = st.binary(max_size=20)
metas = st.builds(
    StoredMeta,
    method=st.text(max_size=8),
    head=st.builds(
        ResponseHead, st.integers(100, 599), st.builds(Headers, st.lists(st.tuples(small, small), max_size=5)), small
    ),
    request_time=times,
    response_time=times,
    nominated=st.lists(st.tuples(small, st.none() | small), max_size=3).map(tuple),
    heuristic_lifetime=st.none() | st.integers(0, 2**31),
    heuristic_reason=st.text(max_size=20),
    authorized=st.booleans(),
    controls=st.none() | st.lists(small, max_size=3).map(tuple),
)
keys = st.builds(
    CacheKey,
    st.sampled_from(["direct", "us-east"]),
    st.sampled_from(["GET", "QUERY"]),
    st.text(max_size=30),
    st.sampled_from(["", "d1ge57"]),
)


@settings(max_examples=40)
@given(metas, keys, st.binary(max_size=100))
def test_a_record_gives_back_what_it_was_made_of(what: StoredMeta, where: CacheKey, body: bytes) -> None:
    record = records.pack(records.primary_row(where), IDENT, what, len(body), b"digest", body)
    stored = records.unpack(_response(records.encode(record)), where, None, True)
    assert (stored.key, stored.ident, stored.meta) == (where, IDENT, what)
    assert (stored.body.inline, stored.body.length, stored.body.digest) == (body, len(body), b"digest")


@given(keys)
def test_a_row_tells_its_key_and_is_never_a_variant(where: CacheKey) -> None:
    row = records.primary_row(where)
    assert records.cache_key(row) == where
    assert row[:1] != records.variant_row(IDENT)[:1]


@given(keys, keys)
def test_the_rows_of_one_uri_have_a_place_of_their_own(one: CacheKey, other: CacheKey) -> None:
    place = records.place(one)
    assert records.place_of(records.primary_row(one)) == place
    same = (one.vantage, one.uri) == (other.vantage, other.uri)
    assert (records.place(other) == place) is same
    if "\0" not in one.uri + other.uri:
        assert records.primary_row(other).startswith(place) is same


def test_a_row_takes_a_uri_that_is_not_utf8() -> None:
    where = CacheKey("direct", "GET", "http://example.com/\udcff")
    assert records.cache_key(records.primary_row(where)) == where


def test_keys_that_look_alike_when_joined_are_kept_apart() -> None:
    assert records.primary_row(CacheKey("a b", "GET", "u")) != records.primary_row(CacheKey("a", "b GET", "u"))


def test_a_list_of_variants_gives_back_its_entries() -> None:
    entries = (
        Entry(IDENT, ((b"accept", None), (b"cookie", b"x")), 1.5, 1.0, b'"e"', b"gzip", (3, 9, 20), 4, 5.5),
        Entry(IDENT, (), 0.0, 0.0, None),
    )
    assert records.decode(records.encode(VariantList(entries))) == VariantList(entries)


def test_another_head_keeps_the_body() -> None:
    old = records.pack(b"row", IDENT, meta(etag="old"), 3, b"digest", b"abc", part=(7, 99), moment=5)
    new = records.repack(old, meta(etag="new"))
    assert (new.ident, new.length, new.digest, new.body) == (IDENT, 3, b"digest", b"abc")
    assert (new.part, new.moment) == ((7, 99), 5)
    assert records.decode(records.encode(new)) == new
    assert records.unpack(new, key(), None, True).meta == meta(etag="new")


GOOD = records.encode(records.pack(b"row", IDENT, meta(), 3, b"digest", b"abc"))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00",
        bytes([records.VERSION]),
        bytes([records.VERSION + 1]) + GOOD[1:],
        GOOD[:-1],
        GOOD + b"\x00",
        bytes([records.VERSION]) + msgspec.msgpack.encode([9, "an unknown kind"]),
        bytes([records.VERSION]) + msgspec.msgpack.encode([1, "too", "short"]),
        bytes([records.VERSION]) + msgspec.msgpack.encode({"a": 1}),
        b"\x80\x04\x95",  # how a pickle begins
    ],
)
def test_what_is_no_record_of_this_version_is_unreadable(value: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        records.decode(value)


@given(st.binary(max_size=200))
def test_garbage_is_unreadable_and_nothing_worse(garbage: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        records.decode(bytes([records.VERSION]) + garbage + b"\xc1")


def _response(value: bytes) -> records.ResponseRecord:
    record = records.decode(value)
    assert isinstance(record, records.ResponseRecord)
    return record
