"""The program of ``fwdproxy run``: mitmproxy's core with the few addons it needs, and a clean stop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from mitmproxy import exceptions
from mitmproxy.addons import core, next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master
from mitmproxy.options import Options

from fwdproxy.banner import Banner
from fwdproxy.config import Settings
from fwdproxy.errors import StartupError
from fwdproxy.mitm.certs import authority, ready_folder
from fwdproxy.mitm.options import prepare_options
from fwdproxy.mitm.shell import STOP_GRACE, Shell
from fwdproxy.values import Endpoint

logger = logging.getLogger("fwdproxy.mitm")


async def serve(settings: Settings, announce: Callable[[Banner], None]) -> None:
    """Serve until cancelled; then requests under way get a bounded time and the store is closed.

    ``announce`` is called once the proxy listens. Raises FwdProxyError when it can't start.
    """
    ready_folder(settings.certs)
    master = _master(settings)
    shell = Shell()
    shell.guards_clients = True
    shell.use(settings)
    master.addons.add(shell)
    prepare_options(settings)
    servers: Any = master.addons.get("proxyserver")
    running = asyncio.ensure_future(master.run())
    try:
        await _listening(servers, settings, running)
        await shell.ready()
        assert shell.works is not None
        ca, fingerprint = authority(settings.certs)
        announce(
            Banner(
                listen=tuple(Endpoint(host, port) for host, port, *_ in servers.listen_addrs()),
                cache_dir=None if settings.cache.memory else settings.cache_dir,
                cache_size=shell.works.store.stats().limit,
                ca=ca,
                fingerprint=fingerprint,
            )
        )
        await asyncio.shield(running)
    finally:
        await _stop(master, servers, running)


def _master(settings: Settings) -> Master:
    options = Options()
    master = Master(options)
    try:
        master.addons.add(core.Core(), proxyserver.Proxyserver(), next_layer.NextLayer(), tlsconfig.TlsConfig())
        options.update(
            confdir=str(settings.certs),
            listen_host=settings.listen.host,
            listen_port=settings.listen.port,
        )
    except (exceptions.OptionsError, OSError, ValueError) as error:
        raise StartupError(
            f"the CA in {settings.certs} can't be used: {error}; name another folder with --certs"
        ) from None
    return master


async def _listening(servers: Any, settings: Settings, running: asyncio.Future[Any]) -> None:
    """Wait until the one listener is up. Raises StartupError with the system's reason when it isn't."""
    changed = asyncio.Event()

    async def note() -> None:
        changed.set()

    servers.servers.changed.connect(note)
    while True:
        failed = [server.last_exception for server in servers.servers if server.last_exception is not None]
        if failed:
            raise StartupError(f"can't listen on {settings.listen}: {_reason(failed[0])}; choose another with --listen")
        if servers.listen_addrs():
            return
        if running.done():
            running.result()
            raise StartupError(f"can't listen on {settings.listen}; choose another with --listen")
        waiting: asyncio.Future[Any] = asyncio.ensure_future(changed.wait())
        await asyncio.wait((waiting, running), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        changed.clear()


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(cause)


async def _stop(master: Master, servers: Any, running: asyncio.Future[None]) -> None:
    """Stop listening, give requests under way their time, close connections, then the store."""
    await servers.servers.update([])
    shell: Shell = master.addons.get(Shell.name)
    await shell.idle(STOP_GRACE)
    clients = [io.handler for each in servers.connections.values() if (io := each.transports.get(each.client))]
    closing = [handler for handler in clients if handler is not None]
    for handler in closing:
        handler.cancel("the proxy stops")
    if closing:
        await asyncio.wait(closing, timeout=STOP_GRACE)
    master.should_exit.set()
    await asyncio.gather(running, return_exceptions=True)
