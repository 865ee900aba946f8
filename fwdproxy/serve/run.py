"""`fwdproxy run`: from settings to an exit status."""

from __future__ import annotations

import asyncio

from fwdproxy import __version__
from fwdproxy.banner import Banner
from fwdproxy.config import Settings
from fwdproxy.mitm.master import serve
from fwdproxy.serve import logs
from fwdproxy.serve.loop import choose_loop, until_told


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM asks for a clean stop; returns the exit status.

    Raises FwdProxyError when the proxy can't start.
    """
    new_loop, loop_name = choose_loop()

    def announce(banner: Banner) -> None:
        print(banner.text(__version__, loop_name), flush=True)  # noqa: T201  # this is the program's output

    with logs.written(), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(until_told(serve(settings, announce)))
    return 0
