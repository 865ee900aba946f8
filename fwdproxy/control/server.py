"""The control socket of a running proxy: one command a connection, one line of JSON each way and event."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

import msgspec

from fwdproxy import __version__
from fwdproxy.control import sockets
from fwdproxy.control.admin import Admin
from fwdproxy.control.messages import LONGEST_COMMAND, Command, Event, Failure, Hello
from fwdproxy.errors import FwdProxyError

logger = logging.getLogger("fwdproxy.control")

COMMAND_PATIENCE: Final = 30.0
"""Seconds that a connection may take to send its command."""

_decode: Callable[[bytes], Command] = msgspec.json.Decoder(Command).decode
_encode = msgspec.json.Encoder().encode


class Control:
    """A control socket that is being served. Set ``admin`` when the proxy gets other settings."""

    def __init__(self, admin: Admin, path: Path) -> None:
        self.admin = admin
        self.path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Take no more commands, end those under way, and remove the socket."""
        self.path.unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self, listener: socket.socket) -> None:
        """Serve what connects to ``listener``."""
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=LONGEST_COMMAND)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="control")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # whoever asked has gone
            try:
                await _tell(writer, Hello(version=__version__, pid=os.getpid()))
                async with asyncio.timeout(COMMAND_PATIENCE):
                    line = await reader.readuntil()
                await self._answer(line, reader, writer)
            except (asyncio.IncompleteReadError, TimeoutError):
                pass  # it only looked whether anyone is here
            except asyncio.LimitOverrunError:
                await _tell(writer, Failure(text=f"a command is longer than {LONGEST_COMMAND} bytes"))
            finally:
                writer.close()

    async def _answer(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do the command, for as long as somebody waits for the answer."""
        work = asyncio.create_task(self._do(line, writer), name="command")
        gone = asyncio.create_task(reader.read(1), name="listener")
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _do(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            command = _decode(line)
            async with aclosing(self.admin.do(command)) as events:
                async for event in events:
                    await _tell(writer, event)
        except FwdProxyError as error:
            await _tell(writer, Failure(text=str(error)))
        except msgspec.DecodeError as error:
            await _tell(writer, Failure(text=f"the proxy doesn't know that command ({error}); is it another version?"))
        except OSError:
            raise
        except Exception as error:
            logger.exception("a command failed by a fault in fwdproxy")
            await _tell(writer, Failure(text=f"a fault in the proxy itself, {type(error).__name__}: {error}"))


async def _tell(writer: asyncio.StreamWriter, event: Event) -> None:
    writer.write(_encode(event) + b"\n")
    await writer.drain()


async def serve_control(admin: Admin, folder: Path) -> Control:
    """Serve commands on a socket in ``folder``, which is made where it is missing. Raises StartupError."""
    listener, path = sockets.listen(folder)
    control = Control(admin, path)
    await control.listen(listener)
    return control
