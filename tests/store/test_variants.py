"""Which responses a key may hold at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.messages import Headers
from fwdproxy.store import variants
from fwdproxy.store.changes import Change, Forget, Freshen, Put, Remove
from fwdproxy.store.records import Entry, pack
from fwdproxy.store.variants import Entries
from tests.store.samples import meta

GZIP = ((b"accept-encoding", b"gzip"),)
BR = ((b"accept-encoding", b"br"),)
NOW = 100.0


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
    found = variants.select(tuple(held), request)
    assert (found and found.ident) == chosen


def test_an_entry_takes_its_date_and_etag_from_the_head() -> None:
    what = meta(at=1000.0, etag="x", nominated=GZIP)
    assert variants.entry_of("n", what) == Entry("n", GZIP, 1000.0, 1000.0, b'"x"')


def test_the_least_recently_used_variants_are_dropped() -> None:
    held = tuple(entry(name, ((b"accept", name.encode()),)) for name in "abcd")
    kept = variants.pruned(held, {"a": 9.0, "b": 1.0, "d": 5.0}, limit=2)
    assert [each.ident for each in kept] == ["a", "d"]
    assert variants.pruned(held, {}, limit=4) is held


idents = st.sampled_from("abcdef")
SELECTIONS = {"a": (), "b": GZIP, "c": BR, "d": (), "e": GZIP, "f": BR}  # a copy's selection never changes
puts = st.builds(
    lambda ident, received: Put(
        b"row", entry(ident, SELECTIONS[ident], received), pack(b"row", ident, meta(), 0, b"", b""), None
    ),
    idents,
    st.integers(1, 5).map(float),
)
changes = st.one_of(
    puts,
    st.builds(lambda ident: Remove(b"row", ident), idents),
    st.builds(lambda: Forget(b"row")),
    st.builds(lambda ident: Freshen(b"row", entry(ident, SELECTIONS[ident], 6.0), meta()), idents),
)


def _after(entries: Entries, these: list[Change]) -> Entries:
    for change in these:
        entries = change.on(entries, NOW)
    return entries


@given(st.lists(changes, max_size=8))
def test_a_key_holds_one_response_without_vary_or_variants_of_different_selections(these: list[Change]) -> None:
    entries = _after((), these)
    selections = [each.nominated for each in entries]
    assert len(entries) <= 1 or () not in selections
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
        case Put() | Freshen():
            return change.entry.ident
        case Remove():
            return change.ident
    return None
