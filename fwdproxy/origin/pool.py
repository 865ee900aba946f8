"""Connections that wait for their next request, shared by all clients."""

from __future__ import annotations

import asyncio
import math
from typing import NamedTuple

from fwdproxy.egress.hops import Hop
from fwdproxy.messages import Origin
from fwdproxy.origin.connection import Connection
from fwdproxy.origin.settings import OriginSettings
from fwdproxy.origin.tls import TlsProfile


class PoolKey(NamedTuple):
    """What connections must have in common to stand in for each other. ``tls`` is None for plain TCP."""

    origin: Origin
    hop: Hop
    tls: TlsProfile | None


class Pool:
    """Idle connections by key, the one used last first, since it is the least likely to be dead."""

    def __init__(self, settings: OriginSettings) -> None:
        self._settings = settings
        self._idle: dict[PoolKey, list[Connection]] = {}
        self._keys: dict[Connection, PoolKey] = {}  # in the order in which they became idle

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, key: PoolKey, idle_at_most: float = math.inf) -> Connection | None:
        """A connection that has been idle for no more than so many seconds, or None."""
        idle = self._idle.get(key)
        while idle:
            connection = idle[-1]
            if asyncio.get_running_loop().time() - connection.idle_since > idle_at_most:
                return None
            self._remove(connection)
            if connection.usable:
                return connection
        return None

    def put(self, key: PoolKey, connection: Connection) -> None:
        """Keep an idle connection. Beyond the limits the one that is idle longest is closed."""
        self._keys[connection] = key
        idle = self._idle.setdefault(key, [])
        idle.append(connection)
        if len(idle) > self._settings.max_idle:
            self._close(idle[0])
        elif len(self._keys) > self._settings.max_idle_total:
            self._close(next(iter(self._keys)))

    def discard(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        if connection in self._keys:
            self._remove(connection)

    def _close(self, connection: Connection) -> None:
        self._remove(connection)
        connection.close()

    def _remove(self, connection: Connection) -> None:
        key = self._keys.pop(connection)
        idle = self._idle[key]
        if idle[-1] is connection:
            idle.pop()
        else:
            idle.remove(connection)
        if not idle:
            del self._idle[key]
