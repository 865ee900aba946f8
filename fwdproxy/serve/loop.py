"""The event loop of the running program, and the signals that end it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


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

    return Loop
