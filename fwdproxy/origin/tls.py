"""TLS towards origins: whom we trust, sessions that are taken up again, and the layer between socket and protocol.

The layer is our own because asyncio's can't be handed a session, doesn't tell an orderly end (close_notify) from a cut
one, and costs more per request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, cast

import certifi

from fwdproxy.errors import ConfigError, OriginError

_READ_SIZE: Final = 65536
_MAX_SESSIONS: Final = 4096
_ALERTS: Final = ("SSLV3_ALERT_", "TLSV1_", "TLSV13_")  # OpenSSL's words for what the other side alerts us of

Reuse = tuple[str, int, object]
"""What a session is kept for: host, port, hop."""


class TlsProfile:
    """One way to speak TLS, with its sessions. Connections made with different profiles are never mixed up."""

    def __init__(self, ca_files: Iterable[Path] = ()) -> None:
        self._context = client_context(ca_files)
        self._sessions: OrderedDict[Reuse, ssl.SSLSession] = OrderedDict()

    def wrap(self, server_name: str, reuse: Reuse, upper: asyncio.Protocol) -> TlsLayer:
        """A layer for one connection to ``server_name``, whose certificate must be for that name or address."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            tls = self._context.wrap_bio(
                incoming, outgoing, server_hostname=server_name.rstrip("."), session=self._sessions.get(reuse)
            )
        except ValueError as error:  # a name that can't be sent as SNI
            raise OriginError(
                "tls_protocol_error", f"TLS can't be asked for the name {server_name!r}: {error}"
            ) from None
        return TlsLayer(tls, incoming, outgoing, upper, lambda session: self._remember(reuse, session))

    def _remember(self, reuse: Reuse, session: ssl.SSLSession) -> None:
        self._sessions[reuse] = session
        self._sessions.move_to_end(reuse)
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)


def client_context(ca_files: Iterable[Path]) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/1.1, the system's trust (certifi's where it has none) and that of ``ca_files``.

    Raises ConfigError for a file that can't be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A file of the user's is trusted as it stands, a root or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    if system_has_trust():
        context.set_default_verify_paths()
    else:
        context.load_verify_locations(certifi.where())
    for path in ca_files:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"the CA file {path} can't be used ({reason}): give a file of PEM certificates") from None
    return context


def system_has_trust() -> bool:
    """Whether OpenSSL finds any CA certificate where it looks by default."""
    paths = ssl.get_default_verify_paths()
    in_file = Path(paths.cafile or os.devnull).stat().st_size > 0
    return in_file or any(Path(paths.capath or os.devnull).glob("*.[0-9]"))


class TlsLayer(asyncio.Protocol, asyncio.Transport):
    """A protocol to the socket's transport below, a transport to the protocol above.

    `handshake` first; only then the protocol above learns of the connection.
    """

    def __init__(
        self,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        upper: asyncio.Protocol,
        on_session: Callable[[ssl.SSLSession], None],
    ) -> None:
        super().__init__()
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._upper = upper
        self._on_session = on_session
        self._remembered = False
        self._lower: asyncio.Transport | None = None
        self._open = False
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = False  # the origin's close_notify has come
        self._lost_for: Exception | None = None

    async def handshake(self) -> None:
        """Complete the handshake. Raises OriginError."""
        self._shake()
        await self._ready
        if self._lower is None:
            raise OriginError("connection_terminated", "the origin closed the connection")
        self._upper.connection_made(self)
        self._open = True
        self._decrypt()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._handshake_failed(tls_fault(error))
        else:
            self._flush()
            if not self._ready.done():
                self._ready.set_result(None)

    def _handshake_failed(self, error: OriginError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    # What the socket's transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, or the tunnel of a hop, is there."""
        self._lower = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """TLS records."""
        self._incoming.write(data)
        if self._open:
            self._decrypt()
        elif not self._ready.done():
            self._shake()

    def _decrypt(self) -> None:
        plain: list[bytes] = []
        failure: ssl.SSLError | None = None
        try:
            while self._incoming.pending or self._tls.pending():
                data = self._tls.read(_READ_SIZE)
                if not data:
                    self._ended = True
                    break
                plain.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            failure = error
        self._flush()  # answers to what isn't data: key updates, alerts
        if plain:
            if not self._remembered:
                self._remember()
            self._upper.data_received(plain[0] if len(plain) == 1 else b"".join(plain))
        if failure is not None:
            self._lost_for = failure
            self.abort()
        elif self._ended and not self._upper.eof_received():
            self.close()

    def eof_received(self) -> bool:
        """The socket's end; without close_notify before it, what was sent may have been cut (RFC 9112 §9.8)."""
        if not self._ended:
            self._lost_for = ssl.SSLEOFError("closed without close_notify")
        return self._ended and self._open and not self.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._lower = None
        if self._open:
            self._open = False
            self._remember()
            self._upper.connection_lost(exc or self._lost_for)
        why = f" ({exc})" if exc is not None else ""
        self._handshake_failed(OriginError("connection_terminated", f"the origin broke off the TLS handshake{why}"))

    def pause_writing(self) -> None:
        """Passed on: the buffer that fills is the socket's."""
        if self._open:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        """Passed on."""
        if self._open:
            self._upper.resume_writing()

    def _remember(self) -> None:
        """Keep the session; TLS 1.3 has none before the server's tickets, which come before or with its first data."""
        session = self._tls.session
        if session is not None and (session.has_ticket or (self._tls.version() == "TLSv1.2" and session.id)):
            self._remembered = True
            self._on_session(session)

    def _flush(self) -> None:
        if self._outgoing.pending and self._lower is not None:
            self._lower.write(self._outgoing.read())

    # What the protocol above calls.

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:  # after write_eof, or after the other side's fatal alert
            self._lost_for = error
            self.abort()
        self._flush()

    def can_write_eof(self) -> bool:
        """A side can be ended alone with close_notify."""
        return True

    def write_eof(self) -> None:
        """Send close_notify."""
        # It raises where the other side's close_notify isn't here yet, or the connection is broken anyway.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        """Send close_notify and close."""
        self.write_eof()
        if self._lower is not None:
            self._lower.close()

    def abort(self) -> None:
        """Close at once."""
        if self._lower is not None:
            self._lower.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._lower is None or self._lower.is_closing()

    def pause_reading(self) -> None:
        """Stop reading from the socket."""
        if self._lower is not None:
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._lower is not None:
            self._lower.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object``, or what the socket's transport knows."""
        if name == "ssl_object":
            return self._tls
        return self._lower.get_extra_info(name, default) if self._lower is not None else default


def tls_fault(error: ssl.SSLError) -> OriginError:
    """What went wrong in TLS, in the handshake or after it (RFC 9209 §2.3.10 – §2.3.12)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return OriginError("tls_certificate_error", f"the origin's certificate isn't accepted: {error.verify_message}")
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if (error.reason or "").startswith(_ALERTS):
        return OriginError("tls_alert_received", f"the origin refused TLS: {reason}")
    return OriginError("tls_protocol_error", f"TLS with the origin failed: {reason}")
