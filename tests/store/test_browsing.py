"""Listing what is stored."""

import pytest

from fwdproxy.errors import StoreError
from fwdproxy.messages import CacheKey, Span
from fwdproxy.store.base import Listed, Page
from fwdproxy.store.disk import DiskStore
from fwdproxy.store.purging import PurgeRule
from tests.store.samples import content, key, meta, put, wants
from tests.store.test_disk import change_rows


async def all_pages(store: DiskStore, limit: int, prefix: str = "", host: str = "") -> list[Page]:
    pages = [await store.browse(limit=limit, prefix=prefix, host=host)]
    while (after := pages[-1].next) is not None:
        pages.append(await store.browse(limit=limit, after=after, prefix=prefix, host=host))
    return pages


async def test_everything_is_listed_once_and_in_order(store: DiskStore) -> None:
    for number in range(25):
        await put(store, key(f"{number:02}"), content(number * 3000, number))
    for limit in (1, 7, 100):
        pages = await all_pages(store, limit)
        assert all(len(page.items) <= limit for page in pages)
        items = [item for page in pages for item in page.items]
        assert [item.key for item in items] == [key(f"{number:02}") for number in range(25)]
        assert [item.length for item in items] == [number * 3000 for number in range(25)]
    assert await store.browse(limit=1, prefix="none") == Page((), None)


async def test_what_is_said_of_a_response(store: DiskStore) -> None:
    ident = await put(store, key(), b"body")
    (item,) = (await store.browse()).items
    assert item == Listed(key(), ident, meta(), 4, None, item.used, outdated=False)
    assert item.used > 1_700_000_000
    await store.purge(PurgeRule("url", key().uri))
    await put(store, key("b"), b"body")
    assert [(item.key, item.outdated) for item in (await store.browse()).items if item.key == key("b")] == [
        (key("b"), False)
    ]


async def test_variants_and_parts_of_a_uri_stay_together(store: DiskStore) -> None:
    for coding in ("gzip", "br", "zstd"):
        await put(store, key("a"), coding.encode(), meta(nominated=wants(coding)[0]))
    for start in (0, 50):
        fill = store.open_fill(key("b"), meta(), 10, part=(Span(start, start + 10), 100))
        await fill.write(bytes(10))
        await fill.complete()
    query = CacheKey("direct", "QUERY", key("a").uri, "digest")
    await put(store, query, b"answer")
    first, *rest = await all_pages(store, 1)
    assert [item.key for item in first.items] == [key("a")] * 3
    assert {item.meta.nominated for item in first.items} == {wants(each)[0] for each in ("gzip", "br", "zstd")}
    assert [[item.key for item in page.items] for page in rest if page.items] == [[query], [key("b")] * 2]
    parts = [item.part for page in rest for item in page.items if item.key == key("b")]
    assert sorted(parts, key=str) == [(Span(0, 10), 100), (Span(50, 60), 100)]


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({"host": "example.com"}, ["https://example.com/a"]),
        ({"host": ".example.com"}, ["http://sub.example.com/", "https://example.com/a"]),
        ({"host": "none.example"}, []),
        ({"prefix": "http://"}, ["http://sub.example.com/"]),
        ({"prefix": "https://example.com/", "host": ".example.com"}, ["https://example.com/a"]),
        ({"prefix": "http://", "host": "example.com"}, []),
        ({}, ["http://sub.example.com/", "https://example.com/a", "https://other.example/"]),
    ],
)
async def test_by_host_and_by_prefix(store: DiskStore, which: dict[str, str], found: list[str]) -> None:
    for uri in ("https://example.com/a", "http://sub.example.com/", "https://other.example/"):
        await put(store, CacheKey("direct", "GET", uri), b"body")
    for limit in (1, 10):
        pages = await all_pages(store, limit, **which)
        assert [item.key.uri for page in pages for item in page.items] == found


async def test_what_is_purged_and_what_is_broken(store: DiskStore) -> None:
    await put(store, key("a"), b"body")
    await put(store, key("b"), b"body")
    await store.settle()
    change_rows(store, "UPDATE Cache SET value = X'00' WHERE instr(key, CAST('/b' AS BLOB))")
    change_rows(
        store, "INSERT INTO Cache (key, raw, value, mode, tag) VALUES (CAST('knonsense' AS BLOB), 1, X'00', 1, 1)"
    )
    assert [item.key for item in (await store.browse()).items] == [key("a")]
    await store.aclose()
    with pytest.raises(StoreError, match="out of use"):
        await store.browse()
