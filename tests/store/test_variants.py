"""Which responses a key may hold at once."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.messages import Headers
from fwdproxy.store import variants
from fwdproxy.store.changes import Change, Forget, Freshen, Put, Remove
from fwdproxy.store.records import Entry, pack, primary_row
from fwdproxy.store.variants import Entries
from tests.store.samples import key, meta

GZIP = ((b"accept-encoding", b"gzip"),)
BR = ((b"accept-encoding", b"br"),)
NOW = 100.0
ROW = primary_row(key())


def entry(ident: str, nominated: object = (), received: float = 1.0, dated: float | None = None) -> Entry:
    return Entry(ident, nominated, received, received if dated is None else dated, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "new", "after"),
    [
        ([], entry("n"), ["n"]),
        ([entry("a")], entry("n"), ["n"]),
        ([entry("a")], entry("n", GZIP), ["n"]),
        ([entry("a", GZIP), entry("b", BR)], entry("n"), ["n"]),
        ([entry("a", GZIP)], entry("n", BR), ["a", "n"]),
        ([entry("a", GZIP), entry("b", BR)], entry("n", GZIP), ["b", "n"]),
        # what arrived later stays, whatever completes later
        ([entry("a", (), 9)], entry("n", (), 8), ["a"]),
        ([entry("a", GZIP, 9), entry("b", BR, 1)], entry("n", (), 8), ["a", "b"]),
        ([entry("a", GZIP, 9)], entry("n", BR, 8), ["a", "n"]),
        ([entry("a", (), 9)], entry("n", GZIP, 8), ["a"]),
        # but not what claims to come from the future: the clock was set back
        ([entry("a", (), 999)], entry("n", (), 8), ["n"]),
    ],
)
def test_what_a_new_response_replaces(held: list[Entry], new: Entry, after: list[str]) -> None:
    assert [kept.ident for kept in variants.added(tuple(held), new, NOW)] == after


@pytest.mark.rfc("9111", "4", "most-recent")
@pytest.mark.rfc("9111", "4.1", "several")
@pytest.mark.parametrize(
    ("held", "coding", "chosen"),
    [
        ([entry("a")], None, "a"),
        ([entry("a", GZIP), entry("b", BR)], b"br", "b"),
        ([entry("a", GZIP), entry("b", BR)], b"zstd", None),
        ([entry("a", GZIP)], None, None),
        ([entry("a", ((b"accept-encoding", None),))], None, "a"),
        ([entry("a", GZIP, dated=5), entry("b", ((b"accept", None),), dated=6)], b"gzip", "b"),
        ([entry("a", GZIP, 3, 5), entry("b", ((b"accept", None),), 2, 5)], b"gzip", "a"),
        ([], None, None),
    ],
)
def test_the_most_recent_of_those_that_match_is_chosen(
    held: list[Entry], coding: bytes | None, chosen: str | None
) -> None:
    request = Headers([(b"Accept-Encoding", coding)] if coding else [])
    assert [each.ident for each in variants.select(tuple(held), request)] == ([chosen] if chosen else [])


def part(ident: str, bounds: tuple[int, int], etag: str = '"e"', received: float = 1.0, complete: int = 100) -> Entry:
    return Entry(ident, (), received, received, etag.encode(), b"", (*bounds, complete))


def whole(ident: str, etag: str, received: float = 1.0) -> Entry:
    return Entry(ident, (), received, received, etag.encode())


@pytest.mark.rfc("9111", "3.4", "same-strong-validator")
@pytest.mark.parametrize(
    ("held", "new", "after"),
    [
        ([part("a", (0, 9))], part("n", (9, 20)), ["a", "n"]),
        ([part("a", (0, 9))], part("n", (5, 20)), ["a", "n"]),
        ([part("a", (0, 9))], part("n", (2, 5)), ["a", "n"]),
        ([part("a", (0, 9)), part("b", (3, 20))], part("n", (0, 9)), ["b", "n"]),
        # only a strong entity tag says that two parts are of one representation
        ([part("a", (0, 9))], part("n", (9, 20), '"other"'), ["n"]),
        ([part("a", (0, 9), 'W/"e"')], part("n", (9, 20), 'W/"e"'), ["n"]),
        ([part("a", (0, 9))], part("n", (9, 20), complete=101), ["n"]),
        # and the whole
        ([part("a", (0, 9)), part("b", (9, 20))], whole("n", '"e"'), ["n"]),
        ([part("a", (0, 9), received=9)], whole("n", '"e"', 8), ["n"]),
        ([part("a", (0, 9), received=9)], whole("n", '"older"', 8), ["a"]),
        ([whole("a", '"e"')], part("n", (0, 9), received=8), ["a"]),
        ([whole("a", '"older"')], part("n", (0, 9), received=8), ["n"]),
        ([whole("a", '"newer"', 9)], part("n", (0, 9), received=8), ["a"]),
        ([whole("a", 'W/"e"')], part("n", (0, 9), 'W/"e"', 8), ["n"]),
        # parts may come in any order
        ([part("a", (0, 9), received=9)], part("n", (9, 20), received=8), ["a", "n"]),
        ([part("a", (0, 9), received=9)], part("n", (9, 20), '"other"', 8), ["a"]),
        ([entry("a", GZIP)], part("n", (0, 9)), ["n"]),
    ],
)
def test_what_a_part_replaces_and_what_replaces_it(held: list[Entry], new: Entry, after: list[str]) -> None:
    assert [kept.ident for kept in variants.added(tuple(held), new, NOW)] == after


def test_parts_are_chosen_together_by_start() -> None:
    held = (part("a", (50, 60)), part("b", (0, 9), received=2), part("c", (9, 20)))
    assert [each.ident for each in variants.select(held, Headers())] == ["b", "c", "a"]


def test_the_parts_received_first_go_when_there_are_too_many() -> None:
    held: Entries = ()
    for number in range(variants.MAX_PARTS):
        held = variants.added(held, part(f"{number:02}", (number, number + 1), received=50 + number), NOW)
    assert len(variants.added(held, part("n", (50, 51), received=60), NOW)) == variants.MAX_PARTS
    assert variants.without(held, "00") == variants.added(held, part("n", (50, 51), received=70), NOW)[:-1]
    assert variants.added(held, part("n", (50, 51), received=1), NOW) == held


def test_what_has_expired_is_neither_found_nor_added() -> None:
    held = (
        entry("a"),
        msgspec.structs.replace(entry("b"), expires=NOW),
        msgspec.structs.replace(entry("c"), expires=999),
    )
    assert [each.ident for each in variants.living(held, NOW)] == ["a", "c"]
    assert variants.added(held, msgspec.structs.replace(entry("n"), expires=NOW), NOW) is held


@pytest.mark.parametrize(
    ("field", "coding"), [(None, b""), (b"gzip", b"gzip"), (b" GZip ", b"gzip"), (b"br,gzip", b"br,gzip")]
)
def test_an_entry_knows_its_coding(field: bytes | None, coding: bytes) -> None:
    what = meta()
    headers = what.head.headers if field is None else what.head.headers.adding((b"Content-Encoding", field))
    assert variants.entry_of("n", replace(what, head=replace(what.head, headers=headers))).coding == coding


def test_a_request_that_offers_less_gets_the_coding_that_the_origin_took() -> None:
    held = (msgspec.structs.replace(entry("a", ((b"accept-encoding", b"br, gzip"),)), coding=b"gzip"),)
    request = Headers([(b"Accept-Encoding", b"gzip")])
    assert [each.ident for each in variants.select(held, request)] == ["a"]


def test_freshening_leaves_an_entry_what_it_is_a_part_of() -> None:
    held = (msgspec.structs.replace(part("a", (3, 9)), moment=7, expires=999.0),)
    assert variants.freshened(held, "a", meta(at=50.0)) == (
        Entry("a", (), 50.0, 50.0, b'"1"', b"", (3, 9, 100), 7, 999.0),
    )


def test_an_entry_takes_its_date_and_etag_from_the_head() -> None:
    what = meta(at=1000.0, etag="x", nominated=GZIP)
    assert variants.entry_of("n", what) == Entry("n", GZIP, 1000.0, 1000.0, b'"x"')


def test_the_least_recently_used_variants_are_dropped() -> None:
    held = tuple(entry(name, ((b"accept", name.encode()),)) for name in "abcd")
    kept = variants.pruned(held, {"a": 9.0, "b": 1.0, "d": 5.0}, limit=2)
    assert [each.ident for each in kept] == ["a", "d"]
    assert variants.pruned(held, {}, limit=4) is held


def test_parts_count_as_one_variant() -> None:
    held = (*(part(name, (0, 9)) for name in "abc"), entry("d", GZIP), entry("e", BR))
    assert [each.ident for each in variants.pruned(held, {"b": 9.0, "d": 1.0, "e": 5.0}, limit=2)] == [
        "a",
        "b",
        "c",
        "e",
    ]
    assert [each.ident for each in variants.pruned(held, {"b": 1.0, "d": 9.0, "e": 5.0}, limit=2)] == ["d", "e"]


idents = st.sampled_from("abcdefghijk")
# A copy's selection and what it is a part of never change.
SELECTIONS = {"a": (), "b": GZIP, "c": BR, "d": (), "e": GZIP, "f": BR, "g": (), "h": (), "i": GZIP, "j": GZIP, "k": ()}
PARTS = {"d": (0, 9, 20), "g": (5, 15, 20), "h": (0, 5, 20), "i": (0, 9, 20), "j": (0, 15, 20)}


def _put(ident: str, received: float, etag: bytes | None) -> Put:
    new = Entry(ident, SELECTIONS[ident], received, received, etag, b"", PARTS.get(ident))
    return Put(ROW, new, pack(ROW, ident, meta(), 0, b"", b""), None)


puts = st.builds(_put, idents, st.integers(1, 5).map(float), st.sampled_from([b'"1"', b'"2"', b'W/"1"', None]))
changes = st.one_of(
    puts,
    st.builds(lambda ident: Remove(ROW, ident), idents),
    st.builds(lambda: Forget(ROW)),
    st.builds(lambda ident: Freshen(ROW, ident, meta(at=6.0, nominated=SELECTIONS[ident])), idents),
)


def _after(entries: Entries, these: list[Change]) -> Entries:
    for change in these:
        entries = change.on(entries, NOW)
    return entries


@given(st.lists(changes, max_size=8))
def test_a_key_holds_one_response_or_parts_of_one_under_each_selection(these: list[Change]) -> None:
    entries = _after((), these)
    selections = {each.nominated for each in entries}
    assert len(selections) <= 1 or () not in selections
    for selection in selections:
        beside = [each for each in entries if each.nominated == selection]
        assert len(beside) == 1 or all(each.part for each in beside)
        assert len({each.etag for each in beside}) == 1
    assert len({each.ident for each in entries}) == len(entries)


@given(st.lists(changes, max_size=8), st.integers(0, 8))
def test_changes_that_are_in_the_rows_already_may_be_applied_again(these: list[Change], committed: int) -> None:
    # As a lookup does that meets a change among the pending ones just after its commit. Idents are never used twice.
    these = [
        change
        for number, change in enumerate(these)
        if not (isinstance(change, Put) and _names(change) in map(_names, these[:number]))
    ]
    again = _after(_after((), these[:committed]), these)
    assert {each.ident: each for each in again} == {each.ident: each for each in _after((), these)}


def _names(change: Change) -> str | None:
    match change:
        case Put():
            return change.entry.ident
        case Freshen() | Remove():
            return change.ident
    return None
