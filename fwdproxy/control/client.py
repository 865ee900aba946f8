"""Asking a running proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from fwdproxy import __version__
from fwdproxy.control import sockets, urls
from fwdproxy.control.messages import LONGEST_EVENT, Command, Done, Event, Failure, Hello
from fwdproxy.errors import FwdProxyError

HELLO_PATIENCE: Final = 10.0
"""Seconds that a proxy may take to say that it is there."""

_decode: Callable[[bytes], Event] = msgspec.json.Decoder(Event).decode
_encode = msgspec.json.Encoder().encode


class Running:
    """A running proxy, reached by its control socket: the same `do` as `Admin` has, one command a connection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def do(self, command: Command) -> AsyncGenerator[Event]:
        """The events that answer ``command``, the last one `Done`. Raises FwdProxyError with the proxy's own words."""
        try:
            line = _encode(command) + b"\n"
        except UnicodeEncodeError as error:
            raise FwdProxyError(urls.not_text(error.object)) from None
        connection = sockets.connect(self._path)
        if connection is None:
            raise FwdProxyError("the proxy stopped meanwhile; try again")
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LONGEST_EVENT)
        try:
            await self._greet(reader)
            writer.write(line)
            while True:
                event = await _next(reader)
                if isinstance(event, Failure):
                    raise FwdProxyError(event.text)
                yield event
                if isinstance(event, Done):
                    return
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _greet(self, reader: asyncio.StreamReader) -> None:
        try:
            async with asyncio.timeout(HELLO_PATIENCE):
                hello = await _next(reader)
        except TimeoutError:
            raise FwdProxyError(f"the proxy behind {self._path} does not answer; stop it and try again") from None
        if not isinstance(hello, Hello) or hello.version != __version__:
            version = hello.version if isinstance(hello, Hello) else "unknown"
            raise FwdProxyError(
                f"the proxy that runs is version {version}, and this is {__version__}; start it anew and try again"
            )


async def _next(reader: asyncio.StreamReader) -> Event:
    try:
        return _decode(await reader.readuntil())
    except (asyncio.IncompleteReadError, ConnectionError):
        raise FwdProxyError("the proxy stopped in the middle; try again when it runs") from None
    except (asyncio.LimitOverrunError, msgspec.DecodeError) as error:
        raise FwdProxyError(f"the proxy's answer can't be understood ({error}); is it another version?") from None


def running(folder: Path) -> list[Running]:
    """The proxies that run on the data folder with the control folder ``folder``, the newest first."""
    alive = []
    for path in sockets.found(folder):
        try:
            connection = sockets.connect(path)
        except FwdProxyError:
            pass  # it lives, and whoever asks it will hear what is wrong
        else:
            if connection is None:
                continue
            connection.close()
        alive.append(Running(path))
    return alive
