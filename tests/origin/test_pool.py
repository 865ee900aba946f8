"""The pool's book-keeping over many origins."""

from __future__ import annotations

from fwdproxy.egress.hops import DIRECT
from fwdproxy.messages import Origin
from fwdproxy.origin.connection import Connection
from fwdproxy.origin.pool import Pool, PoolKey
from fwdproxy.origin.settings import OriginSettings
from fwdproxy.origin.tls import TlsProfile
from tests.origin.scripted import answering, client, content, origin, response


async def test_origins_without_connections_are_forgotten():
    settings = OriginSettings(max_idle_total=3)
    pool = Pool(settings)
    for number in range(100):
        connection = Connection(settings, lambda _: None, lambda _: None)
        pool.put(PoolKey(Origin("http", f"{number}.test", 80), DIRECT, None), connection)
    assert len(pool) == 3
    assert len(pool._shelves) <= 6


async def test_connections_are_kept_apart_by_what_they_are():
    settings = OriginSettings()
    pool = Pool(settings)
    one, two = TlsProfile(), TlsProfile()
    keys = [
        PoolKey(Origin("http", "a.test", 80), DIRECT, None),
        PoolKey(Origin("http", "a.test", 81), DIRECT, None),
        PoolKey(Origin("http", "b.test", 80), DIRECT, None),
        PoolKey(Origin("https", "a.test", 80), DIRECT, one),
        PoolKey(Origin("https", "a.test", 80), DIRECT, two),
    ]
    connections = [Connection(settings, lambda _: None, lambda _: None) for _ in keys]
    for key, connection in zip(keys, connections, strict=True):
        pool.put(key, connection)
        assert pool._shelves[key] == [connection]
    pool.discard(connections[0])
    pool.discard(connections[0])
    assert len(pool) == 4


async def test_a_connection_that_died_in_the_pool_is_passed_over():
    async with origin(answering(response(b"x"))) as server, client() as http:
        await content(await http.send(server.request()))
        (pooled,) = http._pool._shelf_of
        pooled.close()  # its loss is not reported before the loop's next turn
        assert await content(await http.send(server.request())) == b"x"
        assert len(server.peers) == 2
