"""The few errors of fwdproxy. Each is translated once, at the edge where a person or a client sees it."""

from __future__ import annotations


class FwdProxyError(Exception):
    """Base of every error that fwdproxy raises on purpose; its text is one line, fit to show to a user."""


class ConfigError(FwdProxyError):
    """A setting is missing, unknown or of the wrong form; the text names its place, its value and the remedy."""


class StartupError(FwdProxyError):
    """The program can't start (occupied port, unwritable folder, …); the text says what to do."""


class StoreError(FwdProxyError):
    """The store can't be opened or used. Never raised for a single broken record: that is a miss."""


class FillAborted(FwdProxyError):
    """The message that a fill was receiving ended early; what was read so far is not a complete body."""


class OriginError(FwdProxyError):
    """No usable response came from the next hop.

    ``kind`` names the error type of RFC 9209 §2.3 (``dns_error``, ``connection_refused``, …), so the same word
    serves the access log, the error page, stale-if-error and, later, ``Proxy-Status``.
    ``sent`` tells whether any byte of the request may have reached the origin (decides on retries).
    """

    def __init__(self, kind: str, text: str, *, sent: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.sent = sent


class RequestRefused(FwdProxyError):
    """The client's request can't be served as it stands; ``status`` is the answer it gets."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
