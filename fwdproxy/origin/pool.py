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
        self._shelves: dict[PoolKey, list[Connection]] = {}
        self._shelf_of: dict[Connection, list[Connection]] = {}  # in the order in which they became idle

    def __len__(self) -> int:
        return len(self._shelf_of)

    def take(self, key: PoolKey, idle_at_most: float = math.inf) -> Connection | None:
        """A connection that has been idle for no more than so many seconds, or None."""
        shelf = self._shelves.get(key)
        while shelf:
            connection = shelf[-1]
            if asyncio.get_running_loop().time() - connection.idle_since > idle_at_most:
                return None
            self.discard(connection)
            if connection.usable:
                return connection
        return None

    def put(self, key: PoolKey, connection: Connection) -> None:
        """Keep an idle connection. Beyond the limits the one that is idle longest is closed."""
        shelf = self._shelves.setdefault(key, [])
        shelf.append(connection)
        self._shelf_of[connection] = shelf
        if len(shelf) > self._settings.max_idle:
            self._close(shelf[0])
        elif len(self._shelf_of) > self._settings.max_idle_total:
            self._close(next(iter(self._shelf_of)))
        if len(self._shelves) > 2 * self._settings.max_idle_total:
            self._shelves = {key: shelf for key, shelf in self._shelves.items() if shelf}

    def discard(self, connection: Connection) -> None:
        """Forget a connection that is gone or taken."""
        shelf = self._shelf_of.pop(connection, None)
        if shelf is None:
            return
        if shelf[-1] is connection:
            shelf.pop()
        else:
            shelf.remove(connection)

    def _close(self, connection: Connection) -> None:
        self.discard(connection)
        connection.close()
