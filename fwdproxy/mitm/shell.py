"""The hooks shell: one addon that puts the exchange in the place of mitmproxy's connections to servers.

It is installed once per process, whichever scripts of addons/ are loaded, and it stays when a script is dropped: what
it guards must not fail open. mitmproxy decides what is spoken; where it decides for HTTP, our layer takes over.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Coroutine
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from weakref import WeakSet

from mitmproxy import ctx, http
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import TCPLayer
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.mode_specs import RegularMode

from fwdproxy import config
from fwdproxy.anonymize.rewrite import rewrite
from fwdproxy.config import Settings
from fwdproxy.control.admin import Admin
from fwdproxy.control.server import Control, serve_control
from fwdproxy.errors import FwdProxyError, RequestRefused
from fwdproxy.exchange.answers import Answer, ClientRequest, Informational
from fwdproxy.messages import Origin, ResponseHead
from fwdproxy.mitm import foreign
from fwdproxy.mitm.convert import request_of
from fwdproxy.mitm.layers import ExchangeHttpLayer
from fwdproxy.mitm.works import Works

logger = logging.getLogger("fwdproxy.mitm")

BUFFERED: Final = 1024 * 1024
"""Bytes of content up to which scripts see whole messages; what is larger is streamed past them."""

STOP_GRACE: Final = 5.0
"""Seconds that requests under way get at a clean stop."""

FOR_ANOTHER_PROXY: Final = re.compile(rb"[A-Z]+ https?://|CONNECT ")
"""How a request to a forward proxy begins, where one to an origin is expected (RFC 9112 §3.2)."""

STREAMED_TYPES: Final = ("text/event-stream", "application/grpc")
"""Content that has to pass as it comes."""


@lru_cache(maxsize=1024)
def is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether this machine answers at ``address``: only at its own can a socket be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


class _Refuse(layer.Layer):
    """Closes a client connection that can't be served as it should be."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


class Shell:
    """See the module. ``works`` are what the current settings built; None until `use` was called."""

    name = "fwdproxy"

    def __init__(self) -> None:
        self.works: Works | None = None
        self.guards_clients = False
        self.whole: WeakSet[http.HTTPFlow] = WeakSet()
        self.expecting: WeakSet[http.HTTPFlow] = WeakSet()
        self._carried: WeakSet[http.HTTPFlow] = WeakSet()
        self._scripts_want_bodies = False
        self._closing: set[asyncio.Task[None]] = set()
        self.under_way: set[asyncio.Future[None]] = set()
        self._control: Control | None = None
        self._running = False
        self._commanded = asyncio.Event()

    def use(self, settings: Settings) -> None:
        """Work by these settings from now on. Raises FwdProxyError and leaves the old ones in force when it can't."""
        works = Works.build(settings, may_dial=self.may_dial, before=self.works)
        for warning in config.warnings(settings):
            logger.warning("%s", warning)
        before, self.works = self.works, works
        if before is not None:
            self._in_background(before.aclose(keep=works))
        if self._running:
            self._in_background(self._serve_control(works))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _serve_control(self, works: Works) -> None:
        """Have `fwdproxy cache …` and `fwdproxy explain` reach these works; without that the proxy still runs."""
        admin = Admin(works.store, works.exchange, works.settings)
        before = self._control
        if before is not None and before.path.parent == works.settings.control_dir:
            before.admin = admin
            return
        self._control = None
        if before is not None:
            await before.aclose()
        try:
            self._control = await serve_control(admin, works.settings.control_dir)
        except FwdProxyError as error:
            logger.warning("commands such as fwdproxy cache can't reach this proxy: %s", error)
        finally:
            self._commanded.set()

    # -- mitmproxy's hooks ---------------------------------------------------------------------------------------

    def client_connected(self, client: Client) -> None:
        """Turn away clients that are not allowed (``fwdproxy run`` only; mitmproxy has its own block options)."""
        if self.guards_clients and self.works is not None and client.peername:
            if not self.works.settings.admits(client.peername[0]):
                client.error = "not an allowed client; --allow-client names those that are"
                logger.warning("client %s is turned away: %s", client.peername[0], client.error)

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Replace mitmproxy's HTTP layer by ours; when that fails, serve nothing rather than unguarded."""
        try:
            self._scripts_want_bodies = foreign.want_bodies()
            self._install(nextlayer)
        except Exception as error:  # noqa: BLE001  # whatever it is, the connection must not go on without us
            fault = f"{type(error).__name__}: {error}"
            logger.error("the exchange could not be installed, and the connection is closed: %s", fault)
            nextlayer.layer = _Refuse(nextlayer.context)

    def _install(self, nextlayer: layer.NextLayer) -> None:
        holder: Any = None
        current: Any = nextlayer.layer
        while current is not None:
            if type(current) is HttpLayer:
                context = current.context
                tunnelled = isinstance(context.client.proxy_mode, RegularMode) and not context.client.tls
                if (
                    tunnelled
                    and current.mode is HTTPMode.transparent
                    and FOR_ANOTHER_PROXY.match(nextlayer.data_client())
                ):
                    # A proxy at the end of the client's tunnel: what is said to it is not ours to open.
                    context.layers.remove(current)
                    nextlayer.layer = TCPLayer(context)
                    return
                proxyserver: Any = ctx.master.addons.get("proxyserver")
                handler = proxyserver.connections[context.client.id]
                if self.works is None:
                    raise RuntimeError("no settings were given")
                ours = ExchangeHttpLayer(context, current.mode, self, handler)
                context.layers.pop()
                context.layers[context.layers.index(current)] = ours
                if holder is None:
                    nextlayer.layer = ours
                else:
                    holder.child_layer = ours
                return
            holder, current = current, getattr(current, "child_layer", None)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Stream what is large or open-ended; let the origin say whether it wants expected content."""
        headers = flow.request.headers
        length = headers.get("content-length", "")
        large = int(length) > BUFFERED if length.isdecimal() else not self._scripts_want_bodies
        if headers.get("expect", "").lower() == "100-continue":
            del headers["expect"]
            self.expecting.add(flow)
            large = True
        if large or headers.get("content-type", "").startswith(STREAMED_TYPES):
            flow.request.stream = flow.request.stream or True

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Stream unless the content is in memory anyway, or a script wants to see it and it is small."""
        response = flow.response
        if response is None:
            return
        if flow in self._carried:
            response.headers.add("Cache-Status", "fwdproxy; fwd=bypass; detail=grpc")
        if flow in self.whole or response.stream:
            return
        passes = response.headers.get("content-type", "").startswith(STREAMED_TYPES)
        if passes or not self._scripts_want_bodies:
            response.stream = True

    def running(self) -> None:
        """mitmproxy runs: take commands. Not awaited, as mitmdump takes what is logged meanwhile for a failed start."""
        self._running = True
        if self.works is not None:
            self._in_background(self._serve_control(self.works))

    async def ready(self) -> None:
        """Wait until commands reach this proxy, or it is known that they can't."""
        await self._commanded.wait()

    async def done(self) -> None:
        """mitmproxy ends: requests under way get a bounded time."""
        await self.idle(STOP_GRACE)
        await self.aclose()

    # -- for the layers ------------------------------------------------------------------------------------------

    async def answer(self, request: ClientRequest, informational: Informational) -> Answer:
        """The exchange's answer, by the settings in force."""
        assert self.works is not None
        return await self.works.exchange.answer(request, informational)

    def refuse(self, client: str, method: str, target: str, status: int, text: str) -> tuple[ResponseHead, bytes]:
        """The page for what can't be made a request of (see `Exchange.refuse`)."""
        assert self.works is not None
        return self.works.exchange.refuse(client, method, target, status, text)

    def admit(self, origin: Origin) -> None:
        """Refuse a request to this proxy itself, which would go round for ever. Raises `RequestRefused`."""
        try:
            address = ip_address("127.0.0.1" if origin.host == "localhost" else origin.host)
        except ValueError:
            return  # a name: its addresses are looked at before they are dialled
        if not self.may_dial(address, origin.port):
            raise RequestRefused(400, f"{origin} is this proxy itself; set it as the proxy of your client")

    def may_dial(self, address: IPv4Address | IPv6Address, port: int) -> bool:
        """Whether ``address`` and ``port`` are not one of our own listeners."""
        proxyserver: Any = ctx.master.addons.get("proxyserver")
        for server in proxyserver.servers:
            for host, own_port, *_ in server.listen_addrs:
                everywhere = host in ("", "0.0.0.0", "::")
                ours = str(address) == host or address.is_unspecified or (everywhere and is_own(address))
                if own_port == port and ours:
                    return False
        return True

    def carried_by_mitmproxy(self, flow: http.HTTPFlow, layer_of: ExchangeHttpLayer) -> bool:
        """Whether mitmproxy's own HTTP/2 client takes this request: gRPC, which HTTP/1.1 can't carry.

        Its head has been rewritten then, as for any other origin.
        """
        request = flow.request
        if not request.is_http2 or not request.headers.get("content-type", "").startswith("application/grpc"):
            return False
        assert self.works is not None
        context = layer_of.context
        keep_host = bool(context.options.keep_host_header)
        head, _ = request_of(request, layer_of.mode, context.client, context.server, keep_host=keep_host)
        rewritten = rewrite(head, self.works.rewriting).head.headers.without({b"host"})
        request.headers = http.Headers((*((name.lower(), value) for name, value in rewritten), (b"te", b"trailers")))
        self._carried.add(flow)
        return True

    async def idle(self, seconds: float) -> None:
        """Wait until no request is under way, ``seconds`` at most."""
        if self.under_way:
            await asyncio.wait(self.under_way, timeout=seconds)

    async def aclose(self) -> None:
        """Release store and connections."""
        works, self.works = self.works, None
        control, self._control = self._control, None
        if control is not None:
            await control.aclose()
        if works is not None:
            await works.aclose()
        await asyncio.gather(*self._closing, return_exceptions=True)


def installed() -> Shell:
    """The process's shell, added to the running master at the first call."""
    shell: Shell | None = ctx.master.addons.get(Shell.name)
    if shell is None:
        shell = Shell()
        ctx.master.addons.add(shell)
    return shell
