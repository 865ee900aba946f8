"""The event loop of the running program, and the signals that end it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fwdproxy.serve.acceptor import Acceptor

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""


async def until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end, or until SIGINT or SIGTERM: the first cancels it and waits for it to clean up.

    A second one ends the process at once, with 128 and its number as the status: the store bears that.
    """
    serving = asyncio.ensure_future(work)
    told = False

    def stop(number: int) -> None:
        nonlocal told
        if told:
            os._exit(128 + number)
        told = True
        serving.cancel()

    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        await serving
    except asyncio.CancelledError:
        # The work has cleaned up by now, whether it kept the cancellation to itself or not.
        if not told:
            raise


def choose_loop() -> tuple[Callable[[], asyncio.AbstractEventLoop], str]:
    """A maker of event loops and its name: uvloop where it is installed and works, else asyncio's own."""
    try:
        new_loop = _uvloop()
        new_loop().close()
    except (ImportError, OSError, RuntimeError):
        return asyncio.new_event_loop, "asyncio"
    return new_loop, "uvloop"


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop  # noqa: PLC0415  # absent on some platforms

    class Loop(uvloop.Loop):
        """uvloop hands every task factory ``eager_start=None`` where asyncio hands it nothing.

        The eager factory that mitmproxy sets refuses the argument (CPython 3.13.0) or takes it as "not eager".
        """

        def set_task_factory(self, factory: Any) -> None:
            if factory is None:
                super().set_task_factory(None)
                return

            def without_eager_start(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
                if options.get("eager_start") is None:
                    options.pop("eager_start", None)
                return factory(loop, coro, **options)

            super().set_task_factory(without_eager_start)

        async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
            """A server that accepts all that wait at once, where no other than plain TCP is asked for."""
            if options.get("ssl") is not None:
                return await super().create_server(protocol_factory, *args, **options)
            # uvloop finds the addresses and makes the sockets; it doesn't begin to accept.
            starts = options.pop("start_serving", True)
            plain: Any = await super().create_server(protocol_factory, *args, **options, start_serving=False)
            sockets = [socket.socket(fileno=os.dup(each.fileno())) for each in plain.sockets]
            plain.close()
            for each in sockets:
                each.setblocking(False)
                each.listen(options.get("backlog", BACKLOG))
            server = Acceptor(self, protocol_factory, sockets)
            if starts:
                await server.start_serving()
            return server

    return Loop
