"""A TCP server that accepts all that wait at once.

libuv, on which uvloop stands, accepts one connection in each round of its loop. Where rounds are long, since a hundred
clients get bytes in each, the hundredth newcomer would wait for a hundred of them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

logger = logging.getLogger("fwdproxy.serve")

AT_ONCE: Final = 128
"""Connections accepted in one round of the loop, at most."""

PAUSE: Final = 1.0
"""Seconds without accepting when there are no descriptors left."""

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor(asyncio.AbstractServer):
    """Serves ``sockets``, which listen, on ``loop``; each connection gets a protocol from ``factory``."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, factory: Callable[[], asyncio.BaseProtocol], sockets: Sequence[Any]
    ) -> None:
        self.sockets = tuple(sockets)
        self._loop = loop
        self._factory = factory
        self._serving = False
        self._joining: set[asyncio.Task[Any]] = set()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """See asyncio.Server."""
        return self._loop

    def is_serving(self) -> bool:
        """See asyncio.Server."""
        return self._serving

    async def start_serving(self) -> None:
        """See asyncio.Server."""
        if not self._serving:
            self._serving = True
            for listener in self.sockets:
                self._listen(listener)

    async def serve_forever(self) -> None:
        """See asyncio.Server: until cancelled."""
        await self.start_serving()
        try:
            await self._loop.create_future()
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening; connections that were accepted go on."""
        self._serving = False
        for listener in self.sockets:
            if listener.fileno() >= 0:
                self._loop.remove_reader(listener)
                listener.close()

    async def wait_closed(self) -> None:
        """See asyncio.Server."""

    def _listen(self, listener: socket.socket) -> None:
        if self._serving:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                logger.error("no more connections for a second: %s", error.strerror)
                self._loop.remove_reader(listener)
                self._loop.call_later(PAUSE, self._listen, listener)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._join(connection))
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)

    async def _join(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError:  # it has gone meanwhile
            connection.close()
