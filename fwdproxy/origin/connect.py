"""New connections: addresses raced (RFC 8305), TLS on top, all within one time limit."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Final

from fwdproxy.errors import OriginError
from fwdproxy.messages import Origin
from fwdproxy.origin.connection import Connection
from fwdproxy.origin.pool import PoolKey
from fwdproxy.origin.resolver import Resolver
from fwdproxy.origin.settings import IPAddress, OriginSettings

ATTEMPT_DELAY: Final = 0.25
"""Seconds before the next address is tried beside those under way (RFC 8305 §5)."""

Attempt = Callable[[IPAddress], Coroutine[Any, Any, socket.socket]]

_KINDS: Final = {
    errno.ECONNREFUSED: "connection_refused",
    errno.ECONNRESET: "connection_terminated",
    errno.EMFILE: "proxy_internal_error",
    errno.ENFILE: "proxy_internal_error",
    errno.EHOSTUNREACH: "destination_ip_unroutable",
    errno.ENETUNREACH: "destination_ip_unroutable",
    errno.EADDRNOTAVAIL: "destination_ip_unroutable",
    errno.EAFNOSUPPORT: "destination_ip_unroutable",
    errno.ETIMEDOUT: "connection_timeout",
}


class Connector:
    """Makes connections for a pool key. ``on_idle`` and ``on_lost`` go to each `Connection` it makes."""

    def __init__(self, settings: OriginSettings, resolver: Resolver) -> None:
        self._settings = settings
        self._resolver = resolver

    async def connect(
        self, key: PoolKey, on_idle: Callable[[Connection], None], on_lost: Callable[[Connection], None]
    ) -> Connection:
        """A connection on which a request can begin. Raises OriginError, never with ``sent``."""
        host = key.origin.host
        kind = "dns_timeout"
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                addresses = self._allowed(key.origin, await self._resolver.resolve(host))
                kind = "connection_timeout"
                sock = await self._dial(host, addresses, key.origin.port)
                return await self._establish(key, sock, Connection(self._settings, on_idle, on_lost))
        except TimeoutError:
            seconds = self._settings.connect_timeout
            raise OriginError(kind, f"no connection to {key.origin} within {seconds:g} s") from None

    def _allowed(self, origin: Origin, addresses: Sequence[IPAddress]) -> Sequence[IPAddress]:
        allow = self._settings.allow
        if allow is None:
            return addresses
        plain = [(address, getattr(address, "ipv4_mapped", None) or address) for address in addresses]
        allowed = [address for address, dialled in plain if allow(dialled, origin.port)]
        if not allowed:
            raise OriginError("destination_ip_prohibited", f"{origin} is at an address that isn't allowed")
        return allowed

    async def _dial(self, host: str, addresses: Sequence[IPAddress], port: int) -> socket.socket:
        try:
            return await race(interleave(addresses), partial(_tcp, port=port), ATTEMPT_DELAY)
        except OSError as error:
            self._resolver.forget(host)
            kind = _KINDS.get(error.errno or 0, "destination_unavailable")
            raise OriginError(kind, f"{host} port {port}: {error.strerror or error}") from None

    async def _establish(self, key: PoolKey, sock: socket.socket, connection: Connection) -> Connection:
        loop = asyncio.get_running_loop()
        if key.tls is None:
            await loop.create_connection(lambda: connection, sock=sock)
            return connection
        origin = key.origin
        try:
            layer = key.tls.wrap(origin.host, (origin.host, origin.port, key.hop), connection)
        except OriginError:
            sock.close()
            raise
        await loop.create_connection(lambda: layer, sock=sock)
        try:
            await layer.handshake()
        except BaseException:
            layer.abort()
            raise
        return connection


async def _tcp(address: IPAddress, *, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # tunnels have no deadline of ours
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def interleave(addresses: Sequence[IPAddress]) -> list[IPAddress]:
    """The families in turn, beginning with that of the first address (RFC 8305 §4)."""
    first = [address for address in addresses if address.version == addresses[0].version]
    other = [address for address in addresses if address.version != addresses[0].version]
    return [address for address in chain.from_iterable(zip_longest(first, other)) if address is not None]


async def race(addresses: Sequence[IPAddress], attempt: Attempt, delay: float) -> socket.socket:
    """The first socket that connects; the next address is tried after ``delay`` seconds, or at once after a failure.

    Raises the last OSError when all fail.
    """
    waiting = list(addresses)[::-1]
    started: list[asyncio.Task[socket.socket]] = []
    running: set[asyncio.Task[socket.socket]] = set()
    winner: asyncio.Task[socket.socket] | None = None
    failure = OSError("no address")
    try:
        while waiting or running:
            if waiting:
                started.append(asyncio.create_task(attempt(waiting.pop()), name="connect"))
                running.add(started[-1])
            done, running = await asyncio.wait(
                running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = task
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure
    finally:
        for task in started:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_close_unused)


def _close_unused(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
