"""What people ask of a cache, done on a real one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fwdproxy.config import CacheTable, RecipeTable, RuleTable, Settings
from fwdproxy.control import visiting
from fwdproxy.control.admin import Admin
from fwdproxy.control.messages import (
    Checked,
    Chunk,
    Entry,
    Explain,
    Explanation,
    Fetch,
    Fetched,
    Ls,
    Progress,
    Purge,
    Purged,
    Remark,
    Show,
    Statistics,
    Stats,
    Verify,
    Warm,
    Why,
)
from fwdproxy.errors import ConfigError, FwdProxyError
from fwdproxy.values import Duration, HostPattern, Size, Timeout
from tests.control.conftest import NOW, Cache, events
from tests.store.samples import body_files


async def warm(cache: Cache, *paths: str) -> None:
    fetched = await events(cache.admin(), Warm(urls=tuple(cache.site.url(path) for path in paths)))
    assert {each.how for each in fetched} == {"stored"}


async def listed(cache: Cache, **what: str) -> list[str]:
    return [entry.url for entry in await events(cache.admin(), Ls(**what))]  # type: ignore[arg-type]


async def test_warming_says_what_became_of_each(cache: Cache) -> None:
    urls = (cache.site.url("/fresh"), cache.site.url("/private"), cache.site.url("/none"), "nonsense")
    told = {each.url: each for each in await events(cache.admin(), Warm(urls=urls))}
    fresh, private, none, nonsense = (told[url] for url in urls)
    assert fresh == Fetched(url=urls[0], how="stored", status=200, bytes=5)
    assert private == Fetched(url=urls[1], how="passed", status=200, bytes=7, why="the origin forbids storing")
    assert none == Fetched(url=urls[2], how="failed", status=404, bytes=4, why="status 404")
    assert (nonsense.how, nonsense.status) == ("failed", 0)
    assert nonsense.why.startswith("'nonsense' is not a URL; write all of it")
    assert (await events(cache.admin(), Warm(urls=urls[:1])))[0].how == "hit"


async def test_warming_asks_a_host_for_two_things_at_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "PAUSE", 0.0)
    at_once: list[int] = []
    under_way = 0
    two = asyncio.Event()

    async def wait(path: str) -> None:
        nonlocal under_way
        under_way += 1
        at_once.append(under_way)
        if under_way == 2:
            two.set()
        await two.wait()  # the first waits for a second
        under_way -= 1

    cache.site.before = wait
    await warm(cache, *(f"/fresh?{number}" for number in range(8)))
    assert max(at_once) == visiting.AT_ONE_HOST
    assert len(cache.site.asked) == 8


async def test_a_fetch_gives_the_bytes(cache: Cache) -> None:
    *chunks, fetched = await events(cache.admin(), Fetch(url=cache.site.url("/big")))
    assert b"".join(chunk.data for chunk in chunks if isinstance(chunk, Chunk)) == b"x" * 100_000
    assert (fetched.how, fetched.bytes) == ("stored", 100_000)


async def test_what_is_stored_is_listed(cache: Cache) -> None:
    await warm(cache, "/fresh", "/fresh?a", "/big")
    cache.now += 10
    assert sorted(await listed(cache)) == [cache.site.url(path) for path in ("/big", "/fresh", "/fresh?a")]
    assert await listed(cache, prefix=cache.site.url("/b")) == [cache.site.url("/big")]
    assert await listed(cache, host="other.example") == []
    assert len(await events(cache.admin(), Ls(limit=2))) == 2
    [entry] = await events(cache.admin(), Show(url=cache.site.url("/fresh")))
    assert isinstance(entry, Entry)
    assert (entry.status, entry.length, entry.type, entry.received) == (200, 5, "text/plain", NOW)
    assert (entry.age, entry.lifetime, entry.lifetime_code, entry.fresh_for) == (10, 60, "max-age", 50)
    assert ("Cache-Tag", "news") in entry.fields
    assert not entry.outdated


async def test_statistics(cache: Cache) -> None:
    await warm(cache, "/fresh", "/big")
    await cache.store.settle()
    [stats] = await events(cache.admin(running=False), Stats())
    assert isinstance(stats, Statistics)
    assert (stats.objects, stats.limit, stats.folder) == (2, 100_000_000, str(cache.folder / "cache"))
    assert not stats.memory
    [stats] = await events(cache.admin(rules=(RuleTable(memory=True),)), Stats())
    assert (stats.folder, stats.memory) == (str(cache.folder / "cache"), True)
    assert stats.bytes > 100_000


@pytest.mark.parametrize(
    ("kind", "value", "left"),
    [
        ("url", "{origin}/fresh", ["/big"]),
        ("prefix", "{origin}/f", ["/big"]),
        ("host", "127.0.0.1", []),
        ("tag", "news", ["/big"]),
        ("all", "", []),
    ],
)
async def test_purges_hold_at_once(cache: Cache, kind: str, value: str, left: list[str]) -> None:
    await warm(cache, "/fresh", "/big")
    command = Purge(kind=kind, value=value.format(origin=cache.site.url("")))
    [purged] = await events(cache.admin(running=False), command)
    assert purged == Purged(kind=kind, value=command.value)
    entries = await events(cache.admin(), Ls())
    assert [entry.url for entry in entries if not entry.outdated] == [cache.site.url(path) for path in left]
    fetched = await events(cache.admin(), Warm(urls=(cache.site.url("/fresh"),)))
    assert fetched[0].how == "stored"


async def test_statistics_of_a_store_in_memory(cache: Cache) -> None:
    chose = Settings(data_dir=cache.folder, cache=CacheTable(memory=True))
    [stats] = await events(Admin(cache.store, None, chose, limit=Size(10**6)), Stats())
    assert (stats.folder, type(stats.limit), stats.memory) == ("memory", int, True)


async def test_a_url_is_purged_by_its_key_too(cache: Cache) -> None:
    ignoring = cache.admin(cache=CacheTable(ignore_tracking=True))
    await events(ignoring, Warm(urls=(cache.site.url("/fresh?utm_source=a"),)))
    assert await listed(cache) == [cache.site.url("/fresh")]
    purged = await events(ignoring, Purge(kind="url", value=cache.site.url("/fresh?utm_source=b")))
    assert [each.value for each in purged] == [cache.site.url("/fresh?utm_source=b"), cache.site.url("/fresh")]
    assert all(entry.outdated for entry in await events(cache.admin(), Ls()))


async def test_verify_removes_rot(cache: Cache) -> None:
    await warm(cache, "/fresh", "/big")
    await cache.store.settle()
    [file] = body_files(cache.store)
    file.write_bytes(b"y" * 100_000)
    *steps, found = await events(cache.admin(running=False), Verify())
    assert all(isinstance(step, Progress) for step in steps)
    assert steps[-1].done == 2
    assert found == Checked(checked=2, bytes=100_005, removed=(cache.site.url("/big"),))
    assert await listed(cache) == [cache.site.url("/fresh")]


async def explain(
    at: Cache, path: str, *fields: tuple[str, str], dry_run: bool = False, **settings: object
) -> Explanation:
    command = Explain(url=at.site.url(path), fields=fields, dry_run=dry_run)
    [told] = await events(at.admin(running=not dry_run, **settings), command)
    assert isinstance(told, Explanation)
    return told


def code(why: Why | None) -> str | None:
    return None if why is None else why.code


async def test_explaining_a_miss_and_a_hit(cache: Cache) -> None:
    miss = await explain(cache, "/fresh")
    assert (miss.status, miss.source, miss.kept, miss.key) == (200, "origin", True, cache.site.url("/fresh"))
    assert (code(miss.why), code(miss.kept_why), miss.lifetime, miss.stored) == ("uri-miss", "stored", 60, ())
    hit = await explain(cache, "/fresh")
    assert (hit.source, hit.kept, code(hit.why), hit.lifetime) == ("cache", False, "max-age", 60)
    assert len(hit.stored) == 1
    assert len(cache.site.asked) == 1


async def test_explaining_why_nothing_is_stored(cache: Cache) -> None:
    told = await explain(cache, "/private")
    assert told.kept_why is not None
    assert (told.kept, told.kept_why.code, told.kept_why.section) == (False, "no-store", "RFC 9111 §5.2.2.5")
    assert "origin" in told.kept_why.advice


async def test_explaining_a_reload(cache: Cache) -> None:
    await warm(cache, "/fresh")
    told = await explain(cache, "/fresh", ("Cache-Control", "no-cache"))
    assert (told.source, code(told.why)) == ("origin", "request-no-cache")


async def test_explaining_what_the_proxy_says_itself(cache: Cache) -> None:
    told = await explain(cache, "/fresh", ("Cache-Control", "only-if-cached"))
    assert (told.status, told.source, code(told.why)) == (504, "proxy", "only-if-cached")
    cache.site.port = 1
    told = await explain(cache, "/fresh")
    assert (told.status, told.source, told.fault) == (502, "proxy", "connection_refused")


async def test_a_dry_run_tells_key_and_rules_and_asks_nobody(cache: Cache) -> None:
    settings: dict[str, object] = {
        "cache": CacheTable(retention=Timeout(86400)),
        "rules": (
            RuleTable(host=(HostPattern("127.0.0.1"),), min_lifetime=Duration(300)),
            RuleTable(host=(HostPattern("other.example"),), bypass=True),
        ),
        "recipes": (RecipeTable(pattern=r"http://127\.0\.0\.1:\d+/mirror\d/(.*)", key=r"http://mirrors.internal/\1"),),
    }
    told = await explain(cache, "/mirror7/a", dry_run=True, **settings)
    assert told.key == "http://mirrors.internal/a"
    assert told.keyed_by == r"the recipe for http://127\.0\.0\.1:\d+/mirror\d/(.*)"
    assert told.rule == ("min_lifetime: fresh for at least 5m", "retention: kept and used for at most 1d")
    assert (told.status, told.why, cache.site.asked) == (0, None, [])


async def test_what_is_over_its_retention_is_outdated(cache: Cache) -> None:
    await warm(cache, "/fresh")
    cache.now += 31
    short = cache.admin(cache=CacheTable(retention=Timeout(30)))
    assert [entry.outdated for entry in await events(short, Ls())] == [True]
    assert [entry.outdated for entry in await events(cache.admin(), Ls())] == [False]


async def test_a_rule_by_type_is_told_of_once_the_type_is_known(cache: Cache) -> None:
    rules: dict[str, Any] = {"rules": (RuleTable(type=("text/*",), min_lifetime=Duration(172800)),)}
    effect = ("min_lifetime: fresh for at least 2d",)
    assert (await explain(cache, "/fresh", dry_run=True, **rules)).rule == ()
    for _ in range(2):  # from the origin, then from the cache
        told = await explain(cache, "/fresh", **rules)
        assert (told.rule, told.lifetime, code(told.lifetime_why)) == (effect, 172800, "rule-min-lifetime")
    assert (await explain(cache, "/fresh", dry_run=True, **rules)).rule == effect
    # The proxy's own page is no response that a rule is for.
    own = await explain(cache, "/other", ("Cache-Control", "only-if-cached"), **rules)
    assert (own.status, own.rule) == (504, ())


async def test_what_is_told_ends_with_the_retention(cache: Cache) -> None:
    short: dict[str, Any] = {"cache": CacheTable(retention=Timeout(3))}
    told = await explain(cache, "/fresh", **short)
    assert (told.lifetime, code(told.lifetime_why)) == (3, "rule-retention")
    [entry] = await events(cache.admin(**short), Show(url=cache.site.url("/fresh")))
    assert (entry.lifetime, entry.lifetime_code) == (3, "rule-retention")


async def test_rules_go_by_what_is_asked_for_not_by_what_a_recipe_makes_of_it(cache: Cache) -> None:
    settings: dict[str, Any] = {
        "recipes": (RecipeTable(pattern=r"http://127\.0\.0\.1:\d+/(fresh)", key=r"http://rec.internal/\1"),),
        "rules": (
            RuleTable(host=(HostPattern("rec.internal"),), max_lifetime=Duration(2)),
            RuleTable(host=(HostPattern("127.0.0.1"),), max_lifetime=Duration(40)),
        ),
    }
    told = await explain(cache, "/fresh", **settings)
    assert (told.key, told.lifetime) == ("http://rec.internal/fresh", 40)
    [entry] = await events(cache.admin(**settings), Show(url=cache.site.url("/fresh")))
    assert (entry.url, entry.lifetime) == ("http://rec.internal/fresh", 40)
    assert [entry.lifetime for entry in (await explain(cache, "/fresh", dry_run=True, **settings)).stored] == [40]


@pytest.mark.parametrize(
    ("kind", "remarks"), [("host", 1), ("prefix", 1), ("group", 1), ("url", 0), ("tag", 0), ("all", 0)]
)
async def test_a_purge_says_what_recipes_keep_from_it(cache: Cache, kind: str, remarks: int) -> None:
    recipes = (RecipeTable(pattern=r"https://a\.example/(.*)", key=r"https://rec.internal/\1"),)
    values = {"host": "a.example", "tag": "a", "group": "a", "all": ""}
    command = Purge(kind=kind, value=values.get(kind, "https://a.example/"), origin="https://a.example")
    told = [event for event in await events(cache.admin(recipes=recipes), command) if isinstance(event, Remark)]
    assert len(told) == remarks
    assert all(r"https://rec.internal/\1" in remark.text for remark in told)
    assert not any(isinstance(event, Remark) for event in await events(cache.admin(), command))


@pytest.mark.parametrize(
    "command", [Warm(urls=("http://a.example/",)), Fetch(url="http://a.example/"), Explain(url="http://a.example/")]
)
async def test_without_a_proxy_nothing_is_fetched(cache: Cache, command: Warm | Fetch | Explain) -> None:
    with pytest.raises(FwdProxyError, match="no proxy runs, and without one nothing can be fetched; start it with"):
        await events(cache.admin(running=False), command)


def test_a_recipe_that_cannot_be_used_is_named_by_its_number(cache: Cache) -> None:
    recipes = (RecipeTable(pattern="https://a/(.*)", key=r"https://b/\1"), RecipeTable(pattern="(", key="https://b/"))
    with pytest.raises(ConfigError, match=r"^recipe 2: the pattern '\(' of a recipe can't be used"):
        cache.admin(recipes=recipes)
